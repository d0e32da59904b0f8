//! The setting `access`: whose tokens a listener believes, and whether it demands one.

use crate::base::log_escape::{Quoted, escape};
use crate::realm::Protocol;
use crate::realm::setting::{Setting, SettingError, SettingMap};
use crate::realm::setting_types::{SettingValue, ValueError};
use crate::sys::private_files::is_public;
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

/// The key for a secret that one protocol had before there was `access`.
pub(super) const OLD_KEY: &str = "auth_secret";

/// That protocol.
const OLD_KEY_OF: &str = "workspace";

/// How to make a secret.
const MAKE_ONE: &str = "make one with \"openssl rand -base64 48\"";

/// Runtime directory of the credentials of the systemd unit, where an operator's command finds them without its environment.
const UNIT_CREDENTIALS: &str = "/run/credentials/switchboard.service";

/// What is printed in place of secrets.
const HIDDEN: &str = "...";

/// Where the secrets are.
#[derive(Clone, PartialEq, Eq)]
enum Source {
    /// In the configuration itself.
    Inline,
    /// In the configuration, under [`OLD_KEY`]: a secret of this many bytes.
    OldKey(usize),
    /// In a file.
    File {
        /// Its path, or the name of the credential, as it is configured.
        path: String,
        /// Whether each user of the machine may read it.
        is_public: bool,
    },
}

