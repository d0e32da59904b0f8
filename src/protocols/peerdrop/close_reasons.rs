//! The reasons for which PeerDrop closes a connection, beside those that all protocols have.

use crate::base::close::{CloseProperties, CloseReason};

/// All of them, in the order of their codes.
pub(super) const ALL: &[CloseReason] =
    &[PEER_LEFT, SESSION_NOT_FOUND, SESSION_FULL, TOO_MANY_GUESSES];

/// The other peer of the session disconnected, which ended the session.
pub(super) const PEER_LEFT: CloseReason = CloseReason::new(&CloseProperties {
    code: 1000,
    reason: "peer left",
    should_reconnect: false,
});

/// No session has the code that the client gave.
pub(super) const SESSION_NOT_FOUND: CloseReason = CloseReason::new(&CloseProperties {
    code: 4404,
    reason: "no such session",
    should_reconnect: false,
});

/// The session has its two peers.
pub(super) const SESSION_FULL: CloseReason = CloseReason::new(&CloseProperties {
    code: 4409,
    reason: "session is full",
    should_reconnect: false,
});

/// The client's network, or all clients together, tried too many wrong codes.
pub(super) const TOO_MANY_GUESSES: CloseReason = CloseReason::new(&CloseProperties {
    code: 4429,
    reason: "too many wrong codes, wait a minute",
    should_reconnect: true,
});
