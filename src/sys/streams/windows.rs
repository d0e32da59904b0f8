//! Handles, of which Windows says neither an inode nor whether they take something.

use super::AsStream;
use std::time::Duration;

/// Returns nothing.
pub(in crate::sys) fn file_id(_stream: impl AsStream) -> Option<(u64, u64)> {
    None
}

/// Returns true: it cannot be asked.
pub(in crate::sys) fn is_stderr_writable(_patience: Duration) -> bool {
    true
}
