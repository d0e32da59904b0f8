//! The description of a setting of the configuration, and what can be wrong with one.

use serde_json::{Map, Value};
use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

/// Keys of an object of the configuration, with their values.
pub type SettingMap = Map<String, Value>;

/// The description of a setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key in the configuration.
    pub name: &'static str,
    /// The unit of a number, or what another value is.
    pub unit: &'static str,
    /// The default, as in the configuration; `None`: the key must be there, or the text says what holds without it.
    pub default: Option<Value>,
    /// The numbers that are valid.
    pub range: Range,
    /// For whom a changed value holds after a reload.
    pub applies: Applies,
    /// What it is for and what happens at the limit, in Markdown. The first sentence says what it is.
    pub text: String,
}

impl Setting {
    /// Returns whether the setting is a time in seconds.
    pub fn is_time(&self) -> bool {
        self.unit.ends_with("seconds")
    }

    /// Returns the default as it is written in the configuration, as an example in errors.
    pub(crate) fn example(&self) -> String {
        self.default
            .as_ref()
            .map_or_else(String::new, Value::to_string)
    }

    /// Returns the first sentence of the text.
    pub fn summary(&self) -> &str {
        match self.text.find(". ") {
            Some(end) => &self.text[..=end],
            None => &self.text,
        }
    }
}

/// For whom a value holds that a reload has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// For all, also for those who are connected.
    AtOnce,
    /// For those who connect from then on.
    NewConnections,
    /// The listener with another value is another listener.
    NewListener,
    /// For nobody before the daemon is started again.
    AtRestart,
}

impl Applies {
    /// Returns what `switchboard help` and the man page say about it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::AtOnce => "Reload: at once.",
            Self::NewConnections => "Reload: for new connections.",
            Self::NewListener => {
                "Reload: another listener; the clients of the old one are closed (1001)."
            }
            Self::AtRestart => "Reload: not before a restart.",
        }
    }
}

/// The numbers that a setting can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least number.
    pub least: u64,
    /// The greatest number; [`u64::MAX`]: what the type can hold.
    pub most: u64,
    /// Whether `least` itself is excluded.
    pub is_open: bool,
    /// Whether 0 is valid besides.
    pub or_zero: bool,
}

impl Range {
    /// Any number.
    pub const ANY: Self = Self {
        least: 0,
        most: u64::MAX,
        is_open: false,
        or_zero: false,
    };

    /// Any number but 0, however small.
    pub const ABOVE_ZERO: Self = Self {
        is_open: true,
        ..Self::ANY
    };

    /// Returns the same range and 0.
    pub(crate) const fn or_zero(self) -> Self {
        Self {
            or_zero: true,
            ..self
        }
    }

    /// Returns the only range of a list that has at most one; [`Range::ANY`] if it has none.
    pub(crate) fn only(ranges: &[Self]) -> Self {
        ranges.first().copied().unwrap_or(Self::ANY)
    }

    /// Returns whether a number is valid.
    pub(crate) fn contains(&self, number: f64) -> bool {
        let least = self.least as f64;
        let is_enough = number > least || (number == least && !self.is_open);
        (is_enough && number <= self.most as f64) || (self.or_zero && number == 0.0)
    }
}

impl From<RangeInclusive<u64>> for Range {
    fn from(range: RangeInclusive<u64>) -> Self {
        Self {
            least: *range.start(),
            most: *range.end(),
            ..Self::ANY
        }
    }
}

impl From<RangeFrom<u64>> for Range {
    fn from(range: RangeFrom<u64>) -> Self {
        Self {
            least: range.start,
            ..Self::ANY
        }
    }
}

impl From<RangeToInclusive<u64>> for Range {
    fn from(range: RangeToInclusive<u64>) -> Self {
        Self {
            most: range.end,
            ..Self::ANY
        }
    }
}

/// An invalid setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The key, with the place in its value if that is not the whole: `origins[0]`.
    pub key: String,
    /// What would be valid.
    pub problem: String,
}

impl SettingError {
    /// Creates an error of a setting's whole value.
    pub fn new(key: &str, problem: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}
