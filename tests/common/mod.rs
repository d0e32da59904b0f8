//! What the tests share: the daemon as a process, clients, conversations, pairs of clients that have met, and
//! the files of the protocols.

#[cfg(feature = "tls")]
mod certificate;
mod client;
mod daemon;
mod notifications;
mod operated;
mod pairs;
mod protocol_files;
mod rounds;
pub mod status_port;
mod tap;
#[cfg(feature = "tls")]
pub mod tls;
pub mod tokens;
pub mod transcript;

pub use client::{
    Client, HANDSHAKE, handshake, http, masked_frame, read_frame, read_head, receive_http, tcp,
    tcp_from, unix,
};
pub use daemon::{
    Daemon, TemporaryPath, listening_address, merge, open_terminal, private_file, program, run,
    run_at_terminal, socket_path, temporary_file,
};
pub use notifications::{notification, notify_socket};
pub use operated::{ANN, BEN, Operated, RuntimeDirectory, fastchat, operate, problem, stderr};
pub use pairs::Pair;
pub use protocol_files::{optional_fields, protocol_file, request_target};
pub use rounds::Rounds;
pub use tap::Tap;

use std::time::{Duration, Instant};

/// Polls until `is_so` returns true: for conditions that cause no frame and no log line.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "deadline exceeded while waiting until {what}"
        );
        std::thread::yield_now();
    }
}

/// How long a test waits for an event that must happen. Far more than any machine needs.
pub const DEADLINE: Duration = Duration::from_secs(60);
