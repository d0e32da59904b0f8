//! A certificate with its key, ready to speak TLS with.

use super::files::{self, Stamp};
use crate::base::log_escape::{Quoted, escape};
use crate::realm::setting_types::ValueError;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::server::NoServerSessionStorage;
use futures_rustls::rustls::{Error, ServerConfig};
use std::sync::Arc;
use std::time::SystemTime;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::time::Validity;

/// What each client that asks for a protocol is answered (RFC 7301): a WebSocket begins with HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

/// A certificate with its key.
pub(super) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    not_before: SystemTime,
    not_after: SystemTime,
    stamp: Stamp,
    server_config: Arc<ServerConfig>,
}

impl Identity {
    /// Why there is none in this build.
    pub(super) const MISSING: Option<&'static str> = None;

    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// What is wrong with which of the files.
    pub(super) fn read(certificate: &str, key: &str) -> Result<Self, ValueError> {
        // Before the files are read: a change that comes meanwhile is then one.
        let stamp = Stamp::of(certificate, key);
        let chain = files::read(certificate).and_then(|pem| {
            read_chain(&pem).map_err(|problem| format!("{}: {problem}", Quoted(certificate)))
        });
        let chain = chain.map_err(at(".certificate"))?;
        let private_key = files::read(key).and_then(|pem| {
            read_key(&pem).map_err(|problem| format!("{}: {problem}", Quoted(key)))
        });
        let private_key = private_key.map_err(at(".key"))?;
        let leaf = chain.first().map(|leaf| read_validity(leaf));
        let validity = leaf.unwrap_or_else(|| Err("has no certificate".to_owned()));
        let validity = validity
            .map_err(|problem| at(".certificate")(format!("{}: {problem}", Quoted(certificate))))?;
        let server_config = server_config(chain.clone(), private_key).map_err(|error| {
            let problem = match error {
                Error::InconsistentKeys(_) => format!(
                    "the key does not fit the certificate in {}; write the key that it was made with",
                    Quoted(certificate)
                ),
                error => format!("cannot be used: {}", escape(&error.to_string())),
            };
            at(".key")(format!("{}: {problem}", Quoted(key)))
        })?;
        Ok(Self {
            chain,
            not_before: validity.not_before.to_system_time(),
            not_after: validity.not_after.to_system_time(),
            stamp,
            server_config: Arc::new(server_config),
        })
    }

    /// Returns the state of the files when they were read.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp.clone()
    }

    /// Returns the beginning of the certificate's validity.
    pub(super) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Returns the end of the certificate's validity.
    pub(super) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Returns whether another one has the same certificates, of which the first decides what the key is.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.chain == other.chain
    }

    /// Returns what TLS is spoken with.
    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server_config)
    }
}

/// Returns what makes an error of a problem at this place.
fn at(place: &str) -> impl Fn(String) -> ValueError {
    move |problem| ValueError {
        place: place.to_owned(),
        problem,
    }
}

/// Reads the certificates of a PEM file.
fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ if PrivateKeyDer::from_pem_slice(pem).is_ok() => Err(
            "has a private key and no certificate; are \"certificate\" and \"key\" the wrong way round?".to_owned(),
        ),
        _ => Err(
            "has no certificate in PEM, which begins with \"-----BEGIN CERTIFICATE-----\"; name the file with the certificate \
             and those of its issuers (certbot: fullchain.pem)"
                .to_owned(),
        ),
    }
}

/// Reads the private key of a PEM file.
fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if let Ok(key) = PrivateKeyDer::from_pem_slice(pem) {
        return Ok(key);
    }
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    Err(if has(b"ENCRYPTED") {
        "is encrypted, and nobody can enter its passphrase; write it without (openssl pkey -in KEY -out NEW)".to_owned()
    } else if CertificateDer::from_pem_slice(pem).is_ok() {
        "has a certificate and no private key; are \"certificate\" and \"key\" the wrong way round?"
            .to_owned()
    } else {
        "has no private key in PEM, which begins with \"-----BEGIN PRIVATE KEY-----\"; name the file with the key of the \
         certificate (certbot: privkey.pem)"
            .to_owned()
    })
}

