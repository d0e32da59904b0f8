//! The completions of shells, compared with `--help`: each has its commands and its flags, and no others.

use crate::common::run;
use crate::configuration::stdout;
use regex_lite::Regex;
use std::collections::BTreeSet;

const BASH: &str = include_str!("../systemd/completions/switchboard.bash");
const ZSH: &str = include_str!("../systemd/completions/_switchboard");
const FISH: &str = include_str!("../systemd/completions/switchboard.fish");

/// Returns what the first group of a pattern matches in a text.
fn found<'a>(pattern: &str, text: &'a str) -> BTreeSet<&'a str> {
    let pattern = Regex::new(pattern).unwrap();
    let groups = pattern.captures_iter(text).map(|it| it.get(1).unwrap());
    groups.map(|group| group.as_str()).collect()
}

/// Returns the words of the first group of a pattern where it first matches.
fn list<'a>(pattern: &str, text: &'a str) -> BTreeSet<&'a str> {
    let groups = Regex::new(pattern).unwrap().captures(text);
    let list = groups.expect("the list is there").get(1).unwrap();
    let words = list.as_str().split([' ', '|']);
    words.filter(|word| !word.is_empty()).collect()
}

fn help() -> String {
    stdout(&run(&["--help"])).to_owned()
}

#[test]
fn the_completions_have_the_commands_of_the_help() {
    let help = help();
    let commands = found(r"(?m)^  switchboard ([a-z]+)", &help);
    assert!(commands.contains("status"), "{commands:?}");
    for (completed, shell) in [
        (list(r"(check [a-z ]+) \$flags", BASH), "bash"),
        (list(r"\n        (check [a-z |]+)\) command=", BASH), "bash"),
        (found(r"(?m)^        '([a-z]+):", ZSH), "zsh"),
        (list(r"\$\{words\[\(r\)\((check[a-z|]+)", ZSH), "zsh"),
        (list(r"set -l commands ([a-z ]+)", FISH), "fish"),
        (found(r"-n \$first -a ([a-z]+)", FISH), "fish"),
    ] {
        assert_eq!(completed, commands, "{shell}");
    }
}

#[test]
fn the_completions_have_the_flags_of_the_help() {
    let help = help();
    let flags = found(r"[\[ ]--([a-z][a-z-]+)", &help);
    assert!(flags.contains("not-before"), "{flags:?}");
    for (completed, shell) in [
        (found(r#"["' ]--([a-z][a-z-]+)"#, BASH), "bash"),
        (found(r"[*',]--([a-z][a-z-]+)", ZSH), "zsh"),
        (found(r"(?m)^complete.* -l ([a-z][a-z-]+)", FISH), "fish"),
    ] {
        assert_eq!(completed, flags, "{shell}");
    }
    let letters = found(r"(?m)^  -([a-zA-Z]), --", &help);
    for (completed, shell) in [
        (found(r"[' ]-([a-zA-Z]) --[a-z]", BASH), "bash"),
        (found(r"\{-([a-zA-Z]),--", ZSH), "zsh"),
        (found(r"(?m)^complete.* -s ([a-zA-Z])", FISH), "fish"),
    ] {
        assert_eq!(completed, letters, "{shell}");
    }
}
