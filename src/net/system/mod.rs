//! What differs between systems in the calls for sockets.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(super) use linux::{LIST_LISTENERS, accept, allow_restart, listening_family, new_socket};
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) use unix::{LIST_LISTENERS, accept, allow_restart, listening_family, new_socket};
#[cfg(windows)]
pub(super) use windows::{LIST_LISTENERS, accept, allow_restart, listening_family, new_socket};
