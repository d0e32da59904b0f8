//! The limit of open files, sockets included.

use super::machine;

/// Raises the soft limit of open files to the hard limit. Returns the limit that then applies.
pub fn raise_limit() -> usize {
    let files = machine::raise_open_files().unwrap_or(u64::MAX);
    usize::try_from(files).unwrap_or(usize::MAX)
}
