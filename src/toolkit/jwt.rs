//! JSON Web Tokens (RFC 7519) signed with HS256 (RFC 7518 section 3.2), for whoever only reads them.

use crate::toolkit::json;
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::Sha256;
use std::fmt;
use std::time::Duration;

/// What this server shares with whoever issues tokens. It is never shown, not even where it is
/// wrong.
#[derive(Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The octets that sign; none where it is empty, since that is none.
    pub fn bytes(&self) -> Option<&[u8]> {
        (!self.0.is_empty()).then_some(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // A derived implementation would quote a number that was meant to be the secret.
        match Value::deserialize(from)? {
            Value::String(secret) => Ok(Self(secret)),
            _ => Err(D::Error::custom("is no string")),
        }
    }
}

/// Why a token is good for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is no token in compact form, or its claims are not what is wanted.
    InvalidMessage,
    /// It is not signed with HS256, or demands an extension ("crit", RFC 7515 section 4.1.11).
    Algorithm,
    /// Its signature is not that of the secret.
    Signature,
    /// Its `exp` is over (RFC 7519 section 4.1.4).
    Expired,
    /// Its `nbf` is to come (RFC 7519 section 4.1.5).
    NotYetValid,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidMessage => {
                "the token is no JSON Web Token with the claims that are needed"
            }
            Self::Algorithm => "the token is not signed with HS256 and nothing else",
            Self::Signature => "the token is not signed with the secret of this server",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
        })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Whatever it says: it would have to be understood.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// Seconds since the epoch, fractions allowed ("NumericDate"). One that is no number is not
/// taken for missing.
#[derive(Deserialize)]
struct Times {
    #[serde(default, deserialize_with = "number")]
    exp: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    nbf: Option<f64>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Value::deserialize(from).map(|_| true)
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(from).map(Some)
}

/// A token in compact form (RFC 7515 section 3.1), its parts still encoded.
struct Compact<'a> {
    /// What is signed: the header, a dot and the payload.
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Compact<'a> {
    fn of(token: &'a str) -> Result<Self, Flaw> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::InvalidMessage)?;
        let (header, payload) = signed.split_once('.').ok_or(Flaw::InvalidMessage)?;
        if payload.contains('.') {
            return Err(Flaw::InvalidMessage);
        }
        Ok(Self {
            signed,
            header,
            payload,
            signature,
        })
    }
}

fn bytes(part: &str) -> Result<Vec<u8>, Flaw> {
    BASE64URL
        .decode(part.as_bytes())
        .map_err(|_| Flaw::InvalidMessage)
}

fn object<T: DeserializeOwned>(part: &str) -> Result<T, Flaw> {
    let text = String::from_utf8(bytes(part)?).map_err(|_| Flaw::InvalidMessage)?;
    json::object(&text).map_err(|_| Flaw::InvalidMessage)
}

/// The claims of a token that the secret signed and that is valid `now`, a time since the epoch.
///
/// The signature is compared in constant time. No allowance is made for clocks that differ.
///
/// # Errors
/// The first flaw that was found.
pub fn verified<T: DeserializeOwned>(token: &str, secret: &[u8], now: Duration) -> Result<T, Flaw> {
    let token = Compact::of(token)?;
    let header: Header = object(token.header)?;
    if header.alg != "HS256" || header.crit {
        return Err(Flaw::Algorithm);
    }
    let mac = Hmac::<Sha256>::new_from_slice(secret);
    let mut mac = mac.expect("a key of HMAC may have any length");
    mac.update(token.signed.as_bytes());
    let signature = bytes(token.signature)?;
    mac.verify_slice(&signature).map_err(|_| Flaw::Signature)?;
    let times: Times = object(token.payload)?;
    let now = now.as_secs_f64();
    if times.exp.is_some_and(|exp| now >= exp) {
        return Err(Flaw::Expired);
    }
    if times.nbf.is_some_and(|nbf| now < nbf) {
        return Err(Flaw::NotYetValid);
    }
    object(token.payload)
}

/// What a token claims, whoever wrote it and whenever.
///
/// # Errors
/// It is no token, or its claims are not what is wanted.
pub fn unverified<T: DeserializeOwned>(token: &str) -> Result<T, Flaw> {
    object(Compact::of(token)?.payload)
}

