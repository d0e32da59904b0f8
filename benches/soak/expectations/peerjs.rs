//! PeerJS: the messages between all clients, and which of them are online.

use super::Expectations;
use super::message_ledger::MessageLedger;
use crate::checks::{DELIVERED, Violation};
use crate::random::Random;
use crate::shared_state::LogicalTime;

/// The expectations of all PeerJS clients.
pub struct PeerJsExpectations {
    pub ledger: MessageLedger,
}

impl PeerJsExpectations {
    pub fn new(clients: usize) -> Self {
        Self {
            // One more, which is called but never connects.
            ledger: MessageLedger::new(clients + 1, false),
        }
    }

    /// Returns a client that is online, and when it was admitted.
    pub fn random_client(&self, random: &mut Random) -> Option<(usize, LogicalTime)> {
        let online: Vec<usize> = self.ledger.online().collect();
        let client = *online.get(random.below(online.len().max(1)))?;
        Some((client, self.ledger.admitted_at(client)))
    }

    pub fn admitted_at(&self, client: usize) -> LogicalTime {
        self.ledger.admitted_at(client)
    }
}

impl Expectations for PeerJsExpectations {
    fn violations(&self) -> Vec<Violation> {
        self.ledger.missing()
    }

    fn start_anew(&mut self) -> Vec<(&'static str, usize)> {
        vec![(DELIVERED, self.ledger.start_anew())]
    }
}

/// Returns the PeerJS id of a client. It has characters that a query must escape.
pub fn peer_id(client: usize) -> String {
    format!("peer {client}+ü")
}

/// Returns the client with this [`peer_id`].
pub fn client_of(id: &str) -> Option<usize> {
    id.strip_prefix("peer ")?.strip_suffix("+ü")?.parse().ok()
}

/// Returns the path and query with which a client connects.
pub fn connect_target(client: usize, token: &str) -> String {
    format!("/peerjs?key=peerjs&id=peer+{client}%2B%C3%BC&token={token}")
}
