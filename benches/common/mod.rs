//! What the benchmarks share: the daemon as a process, WebSockets by hand, and a pair that measures how long others wait.

pub mod bystander;
#[path = "../../tests/common/daemon.rs"]
pub mod daemon;
#[path = "../../tests/common/protocol_files.rs"]
pub mod protocol_files;
#[cfg(feature = "tls")]
pub mod tls;
pub mod websocket;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// How long to wait for the daemon.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Raises the limit of open files to the hard limit, as the daemon does.
pub fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}
