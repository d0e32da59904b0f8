//! Certificates that are made for tests and benchmarks.

use futures_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// A certificate for `localhost` with its key, in files that are removed at the end.
pub struct Certificate {
    pub directory: PathBuf,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// The certificate and the key in PEM.
    pub pem: (String, String),
}

impl Certificate {
    /// Makes one that is valid for a year.
    pub fn new() -> Self {
        Self::valid_for(365 * 24 * 60 * 60)
    }

    /// Makes one that is valid from two years ago until some seconds from now, perhaps negative ones.
    pub fn valid_for(seconds: i64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "switchboard-tls-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let now = SystemTime::now();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        params.not_before = (now - Duration::from_secs(2 * 365 * 24 * 60 * 60)).into();
        params.not_after = match seconds {
            0.. => (now + distance).into(),
            _ => (now - distance).into(),
        };
        let certificate = params.self_signed(&key).unwrap();
        let certificate = Self {
            directory,
            der: certificate.der().to_vec(),
            pem: (certificate.pem(), key.serialize_pem()),
        };
        certificate.write(&certificate.pem.clone());
        certificate
    }

    /// Replaces the files by those of another certificate.
    pub fn write(&self, (certificate, key): &(String, String)) {
        self.write_file("fullchain.pem", certificate);
        self.write_file("privkey.pem", key);
    }

    /// Replaces a file at once, as programs do that renew certificates.
    pub fn write_file(&self, name: &str, content: &str) {
        let new = self.directory.join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.directory.join(name)).unwrap();
    }

    /// Returns the value of `tls` with these files.
    pub fn setting(&self) -> Value {
        json!({
            "certificate": self.directory.join("fullchain.pem"),
            "key": self.directory.join("privkey.pem"),
        })
    }

    /// Returns what a client connects with that trusts this certificate.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
