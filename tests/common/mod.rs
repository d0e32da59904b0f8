//! What the tests have in common: a way to start the daemon, and clients for its sockets.

mod client;
mod daemon;
mod pairs;

pub use client::{
    Client, HANDSHAKE, handshake, http, masked_frame, read_frame, read_head, receive_http, tcp,
};
pub use daemon::{Daemon, program, run, temporary_file, with};
pub use pairs::Pair;

use std::time::{Duration, Instant};

/// Tries again and again until something is so that gives no sign of its own.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::yield_now();
    }
}

/// How long a test waits for something that must come. Far more than it takes anywhere.
pub const DEADLINE: Duration = Duration::from_secs(60);
