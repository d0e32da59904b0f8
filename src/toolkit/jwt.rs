//! JSON Web Tokens (RFC 7519) signed with HS256 (RFC 7518 section 3.2), read as RFC 8725 advises: the algorithm is not
//! the token's choice, and a claim of a wrong type is an error instead of a missing claim.

use crate::realm::access::{Claims, MAX_TOKEN_LENGTH, TokenError, TokenReader};
use crate::toolkit::json;
use data_encoding::{
    BASE64, BASE64_NOPAD, BASE64URL as BASE64URL_PADDED, BASE64URL_NOPAD as BASE64URL,
    HEXLOWER_PERMISSIVE,
};
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A secret that this server shares with the issuer of tokens. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Creates a secret of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Returns what issuers sign with that take this secret for something else, and what that is, to explain signatures.
    pub(crate) fn mistaken(&self) -> Vec<(Self, &'static str)> {
        let decoded = [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_PADDED];
        let decoded = decoded.iter().find_map(|it| it.decode(&self.0).ok());
        let hexadecimal = HEXLOWER_PERMISSIVE.decode(&self.0).ok();
        let with_end = [&self.0[..], b"\n"].concat();
        let mistakes = [
            (
                hexadecimal,
                "what the secret is decoded from hexadecimal digits",
            ),
            (decoded, "what the secret is decoded from base64"),
            (Some(with_end), "the secret and a line end"),
        ];
        let mistakes = mistakes.into_iter();
        let mistakes = mistakes.filter_map(|(bytes, what)| Some((Self::new(&bytes?), what)));
        mistakes.collect()
    }

    /// Returns whether a token in compact form has the signature that this secret makes.
    pub(crate) fn is_of(&self, token: &str) -> bool {
        let token = Compact::parse(token);
        let is_own = |it: Compact| Ok(self.has_signed(it.signed, &decode(it.signature)?));
        token.and_then(is_own).unwrap_or_default()
    }

    /// Compares in constant time.
    fn has_signed(&self, signed: &str, signature: &[u8]) -> bool {
        self.mac(signed).verify_slice(signature).is_ok()
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mac = Hmac::new_from_slice(&self.0);
        let mut mac: Hmac<Sha256> = mac.expect("HMAC accepts keys of any length");
        mac.update(signed.as_bytes());
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    /// The secrets that a token may be signed with: while they are changed, the new one and the old one.
    pub secrets: Vec<Secret>,
    /// What `aud` must be or contain; `None`: `aud` is not looked at.
    pub audience: Option<Arc<str>>,
}

impl Verifier {
    /// Returns the claims of a token. Its times are not checked: see [`Claims::check_times`]. Signatures are compared in
    /// constant time.
    ///
    /// # Errors
    /// The first problem found: length and form, algorithm, signature, claims, audience. Of a token whose signature is
    /// wrong nothing more is said.
    pub fn read(&self, token: &str) -> Result<Claims, TokenError> {
        let token = Compact::parse(token)?;
        let header: Header = object(token.header)?;
        if header.alg != "HS256" || header.crit {
            return Err(TokenError::Algorithm);
        }
        let signature = decode(token.signature)?;
        let is_own = |secret: &Secret| secret.has_signed(token.signed, &signature);
        if !self.secrets.iter().any(is_own) {
            return Err(TokenError::Signature);
        }
        let payload: Payload = object(token.payload)?;
        // All whose issuer forgot to fill it in would be the same client.
        if payload.sub.as_deref() == Some("") {
            return Err(TokenError::Malformed);
        }
        let names = |audience: &Arc<str>| payload.aud.iter().any(|aud| aud.contains(audience));
        if !self.audience.as_ref().is_none_or(names) {
            return Err(TokenError::Audience);
        }
        Ok(Claims {
            audience: self.audience.clone(),
            ..payload.into_claims()
        })
    }
}

impl TokenReader for Verifier {
    fn is_reading(&self) -> bool {
        true
    }

    fn read(&self, token: &str) -> Option<Result<Claims, TokenError>> {
        Some(self.read(token))
    }
}

/// Returns the `username` in a token without checking anything else of it, for a listener that reads no tokens.
pub fn unverified_username(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        username: String,
    }
    let token = Compact::parse(token).ok()?;
    let payload: Named = object(token.payload).ok()?;
    Some(payload.username)
}

/// Returns whether a text has the shape of a token: three parts of base64url, separated by dots. What only looks like
/// one is a token, too, so that a damaged one is refused instead of ignored.
pub fn has_shape(text: &str) -> bool {
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match text.split('.').collect::<Vec<_>>()[..] {
        [header, payload, signature] => {
            let parts = [header, payload, signature];
            !header.is_empty() && !payload.is_empty() && parts.into_iter().all(is_part)
        }
        _ => false,
    }
}

/// Returns a signed token with these claims.
pub fn sign(claims: &Value, secret: &Secret) -> String {
    sign_parts(
        r#"{"alg":"HS256","typ":"JWT"}"#,
        &claims.to_string(),
        secret,
    )
}

