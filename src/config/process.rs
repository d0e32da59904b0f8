//! The settings of the process: keys of the outermost object.

use super::Address;
use crate::realm::setting::{Applies, Range, Setting};
use crate::realm::setting_list::{Settings as _, settings};
use crate::sys::log_format::LogFormat;
use log::LevelFilter;
use std::time::Duration;

/// Smallest `memory_budget`, in bytes: about what a single well-behaved client can use.
const MIN_MEMORY_BUDGET: u64 = 1 << 20;

/// Port of `status`.
const STATUS_PORT: u16 = 7171;

settings! {
    /// Settings of the process.
    pub struct ProcessSettings {
        /// Least severe level that is logged, `off`, `error`, `warn`, `info` or `debug`; `null`: that of `RUST_LOG`,
        /// otherwise `info`.
        pub log: Option<LevelFilter> = None, "level";

        /// How the lines of the log look: `text` (time, level, message), `journal` (priority and message, as journald
        /// reads them), `json` (an object each), or `auto`: `journal` where standard output is the journal, otherwise
        /// `text`. With `journal`, `journalctl -p warning` shows what is at least a warning. An object has `level` (20
        /// debug, 30 info, 40 warn, 50 error), `time` (milliseconds since 1970), `msg`, and what the line is about:
        /// `protocol`, `listener`, `connection`, `address`, `id`, `code`, `reason`, `seconds`, `messages_in`,
        /// `messages_out`, `bytes_in`, `bytes_out`.
        pub log_format: LogFormat = LogFormat::Auto, "auto, text, journal or json" => AtRestart;

        /// Whether the end of each connection is logged at `info`: how it ended, from where, and how much it sent and
        /// received. With `log` at `debug` its beginning is logged, too. `false`: only refusals are logged, and how
        /// many connections ended in which way at the end of the daemon. PeerDrop's wrong codes are the ends of
        /// connections.
        pub log_connections: bool = true, "true or false";

        /// Whether lines of the log have the addresses of clients. `false`: no line has one, so nothing can block an
        /// address by the log. Addresses of listeners stay, and what a client wrote into a header.
        pub log_addresses: bool = true, "true or false";

        /// Number of executor threads; 0: one per core, at most 4.
        pub threads: usize = 0, "threads", ..=1024 => AtRestart;

        /// Greatest number of connections of all listeners together; 0: as many as the open-files limit and the memory
        /// allow. The daemon raises the open-files limit to its hard limit at the start; the descriptors of listeners
        /// and of the status port, and some more, are not for connections. Of the memory (of the machine, of the
        /// control group, or of the address-space limit without 64 MiB for each thread, whichever is least) the memory
        /// budget and 8 MiB are not for connections, and each connection counts as 16 KiB. The log says at the start
        /// how many there may be and what decided. Above it: HTTP 503.
        pub max_connections: usize = 0, "connections";

        /// Memory that all clients together can make the daemon hold; `null`: a quarter of the memory; 0: no limit. It
        /// counts received messages and parts of messages, outboxes, stored messages, and what is remembered of clients
        /// that have disconnected. Idle connections (2 to 3 KB each) do not count, nor does what the kernel holds for
        /// a socket (at most 256 KiB in each direction, and as much for its own overhead). The memory is that of the
        /// machine, of the control group (`MemoryMax=`), or of the address-space limit (`ulimit -v`) without 64 MiB for
        /// each thread, whichever is least. When it is exceeded, rates and names of clients that have disconnected are
        /// forgotten first, oldest first. Then connections are closed with 1013 until an eighth of it is free: the
        /// connections of an address (IPv6: /64 network) count together, only addresses above a fair share are
        /// considered, and of these first the largest messages, then the oldest unfinished ones. Chats, places and
        /// sessions of clients that have disconnected, and stored messages, go last. Requests larger than 2 KiB have a
        /// separate budget of an eighth of it; above that: HTTP 503.
        pub memory_budget: Option<usize> = None, "bytes", Range::from(MIN_MEMORY_BUDGET..).or_zero();

        /// Where to answer what an operator asks of the running daemon, over plain HTTP; `null`: nowhere. `/` is a page
        /// that shows it in a browser, `/healthz` says whether it works (200, else 503), `/metrics` has its figures for
        /// Prometheus, and `/status` has them as JSON, with the last five minutes of each listener. At most 64 requests
        /// are answered at once; while there are as many, a client has 0.1 s to send its request and to read the
        /// response, and otherwise 5 s for each. The `Host` of a request must be an IP address or localhost, which keeps
        /// web pages out whose name server says that they are at 127.0.0.1 (DNS rebinding). If the address is taken, the
        /// listeners are served all the same, and the log has a warning. `switchboard status`, `clients`, `kick` and
        /// `ban` ask here; all but the first need a token (OPERATION in switchboard(1)).
        pub status: Option<Address> = Some(Address::Localhost(STATUS_PORT)), "address and port" => AtRestart;

        /// Time for which a stop waits for clients to answer the Close frame; 0: it does not wait.
        pub shutdown_timeout: Duration = Duration::from_secs(5), "seconds";
    }
}

/// Returns the descriptions of all keys of the outermost object.
pub(super) fn descriptions() -> Vec<Setting> {
    let mut all = ProcessSettings::list();
    all.push(Setting {
        name: "listeners",
        unit: "list",
        default: None,
        range: Range::ANY,
        applies: Applies::AtOnce,
        text: "The listeners, any number, each an object with a `protocol`; several of one protocol are fine, and nothing crosses \
               between listeners. Without this key there is one of each protocol on localhost."
            .to_owned(),
    });
    all
}
