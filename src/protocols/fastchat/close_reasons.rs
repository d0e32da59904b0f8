//! The reasons for which FastChat closes a connection, beside those that all protocols have.

use crate::base::close::{CloseProperties, CloseReason};

/// All of them, in the order of their codes.
pub(super) const ALL: &[CloseReason] = &[HELLO_TIMEOUT, USER_CONNECTED, REPLACED];

/// The client did not send a valid HELLO in time.
pub(super) const HELLO_TIMEOUT: CloseReason = CloseReason::new(&CloseProperties {
    code: 4401,
    reason: "no HELLO or JOIN in time",
    should_reconnect: false,
});

/// The user that the client claims to be has another connection, which answered a probe.
pub(super) const USER_CONNECTED: CloseReason = CloseReason::new(&CloseProperties {
    code: 4409,
    reason: "user is connected",
    should_reconnect: false,
});

/// The user connected again, and this older connection did not answer a probe.
pub(super) const REPLACED: CloseReason = CloseReason::new(&CloseProperties {
    code: 4409,
    reason: "connected again elsewhere",
    should_reconnect: false,
});
