//! The folders are the layers: a module imports only from its own layer and those below, and modules
//! beside each other do not import in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest. `sys` is a leaf, `testing` may use everything.
const LAYERS: [&str; 11] = [
    "sys",
    "base",
    "realm",
    "toolkit",
    "protocols",
    "config",
    "broker",
    "net",
    "status",
    "cli",
    "server",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_test = |path: &Path| {
        path.ends_with("tests") || path.ends_with("tests.rs") || path.ends_with("testing")
    };
    entries
        .filter(|path| !is_test(path))
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The paths that a source names after `prefix`, without a test module at its end.
fn named_after<'a>(source: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let code = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(move |line| line.split(prefix).skip(1))
}

fn first_segment(path: &str) -> &str {
    path.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or_default()
}

/// A source's path below `src` as module names.
fn modules(path: &Path) -> Vec<String> {
    let below = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let names = below.with_extension("");
    names
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .filter(|name| name != "mod")
        .collect()
}

#[test]
fn each_layer_imports_only_from_those_below() {
    let rank = |layer: &str| LAYERS.iter().position(|known| *known == layer);
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let Some(own) = modules(&path).first().and_then(|layer| rank(layer)) else {
            continue;
        };
        let source = fs::read_to_string(&path).unwrap();
        // What is in `testing` is not compiled for users, so only code of tests can use it.
        let layers = named_after(&source, "crate::").map(first_segment);
        for layer in layers.filter(|layer| *layer != "testing") {
            let other =
                rank(layer).unwrap_or_else(|| panic!("{path:?} names {layer}, which is no layer"));
            assert!(
                other <= own,
                "{path:?} imports from {layer}, which is above it"
            );
        }
    }
}

#[test]
fn modules_beside_each_other_do_not_import_in_a_circle() {
    let mut imports: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let module = modules(&path);
        let Some((_, folder)) = module.split_last().filter(|_| !path.ends_with("mod.rs")) else {
            continue;
        };
        let source = fs::read_to_string(&path).unwrap();
        let absolute = format!("crate::{}::", folder.join("::"));
        let beside = named_after(&source, "super::").chain(named_after(&source, &absolute));
        let beside = beside.map(|path| [folder, &[first_segment(path).to_owned()]].concat());
        imports
            .entry(module.clone())
            .or_default()
            .extend(beside.filter(|other| *other != module));
    }
    // A module none of whose imports is left is in no circle.
    while let Some(free) = imports
        .iter()
        .find(|(_, others)| !others.iter().any(|other| imports.contains_key(other)))
        .map(|(module, _)| module.clone())
    {
        imports.remove(&free);
    }
    assert!(imports.is_empty(), "a circle: {imports:#?}");
}

/// Returns the lines of all sources in a folder of `src`, without tests and comments.
fn code_lines(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut lines = Vec::new();
    for path in sources(&root.join(folder)) {
        let source = fs::read_to_string(&path).unwrap();
        let code = source
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.extend(code.map(str::to_owned));
    }
    lines
}

#[test]
fn the_broker_awaits_its_inbox_and_yields_and_awaits_nothing_else() {
    let lines = code_lines("broker");
    let awaits: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| line.contains(".await"))
        .collect();
    let expected = [
        "while let Some(first) = inbox.next().await {",
        "yield_now().await;",
        "yield_now().await;",
    ];
    assert_eq!(awaits, expected);
}

#[test]
fn realms_have_no_clock_random_source_log_io_or_task_and_no_hash_order() {
    const FORBIDDEN: [&str; 12] = [
        "Instant::now",
        "SystemTime::now",
        "new_v4",
        "async ",
        ".await",
        "log::",
        "std::fs",
        "std::net::Tcp",
        "thread::",
        "println!",
        "HashMap",
        "HashSet",
    ];
    for folder in ["realm", "toolkit", "protocols"] {
        for line in code_lines(folder) {
            let found = FORBIDDEN.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{folder}: {line}");
        }
    }
}

/// Each invariant in ARCHITECTURE.md names tests as `file` `test`, and they exist.
#[test]
fn the_tests_that_hold_the_invariants_exist() {
    let page = include_str!("../ARCHITECTURE.md");
    let (_, list) = page.split_once("# Invariants").unwrap();
    let (list, _) = list.split_once("\n# ").unwrap();
    let invariants: Vec<&str> = list.split("Tests: ").skip(1).collect();
    assert_eq!(invariants.len(), 16);
    for tests in invariants {
        // The next invariant begins on a line of its own with its number.
        let tests = tests
            .split("\n")
            .take_while(|line| !line.starts_with(|c: char| c.is_ascii_digit()));
        let tests = tests.collect::<Vec<_>>().join(" ");
        let quoted: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(quoted.len() >= 2, "{tests}");
        let mut source = String::new();
        for word in quoted {
            if word.ends_with(".rs") {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
                source =
                    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{word}: {error}"));
            } else {
                assert!(source.contains(&format!("fn {word}(")), "{word}");
            }
        }
    }
}
