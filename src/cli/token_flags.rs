//! The arguments of `switchboard token`.

use crate::base::log_escape::Quoted;
use std::time::{Duration, SystemTime};

/// The flags that `token` alone has.
const FLAGS: [&str; 8] = [
    "listener",
    "subject",
    "name",
    "role",
    "audience",
    "expires",
    "not-before",
    "check",
];

/// What `token` does.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenCommand {
    /// Print a token for a listener.
    Make {
        /// The name of the listener.
        listener: String,
        /// What the token says.
        request: TokenRequest,
    },
    /// `--check`: print what is in a token, and whether a listener admits it.
    Check {
        /// The name of the listener.
        listener: String,
        /// The token; `None`: it is read from standard input.
        token: Option<String>,
    },
}

/// What a new token is to say. What is `None` it does not say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// `sub`.
    pub subject: Option<String>,
    /// `name`.
    pub name: Option<String>,
    /// `roles`; without one the token is for all.
    pub roles: Vec<String>,
    /// `aud`, instead of that of the listener.
    pub audience: Option<String>,
    /// `exp`; `None`: it never expires.
    pub expires: Option<Moment>,
    /// `nbf`.
    pub not_before: Option<Moment>,
}

/// A time that an operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This long from now on.
    After(Duration),
    /// A time of the calendar.
    At(SystemTime),
}

impl Moment {
    /// Returns the time since the Unix epoch; `None`: no clock has it.
    pub fn since_epoch(self, now: SystemTime) -> Option<Duration> {
        let time = match self {
            Self::After(duration) => now.checked_add(duration)?,
            Self::At(time) => time,
        };
        time.duration_since(SystemTime::UNIX_EPOCH).ok()
    }

    /// Reads the value of a flag.
    fn read(flag: &str, text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).ok().map(Self::After);
        let time = || humantime::parse_rfc3339(text).ok().map(Self::At);
        duration.or_else(time).ok_or_else(|| {
            let never = match flag {
                "expires" => ", or never",
                _ => "",
            };
            format!(
                "--{flag}: write a time from now on, such as 12h, 1d or 90s, or one in UTC, such as \
                 2030-01-31T12:00:00Z{never}, instead of {}",
                Quoted(text)
            )
        })
    }
}

/// The flags of `token` that were given, with their values, in their order. `check` has none.
#[derive(Debug, Default)]
pub(super) struct TokenFlags(Vec<(&'static str, String)>);

impl TokenFlags {
    /// Returns the name of a flag if it is one of these.
    pub(super) fn find(flag: &str) -> Option<&'static str> {
        FLAGS.into_iter().find(|known| *known == flag)
    }

    /// Adds a flag and its value.
    ///
    /// # Errors
    /// It was there before, and can be there once; or its value is empty.
    pub(super) fn add(&mut self, flag: &'static str, value: String) -> Result<(), String> {
        if flag != "role" && self.get(flag).is_some() {
            return Err(format!("--{flag}: write this once; it is given twice"));
        }
        if value.is_empty() && flag != "check" {
            return Err(format!("--{flag}: write a text that is not empty"));
        }
        self.0.push((flag, value));
        Ok(())
    }

    /// Checks that none is given, for other commands.
    ///
    /// # Errors
    /// One is.
    pub(super) fn none(&self) -> Result<(), String> {
        match self.0.first() {
            Some((flag, _)) => Err(format!("--{flag} can be used with token alone")),
            None => Ok(()),
        }
    }

    /// Returns the command. `words` are its operands.
    ///
    /// # Errors
    /// A flag is missing, or has no meaning here, or its value is wrong.
    pub(super) fn command(
        &self,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<TokenCommand, String> {
        let listener = self.get("listener").ok_or(
            "token: write for which listener of the configuration, such as --listener peerjs",
        )?;
        if self.get("check").is_none() {
            return Ok(TokenCommand::Make {
                listener,
                request: self.request()?,
            });
        }
        let mut others = self.0.iter().map(|(flag, _)| *flag);
        match others.find(|flag| !matches!(*flag, "check" | "listener")) {
            Some(flag) => Err(format!(
                "--{flag} cannot be used with --check, which reads what a token says"
            )),
            None => Ok(TokenCommand::Check {
                listener,
                token: words.next(),
            }),
        }
    }

    fn request(&self) -> Result<TokenRequest, String> {
        let moment = |flag| {
            let text = self.get(flag);
            text.map(|text| Moment::read(flag, &text)).transpose()
        };
        let expires = self.get("expires").ok_or(
            "token: write how long it is valid, such as --expires 1d, or --expires never: who has a token cannot be \
             shut out before it expires but by another secret",
        )?;
        let roles = self.0.iter().filter(|(flag, _)| *flag == "role");
        Ok(TokenRequest {
            subject: self.get("subject"),
            name: self.get("name"),
            roles: roles.map(|(_, role)| role.clone()).collect(),
            audience: self.get("audience"),
            expires: match expires.as_str() {
                "never" => None,
                _ => moment("expires")?,
            },
            not_before: moment("not-before")?,
        })
    }

    fn get(&self, flag: &str) -> Option<String> {
        let mut values = self.0.iter().filter(|(given, _)| *given == flag);
        values.next().map(|(_, value)| value.clone())
    }
}
