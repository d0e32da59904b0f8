//! Pure helpers that protocols share: decoding messages, sanitizing text, rate limits, state of clients that
//! are not admitted yet or no longer connected.

pub(crate) mod dialect;
pub(crate) mod heap_bytes;
pub(crate) mod in_flight;
pub(crate) mod json;
pub(crate) mod jwt;
pub(crate) mod message_token;
pub(crate) mod pending_access;
pub(crate) mod pending_clients;
pub(crate) mod proven;
pub(crate) mod rate_limit;
pub(crate) mod recently_gone;
pub(crate) mod recipient_lists;
pub(crate) mod sanitize;
