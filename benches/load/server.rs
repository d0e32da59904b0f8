//! The daemon under load, with a configuration of its own.

use crate::common::daemon::{Daemon, command, cpu, memory, merge};
use crate::options::Options;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The cores with `--pin`.
const SERVER_CORE: usize = 0;
const GENERATOR_CORE: usize = 1;

/// A daemon, killed on drop.
pub struct Server {
    daemon: Daemon,
}

impl Server {
    /// Starts a build of the daemon, and waits until it listens.
    pub fn start(program: &Path, options: &Options, listeners: &[Value]) -> Result<Self, String> {
        let config = json!({
            "log": "info",
            "log_connections": false,
            "threads": options.threads,
            "max_connections": 0,
            "listeners": listeners,
        });
        // The daemon inherits the core of the thread that starts it.
        options.pin_to(SERVER_CORE)?;
        let daemon = Daemon::launch(command(program), config);
        options.pin_to(GENERATOR_CORE)?;
        Ok(Self { daemon })
    }

    /// Returns the address of the listener with this place in the list.
    pub fn address(&self, place: usize) -> SocketAddr {
        self.daemon.addresses[place]
    }

    /// Returns the user and system time of all of its threads.
    pub fn cpu(&self) -> Result<Duration, String> {
        cpu(self.daemon.pid()).ok_or_else(|| "the daemon has exited".to_owned())
    }

    /// Returns a memory figure in bytes: `RssAnon` is what the daemon itself has allocated, `VmRSS` also its program.
    pub fn memory(&self, which: &str) -> Result<f64, String> {
        let bytes = memory(self.daemon.pid(), &format!("{which}:"));
        Ok(bytes.ok_or("the daemon has exited")? as f64)
    }
}

impl Options {
    /// Pins this thread, and what it starts from now on, to a core if that is asked for.
    fn pin_to(&self, core: usize) -> Result<(), String> {
        if !self.is_pinned {
            return Ok(());
        }
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores).map_err(|error| format!("--pin: core {core}: {error}"))
    }
}

/// Returns the settings of a listener: the defaults, without what would limit the number of clients, and with `own`.
pub fn listener(protocol: &str, own: &Value) -> Value {
    let unlimited = match protocol {
        "peerjs" => json!({"concurrent_limit": 0}),
        "loudsync" => json!({"max_sessions": 0}),
        // Members would be announced for minutes after the last one has connected.
        "workspace" => json!({"announcements_per_second": 0}),
        _ => json!({}),
    };
    let all = json!({"protocol": protocol, "max_connections": 0, "ping_after": 0});
    merge(merge(all, &unlimited), own)
}
