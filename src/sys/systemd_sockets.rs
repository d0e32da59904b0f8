//! The sockets that systemd has opened and passes to the daemon (sd_listen_fds(3)).
//!
//! They are kept for as long as the process lives, and listeners have copies: one that is removed and added again
//! finds its sockets here.

use super::systemd;
use rustix::fd::OwnedFd;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The sockets of this process.
static PASSED: OnceLock<PassedSockets> = OnceLock::new();

/// The name of a socket to which systemd gives none (sd_listen_fds_with_names(3)).
const UNNAMED: &str = "unknown";

/// A socket and its `FileDescriptorName`.
struct PassedSocket {
    name: String,
    socket: OwnedFd,
}

/// Sockets that were passed to a process. Several may have one name.
#[derive(Default)]
pub(crate) struct PassedSockets(Mutex<Vec<PassedSocket>>);

/// Takes the sockets that were passed to this process, none if it was started otherwise. No program that this one
/// starts inherits them.
///
/// It must be called before anything opens a file: file descriptors from 3 on are taken for them. A second call does
/// nothing.
///
/// # Errors
/// The environment names file descriptors that are not open, or makes no sense.
pub fn take() -> io::Result<()> {
    if PASSED.get().is_none() {
        let passed = systemd::listen_fds()?.into_iter();
        let passed = passed.map(|(name, socket)| PassedSocket {
            name: name.unwrap_or_else(|| UNNAMED.to_owned()),
            socket,
        });
        let _ = PASSED.set(PassedSockets(Mutex::new(passed.collect())));
    }
    Ok(())
}

/// Returns the sockets that were passed to this process.
pub(crate) fn passed() -> &'static PassedSockets {
    PASSED.get_or_init(PassedSockets::default)
}

impl PassedSockets {
    /// Returns a copy of each socket of this name.
    ///
    /// # Errors
    /// There is none, or the process has too many open files.
    pub(crate) fn copies(&self, name: &str) -> io::Result<Vec<OwnedFd>> {
        let passed = self.lock();
        let named = passed.iter().filter(|passed| passed.name == name);
        let copies: Vec<OwnedFd> = named
            .map(|passed| passed.socket.try_clone())
            .collect::<Result<_, _>>()?;
        if copies.is_empty() {
            let names: Vec<String> = passed.iter().map(|passed| passed.name.clone()).collect();
            return Err(io::Error::other(not_passed(name, &names)));
        }
        Ok(copies)
    }

    /// Closes the sockets whose name is none of these, and returns the names of those.
    pub(crate) fn close_others(&self, names: &[&str]) -> Vec<String> {
        let mut passed = self.lock();
        let is_named = |passed: &PassedSocket| names.contains(&passed.name.as_str());
        let (named, others): (Vec<_>, Vec<_>) = passed.drain(..).partition(is_named);
        *passed = named;
        others.into_iter().map(|other| other.name).collect()
    }

    /// Returns the names that sockets have, each once, but for these.
    pub(crate) fn other_names(&self, names: &[&str]) -> Vec<String> {
        let passed = self.lock();
        let others = passed.iter().map(|passed| &passed.name);
        let others = others.filter(|name| !names.contains(&name.as_str()));
        let others: BTreeSet<&String> = others.collect();
        others.into_iter().cloned().collect()
    }

    /// Returns the number of sockets.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PassedSocket>> {
        // No code that holds the lock can panic in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what to say of a name that no passed socket has.
fn not_passed(name: &str, names: &[String]) -> String {
    let mut names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.dedup();
    if names.is_empty() {
        return format!(
            "systemd passes no sockets; enable a socket unit that has FileDescriptorName={name} (systemctl enable \
             switchboard.socket), and restart this service (systemctl restart switchboard)"
        );
    }
    format!(
        "systemd passes no socket of this name; write the name of one that it passes: {}; or \
         FileDescriptorName={name} into its socket unit",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn passed(names: &[&str]) -> PassedSockets {
        let socket = |name: &&str| PassedSocket {
            name: (*name).to_owned(),
            socket: TcpListener::bind("127.0.0.1:0").unwrap().into(),
        };
        PassedSockets(Mutex::new(names.iter().map(socket).collect()))
    }

    #[test]
    fn all_sockets_of_a_name_can_be_copied_again_and_again() {
        let passed = passed(&["a", "b", "a"]);
        for _ in 0..3 {
            assert_eq!(passed.copies("a").unwrap().len(), 2);
            assert_eq!(passed.copies("b").unwrap().len(), 1);
        }
    }

    #[test]
    fn a_name_that_is_not_passed_is_told_those_that_are() {
        let error = |names: &[&str]| passed(names).copies("c").unwrap_err().to_string();
        assert!(error(&["a", "a", "b"]).contains(": \"a\", \"b\"; or FileDescriptorName=c "));
        assert!(error(&[]).starts_with("systemd passes no sockets; enable a socket unit"));
    }

    #[test]
    fn what_nobody_names_is_closed() {
        let passed = passed(&["a", "b", "a", "c"]);
        assert_eq!(passed.other_names(&["b", "d"]), ["a", "c"]);
        assert_eq!(passed.close_others(&["b", "d"]), ["a", "a", "c"]);
        assert_eq!(passed.len(), 1);
        assert!(passed.copies("b").is_ok() && passed.copies("a").is_err());
    }
}