/// Signs a token, for tests.
#[cfg(any(test, fuzzing))]
pub(crate) fn signed(header: &str, payload: &str, secret: &[u8]) -> String {
    let [header, payload] = [header, payload].map(|part| BASE64URL.encode(part.as_bytes()));
    let signed = format!("{header}.{payload}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    let signature = BASE64URL.encode(&mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Claims {
        username: String,
    }

    const ANN: &str = r#"{"username":"ann"}"#;

    fn ann() -> Result<Claims, Flaw> {
        let username = "ann".to_owned();
        Ok(Claims { username })
    }

    /// What a token is worth at second 1000.
    fn worth(token: &str) -> Result<Claims, Flaw> {
        verified(token, b"secret", Duration::from_secs(1000))
    }

    /// RFC 7515 appendix A.1.
    const EXAMPLE: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
        cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const EXAMPLES_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75\
        aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

    #[test]
    fn the_example_of_the_rfc_is_verified_until_it_expires() {
        let key = bytes(EXAMPLES_KEY).unwrap();
        let expires = Duration::from_secs(1_300_819_380);
        let claims: Value = verified(EXAMPLE, &key, expires - Duration::from_millis(1)).unwrap();
        let right = json!({"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true});
        assert_eq!(claims, right);
        assert_eq!(
            verified::<Value>(EXAMPLE, &key, expires),
            Err(Flaw::Expired)
        );
        assert_eq!(unverified::<Value>(EXAMPLE), Ok(right));
    }

    #[test]
    fn a_token_of_another_secret_is_not_verified() {
        let token = signed(HS256, ANN, b"secret");
        assert_eq!(worth(&token), ann());
        for other in [&b""[..], b"Secret", b"secret "] {
            let token = signed(HS256, ANN, other);
            assert_eq!(worth(&token), Err(Flaw::Signature));
            assert_eq!(unverified(&token), ann());
        }
    }

    #[test]
    fn what_was_changed_after_signing_is_not_verified() {
        let token = signed(HS256, ANN, b"secret");
        let other = signed(HS256, r#"{"username":"bob"}"#, b"secret");
        let parts = |token: &str| -> Vec<String> { token.split('.').map(str::to_owned).collect() };
        let ([header, payload, signature], others) = (
            <[String; 3]>::try_from(parts(&token)).unwrap(),
            parts(&other),
        );
        let short = &signature[..signature.len() - 3];
        for forged in [
            format!("{header}.{}.{signature}", others[1]),
            format!("{header}.{payload}.{}", others[2]),
            format!("{header}.{payload}.{short}"),
            format!("{header}.{payload}."),
        ] {
            assert_eq!(worth(&forged), Err(Flaw::Signature), "{forged}");
        }
    }

    #[test]
    fn nothing_but_hs256_is_verified() {
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"HS256","crit":null}"#,
        ] {
            let token = signed(header, ANN, b"secret");
            assert_eq!(worth(&token), Err(Flaw::Algorithm), "{header}");
            let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
            assert_eq!(worth(&unsigned), Err(Flaw::Algorithm), "{header}");
        }
    }

    #[test]
    fn a_token_is_valid_from_nbf_to_right_before_exp() {
        let at = |times: &str| {
            let payload = format!(r#"{{"username":"ann",{times}}}"#);
            worth(&signed(HS256, &payload, b"secret"))
        };
        for good in [
            r#""exp":1001"#,
            r#""exp":1000.5"#,
            r#""nbf":1000"#,
            r#""iat":5000"#,
        ] {
            assert_eq!(at(good), ann(), "{good}");
        }
        for over in [r#""exp":1000"#, r#""exp":0"#, r#""exp":-1e300"#] {
            assert_eq!(at(over), Err(Flaw::Expired), "{over}");
        }
        assert_eq!(at(r#""nbf":1000.5"#), Err(Flaw::NotYetValid));
        for no_time in [
            r#""exp":null"#,
            r#""exp":"2000""#,
            r#""exp":1e999"#,
            r#""nbf":[]"#,
        ] {
            assert_eq!(at(no_time), Err(Flaw::InvalidMessage), "{no_time}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let token = signed(HS256, ANN, b"secret");
        for garbage in [
            "".to_owned(),
            "..".to_owned(),
            "a.b".to_owned(),
            "ü.ü.ü".to_owned(),
            format!("{token}=="),
            format!("{token}.more"),
            format!(" {token}"),
            signed("{}", ANN, b"secret"),
            signed(r#"["HS256"]"#, ANN, b"secret"),
            signed(HS256, "nonsense", b"secret"),
            signed(HS256, r#"["ann"]"#, b"secret"),
            signed(HS256, r#"{"username":7}"#, b"secret"),
            signed(HS256, r#"{"username":"ann","username":"bob"}"#, b"secret"),
        ] {
            assert_eq!(worth(&garbage), Err(Flaw::InvalidMessage), "{garbage}");
        }
        for garbage in ["", "ann", "a.b.c", "{}.{}.{}"] {
            assert_eq!(unverified::<Claims>(garbage), Err(Flaw::InvalidMessage));
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret: Secret = serde_json::from_value(json!("hush")).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(secret.bytes(), Some(&b"hush"[..]));
        assert_eq!(Secret::default().bytes(), None);
        let wrong = serde_json::from_value::<Secret>(json!(12345)).unwrap_err();
        assert!(!wrong.to_string().contains("12345"), "{wrong}");
    }

    proptest! {
        #[test]
        fn no_text_is_verified_or_makes_reading_panic(text in "[a-zA-Z0-9_.=-]{0,80}|\\PC{0,40}") {
            prop_assert!(worth(&text).is_err());
            let _ = unverified::<Claims>(&text);
        }
    }
}
