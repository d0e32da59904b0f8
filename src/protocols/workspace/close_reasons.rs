//! The reasons for which Workspace closes a connection, beside those that all protocols have.

use crate::base::close::{CloseProperties, CloseReason};

/// All of them, in the order of their codes.
pub(super) const ALL: &[CloseReason] = &[REPLACED];

/// The user had all its connections and got another one, and this one did not answer a probe; or a client with a token
/// for the username came, and this one had none.
pub(super) const REPLACED: CloseReason = CloseReason::new(&CloseProperties {
    code: 4409,
    reason: "connected again elsewhere",
    should_reconnect: false,
});
