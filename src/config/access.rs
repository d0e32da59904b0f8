//! The setting `access`: whose tokens a listener believes, and whether it demands one.

use crate::base::log_escape::Quoted;
use crate::realm::setting::Setting;
use crate::realm::setting_types::{SettingValue, ValueError};
use crate::toolkit::jwt::{Secret, Verifier};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Least length of a secret in bytes: that of the hash (RFC 7518 section 3.2).
const LEAST_SECRET: usize = 32;

/// Secrets at a time: the new one and the old one.
const MOST_SECRETS: usize = 2;

/// Greatest size of a file with secrets in bytes: one that is larger is another file.
const LARGEST_FILE: u64 = 64 << 10;

/// How to make a secret.
const MAKE_ONE: &str = "make one with \"openssl rand -base64 48\"";

/// Where the secrets are.
#[derive(Clone, PartialEq, Eq)]
enum Source {
    Inline(Vec<String>),
    File(String),
}

/// Whose tokens a listener believes, and whether it demands one. Debug output and errors do not show secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessSettings {
    source: Source,
    /// What the tokens must be signed with, and for whom they must be.
    pub(crate) verifier: Verifier,
    /// Whether a client without a token is refused.
    pub(crate) is_required: bool,
}

impl std::fmt::Debug for AccessSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            source: _,
            verifier,
            is_required,
        } = self;
        let mut output = f.debug_struct("AccessSettings");
        output.field("verifier", verifier);
        output.field("is_required", is_required).finish()
    }
}

/// The keys of the setting, in their order.
const KEYS: [&str; 4] = ["secret_file", "secret", "audience", "required"];

impl AccessSettings {
    fn read(given: &Map<String, Value>) -> Result<Self, ValueError> {
        if let Some(key) = given.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let problem = format!(
                "has no key {}; its keys are {}",
                Quoted(key),
                KEYS.join(", ")
            );
            return Err(problem.into());
        }
        let source = read_source(given)?;
        let secrets = match &source {
            Source::Inline(secrets) => check(secrets.iter().map(String::as_bytes).collect())
                .map_err(|problem| at(".secret", problem))?,
            Source::File(path) => {
                secrets_in(path).map_err(|problem| at(".secret_file", problem))?
            }
        };
        let audience = match given.get("audience") {
            None | Some(Value::Null) => None,
            Some(Value::String(audience)) => Some(audience.as_str().into()),
            Some(_) => {
                return Err(at(
                    ".audience",
                    "must be a string, such as \"chat.example\"",
                ));
            }
        };
        let is_required = match given.get("required") {
            None => true,
            Some(Value::Bool(is_required)) => *is_required,
            Some(_) => return Err(at(".required", "write true or false, without quotes")),
        };
        Ok(Self {
            source,
            verifier: Verifier { secrets, audience },
            is_required,
        })
    }
}

fn at(place: &str, problem: impl Into<String>) -> ValueError {
    ValueError {
        place: place.to_owned(),
        problem: problem.into(),
    }
}

/// Reads where the secrets are.
fn read_source(given: &Map<String, Value>) -> Result<Source, ValueError> {
    // What is given instead of a secret is not shown: it may have been meant to be one.
    let wrong = || at(".secret", "must be a string, or a list of two strings");
    match (given.get("secret_file"), given.get("secret")) {
        (Some(Value::String(path)), None) => Ok(Source::File(path.clone())),
        (Some(_), None) => Err(at(
            ".secret_file",
            "must be the path of a file, such as \"/etc/switchboard/access.secret\"",
        )),
        (None, Some(Value::String(secret))) => Ok(Source::Inline(vec![secret.clone()])),
        (None, Some(Value::Array(secrets))) => {
            let text = |secret: &Value| secret.as_str().map(str::to_owned);
            let secrets: Option<Vec<_>> = secrets.iter().map(text).collect();
            secrets.map(Source::Inline).ok_or_else(wrong)
        }
        (None, Some(_)) => Err(wrong()),
        (Some(_), Some(_)) => Err("has secret_file and secret; write one of them".into()),
        (None, None) => Err(format!("needs secret_file or secret; {MAKE_ONE}").into()),
    }
}

/// Checks the number and the lengths of secrets.
fn check(secrets: Vec<&[u8]>) -> Result<Vec<Secret>, String> {
    if secrets.is_empty() || secrets.len() > MOST_SECRETS {
        return Err(format!(
            "must be one secret, or two while it is changed (the new one and the old one), not {}",
            secrets.len()
        ));
    }
    let shortest = secrets.iter().map(|secret| secret.len()).min();
    match shortest {
        Some(length) if length < LEAST_SECRET => Err(format!(
            "each secret must have at least {LEAST_SECRET} bytes, not {length}; {MAKE_ONE}"
        )),
        _ => Ok(secrets.into_iter().map(Secret::new).collect()),
    }
}

/// Reads the secrets in a file, one in each line.
fn secrets_in(path: &str) -> Result<Vec<Secret>, String> {
    let path = resolve(
        path,
        env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
    )?;
    let content = read_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = content.split(|&byte| byte == b'\n');
    let lines = lines.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty());
    check(lines.collect()).map_err(|problem| format!("{}: {problem}", path.display()))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > LARGEST_FILE {
        return Err(io::Error::other("the file is too large for secrets"));
    }
    fs::read(path)
}

