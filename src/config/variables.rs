//! The variables of the environment that configure the daemon.

use super::ProcessSettings;
use super::assignments::{Assignment, find_key};
use super::unknown_keys::Meant;
use crate::base::log_escape::Quoted;
use crate::realm::setting_list::Settings as _;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the names of all variables begin with. The name of a setting in upper case follows.
const PREFIX: &str = "SWITCHBOARD_";

/// The variable that names the configuration file. No setting of the process may have its name.
const FILE: &str = "SWITCHBOARD_CONFIG";

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// The configuration file.
    pub(super) file: Option<PathBuf>,
    pub(super) assignments: Vec<Assignment>,
    /// What is ignored, and what may have been meant.
    pub(super) warnings: Vec<String>,
}

/// Returns the name of the variable of a setting of the process.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

impl Variables {
    /// Reads an environment. An empty variable counts as not set. One that has no meaning is a warning: systemd,
    /// Kubernetes and hosting platforms set variables of their own.
    ///
    /// Problems are added to `problems`. No value of an unknown variable is shown, which may be a secret.
    pub(super) fn read(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut all: Vec<(String, OsString)> = environment
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        all.sort();
        let mut variables = Self::default();
        for (name, value) in all {
            if name == FILE {
                variables.file = Some(value.into());
                continue;
            }
            match setting_of(&name) {
                Err(warning) => variables.warnings.push(warning),
                Ok(key) => match value.into_string() {
                    Ok(text) => variables.assignments.push(Assignment {
                        place: name,
                        key,
                        text,
                    }),
                    Err(_) => problems.push(format!("{name}: write it as UTF-8; it is not")),
                },
            }
        }
        variables
    }
}

/// Returns the setting of the variable with this name.
///
/// # Errors
/// There is none: a warning.
fn setting_of(name: &str) -> Result<&'static str, String> {
    let key = name.strip_prefix(PREFIX).unwrap_or_default();
    let lower = key.to_lowercase();
    let meant = match find_key(&lower) {
        Ok(key) if variable(key) == name => return Ok(key),
        Ok(key) => Meant::Setting(key),
        Err(meant) => meant,
    };
    Err(match meant {
        Meant::Setting(key) => format!("{} is ignored: write {}", shown(name), variable(key)),
        Meant::Elsewhere(hint) => format!("{} is ignored: {hint}", shown(name)),
        Meant::Unknown => {
            let list = ProcessSettings::list().into_iter();
            let variables: Vec<String> = list.map(|setting| variable(setting.name)).collect();
            format!(
                "{} is ignored: unknown variable; the variables are {FILE}, {}",
                shown(name),
                variables.join(", ")
            )
        }
    })
}

/// Returns a name as it is, or in quotes if it has more than letters, digits and underscores, or is very long.
fn shown(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.len() <= 64 && name.bytes().all(is_plain) {
        name.to_owned()
    } else {
        Quoted(name).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(environment: &[(&str, &str)]) -> (Variables, Vec<String>) {
        let mut problems = Vec::new();
        let environment = environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        (Variables::read(environment, &mut problems), problems)
    }

    #[track_caller]
    fn warning(name: &str) -> String {
        let (mut variables, problems) = read(&[(name, "secret")]);
        assert_eq!((variables.warnings.len(), problems.len()), (1, 0));
        assert_eq!(variables.assignments, []);
        let warning = variables.warnings.remove(0);
        assert!(!warning.contains("secret"), "{warning}");
        warning
    }

    #[test]
    fn each_setting_of_the_process_has_a_variable_and_none_that_of_the_file() {
        for setting in ProcessSettings::list() {
            let name = variable(setting.name);
            assert_ne!(name, FILE);
            assert_eq!(setting_of(&name), Ok(setting.name));
            let (variables, _) = read(&[(&name, "x")]);
            assert_eq!(variables.assignments[0].key, setting.name);
            assert_eq!(variables.assignments[0].place, name);
        }
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let (variables, problems) = read(&[
            ("SWITCHBOARD_THREADS", ""),
            ("SWITCHBOARD_CONFIG", ""),
            ("SWITCHBOARD_X", ""),
        ]);
        assert_eq!(variables.assignments, []);
        assert_eq!(variables.file, None);
        assert_eq!((variables.warnings, problems), (vec![], vec![]));
    }

    #[test]
    fn other_programs_variables_are_not_looked_at() {
        let (variables, problems) =
            read(&[("THREADS", "x"), ("switchboard_threads", "x"), ("", "x")]);
        assert_eq!(variables.assignments, []);
        assert_eq!((variables.warnings, problems), (vec![], vec![]));
    }

    #[test]
    fn an_unknown_variable_is_ignored_with_a_warning() {
        assert_eq!(
            warning("SWITCHBOARD_THRAEDS"),
            "SWITCHBOARD_THRAEDS is ignored: write SWITCHBOARD_THREADS"
        );
        assert_eq!(
            warning("SWITCHBOARD_threads"),
            "SWITCHBOARD_threads is ignored: write SWITCHBOARD_THREADS"
        );
        for name in ["SWITCHBOARD_", "SWITCHBOARD_SERVICE_HOST"] {
            let warning = warning(name);
            let expected = format!("{name} is ignored: unknown variable; the variables are ");
            assert!(warning.starts_with(&expected), "{warning}");
        }
        assert!(warning("SWITCHBOARD_PORT").contains("--listen"));
        assert!(warning("SWITCHBOARD_LISTENERS").contains("--listen"));
        assert!(
            warning("SWITCHBOARD_\u{1b}[2J").starts_with(r#""SWITCHBOARD_\u{1b}[2J" is ignored"#)
        );
    }
}
