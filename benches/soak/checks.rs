//! The names of the checks that more than one file makes. The report counts by them.

/// A check that failed: its name, and what was seen instead.
pub type Violation = (&'static str, String);

pub const ADMITTED: &str = "every client is admitted";
pub const ANSWERED_ONCE: &str = "every message is answered exactly once";
pub const CLOSED_WITH_REASON: &str = "no client is closed without a reason";
pub const DELIVERED: &str = "every due message is delivered";
pub const DOCUMENTED: &str = "the server sends only what the protocol's document has";
pub const IN_ORDER: &str = "messages arrive once, in the order in which they were sent";
pub const KNOWN_USERS: &str = "only users of this run are announced";
pub const NO_GROWTH: &str = "memory does not grow";
pub const PONG: &str = "PING is answered by PONG";
pub const REJECTED_UNDELIVERED: &str = "a rejected message is not delivered";
pub const REJECTED_WITH_REASON: &str = "nothing is rejected without a reason";
pub const RIGHT_RECIPIENT: &str = "messages reach only their recipients";
pub const UNCHANGED: &str = "messages arrive as they were sent";
pub const WAS_SENT: &str = "only messages that were sent arrive";
