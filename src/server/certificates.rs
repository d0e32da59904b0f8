//! Renewed certificates: the files of each listener with TLS are looked at again and again, and what they have changed to
//! holds for the next handshakes.

use crate::config::{Stamp, TlsSettings, Validity};
use crate::net::listener::ListenerState;
use log::Level;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Time between two lines of the log about a certificate that ends soon or has ended.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The certificates of all listeners.
#[derive(Default)]
pub(super) struct Certificates(Vec<WatchedFiles>);

impl Certificates {
    /// Looks at the files of the listeners as they are now, and has the next clients met with what is new.
    pub(super) fn look(&mut self, listeners: &[Arc<ListenerState>], now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        let mut lines = Lines::default();
        for listener in listeners {
            let Some(settings) = listener.shared.tls.get() else {
                continue;
            };
            let known = before
                .iter()
                .position(|it| Arc::ptr_eq(&it.settings, &settings));
            let mut files = match known {
                Some(index) => before.swap_remove(index),
                None => WatchedFiles::new(settings, now),
            };
            let look = files.look();
            if let Look::Renewed(new) = &look {
                listener.shared.tls.set(Some(new));
                files = WatchedFiles::new(listener.shared.tls.get().unwrap_or(files.settings), now);
                files.next_warning = now;
            }
            let name = format!("{} on {}", listener.protocol_name(), listener.address);
            let mut add = |(level, text)| lines.add(&name, &files.settings, level, text);
            look.line().into_iter().for_each(&mut add);
            if now >= files.next_warning {
                files.next_warning = now + WARNING_INTERVAL;
                validity_line(&files.settings).into_iter().for_each(add);
            }
            self.0.push(files);
        }
        lines.log();
    }
}

/// Returns what is logged of a certificate that ends soon or has ended.
fn validity_line(settings: &TlsSettings) -> Option<(Level, String)> {
    match settings.validity(SystemTime::now()) {
        Validity::Valid => None,
        Validity::EndsSoon(warning) => Some((Level::Warn, warning)),
        Validity::Invalid(error) => Some((Level::Error, error)),
    }
}

/// The log lines of a look. Several listeners may have the same files, and one line then names all of them.
#[derive(Default)]
struct Lines(Vec<Line>);

struct Line {
    /// The names of the listeners.
    listeners: String,
    settings: Arc<TlsSettings>,
    level: Level,
    text: String,
}

impl Lines {
    /// Adds a line about a listener with this certificate.
    fn add(&mut self, listener: &str, settings: &Arc<TlsSettings>, level: Level, text: String) {
        let mut lines = self.0.iter_mut();
        let same = lines.find(|line| line.settings == *settings && line.text == text);
        if let Some(line) = same {
            line.listeners.push_str(", ");
            line.listeners.push_str(listener);
            return;
        }
        self.0.push(Line {
            listeners: listener.to_owned(),
            settings: Arc::clone(settings),
            level,
            text,
        });
    }

    fn log(self) {
        for line in self.0 {
            log::log!(line.level, "{}: {}", line.listeners, line.text);
        }
    }
}

/// The files of one listener.
struct WatchedFiles {
    /// What was last read from them without an error.
    settings: Arc<TlsSettings>,
    /// Their state when they were last read.
    read: Stamp,
    /// Whether what was read then is faulty. Certificate and key are replaced one after the other, so that they may not fit
    /// for a moment: a second look is to tell.
    is_suspect: bool,
    /// Whether the log has told of a fault that is not mended yet.
    is_fault_told: bool,
    /// When the end of the certificate may be warned of again. It was at start, or by the reload.
    next_warning: Instant,
}

/// What a look at the files tells.
enum Look {
    /// Nothing new, as far as one can tell yet.
    Unchanged,
    /// They are without the fault that was told, and have the certificate that is in use.
    Mended,
    /// They have another certificate.
    Renewed(TlsSettings),
    /// They have changed, and what is in them is of no use. Told once for each change.
    Faulty(String),
}

impl Look {
    /// Returns what is logged of it.
    fn line(&self) -> Option<(Level, String)> {
        match self {
            Self::Unchanged => None,
            Self::Mended => Some((
                Level::Info,
                "the files are mended, and have the certificate that is in use".to_owned(),
            )),
            Self::Renewed(new) => {
                let until = humantime::format_rfc3339_seconds(new.not_after());
                Some((
                    Level::Info,
                    format!("the new certificate is taken; it is valid until {until}"),
                ))
            }
            Self::Faulty(problem) => Some((
                Level::Error,
                format!("{problem}; the last certificate stays in use until the files are mended"),
            )),
        }
    }
}

impl WatchedFiles {
    fn new(settings: Arc<TlsSettings>, now: Instant) -> Self {
        Self {
            read: settings.stamp(),
            settings,
            is_suspect: false,
            is_fault_told: false,
            next_warning: now + WARNING_INTERVAL,
        }
    }