/// Returns when a certificate is valid.
fn read_validity(certificate: &[u8]) -> Result<Validity, String> {
    // Not the strict profile: authorities exist whose serial numbers are too long for it.
    let certificate = CertificateInner::<Raw>::from_der(certificate);
    let certificate = certificate.map_err(|error| {
        let error = escape(&error.to_string());
        format!("its first certificate cannot be read: {error}")
    })?;
    Ok(certificate.tbs_certificate.validity)
}

/// Returns what speaks TLS 1.2 and 1.3 with this certificate.
///
/// Nothing is kept of a client that has disconnected: what it needs to resume is in its ticket.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    // Each costs a client that connects once 230 bytes.
    config.send_tls13_tickets = 1;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory with files of this content, which is removed at the end.
    struct Files(PathBuf);

    impl Files {
        fn new(files: &[(&str, &str)]) -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("switchboard-identity-{}-{number}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir(&directory).unwrap();
            for (name, content) in files {
                fs::write(directory.join(name), content).unwrap();
            }
            Self(directory)
        }

        /// Returns the error of a configuration with two of the files, without the directory in it.
        fn error(&self, certificate: &str, key: &str) -> String {
            let [certificate, key] = [certificate, key].map(|name| self.0.join(name));
            let tls = json!({"certificate": certificate, "key": key});
            let listener = json!({"protocol": "peerdrop", "tls": tls});
            let config = Config::from_json(&json!({"listeners": [listener]}).to_string());
            let error = config.unwrap_err().join("\n");
            error.replace(self.0.to_str().unwrap(), "")
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn an_error_names_the_key_and_the_file_and_says_what_would_be_right() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let large = "x".repeat(300 << 10);
        let files = Files::new(&[
            ("c", &certificate),
            ("k", &key),
            ("other", &other),
            ("encrypted", encrypted),
            ("large", &large),
            ("text", "none"),
        ]);
        for (certificate, key, place, expected) in [
            (
                "none",
                "k",
                "certificate",
                "\"/none\": there is no such file",
            ),
            (
                "",
                "k",
                "certificate",
                "\"/\": is a directory; name the PEM file itself",
            ),
            ("c", "none", "key", "\"/none\": there is no such file"),
            (
                "k",
                "c",
                "certificate",
                "\"/k\": has a private key and no certificate; are",
            ),
            (
                "c",
                "c",
                "key",
                "\"/c\": has a certificate and no private key; are",
            ),
            (
                "text",
                "k",
                "certificate",
                "\"/text\": has no certificate in PEM",
            ),
            ("c", "text", "key", "\"/text\": has no private key in PEM"),
            ("c", "encrypted", "key", "\"/encrypted\": is encrypted"),
            ("large", "k", "certificate", "\"/large\": is too large"),
            (
                "c",
                "other",
                "key",
                "\"/other\": the key does not fit the certificate in \"/c\"",
            ),
        ] {
            let error = files.error(certificate, key);
            let expected = format!("listeners[0].tls.{place}: {expected}");
            assert!(error.contains(&expected), "{error}\n{expected}");
        }
    }

    #[test]
    fn a_valid_pair_speaks_http_1_1_and_keeps_nothing_of_its_clients() {
        let (certificate, key) = pair();
        let files = Files::new(&[("c", &certificate), ("k", &key)]);
        let path = |name: &str| files.0.join(name).to_str().unwrap().to_owned();
        let identity = Identity::read(&path("c"), &path("k")).unwrap();
        let config = identity.server_config();
        assert_eq!(config.alpn_protocols, [ALPN]);
        assert!(!config.session_storage.can_cache() && config.ticketer.enabled());
        assert!(identity.not_after() > SystemTime::now());
    }
}
