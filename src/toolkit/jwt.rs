//! Verification of JSON Web Tokens (RFC 7519) signed with HS256 (RFC 7518 section 3.2).

use crate::realm::setting::Setting;
use crate::realm::setting_types::{SettingValue, ValueError};
use crate::toolkit::json;
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use sha2::Sha256;
use std::fmt;
use std::time::Duration;

/// The secret that this server shares with the issuer of tokens. It is never printed, not even in the error
/// for an invalid one.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Returns the key for signatures; `None` if the secret is empty, which means that none is configured.
    pub fn bytes(&self) -> Option<&[u8]> {
        (!self.0.is_empty()).then_some(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The error for another value does not show it: a number may have been meant to be the secret.
impl SettingValue for Secret {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        match value {
            Value::String(secret) => Ok(Self(secret.clone())),
            _ => Err("must be a string".into()),
        }
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// The reason why a token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The token is not in compact form, or its claims are missing or of the wrong types.
    Malformed,
    /// The token is not signed with HS256, or requires an extension ("crit", RFC 7515 section 4.1.11).
    Algorithm,
    /// The signature was not made with the secret.
    Signature,
    /// The time `exp` has passed (RFC 7519 section 4.1.4).
    Expired,
    /// The time `nbf` has not come (RFC 7519 section 4.1.5).
    NotYetValid,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the token must be a JSON Web Token with the required claims",
            Self::Algorithm => "the token must be signed with HS256, without \"crit\"",
            Self::Signature => "the token is not signed with this server's secret",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
        })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Whether the header has the field, with whatever value: its extensions are not supported.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// Seconds since the Unix epoch, with fractions ("NumericDate", RFC 7519 section 2). A value of another type
/// is an error instead of a missing value.
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

/// A token in compact form (RFC 7515 section 3.1), with its parts still encoded.
struct Compact<'a> {
    /// The text that is signed: the header, a dot and the payload.
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Compact<'a> {
    fn parse(token: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            signed,
            header,
            payload,
            signature,
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64URL
        .decode(part.as_bytes())
        .map_err(|_| TokenError::Malformed)
}

fn object<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let text = String::from_utf8(decode(part)?).map_err(|_| TokenError::Malformed)?;
    json::read_struct(&text).map_err(|_| TokenError::Malformed)
}

/// Returns the claims of a token that was signed with `secret` and is valid at `now`, the time since the Unix
/// epoch.
///
/// The signature is compared in constant time. There is no tolerance for clocks that differ.
///
/// # Errors
/// The first problem found.
pub fn verify<T: DeserializeOwned>(
    token: &str,
    secret: &[u8],
    now: Duration,
) -> Result<T, TokenError> {
    let token = Compact::parse(token)?;
    let header: Header = object(token.header)?;
    if header.alg != "HS256" || header.crit {
        return Err(TokenError::Algorithm);
    }
    let mac = Hmac::<Sha256>::new_from_slice(secret);
    let mut mac = mac.expect("HMAC accepts keys of any length");
    mac.update(token.signed.as_bytes());
    let signature = decode(token.signature)?;
    mac.verify_slice(&signature)
        .map_err(|_| TokenError::Signature)?;
    let times: Times = object(token.payload)?;
    let now = now.as_secs_f64();
    if times.exp.is_some_and(|exp| now >= exp) {
        return Err(TokenError::Expired);
    }
    if times.nbf.is_some_and(|nbf| now < nbf) {
        return Err(TokenError::NotYetValid);
    }
    object(token.payload)
}

/// Returns the claims of a token without checking its signature and its times.
///
/// # Errors
/// The token is not in compact form, or its claims are missing or of the wrong types.
pub fn decode_unverified<T: DeserializeOwned>(token: &str) -> Result<T, TokenError> {
    object(Compact::parse(token)?.payload)
}

