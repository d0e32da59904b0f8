//! The reasons for which PeerJS closes a connection, beside those that all protocols have.

use crate::base::close::{CloseProperties, CloseReason};

/// All of them, in the order of their codes.
pub(super) const ALL: &[CloseReason] =
    &[CLIENT_LEFT, BAD_PARAMETERS, WRONG_KEY, ID_TAKEN, REPLACED];

/// The client asked to leave.
pub(super) const CLIENT_LEFT: CloseReason = CloseReason::new(&CloseProperties {
    code: 1000,
    reason: "goodbye",
    should_reconnect: false,
});

/// A parameter of the request is missing or too long.
pub(super) const BAD_PARAMETERS: CloseReason = CloseReason::new(&CloseProperties {
    code: 4400,
    reason: "bad parameters",
    should_reconnect: false,
});

/// The client gave another key than the server's.
pub(super) const WRONG_KEY: CloseReason = CloseReason::new(&CloseProperties {
    code: 4403,
    reason: "wrong key",
    should_reconnect: false,
});

/// The ID belongs to another client.
pub(super) const ID_TAKEN: CloseReason = CloseReason::new(&CloseProperties {
    code: 4409,
    reason: "ID is taken",
    should_reconnect: false,
});

/// A client with the same ID and token connected, or this one did not answer a probe.
pub(super) const REPLACED: CloseReason = CloseReason::new(&CloseProperties {
    code: 4409,
    reason: "connected again elsewhere",
    should_reconnect: false,
});
