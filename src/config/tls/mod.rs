//! The setting `tls`: with which certificate a listener speaks TLS.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod identity;
mod validity;

use crate::realm::setting::Setting;
use crate::realm::setting_types::{SettingValue, ValueError};
#[cfg(not(feature = "tls"))]
use absent::Identity;
#[cfg(not(feature = "tls"))]
pub(crate) use absent::Stamp;
#[cfg(feature = "tls")]
pub(crate) use files::Stamp;
#[cfg(feature = "tls")]
use identity::Identity;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::SystemTime;
pub(crate) use validity::Validity;

/// The keys of the setting, in their order.
const KEYS: [&str; 2] = ["certificate", "key"];

/// Certificate and key of a listener, as they were read from their files.
#[derive(Clone)]
pub struct TlsSettings {
    /// Path of the file with the certificate and those of its issuers.
    certificate: String,
    /// Path of the file with the private key.
    key: String,
    identity: Arc<Identity>,
}

impl TlsSettings {
    fn read(given: &Map<String, Value>) -> Result<Self, ValueError> {
        if let Some(problem) = Identity::MISSING {
            return Err(problem.into());
        }
        if let Some(key) = given.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let known = KEYS.join(" and ");
            let key = crate::base::log_escape::Quoted(key);
            return Err(format!("has no key {key}; its keys are {known}").into());
        }
        let path = |key: &str, example: &str| match given.get(key) {
            Some(Value::String(path)) if path.starts_with('/') => Ok(path.clone()),
            _ => Err(ValueError {
                place: format!(".{key}"),
                problem: format!("must be the absolute path of a PEM file, such as \"{example}\""),
            }),
        };
        let certificate = path("certificate", "/etc/switchboard/tls/fullchain.pem")?;
        let key = path("key", "/etc/switchboard/tls/privkey.pem")?;
        Self::from_files(certificate, key)
    }

    /// Reads a certificate and its key from two files.
    ///
    /// # Errors
    /// What is wrong with them, as an error of the configuration says it.
    pub fn load(certificate: &str, key: &str) -> Result<Self, String> {
        let read = Self::from_files(certificate.to_owned(), key.to_owned());
        read.map_err(|error| format!("tls{}: {}", error.place, error.problem))
    }

    fn from_files(certificate: String, key: String) -> Result<Self, ValueError> {
        let identity = Arc::new(Identity::read(&certificate, &key)?);
        Ok(Self {
            certificate,
            key,
            identity,
        })
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// Those of [`TlsSettings::load`].
    pub(crate) fn read_again(&self) -> Result<Self, String> {
        Self::load(&self.certificate, &self.key)
    }

    /// Returns the state of the files when they were read.
    pub(crate) fn stamp(&self) -> Stamp {
        self.identity.stamp()
    }

    /// Returns the state of the files now.
    pub(crate) fn current_stamp(&self) -> Stamp {
        Stamp::of(&self.certificate, &self.key)
    }

    /// Returns the end of the certificate's validity.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.identity.not_after()
    }

    /// Returns whether the certificate is valid at a time, and what to do if it is not for long.
    pub(crate) fn validity(&self, now: SystemTime) -> Validity {
        let (from, until) = (self.identity.not_before(), self.not_after());
        Validity::new(&self.certificate, (from, until), now)
    }

    /// Returns what TLS is spoken with.
    #[cfg(feature = "tls")]
    pub(crate) fn server_config(&self) -> Arc<futures_rustls::rustls::ServerConfig> {
        self.identity.server_config()
    }
}

impl PartialEq for TlsSettings {
    /// A renewed certificate in the same file is another one.
    fn eq(&self, other: &Self) -> bool {
        (&self.certificate, &self.key) == (&other.certificate, &other.key)
            && self.identity.is_same(&other.identity)
    }
}

impl std::fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut output = f.debug_struct("TlsSettings");
        output.field("certificate", &self.certificate);
        output.field("key", &self.key).finish_non_exhaustive()
    }
}

impl SettingValue for Option<TlsSettings> {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        match value {
            Value::Null => Ok(None),
            Value::Object(given) => TlsSettings::read(given).map(Some),
            _ => Err(
                "must be null or an object, such as {\"certificate\": \"/etc/switchboard/tls/fullchain.pem\", \"key\": \
                 \"/etc/switchboard/tls/privkey.pem\"}"
                    .into(),
            ),
        }
    }

    fn to_json(&self) -> Value {
        self.as_ref().map_or(
            Value::Null,
            |tls| json!({"certificate": tls.certificate, "key": tls.key}),
        )
    }
}