/// Creates a signed token, for tests.
#[cfg(any(test, fuzzing))]
pub(crate) fn sign(header: &str, payload: &str, secret: &[u8]) -> String {
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
    use crate::realm::setting::{SettingError, SettingMap};
    use crate::realm::setting_list::{Settings as _, settings};
    use proptest::prelude::*;
    use serde_json::json;

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Claims {
        username: String,
    }

    const ANN: &str = r#"{"username":"ann"}"#;

    fn ann() -> Result<Claims, TokenError> {
        let username = "ann".to_owned();
        Ok(Claims { username })
    }

    /// The claims of a token, verified at second 1000.
    fn verify_at_1000(token: &str) -> Result<Claims, TokenError> {
        verify(token, b"secret", Duration::from_secs(1000))
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
        let key = decode(EXAMPLES_KEY).unwrap();
        let expires = Duration::from_secs(1_300_819_380);
        let claims: Value = verify(EXAMPLE, &key, expires - Duration::from_millis(1)).unwrap();
        let expected =
            json!({"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true});
        assert_eq!(claims, expected);
        assert_eq!(
            verify::<Value>(EXAMPLE, &key, expires),
            Err(TokenError::Expired)
        );
        assert_eq!(decode_unverified::<Value>(EXAMPLE), Ok(expected));
    }

    #[test]
    fn a_token_signed_with_another_secret_is_rejected() {
        let token = sign(HS256, ANN, b"secret");
        assert_eq!(verify_at_1000(&token), ann());
        for other in [&b""[..], b"Secret", b"secret "] {
            let token = sign(HS256, ANN, other);
            assert_eq!(verify_at_1000(&token), Err(TokenError::Signature));
            assert_eq!(decode_unverified(&token), ann());
        }
    }

    #[test]
    fn a_token_changed_after_signing_is_rejected() {
        let token = sign(HS256, ANN, b"secret");
        let other = sign(HS256, r#"{"username":"bob"}"#, b"secret");
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
            assert_eq!(
                verify_at_1000(&forged),
                Err(TokenError::Signature),
                "{forged}"
            );
        }
    }

    #[test]
    fn algorithms_other_than_hs256_are_rejected() {
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"HS256","crit":null}"#,
        ] {
            let token = sign(header, ANN, b"secret");
            assert_eq!(
                verify_at_1000(&token),
                Err(TokenError::Algorithm),
                "{header}"
            );
            let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
            assert_eq!(
                verify_at_1000(&unsigned),
                Err(TokenError::Algorithm),
                "{header}"
            );
        }
    }

    #[test]
    fn a_token_is_valid_from_nbf_until_just_before_exp() {
        let claims = |times: &str| {
            let payload = format!(r#"{{"username":"ann",{times}}}"#);
            verify_at_1000(&sign(HS256, &payload, b"secret"))
        };
        for good in [
            r#""exp":1001"#,
            r#""exp":1000.5"#,
            r#""nbf":1000"#,
            r#""iat":5000"#,
        ] {
            assert_eq!(claims(good), ann(), "{good}");
        }
        for expired in [r#""exp":1000"#, r#""exp":0"#, r#""exp":-1e300"#] {
            assert_eq!(claims(expired), Err(TokenError::Expired), "{expired}");
        }
        assert_eq!(claims(r#""nbf":1000.5"#), Err(TokenError::NotYetValid));
        for invalid in [
            r#""exp":null"#,
            r#""exp":"2000""#,
            r#""exp":1e999"#,
            r#""nbf":[]"#,
        ] {
            assert_eq!(claims(invalid), Err(TokenError::Malformed), "{invalid}");
        }
    }

    #[test]
    fn a_malformed_token_is_rejected() {
        let token = sign(HS256, ANN, b"secret");
        for garbage in [
            "".to_owned(),
            "..".to_owned(),
            "a.b".to_owned(),
            "ü.ü.ü".to_owned(),
            format!("{token}=="),
            format!("{token}.more"),
            format!(" {token}"),
            sign("{}", ANN, b"secret"),
            sign(r#"["HS256"]"#, ANN, b"secret"),
            sign(HS256, "nonsense", b"secret"),
            sign(HS256, r#"["ann"]"#, b"secret"),
            sign(HS256, r#"{"username":7}"#, b"secret"),
            sign(HS256, r#"{"username":"ann","username":"bob"}"#, b"secret"),
        ] {
            assert_eq!(
                verify_at_1000(&garbage),
                Err(TokenError::Malformed),
                "{garbage}"
            );
        }
        for garbage in ["", "ann", "a.b.c", "{}.{}.{}"] {
            assert_eq!(
                decode_unverified::<Claims>(garbage),
                Err(TokenError::Malformed)
            );
        }
    }

    settings! {
        struct Keys {
            /// A secret.
            secret: Secret = Secret::default(), "text";
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let read = |secret| Keys::from_map(&SettingMap::from_iter([("secret".to_owned(), secret)]));
        let secret = read(json!("hush")).unwrap().secret;
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(secret.bytes(), Some(&b"hush"[..]));
        assert_eq!(Secret::default().bytes(), None);
        let errors = read(json!(12345)).unwrap_err();
        assert_eq!(errors, [SettingError::new("secret", "must be a string")]);
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_rejected_without_a_panic(text in "[a-zA-Z0-9_.=-]{0,80}|\\PC{0,40}") {
            prop_assert!(verify_at_1000(&text).is_err());
            let _ = decode_unverified::<Claims>(&text);
        }
    }
}
