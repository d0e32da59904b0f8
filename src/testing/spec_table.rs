//! Keeps the tables of demands in the realms' tests true.

/// Checks the table in the first source: each test that it names exists in one of the sources,
/// and each test of the first source stands in it, but for those of the workings alone.
pub(crate) fn assert_tested(sources: &[&str]) {
    const OWN: [&str; 2] = [
        "options_out_of_range_are_named",
        "the_table_of_demands_is_true",
    ];
    let table: Vec<&str> = sources[0]
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .flat_map(|row| row.rsplit(" | ").next().into_iter())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let functions = |source: &str| -> Vec<String> {
        let lines: Vec<&str> = source.lines().collect();
        lines
            .windows(2)
            .filter(|pair| pair[0].trim() == "#[test]")
            .filter_map(|pair| pair[1].trim().strip_prefix("fn "))
            .filter_map(|rest| rest.split('(').next())
            .map(str::to_owned)
            .collect()
    };
    let all: Vec<String> = sources
        .iter()
        .flat_map(|source| functions(source))
        .collect();
    for named in &table {
        assert!(
            all.iter().any(|test| test == named),
            "there is no test {named}"
        );
    }
    for test in functions(sources[0]) {
        assert!(
            table.contains(&&*test) || OWN.contains(&&*test),
            "{test} stands in no row of the table"
        );
    }
}
