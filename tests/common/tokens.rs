//! Access tokens, signed by hand as an issuer elsewhere signs them: right ones and wrong ones.

use super::merge;
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use std::fmt::Display;
use std::time::SystemTime;

/// The secret of listeners that read tokens.
pub const SECRET: &str = "a secret of the tests, 32 bytes and more";
/// A secret that they do not have, or that takes the place of theirs.
pub const OTHER_SECRET: &str = "another secret, 32 bytes and more as well";

/// The header of each token that listeners read.
pub const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// Headers of tokens that they refuse, whoever has signed them.
const HS512: &str = r#"{"alg":"HS512","typ":"JWT"}"#;
const RS256: &str = r#"{"alg":"RS256","typ":"JWT"}"#;
const NONE: &str = r#"{"alg":"none","typ":"JWT"}"#;

/// Returns the setting `access` of a listener, with [`SECRET`] and these keys.
pub fn access(keys: &Value) -> Value {
    json!({"access": merge(json!({"secret": SECRET}), keys)})
}

/// Returns a token with these claims, signed with [`SECRET`].
pub fn token(claims: &Value) -> String {
    sign(HS256, claims, SECRET)
}

/// Returns tokens with these claims that each listener refuses, with a part of the reason.
pub fn wrong_tokens(claims: &Value) -> Vec<(String, &'static str)> {
    let with = |claim: Value| token(&merge(claims.clone(), &claim));
    vec![
        (sign(HS256, claims, OTHER_SECRET), "is not signed with"),
        (sign(NONE, claims, SECRET), "HS256"),
        (sign(RS256, claims, SECRET), "HS256"),
        (sign(HS512, claims, SECRET), "HS256"),
        ("a.b.c".to_owned(), "JSON Web Token"),
        (with(json!({"exp": seconds_from_now(-61)})), "has expired"),
        (
            with(json!({"nbf": seconds_from_now(3600)})),
            "not valid yet",
        ),
        (
            with(json!({"x": "x".repeat(8 << 10)})),
            "at most 8192 bytes",
        ),
    ]
}

/// Returns what has the form of a token, whatever its header and its claims are. It is signed as [`NONE`] or [`HS512`] demands
/// if that is its header, and by HS256 else.
pub fn sign(header: &str, claims: impl Display, secret: &str) -> String {
    let parts = [header, &claims.to_string()].map(|part| BASE64URL.encode(part.as_bytes()));
    let signed = parts.join(".");
    let signature = match header {
        NONE => Vec::new(),
        HS512 => mac::<Hmac<Sha512>>(&signed, secret),
        _ => mac::<Hmac<Sha256>>(&signed, secret),
    };
    format!("{signed}.{}", BASE64URL.encode(&signature))
}

fn mac<M: Mac + KeyInit>(signed: &str, secret: &str) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(signed).finalize().into_bytes().to_vec()
}

/// Returns the time this many seconds from now, as `exp` and `nbf` have it.
pub fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_secs()).unwrap() + seconds
}
