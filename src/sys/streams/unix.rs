//! File descriptors.

use super::AsStream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Returns the device and the inode of a stream.
pub(in crate::sys) fn file_id(stream: impl AsStream) -> Option<(u64, u64)> {
    let duplicate = stream.as_fd().try_clone_to_owned().ok()?;
    let metadata = File::from(duplicate).metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Returns whether standard error takes at least a few kilobytes within this time.
pub(in crate::sys) fn is_stderr_writable(patience: Duration) -> bool {
    let stderr = io::stderr();
    let mut files = [PollFd::new(&stderr, PollFlags::OUT)];
    let patience = Timespec::try_from(patience).unwrap_or_default();
    poll(&mut files, Some(&patience)).is_ok_and(|ready| ready > 0)
}
