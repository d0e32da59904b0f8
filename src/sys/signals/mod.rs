//! The signals that stop the daemon, and the one that makes it read its configuration anew.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::requests;
#[cfg(windows)]
pub use windows::requests;

/// What signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT, or SIGHUP of a terminal that is gone.
    Stop,
    /// SIGHUP, which Windows does not have.
    Reload,
}