    fn look(&mut self) -> Look {
        let state = self.settings.current_stamp();
        let has_changed = state != self.read;
        if !has_changed && !self.is_suspect {
            return Look::Unchanged;
        }
        self.read = state;
        let read = self.settings.read_again();
        self.is_suspect = has_changed && read.is_err();
        match read {
            Ok(new) => {
                let is_mended = std::mem::take(&mut self.is_fault_told);
                if new != *self.settings {
                    Look::Renewed(new)
                } else if is_mended {
                    Look::Mended
                } else {
                    Look::Unchanged
                }
            }
            Err(_) if self.is_suspect => Look::Unchanged,
            Err(problem) => {
                self.is_fault_told = true;
                Look::Faulty(problem)
            }
        }
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use crate::config::Config;
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A directory with the files of certificates, which is removed at the end.
    struct Files(PathBuf);

    impl Files {
        fn new(test: &str) -> Self {
            let name = format!("switchboard-{test}-{}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir(&directory).unwrap();
            Self(directory)
        }

        /// Makes certificates and their keys, in files with these names.
        fn make(&self, names: [&str; 2]) {
            for name in names {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
                let certificate = params.self_signed(&key).unwrap();
                fs::write(self.0.join(format!("{name}.pem")), certificate.pem()).unwrap();
                fs::write(self.0.join(format!("{name}.key")), key.serialize_pem()).unwrap();
            }
        }

        /// Replaces a file by another one.
        fn replace(&self, name: &str, by: &str) {
            let new = self.0.join("new");
            fs::copy(self.0.join(by), &new).unwrap();
            fs::rename(new, self.0.join(name)).unwrap();
        }

        fn watch(&self) -> WatchedFiles {
            let [certificate, key] = ["live.pem", "live.key"].map(|name| self.0.join(name));
            let tls = json!({"certificate": certificate, "key": key});
            let listener = json!({"protocol": "peerdrop", "tls": tls});
            let config = Config::from_json(&json!({"listeners": [listener]}).to_string());
            let settings = config.unwrap().listeners.remove(0).settings;
            WatchedFiles::new(Arc::new(settings.tls.unwrap()), Instant::now())
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What a look tells, in a word.
    fn look(files: &mut WatchedFiles) -> &'static str {
        match files.look() {
            Look::Unchanged => "unchanged",
            Look::Mended => "mended",
            Look::Renewed(new) => {
                files.settings = Arc::new(new);
                "renewed"
            }
            Look::Faulty(_) => "faulty",
        }
    }

    #[test]
    fn certificate_and_key_that_change_one_after_the_other_are_no_error() {
        let files = Files::new("misfit");
        files.make(["live", "next"]);
        let mut watched = files.watch();
        assert_eq!(look(&mut watched), "unchanged");
        files.replace("live.pem", "next.pem");
        assert_eq!(look(&mut watched), "unchanged", "the key may follow");
        files.replace("live.key", "next.key");
        assert_eq!(look(&mut watched), "renewed");
        assert_eq!(look(&mut watched), "unchanged");
    }

    #[test]
    fn a_fault_that_stays_is_told_once_and_mended_files_are_taken() {
        let files = Files::new("fault");
        files.make(["live", "next"]);
        let mut watched = files.watch();
        let looks = |watched: &mut WatchedFiles| [(); 4].map(|()| look(watched));
        files.replace("live.pem", "next.pem");
        let once = ["unchanged", "faulty", "unchanged", "unchanged"];
        assert_eq!(looks(&mut watched), once);
        fs::remove_file(files.0.join("live.key")).unwrap();
        assert_eq!(looks(&mut watched), once, "another fault");
        files.replace("live.key", "next.key");
        let renewed = ["renewed", "unchanged", "unchanged", "unchanged"];
        assert_eq!(looks(&mut watched), renewed);
        // The same content once more is nothing new.
        files.replace("live.key", "next.key");
        assert_eq!(looks(&mut watched), ["unchanged"; 4]);
    }

    #[test]
    fn files_that_are_mended_to_the_same_certificate_are_told_once_if_the_fault_was() {
        let files = Files::new("mended");
        files.make(["live", "next"]);
        files.replace("good", "live.pem");
        let mut watched = files.watch();
        files.replace("live.pem", "next.pem");
        assert_eq!(look(&mut watched), "unchanged", "a fault for a moment");
        files.replace("live.pem", "good");
        assert_eq!(look(&mut watched), "unchanged");
        files.replace("live.pem", "next.pem");
        assert_eq!(
            [(); 2].map(|()| look(&mut watched)),
            ["unchanged", "faulty"]
        );
        // Another fault for a moment, of which nobody was told.
        files.replace("live.pem", "live.key");
        assert_eq!(look(&mut watched), "unchanged");
        files.replace("live.pem", "good");
        assert_eq!(
            [(); 2].map(|()| look(&mut watched)),
            ["mended", "unchanged"]
        );
    }

    #[test]
    fn a_symbolic_link_that_is_switched_is_a_renewal() {
        let files = Files::new("switched");
        files.make(["archive1", "archive2"]);
        let link = |version: u8| {
            for end in ["pem", "key"] {
                let target = files.0.join(format!("archive{version}.{end}"));
                symlink(target, files.0.join("new")).unwrap();
                fs::rename(files.0.join("new"), files.0.join(format!("live.{end}"))).unwrap();
            }
        };
        link(1);
        let mut watched = files.watch();
        link(2);
        assert_eq!(look(&mut watched), "renewed");
        link(1);
        assert_eq!(look(&mut watched), "renewed");
    }
}
