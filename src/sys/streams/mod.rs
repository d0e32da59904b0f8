//! Standard output and standard error as files of the system.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use std::os::fd::AsFd as AsStream;
#[cfg(windows)]
pub use std::os::windows::io::AsHandle as AsStream;
#[cfg(unix)]
pub(super) use unix::{file_id, is_stderr_writable};
#[cfg(windows)]
pub(super) use windows::{file_id, is_stderr_writable};