/// Returns a token of this header and this payload, whatever they are.
pub(crate) fn sign_parts(header: &str, payload: &str, secret: &Secret) -> String {
    let [header, payload] = [header, payload].map(|part| BASE64URL.encode(part.as_bytes()));
    let signed = format!("{header}.{payload}");
    let signature = secret.mac(&signed).finalize().into_bytes();
    format!("{signed}.{}", BASE64URL.encode(&signature))
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Whether the header has the field, with whatever value: its extensions are not supported.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// The claims that mean something here. A value of another type is an error instead of a missing value.
#[derive(Deserialize)]
struct Payload {
    #[serde(default, deserialize_with = "some")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "some")]
    name: Option<String>,
    #[serde(default, deserialize_with = "some")]
    username: Option<String>,
    #[serde(default, deserialize_with = "some")]
    roles: Option<Vec<String>>,
    #[serde(default, deserialize_with = "some")]
    aud: Option<Audience>,
    #[serde(default, deserialize_with = "some")]
    exp: Option<NumericDate>,
    #[serde(default, deserialize_with = "some")]
    nbf: Option<NumericDate>,
}

impl Payload {
    fn into_claims(self) -> Claims {
        Claims {
            subject: self.sub,
            name: self.name,
            username: self.username,
            roles: self.roles,
            audience: None,
            not_before: self.nbf.map(|it| it.0),
            expires: self.exp.map(|it| it.0),
        }
    }
}

/// One audience or several (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// Seconds since the Unix epoch, with fractions (RFC 7519 section 2).
struct NumericDate(Duration);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(from)?.max(0.0);
        let since_epoch = Duration::try_from_secs_f64(seconds);
        Ok(Self(since_epoch.unwrap_or(Duration::MAX)))
    }
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Value::deserialize(from).map(|_| true)
}

