//! What is in a token, and why a listener refuses it, for a person.

use super::operator::Outcome;
use super::table::table;
use super::token_meaning::{name, warnings};
use crate::base::log_escape::{Quoted, escape};
use crate::config::{AccessSettings, Listener};
use crate::realm::access::LEEWAY;
use crate::realm::{Claims, TokenError};
use crate::toolkit::jwt::{Secret, Verifier};
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use humantime::{format_duration, format_rfc3339_seconds};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime};

/// The first second that RFC 3339 cannot write, since the Unix epoch.
const YEAR_10000: u64 = 253_402_300_800;

/// Seconds since the Unix epoch above which a time is probably in milliseconds: the year 5138.
const PROBABLY_MILLISECONDS: f64 = 1e11;

/// The claims that are times.
const TIMES: [&str; 3] = ["exp", "nbf", "iat"];

/// Returns what is in a token, and what is right or wrong with it for this listener. Whether a client is admitted with it
/// is for the protocol to say: an id may be too long for that, for example.
pub(super) fn check(
    token: &str,
    listener: &Listener,
    access: &AccessSettings,
    now: SystemTime,
) -> Outcome {
    let output = Contents::parse(token).map(|it| it.text(now));
    let read = access.verifier.read(token);
    let checked = read.and_then(|claims| claims.valid_at(now));
    let verdict = match checked {
        Ok(claims) => Ok(verdict_of(token, &claims, listener, access)),
        Err(error) => Err(format!(
            "{} refuses it: {}",
            name(listener),
            why(error, token, access, now)
        )),
    };
    Outcome {
        output: output.unwrap_or_default() + verdict.as_deref().unwrap_or_default(),
        problems: verdict.err().into_iter().collect(),
    }
}

/// Returns what is right with a token, and what is probably not meant.
fn verdict_of(
    token: &str,
    claims: &Claims,
    listener: &Listener,
    access: &AccessSettings,
) -> String {
    let checked = match claims.audience {
        Some(_) => "signature, audience and times",
        None => "signature and times",
    };
    let until = claims.end().map_or("for ever".to_owned(), |end| {
        let leeway = LEEWAY.as_secs();
        format!("until {}, {leeway} s after \"exp\"", utc(end))
    });
    let mut verdict = format!(
        "its {checked} are right for {} {until}; signed with {}\n",
        name(listener),
        signed_with(token, &access.verifier)
    );
    for warning in warnings(listener.protocol, claims) {
        verdict += &format!("warning: {warning}\n");
    }
    verdict
}

/// The header and the claims of a token, whoever has signed it.
struct Contents {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Contents {
    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with its form.
    fn parse(token: &str) -> Result<Self, String> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(format!(
                "it must have three parts of base64url with dots between them, not {}",
                parts.len()
            ));
        };
        decode("signature", signature)?;
        Ok(Self {
            header: object("header", header)?,
            claims: object("payload", claims)?,
        })
    }

    /// Returns a line for each field of the header and each claim. Times are also in UTC.
    fn text(&self, now: SystemTime) -> String {
        let row = |(name, value): (&String, &Value)| {
            // Not only quotes, but also what changes the direction of a terminal's text may be in it.
            let text = escape(&value.to_string());
            let time = TIMES.contains(&name.as_str()).then(|| value.as_f64());
            let time = time.flatten().map(|seconds| time_text(seconds, now));
            vec![escape(name), text, time.unwrap_or_default()]
        };
        let rows = self.header.iter().chain(&self.claims).map(row);
        table(&rows.collect::<Vec<_>>())
    }
}

/// Decodes a part of a token.
fn decode(name: &str, part: &str) -> Result<Vec<u8>, String> {
    BASE64URL.decode(part.as_bytes()).map_err(|_| {
        format!("its {name} must be base64url, with - and _ instead of + and /, and without =")
    })
}

/// Reads a part of a token that is JSON.
fn object(name: &str, part: &str) -> Result<Map<String, Value>, String> {
    let bytes = decode(name, part)?;
    serde_json::from_slice(&bytes).map_err(|_| format!("its {name} must be a JSON object"))
}

