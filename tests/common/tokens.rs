//! Access tokens, signed by hand as an issuer elsewhere signs them.

use super::merge;
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use std::time::SystemTime;

/// The secret of the listeners of tests.
pub const SECRET: &str = "a secret of the tests, 32 bytes and more";

/// Returns the setting `access` with that secret and these keys.
pub fn access(others: &Value) -> Value {
    merge(json!({"secret": SECRET}), others)
}

/// Returns a token with these claims.
pub fn token(claims: &Value) -> String {
    sign("HS256", claims, SECRET)
}

/// Returns a token of this algorithm: `none` and `HS512` as RFC 7518 has them, others with the signature of HS256.
pub fn sign(algorithm: &str, claims: &Value, secret: &str) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"});
    let [header, claims] =
        [&header, claims].map(|part| BASE64URL.encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = match algorithm {
        "none" => Vec::new(),
        "HS512" => mac::<Hmac<Sha512>>(secret, &signed),
        _ => mac::<Hmac<Sha256>>(secret, &signed),
    };
    format!("{signed}.{}", BASE64URL.encode(&signature))
}

fn mac<M: Mac + KeyInit>(secret: &str, signed: &str) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(signed).finalize().into_bytes().to_vec()
}

/// Returns the time this many seconds from now as `exp` and `nbf` have it.
pub fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_secs()).unwrap() + seconds
}

/// Returns the value of an Authorization header with this token.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
