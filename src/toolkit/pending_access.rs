//! What clients have shown with their requests, kept until they say who they are.

use super::heap_bytes::{HeapBytes, allocation};
use super::message_token::MessageToken;
use crate::base::spare::FreeSpare;
use crate::realm::{Access, Claims, ConnectionId, TokenError};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// What the clients of one realm have shown that are connected and not admitted yet. Nothing is kept of a client that
/// needs no token and has none.
#[derive(Debug, Default)]
pub struct PendingAccess {
    /// Boxed, as the nodes of the map are up to half empty.
    entries: BTreeMap<ConnectionId, Box<Access>>,
    bytes: usize,
}

impl PendingAccess {
    /// Records what a new client has shown.
    ///
    /// # Errors
    /// It is a token that is refused.
    pub fn insert(
        &mut self,
        conn: ConnectionId,
        access: Access,
        wall: SystemTime,
    ) -> Result<(), TokenError> {
        if access.token.is_some() {
            access.claims(None, wall)?;
        }
        if access.is_required || access.token.is_some() {
            self.bytes += cost(&access);
            self.entries.insert(conn, Box::new(access));
        }
        Ok(())
    }

    /// Returns what the token of a client says, that of its message or that of its request: see [`Access::claims`].
    ///
    /// # Errors
    /// As there.
    pub fn claims(
        &self,
        conn: ConnectionId,
        of_message: MessageToken,
        wall: SystemTime,
    ) -> Result<Option<Claims>, TokenError> {
        let of_message = of_message.map(|token| *token);
        match self.entries.get(&conn) {
            Some(access) => access.claims(of_message, wall),
            None => Access::default().claims(of_message, wall),
        }
    }

    /// Removes what a client has shown that is admitted or has disconnected.
    pub fn remove(&mut self, conn: ConnectionId) {
        let access = self.entries.remove(&conn);
        self.bytes -= access.map_or(0, |access| cost(&access));
    }

    /// Returns the memory of all entries, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the memory of a client's entry, in bytes.
    pub fn bytes_of(&self, conn: ConnectionId) -> usize {
        self.entries.get(&conn).map_or(0, |access| cost(access))
    }

    /// Returns whether there is no entry.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.bytes == 0
    }
}

/// Returns the memory of an entry: what it has allocated, and its place in the map, whose nodes are half full where
/// keys are inserted in ascending order.
fn cost(access: &Access) -> usize {
    let claims = access.token.as_ref().and_then(|token| token.as_ref().ok());
    let claims = claims.map_or(0, HeapBytes::heap_bytes);
    2 * size_of::<(ConnectionId, Box<Access>)>() + allocation(size_of::<Access>()) + claims
}

impl FreeSpare for PendingAccess {
    fn free_spare(&mut self) {
        let Self { entries, bytes: _ } = self;
        entries.free_spare();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::harness::access;
    use serde_json::json;
    use std::time::Duration;

    const CONN: ConnectionId = ConnectionId(1);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_a_client_has_shown_is_kept_and_counted_until_it_is_removed() {
        let mut pending = PendingAccess::default();
        let shown = access(true, Some(json!({"sub": "ann", "exp": 1000})));
        assert_eq!(pending.insert(CONN, shown, at(0)), Ok(()));
        let claims = |seconds| pending.claims(CONN, None, at(seconds));
        assert_eq!(claims(0).unwrap().unwrap().subject.as_deref(), Some("ann"));
        assert_eq!(claims(2000), Err(TokenError::Expired));
        assert!(pending.bytes() > 0 && pending.bytes() == pending.bytes_of(CONN));
        pending.remove(CONN);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_token_that_is_refused_is_an_error_at_once_and_a_missing_one_later() {
        let mut pending = PendingAccess::default();
        let expired = access(false, Some(json!({"exp": 1000})));
        assert_eq!(
            pending.insert(CONN, expired, at(2000)),
            Err(TokenError::Expired)
        );
        assert!(pending.is_empty());
        assert_eq!(pending.insert(CONN, access(true, None), at(0)), Ok(()));
        assert_eq!(pending.claims(CONN, None, at(0)), Err(TokenError::Missing));
    }

    #[test]
    fn nothing_is_kept_of_a_listener_that_reads_no_tokens() {
        let mut pending = PendingAccess::default();
        assert_eq!(pending.insert(CONN, Access::default(), at(0)), Ok(()));
        assert!(pending.is_empty());
        assert_eq!(pending.claims(CONN, None, at(0)), Ok(None));
    }
}