/// Returns why a token is refused, and what would be right.
fn why(error: TokenError, token: &str, access: &AccessSettings, now: SystemTime) -> String {
    let contents = match Contents::parse(token) {
        _ if error == TokenError::Signature => return wrong_signature(token, &access.verifier),
        Ok(contents) => contents,
        Err(problem) if error == TokenError::Malformed => return problem,
        Err(_) => return error.to_string(),
    };
    let claim = |name: &str| contents.claims.get(name);
    let time = |name: &str| {
        let seconds = claim(name).and_then(Value::as_f64);
        seconds.map_or_else(String::new, |seconds| time_text(seconds, now))
    };
    match error {
        TokenError::Malformed => malformed(&contents),
        TokenError::Algorithm => match contents.header.get("alg") {
            Some(Value::String(alg)) if alg == "HS256" => {
                "its header has \"crit\"; leave it out, as no extension is supported".to_owned()
            }
            alg => format!("its \"alg\" must be \"HS256\", not {}", shown(alg)),
        },
        TokenError::Audience => format!(
            "its \"aud\" must be {} or have it in a list; it is {}",
            Quoted(access.verifier.audience.as_deref().unwrap_or_default()),
            shown(claim("aud"))
        ),
        TokenError::Expired => {
            format!("it has expired: \"exp\" is {}; make a new one", time("exp"))
        }
        TokenError::NotYetValid => format!(
            "it is not valid yet: \"nbf\" is {}; wait, or compare the clocks of this machine and of the issuer",
            time("nbf")
        ),
        other => other.to_string(),
    }
}

/// Returns what is wrong with a token whose parts are what they must be.
fn malformed(contents: &Contents) -> String {
    if !contents.header.get("alg").is_some_and(Value::is_string) {
        return "its header must have \"alg\", which is \"HS256\"".to_owned();
    }
    let wrong = contents.claims.iter().find_map(|(name, value)| {
        let expected = expected_instead(name, value)?;
        Some(format!(
            "its {name:?} must be {expected}, not {}",
            shown(Some(value))
        ))
    });
    // Otherwise the texts could be read, and a key that stands twice is all that is left.
    wrong.unwrap_or_else(|| "a claim stands twice in it; write each once".to_owned())
}

/// Returns what a claim must be, if it means something and has another type.
fn expected_instead(claim: &str, value: &Value) -> Option<&'static str> {
    let list = value.as_array();
    let is_list = list.is_some_and(|list| list.iter().all(Value::is_string));
    let (expected, is_right) = match claim {
        "sub" | "name" | "username" => ("a text", value.is_string()),
        "roles" => ("a list of texts", is_list),
        "aud" => ("a text or a list of texts", is_list || value.is_string()),
        "exp" | "nbf" => ("a number of seconds since 1970", value.is_number()),
        _ => return None,
    };
    (!is_right).then_some(expected)
}

/// Returns what is wrong with a signature that none of the secrets has made.
fn wrong_signature(token: &str, verifier: &Verifier) -> String {
    let mut mistakes = verifier.secrets.iter().flat_map(Secret::mistaken);
    match mistakes.find(|(secret, _)| secret.is_of(token)) {
        Some((_, mistake)) => format!(
            "it is signed with {mistake}; sign with the secret as it is written, byte for byte, without a line end"
        ),
        None => {
            let secrets = match verifier.secrets.len() {
                1 => "the secret of this listener".to_owned(),
                count => format!("any of the {count} secrets of this listener"),
            };
            format!("it is not signed with {secrets}; give the issuer the same one")
        }
    }
}

/// Returns which of the secrets has signed a token.
fn signed_with(token: &str, verifier: &Verifier) -> &'static str {
    match verifier.secrets.iter().position(|it| it.is_of(token)) {
        Some(0) if verifier.secrets.len() == 1 => "the secret",
        Some(0) => "the first of two secrets, which is the new one",
        _ => "the second of two secrets, which is the old one",
    }
}

/// Returns a value as JSON, cut.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "missing".to_owned(),
        Some(Value::String(text)) => Quoted(text).to_string(),
        Some(value) => escape(&value.to_string().chars().take(64).collect::<String>()),
    }
}

/// Returns a time of a token in words.
fn time_text(seconds: f64, now: SystemTime) -> String {
    let time = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let whole = |it: Duration| format_duration(Duration::from_secs(it.as_secs()));
    let distance = match time.checked_sub(now) {
        Some(left) if seconds < PROBABLY_MILLISECONDS => format!("in {}", whole(left)),
        Some(_) => "probably in milliseconds; write seconds".to_owned(),
        None => format!("{} ago", whole(now.saturating_sub(time))),
    };
    format!("{} ({distance})", utc(time))
}

/// Returns a time since the Unix epoch in UTC.
fn utc(time: Duration) -> String {
    if time.as_secs() >= YEAR_10000 {
        return "after the year 9999".to_owned();
    }
    format_rfc3339_seconds(SystemTime::UNIX_EPOCH + time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_utc_and_says_how_far_it_is() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(
            time_text(1_000_090.5, now),
            "1970-01-12T13:48:10Z (in 1m 30s)"
        );
        assert_eq!(time_text(999_940.0, now), "1970-01-12T13:45:40Z (1m ago)");
        assert_eq!(
            time_text(-1.0, now),
            "1970-01-01T00:00:00Z (11days 13h 46m 40s ago)"
        );
        let expected = "after the year 9999 (probably in milliseconds; write seconds)";
        for beyond in [1_764_331_200_000.0, 1e300] {
            assert_eq!(time_text(beyond, now), expected);
        }
    }
}
