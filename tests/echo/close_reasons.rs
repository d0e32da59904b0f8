//! The reason for which Echo closes a connection, beside those that all protocols have.

use crate::base::close::{CloseProperties, CloseReason};

/// All of them, in the order of their codes.
pub(super) const ALL: &[CloseReason] = &[ENOUGH_ECHOES];

/// The connection has had `max_echoes`.
pub(super) const ENOUGH_ECHOES: CloseReason = CloseReason::new(&CloseProperties {
    code: 4429,
    reason: "enough echoes",
    should_reconnect: true,
});