/// Reads a field that is there: `null` is a value of another type.
fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
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
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::TooLong);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const ANN: &str = r#"{"sub":"ann"}"#;

    fn ann() -> Result<Claims, TokenError> {
        Ok(Claims {
            subject: Some("ann".to_owned()),
            ..Claims::default()
        })
    }

    fn secret() -> Secret {
        Secret::new(b"secret")
    }

    fn verifier() -> Verifier {
        Verifier {
            secrets: vec![secret()],
            audience: None,
        }
    }

    /// The claims of a token with this payload.
    fn claims(payload: &str) -> Result<Claims, TokenError> {
        verifier().read(&sign_parts(HS256, payload, &secret()))
    }

    /// RFC 7515 appendix A.1.
    const EXAMPLE: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
        cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const EXAMPLES_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75\
        aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let verifier = Verifier {
            secrets: vec![Secret::new(&decode(EXAMPLES_KEY).unwrap())],
            audience: None,
        };
        let expected = Ok(Claims {
            expires: Some(Duration::from_secs(1_300_819_380)),
            ..Claims::default()
        });
        assert_eq!(verifier.read(EXAMPLE), expected);
    }

    #[test]
    fn all_claims_that_mean_something_are_read_and_others_ignored() {
        let token = sign(
            &json!({
                "iss": "login", "sub": "ann", "name": "Ann", "username": "annie", "roles": ["host"],
                "aud": "chat", "nbf": 10, "exp": 20.5, "iat": "any",
            }),
            &secret(),
        );
        let expected = Claims {
            subject: Some("ann".to_owned()),
            name: Some("Ann".to_owned()),
            username: Some("annie".to_owned()),
            roles: Some(vec!["host".to_owned()]),
            audience: None,
            not_before: Some(Duration::from_secs(10)),
            expires: Some(Duration::from_millis(20_500)),
        };
        assert_eq!(verifier().read(&token), Ok(expected));
    }

    #[test]
    fn a_token_signed_with_another_secret_is_refused() {
        for other in [&b""[..], b"Secret", b"secret "] {
            let token = sign_parts(HS256, ANN, &Secret::new(other));
            assert_eq!(verifier().read(&token), Err(TokenError::Signature));
        }
    }

    #[test]
    fn a_token_signed_with_the_old_or_the_new_secret_is_read() {
        let [old, new] = [&b"old"[..], b"new"].map(Secret::new);
        let verifier = Verifier {
            secrets: vec![new.clone(), old.clone()],
            audience: None,
        };
        for secret in [old, new] {
            assert_eq!(verifier.read(&sign_parts(HS256, ANN, &secret)), ann());
        }
        let token = sign_parts(HS256, ANN, &secret());
        assert_eq!(verifier.read(&token), Err(TokenError::Signature));
    }

    #[test]
    fn without_secrets_no_token_is_read() {
        let verifier = Verifier {
            secrets: Vec::new(),
            audience: None,
        };
        let token = sign_parts(HS256, ANN, &Secret::new(b""));
        assert_eq!(verifier.read(&token), Err(TokenError::Signature));
    }

    #[test]
    fn a_token_changed_after_signing_is_refused() {
        let token = sign_parts(HS256, ANN, &secret());
        let other = sign_parts(HS256, r#"{"sub":"bob"}"#, &secret());
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
                verifier().read(&forged),
                Err(TokenError::Signature),
                "{forged}"
            );
        }
    }

    #[test]
    fn algorithms_other_than_hs256_are_refused() {
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"HS256","crit":null}"#,
        ] {
            let token = sign_parts(header, ANN, &secret());
            assert_eq!(
                verifier().read(&token),
                Err(TokenError::Algorithm),
                "{header}"
            );
            let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
            assert_eq!(
                verifier().read(&unsigned),
                Err(TokenError::Algorithm),
                "{header}"
            );
        }
    }

    #[test]
    fn a_token_is_for_the_audience_that_is_its_aud_or_in_it() {
        let verifier = Verifier {
            secrets: vec![secret()],
            audience: Some("chat".into()),
        };
        let read = |payload: &str| verifier.read(&sign_parts(HS256, payload, &secret()));
        for good in [
            r#"{"sub":"ann","aud":"chat"}"#,
            r#"{"sub":"ann","aud":["mail","chat"]}"#,
        ] {
            let of_chat = ann().map(|ann| Claims {
                audience: Some("chat".into()),
                ..ann
            });
            assert_eq!(read(good), of_chat, "{good}");
            assert_eq!(claims(good), ann(), "{good}");
        }
        for other in [
            ANN,
            r#"{"sub":"ann","aud":"mail"}"#,
            r#"{"sub":"ann","aud":"Chat"}"#,
            r#"{"sub":"ann","aud":[]}"#,
        ] {
            assert_eq!(read(other), Err(TokenError::Audience), "{other}");
        }
    }

    #[test]
    fn a_claim_of_a_wrong_type_is_an_error() {
        for payload in [
            r#"{"sub":7}"#,
            r#"{"sub":null}"#,
            r#"{"sub":""}"#,
            r#"{"name":["ann"]}"#,
            r#"{"username":7}"#,
            r#"{"roles":"host"}"#,
            r#"{"roles":[1]}"#,
            r#"{"aud":7}"#,
            r#"{"aud":[7]}"#,
            r#"{"exp":null}"#,
            r#"{"exp":"2000"}"#,
            r#"{"exp":1e999}"#,
            r#"{"nbf":[]}"#,
            r#"{"sub":"ann","sub":"bob"}"#,
            r#"["ann"]"#,
            "nonsense",
        ] {
            assert_eq!(claims(payload), Err(TokenError::Malformed), "{payload}");
        }
    }

    #[test]
    fn times_before_1970_and_beyond_all_clocks_are_read() {
        let expires = |payload: &str| claims(payload).unwrap().expires;
        assert_eq!(expires(r#"{"exp":-1e300}"#), Some(Duration::ZERO));
        assert_eq!(expires(r#"{"exp":1e300}"#), Some(Duration::MAX));
    }

    #[test]
    fn a_malformed_token_is_refused() {
        let token = sign_parts(HS256, ANN, &secret());
        for garbage in [
            "".to_owned(),
            "..".to_owned(),
            "a.b".to_owned(),
            "ü.ü.ü".to_owned(),
            format!("{token}=="),
            format!("{token}.more"),
            format!(" {token}"),
            sign_parts("{}", ANN, &secret()),
            sign_parts(r#"["HS256"]"#, ANN, &secret()),
        ] {
            assert_eq!(
                verifier().read(&garbage),
                Err(TokenError::Malformed),
                "{garbage}"
            );
        }
        for garbage in ["", "ann", "a.b.c", "{}.{}.{}"] {
            assert_eq!(unverified_username(garbage), None);
        }
    }

    #[test]
    fn a_token_of_8_kib_is_read_and_a_longer_one_refused() {
        let token = |length: usize| {
            let payload = json!({"sub": "ann", "padding": "x".repeat(length)});
            sign(&payload, &secret())
        };
        let longest = (6000..)
            .map(token)
            .take_while(|token| token.len() <= MAX_TOKEN_LENGTH)
            .last()
            .unwrap();
        assert!(longest.len() > MAX_TOKEN_LENGTH - 3);
        assert_eq!(verifier().read(&longest), ann());
        let longer = token(7000);
        assert_eq!(verifier().read(&longer), Err(TokenError::TooLong));
    }

    #[test]
    fn three_parts_of_base64url_have_the_shape_of_a_token() {
        assert!(has_shape(EXAMPLE));
        assert!(has_shape("a-_.Z9."), "an unsigned one, too");
        for other in [
            "", "made-up", "a.b", "a.b.c.d", ".b.c", "a..c", "a.b=.c", "a.b c.d", "ü.b.c",
        ] {
            assert!(!has_shape(other), "{other}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"hush")), "Secret");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_refused_without_a_panic(text in "[a-zA-Z0-9_.=-]{0,80}|\\PC{0,40}") {
            prop_assert!(verifier().read(&text).is_err());
            let _ = unverified_username(&text);
            let _ = has_shape(&text);
        }
    }
}
