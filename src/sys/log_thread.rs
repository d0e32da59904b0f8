//! The threads of the log.

use std::{io, thread};

/// Stack of each of them, in bytes. They call nothing deep.
const STACK_SIZE: usize = 256 * 1024;

/// Starts a thread of the log.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.stack_size(STACK_SIZE).spawn(run).map(drop)
}
