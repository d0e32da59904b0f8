//! Standard error: for what is wrong before there is a log, and for panics.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt::Display;
use std::io::{self, Write};

/// How long a message may wait for a standard error that takes none.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// Prints a line to standard error, if that can be written. `eprintln!` would panic if it cannot, and wait
/// without end if nothing reads it.
pub fn print(line: impl Display) {
    if is_writable(PATIENCE) {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

/// Makes panics be reported without waiting: on standard error, or in the log if nothing reads that.
pub fn report_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_writable(Timespec::default()) {
            report(panic);
        } else {
            let place = panic.location().map(ToString::to_string);
            log::error!("panic at {}", place.unwrap_or_default());
        }
    }));
}

/// Returns whether standard error takes at least a few kilobytes within this time.
fn is_writable(patience: Timespec) -> bool {
    let stderr = io::stderr();
    let mut files = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut files, Some(&patience)).is_ok_and(|ready| ready > 0)
}
