//! The bodies of requests and responses about clients and bans, as JSON.

use serde::{Deserialize, Serialize};

/// A client. What it has chosen is escaped and cut as in the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClientEntry {
    /// The number of its connection, as in the log.
    pub(crate) connection: u64,
    pub(crate) protocol: String,
    /// The address of its listener.
    pub(crate) listener: String,
    /// The address of the client, or `unix`.
    pub(crate) address: String,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    /// When it was admitted, as RFC 3339 has it.
    pub(crate) since: String,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// The response to `GET /clients`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClientPage {
    /// Some clients, in the order of their numbers.
    pub(crate) clients: Vec<ClientEntry>,
    /// What `after` must be in the request for those that follow, if there may be any.
    pub(crate) next: Option<u64>,
}

/// The body of `POST /kick`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KickRequest {
    /// Who is meant: see `Selector`.
    pub(crate) client: String,
}

/// The response to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kicked {
    /// Number of connections that are closed.
    pub(crate) removed: usize,
    /// Whose they are, as far as these are not too many for a response.
    pub(crate) clients: Vec<ClientEntry>,
}

/// The body of `POST /bans` and `POST /unban`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BanRequest {
    /// An address or a network.
    pub(crate) network: String,
    /// Time for which a ban lasts; without it, as long as the daemon runs.
    pub(crate) seconds: Option<u64>,
}

/// A ban.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BanEntry {
    pub(crate) network: String,
    /// When it ends, as RFC 3339 has it; `None`: when the daemon does.
    pub(crate) until: Option<String>,
}

/// The response to `POST /bans`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Banned {
    #[serde(flatten)]
    pub(crate) ban: BanEntry,
    /// Number of connections that are closed.
    pub(crate) removed: usize,
}

/// The response to `GET /bans`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BanList {
    pub(crate) bans: Vec<BanEntry>,
}