/// Returns the path of a file with secrets: a name without a slash is a credential of the unit (systemd.exec(5),
/// "LoadCredential=").
fn resolve(path: &str, credentials: Option<PathBuf>) -> Result<PathBuf, String> {
    if path.starts_with('/') {
        return Ok(path.into());
    }
    if path.contains('/') || path.is_empty() {
        return Err(format!(
            "must be an absolute path, or the name of a credential, not {}",
            Quoted(path)
        ));
    }
    let directory = credentials.ok_or_else(|| {
        format!(
            "{} names a credential, and the daemon has none: write LoadCredential={path}:/PATH/OF/THE/FILE into its unit, \
             or an absolute path here",
            Quoted(path)
        )
    })?;
    Ok(directory.join(path))
}

impl SettingValue for Option<AccessSettings> {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        match value {
            Value::Null => Ok(None),
            Value::Object(given) => AccessSettings::read(given).map(Some),
            _ => Err("must be null or an object, such as {\"secret_file\": \"/etc/switchboard/access.secret\"}".into()),
        }
    }

    fn to_json(&self) -> Value {
        let Some(access) = self else {
            return Value::Null;
        };
        let (key, secrets) = match &access.source {
            Source::Inline(secrets) => ("secret", json!(secrets)),
            Source::File(path) => ("secret_file", json!(path)),
        };
        json!({
            key: secrets,
            "audience": access.verifier.audience.as_deref(),
            "required": access.is_required,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn read(given: Value) -> Result<AccessSettings, String> {
        let access = AccessSettings::read(given.as_object().unwrap());
        access.map_err(|error| format!("access{}: {}", error.place, error.problem))
    }

    #[test]
    fn a_secret_and_two_and_those_of_a_file_are_read() {
        let secrets = |secrets: &[&str]| -> Vec<Secret> {
            let new = |secret: &&str| Secret::new(secret.as_bytes());
            secrets.iter().map(new).collect()
        };
        let access = read(json!({"secret": LONG})).unwrap();
        assert_eq!(access.verifier.secrets, secrets(&[LONG]));
        assert!(access.is_required);
        let given = json!({"secret": [LONG, OTHER], "audience": "chat", "required": false});
        let access = read(given.clone()).unwrap();
        assert_eq!(access.verifier.secrets, secrets(&[LONG, OTHER]));
        assert_eq!(access.verifier.audience.as_deref(), Some("chat"));
        assert!(!access.is_required);
        assert_eq!(Some(access).to_json(), given);
    }

    #[test]
    fn an_error_says_where_and_what_would_be_right_and_shows_no_secret() {
        for (given, expected) in [
            (
                json!({}),
                "access: needs secret_file or secret; make one with",
            ),
            (
                json!({"secret": LONG, "secret_file": "/x"}),
                "access: has secret_file and secret; write one",
            ),
            (
                json!({"secret": LONG, "requird": true}),
                "access: has no key \"requird\"; its keys are secret_file, secret",
            ),
            (
                json!({"secret": 123_456_789}),
                "access.secret: must be a string, or a list of two",
            ),
            (
                json!({"secret": [123_456_789]}),
                "access.secret: must be a string, or a list of two",
            ),
            (
                json!({"secret": "short"}),
                "access.secret: each secret must have at least 32 bytes, not 5; make",
            ),
            (
                json!({"secret": []}),
                "access.secret: must be one secret, or two while it is changed",
            ),
            (
                json!({"secret": [LONG, LONG, LONG]}),
                "access.secret: must be one secret, or two while it is changed",
            ),
            (
                json!({"secret_file": 7}),
                "access.secret_file: must be the path of a file",
            ),
            (
                json!({"secret_file": "a/b"}),
                "access.secret_file: must be an absolute path, or the name of a credential",
            ),
            (
                json!({"secret_file": "/no/such/file"}),
                "access.secret_file: /no/such/file: No such file",
            ),
            (json!({"secret_file": "/"}), "access.secret_file: /: "),
            (
                json!({"secret": LONG, "audience": 7}),
                "access.audience: must be a string",
            ),
            (
                json!({"secret": LONG, "required": "yes"}),
                "access.required: write true or false",
            ),
        ] {
            let error = read(given.clone()).unwrap_err();
            assert!(error.starts_with(expected), "{given}: {error}");
            assert!(
                !error.contains("123456789") && !error.contains(LONG),
                "{error}"
            );
        }
    }

    #[test]
    fn a_name_without_a_slash_is_a_credential_of_the_unit() {
        let directory = || Some(PathBuf::from("/run/credentials/switchboard.service"));
        let expected = "/run/credentials/switchboard.service/access";
        assert_eq!(resolve("access", directory()), Ok(expected.into()));
        assert_eq!(
            resolve("/etc/access", directory()),
            Ok("/etc/access".into())
        );
        assert!(resolve("", directory()).is_err());
        let error = resolve("access", None).unwrap_err();
        assert!(error.contains("LoadCredential=access:"), "{error}");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let text = format!("{:?}", read(json!({"secret": LONG})).unwrap());
        assert!(!text.contains(LONG), "{text}");
    }
}
