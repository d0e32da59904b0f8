//! The header in which a proxy passes on the address of its client.

use crate::base::log_escape::Quoted;
use crate::realm::setting::Setting;
use crate::realm::setting_types::{SettingValue, ValueError, named};
use serde_json::{Value, json};

/// A header that names the address of a client behind a proxy. A listener believes exactly one of them: a proxy sets
/// one, and passes on the others as its clients wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// A list of addresses, to which each proxy appends that of its client.
    XForwardedFor,
    /// The same with parameters (RFC 7239).
    Forwarded,
    /// One address, which the proxy replaces.
    XRealIp,
}

impl ForwardedHeader {
    pub(crate) const ALL: [Self; 3] = [Self::XForwardedFor, Self::Forwarded, Self::XRealIp];

    /// Returns the name of the header.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
            Self::XRealIp => "X-Real-IP",
        }
    }
}

/// A name, in any case.
impl SettingValue for ForwardedHeader {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        const NAMES: &str = "\"X-Forwarded-For\", \"Forwarded\" or \"X-Real-IP\"";
        let Some(given) = value.as_str() else {
            return Err(format!("must be {NAMES}, not {value}").into());
        };
        if let Some(header) = named(&Self::ALL, Self::name, given) {
            return Ok(header);
        }
        let similar = Self::ALL
            .into_iter()
            .find(|it| letters(it.name()).eq(letters(given)));
        Err(match similar {
            Some(similar) => format!("write \"{}\" instead of {}", similar.name(), Quoted(given)),
            None => format!(
                "write {NAMES} instead of {}, and let the proxy set that header",
                Quoted(given)
            ),
        }
        .into())
    }

    fn to_json(&self) -> Value {
        json!(self.name())
    }
}

/// Returns the letters of a name in lower case.
fn letters(name: &str) -> impl Iterator<Item = char> {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_lowercase())
}
