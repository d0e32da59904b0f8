//! The clients of each protocol: what a client sends, and what it may be sent.

pub mod fastchat;
pub mod loudsync;
pub mod peerdrop;
pub mod peerjs;
pub mod workspace;

use crate::checks::Violation;
use crate::connection::{ConnectionEnd, Disconnect};
use crate::shared_state::Protocol;
use std::time::Instant;

/// Texts that a client sends next, in order.
pub type Outgoing = Vec<String>;

/// A client of one protocol without its connection: it is told what happens, and does no input or
/// output itself.
pub trait ClientModel {
    const PROTOCOL: Protocol;

    /// Returns the path and query to connect to, or none if this client cannot connect now.
    fn connect_target(&mut self) -> Option<String>;

    /// Handles the opening of the connection.
    fn on_connected(&mut self, outgoing: &mut Outgoing);

    /// Returns whether the server has admitted this client, or has rejected it for a valid reason.
    fn is_settled(&self) -> bool;

    /// Handles and checks a message of the server.
    fn on_message(&mut self, text: &str, outgoing: &mut Outgoing) -> Result<(), Violation>;

    /// Returns when [`act`](Self::act) is to be called next.
    fn next_action(&self) -> Instant;

    /// Does something. While [quiet](crate::shared_state::SharedState::is_quiet), only what keeps the
    /// client alive.
    fn act(&mut self, outgoing: &mut Outgoing);

    /// Handles that the client is about to disconnect: from now on nothing is due to it. For
    /// [`Disconnect::LeaveMessage`] the protocol's message for that, if it has one, goes to `outgoing`.
    fn on_disconnecting(&mut self, how: Disconnect, outgoing: &mut Outgoing);

    /// Checks that the server had a reason to end the connection. Nothing is due to the client any more.
    fn on_closed_by_server(&mut self, end: &ConnectionEnd) -> Result<(), Violation>;

    /// Handles that the connection no longer exists, whichever side ended it.
    fn on_gone(&mut self);

    /// Returns whether a second connection of this client may replace the first.
    fn supports_takeover(&self) -> bool {
        false
    }

    /// Returns whether the client is to stop reading for a while now, besides when that happens at random.
    fn must_stop_reading(&mut self) -> bool {
        false
    }
}
