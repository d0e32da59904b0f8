//! The reasons for which LOUDSYNC closes a connection, beside those that all protocols have.

use crate::base::close::{CloseProperties, CloseReason};

/// All of them, in the order of their codes.
pub(super) const ALL: &[CloseReason] = &[
    CLIENT_LEFT,
    JOIN_REJECTED,
    SESSION_CLOSED,
    JOIN_TIMEOUT,
    KICKED,
    REPLACED,
];

/// The client asked to leave.
pub(super) const CLIENT_LEFT: CloseReason = CloseReason::new(&CloseProperties {
    code: 1000,
    reason: "goodbye",
    should_reconnect: false,
});

/// The client was not admitted to the session; an error sent before the Close frame says why.
pub(super) const JOIN_REJECTED: CloseReason = CloseReason::new(&CloseProperties {
    code: 1000,
    reason: "join refused",
    should_reconnect: false,
});

/// The host ended the session, or did not return in time.
pub(super) const SESSION_CLOSED: CloseReason = CloseReason::new(&CloseProperties {
    code: 1000,
    reason: "session closed",
    should_reconnect: false,
});

/// The client did not send a JOIN in time.
pub(super) const JOIN_TIMEOUT: CloseReason = CloseReason::new(&CloseProperties {
    code: 4401,
    reason: "no HELLO or JOIN in time",
    should_reconnect: false,
});

/// The host of the session removed the client.
pub(super) const KICKED: CloseReason = CloseReason::new(&CloseProperties {
    code: 4403,
    reason: "removed by the host",
    should_reconnect: false,
});

/// The device joined from another connection, and this one did not answer a probe.
pub(super) const REPLACED: CloseReason = CloseReason::new(&CloseProperties {
    code: 4409,
    reason: "connected again elsewhere",
    should_reconnect: false,
});
