//! Files that only the user of the daemon can read.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::is_public;
#[cfg(unix)]
pub(super) use unix::{NAME_MARKS, USER_DIRECTORY, create, create_directory};
#[cfg(windows)]
pub(crate) use windows::is_public;
#[cfg(windows)]
pub(super) use windows::{NAME_MARKS, USER_DIRECTORY, create, create_directory};
