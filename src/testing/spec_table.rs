//! Checks the tables in the protocols' tests, which map the demands of a document to tests.

/// Checks the table in the first source. Each test that it names must exist in one of the sources, and each
/// test of the first source must be in the table, except those in `OWN`, which test no demand of a document.
pub(crate) fn assert_tested(sources: &[&str]) {
    const OWN: [&str; 2] = ["options_out_of_range_are_named", "every_rule_has_a_test"];
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
            "the table names {named}, which is not a test"
        );
    }
    for test in functions(sources[0]) {
        assert!(
            table.contains(&&*test) || OWN.contains(&&*test),
            "the test {test} is missing in the table"
        );
    }
}
