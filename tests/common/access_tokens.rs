//! Access tokens that tests sign themselves, right ones and wrong ones.

use super::{TemporaryPath, temporary_file};
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

/// Secrets of listeners that read tokens.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";

/// The header of each token that listeners read.
pub const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Returns a token with these claims, signed with [`SECRET`].
pub fn token(claims: &Value) -> String {
    signed(HS256, &claims.to_string(), SECRET)
}

/// Returns what has the form of a token and is signed with HS256, whatever its header says.
pub fn signed(header: &str, claims: &str, secret: &str) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL.encode(part.as_bytes()));
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{header}.{claims}").as_bytes());
    let signature = BASE64URL.encode(&mac.finalize().into_bytes());
    format!("{header}.{claims}.{signature}")
}

/// Creates a file that its owner alone can read, as one with secrets should be.
pub fn private_file(content: &str) -> TemporaryPath {
    let path = TemporaryPath(temporary_file(content));
    set_permissions(&*path, Permissions::from_mode(0o600)).unwrap();
    path
}