/// Whose tokens a listener believes, and whether it demands one. Debug output, errors and JSON do not show secrets.
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
                shown(key),
                KEYS.join(", ")
            );
            return Err(problem.into());
        }
        let (source, secrets) = read_secrets(given)?;
        let audience = match given.get("audience") {
            None | Some(Value::Null) => None,
            Some(Value::String(audience)) if !audience.is_empty() => Some(audience.as_str().into()),
            // An empty one may stand there for none, and each token would be refused.
            Some(_) => {
                return Err(at(
                    ".audience",
                    "must be a string that is not empty, such as \"chat.example\", or null",
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

    /// Returns a warning if each user of the machine may read the secrets. `public_file` is the configuration file, if each
    /// may read that.
    pub(super) fn public_warning(&self, public_file: Option<&Path>) -> Option<String> {
        match &self.source {
            Source::Inline => public_file.map(|file| {
                format!(
                    "access.secret: each user of this machine can read {}; write the secret into a file of its own and \
                     its path here, as secret_file, or take away the right to read this one (chmod o-r)",
                    escape(&file.display().to_string())
                )
            }),
            // The warning about the key asks for a new secret already.
            Source::OldKey(_) => None,
            Source::File { path, is_public } => is_public.then(|| {
                format!(
                    "access.secret_file: each user of this machine can read {}; take away that right (chmod o-r)",
                    Quoted(path)
                )
            }),
        }
    }
}

impl AccessSettings {
    /// Takes the secret out of the keys of a listener under its old key. `None`: there is none. It may be shorter than
    /// others, as it has been in use.
    ///
    /// # Errors
    /// It is not a text, or `access` is there, too.
    pub(super) fn take_old(
        protocol: &Protocol,
        given: &mut SettingMap,
    ) -> Result<Option<Self>, SettingError> {
        if protocol.name != OLD_KEY_OF {
            return Ok(None);
        }
        let has_access = given.get("access").is_some_and(|access| !access.is_null());
        let secret = match given.remove(OLD_KEY) {
            None => return Ok(None),
            Some(Value::String(secret)) => secret,
            // It is not shown: a number may have been meant to be the secret.
            Some(_) => return Err(SettingError::new(OLD_KEY, "must be a string")),
        };
        if has_access {
            let problem = "remove this; \"access\" beside it is the same and more";
            return Err(SettingError::new(OLD_KEY, problem));
        }
        let verifier = Verifier {
            secrets: vec![Secret::new(secret.as_bytes())],
            audience: None,
        };
        // An empty one meant that tokens are not read.
        let is_set = !secret.is_empty();
        Ok(is_set.then_some(Self {
            source: Source::OldKey(secret.len()),
            verifier,
            is_required: false,
        }))
    }

    /// Returns a warning if the secret was given under its old key.
    pub(super) fn old_key_warning(&self) -> Option<String> {
        let Source::OldKey(length) = self.source else {
            return None;
        };
        let write = "write \"access\": {\"secret\": \"...\", \"required\": false} instead";
        Some(if length < LEAST_SECRET {
            format!(
                "{OLD_KEY}: {write}, with a new secret of at least {LEAST_SECRET} bytes: this one has {length}, which can \
                 be guessed; {MAKE_ONE}"
            )
        } else {
            format!("{OLD_KEY}: {write}: this is its old name")
        })
    }
}

fn at(place: &str, problem: impl Into<String>) -> ValueError {
    ValueError {
        place: place.to_owned(),
        problem: problem.into(),
    }
}

/// Reads the secrets from where they are.
fn read_secrets(given: &Map<String, Value>) -> Result<(Source, Vec<Secret>), ValueError> {
    // What is given instead of a secret is not shown: it may have been meant to be one.
    let wrong = || at(".secret", "must be a string, or a list of two strings");
    let inline = |secrets: &[Value]| {
        let secrets = secrets.iter().map(|it| it.as_str().map(str::as_bytes));
        let secrets = check(secrets.collect::<Option<_>>().ok_or_else(wrong)?);
        let secrets = secrets.map_err(|problem| at(".secret", problem))?;
        Ok((Source::Inline, secrets))
    };
    match (given.get("secret_file"), given.get("secret")) {
        (Some(Value::String(path)), None) => {
            secrets_in(path).map_err(|problem| at(".secret_file", problem))
        }
        (Some(_), None) => Err(at(
            ".secret_file",
            "must be the path of a file, such as \"/etc/switchboard/access.secret\"",
        )),
        (None, Some(secret @ Value::String(_))) => inline(std::slice::from_ref(secret)),
        (None, Some(Value::Array(secrets))) => inline(secrets),
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
    if matches!(secrets[..], [one, other] if one == other) {
        return Err("both secrets are the same; write it once".to_owned());
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
fn secrets_in(given: &str) -> Result<(Source, Vec<Secret>), String> {
    let path = resolve(given, credentials())?;
    let read = |(content, is_public): (Vec<u8>, bool)| {
        let lines = content.split(|&byte| byte == b'\n');
        let lines = lines.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty());
        let source = Source::File {
            path: given.to_owned(),
            is_public,
        };
        Ok((source, check(lines.collect())?))
    };
    let content = read_file(&path).map_err(|error| unreadable(&error));
    content
        .and_then(read)
        .map_err(|problem| format!("{}: {problem}", path.display()))
}

/// Returns why a file cannot be read, and what to do.
fn unreadable(error: &io::Error) -> String {
    let rights = match error.kind() {
        io::ErrorKind::NotFound => "",
        io::ErrorKind::PermissionDenied => " (chown root:switchboard, chmod 640)",
        _ => return error.to_string(),
    };
    format!(
        "{error}; the daemon's user must be able to read it{rights}, or systemd with LoadCredential= in the unit"
    )
}

/// Reads a file with secrets. Returns also whether each user of the machine may read it.
fn read_file(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let metadata = fs::metadata(path)?;
    // A daemon that reloads would wait without end for what a pipe has.
    if !metadata.is_file() {
        return Err(io::Error::other(
            "must be a regular file, with a secret in a line",
        ));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(io::Error::other(
            "is too large for secrets; name the file with them",
        ));
    }
    Ok((fs::read(path)?, is_public(&metadata)))
}

/// Returns the directory with the credentials of the unit, if there is one.
fn credentials() -> Option<PathBuf> {
    let own = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    own.or_else(|| {
        let of_unit = PathBuf::from(UNIT_CREDENTIALS);
        of_unit.is_dir().then_some(of_unit)
    })
}

/// Returns a text as an error shows it. One that is as long as a secret may be one in the wrong place, and is not shown.
fn shown(text: &str) -> String {
    if text.len() < LEAST_SECRET {
        Quoted(text).to_string()
    } else {
        format!("a text of {} bytes", text.len())
    }
}

/// Returns the path of a file with secrets: a name without a slash is a credential of the unit (systemd.exec(5),
/// "LoadCredential=").
fn resolve(path: &str, credentials: Option<PathBuf>) -> Result<PathBuf, String> {
    if Path::new(path).is_absolute() {
        return Ok(path.into());
    }
    if path.contains('/') || path.is_empty() {
        return Err(format!(
            "must be an absolute path, or the name of a credential, not {}",
            shown(path)
        ));
    }
    let directory = credentials.ok_or_else(|| {
        format!(
            "{} names a credential, and the daemon has none: write LoadCredential=NAME:/PATH/OF/THE/FILE into its unit, or an \
             absolute path here",
            shown(path)
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

    /// Returns the setting without secrets that are in it, so that this is not what it was read from.
    fn to_json(&self) -> Value {
        let Some(access) = self else {
            return Value::Null;
        };
        let (key, secrets) = match &access.source {
            Source::Inline | Source::OldKey(_) => ("secret", HIDDEN),
            Source::File { path, .. } => ("secret_file", path.as_str()),
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
    use crate::protocols::by_name;

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
        let access = read(given).unwrap();
        assert_eq!(access.verifier.secrets, secrets(&[LONG, OTHER]));
        assert_eq!(access.verifier.audience.as_deref(), Some("chat"));
        assert!(!access.is_required);
    }

    #[test]
    fn the_json_of_the_setting_shows_no_secret() {
        let given = json!({"secret": [LONG, OTHER], "audience": "chat", "required": false});
        let shown = json!({"secret": "...", "audience": "chat", "required": false});
        assert_eq!(read(given).ok().to_json(), shown);
        assert_eq!(None::<AccessSettings>.to_json(), Value::Null);
    }

    #[test]
    fn the_old_key_is_a_secret_of_any_length_for_clients_that_need_no_token() {
        let take = |given: Value| {
            let mut given = given.as_object().unwrap().clone();
            let protocol = by_name(OLD_KEY_OF).unwrap();
            let taken = AccessSettings::take_old(protocol, &mut given);
            assert!(!given.contains_key(OLD_KEY));
            taken.map_err(|error| format!("{}: {}", error.key, error.problem))
        };
        let access = take(json!({"auth_secret": "hush", "access": null})).unwrap();
        let access = access.unwrap();
        assert_eq!(access.verifier.secrets, [Secret::new(b"hush")]);
        assert!(!access.is_required && access.verifier.audience.is_none());
        let warning = access.old_key_warning().unwrap();
        assert!(warning.starts_with("auth_secret: write \"access\": {"));
        assert!(warning.contains("this one has 4") && !warning.contains("hush"));
        let long = take(json!({"auth_secret": LONG})).unwrap().unwrap();
        let warning = long.old_key_warning().unwrap();
        assert!(!warning.contains("guessed") && !warning.contains(LONG));
        assert_eq!(
            read(json!({"secret": LONG})).unwrap().old_key_warning(),
            None
        );
        assert_eq!(take(json!({})), Ok(None));
        assert_eq!(take(json!({"auth_secret": ""})), Ok(None));
        for (given, expected) in [
            (
                json!({"auth_secret": 123_456_789}),
                "auth_secret: must be a string",
            ),
            (
                json!({"auth_secret": "hush", "access": {"secret": LONG}}),
                "auth_secret: remove this; \"access\"",
            ),
        ] {
            let error = take(given).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(
                !error.contains("123456789") && !error.contains("hush"),
                "{error}"
            );
        }
    }

    /// Asserts that the error begins like this, and shows no secret.
    #[track_caller]
    fn assert_is_told(given: &Value, expected: &str) {
        let error = read(given.clone()).unwrap_err();
        assert!(error.starts_with(expected), "{given}: {error}");
        let is_shown = error.contains("123456789") || error.contains(LONG);
        assert!(!is_shown, "{error}");
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
                json!({"secret": [LONG, OTHER, LONG]}),
                "access.secret: must be one secret, or two while it is changed",
            ),
            (
                json!({"secret": [LONG, LONG]}),
                "access.secret: both secrets are the same; write it once",
            ),
        ] {
            assert_is_told(&given, expected);
        }
    }

    #[test]
    fn an_error_about_a_file_and_about_other_keys_says_what_would_be_right() {
        for (given, expected) in [
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
                "access.secret_file: /no/such/file: No such file or directory (os error 2); the daemon's user must be able \
                 to read it, or systemd with LoadCredential=",
            ),
            // A secret in the wrong place.
            (
                json!({"secret_file": LONG}),
                "access.secret_file: a text of 32 bytes names a credential, and the daemon has none",
            ),
            (
                json!({"secret_file": format!("{LONG}/")}),
                "access.secret_file: must be an absolute path, or the name of a credential, not a text",
            ),
            (
                json!({"secret": LONG, OTHER: true}),
                "access: has no key a text of 32 bytes; its keys are",
            ),
            (
                json!({"secret_file": "/"}),
                "access.secret_file: /: must be a regular file, with a secret in a line",
            ),
            (
                json!({"secret_file": "/dev/null"}),
                "access.secret_file: /dev/null: must be a regular file",
            ),
            (
                json!({"secret": LONG, "audience": 7}),
                "access.audience: must be a string",
            ),
            (
                json!({"secret": LONG, "audience": ""}),
                "access.audience: must be a string that is not empty",
            ),
            (
                json!({"secret": LONG, "required": "yes"}),
                "access.required: write true or false",
            ),
        ] {
            assert_is_told(&given, expected);
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_says_how_to_give_the_right() {
        let denied = unreadable(&io::ErrorKind::PermissionDenied.into());
        let expected = "; the daemon's user must be able to read it (chown root:switchboard, chmod 640), or systemd with \
            LoadCredential= in the unit";
        assert!(denied.ends_with(expected), "{denied}");
        let missing = unreadable(&io::ErrorKind::NotFound.into());
        assert!(!missing.contains("chmod"), "{missing}");
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
        assert!(
            error.contains("\"access\" names a credential") && error.contains("LoadCredential="),
            "{error}"
        );
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let text = format!("{:?}", read(json!({"secret": LONG})).unwrap());
        assert!(!text.contains(LONG), "{text}");
    }
}
