//! Another connection of a username that has all its connections. Some of them may be dead without the server
//! knowing: a phone whose network changes leaves its connections behind. So those that have been silent for
//! [`takeover_after`](super::Options::takeover_after) are probed, the client waits, and the longest silent of those
//! that give no sign of life makes place for it.

use super::Workspace;
use super::close_reasons;
use super::messages::{ErrorCode, ErrorReply, ServerMessage};
use super::standing::Entitlement;
use crate::base::spare::FreeSpare;
use crate::realm::{ConnectionId, Context, Rejection};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The answer to a handshake for which there is no place. The document's client reconnects for ever if its
/// connection opens and is then closed, so this is an HTTP status instead of a Close frame.
pub(super) const REJECTION: Rejection = Rejection {
    status: 429,
    text: TOO_MANY,
};

const TOO_MANY: &str = "this username has too many connections; close one of them first";

/// The clients that wait, by the username whose connections are probed.
#[derive(Default)]
pub(super) struct PlaceClaims {
    /// In the order in which they came, at most as many as the username may have connections.
    by_user: BTreeMap<String, Vec<Claim>>,
    /// The username that each waits for.
    claimants: BTreeMap<ConnectionId, String>,
}

/// A client that waits.
pub(super) struct Claim {
    pub(super) conn: ConnectionId,
    entitlement: Entitlement,
    kind: ClaimKind,
    /// The connections that it may replace, and when each has failed its probe. One that has given a sign of life
    /// is removed.
    probed: BTreeMap<ConnectionId, Option<Duration>>,
}

/// What a client wants that waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimKind {
    /// To connect: its open is deferred.
    Connect,
    /// To have the username in its token: it is a member with another one, or has not been admitted before.
    Auth,
}

impl Claim {
    /// Creates the claim of a client.
    pub(super) fn new(conn: ConnectionId, entitlement: Entitlement, kind: ClaimKind) -> Self {
        Self {
            conn,
            entitlement,
            kind,
            probed: BTreeMap::new(),
        }
    }

    /// Returns the longest silent of the connections that have failed their probe, the oldest of those that have
    /// been silent for as long. One that has given a sign of life since then does not count.
    fn longest_silent(&self, cx: &Context) -> Option<ConnectionId> {
        let failed = self.probed.iter();
        let failed = failed.filter_map(|(&conn, failed_at)| Some((conn, (*failed_at)?)));
        let is_silent = |&(conn, failed_at): &(ConnectionId, Duration)| {
            // Signs of life are recorded in whole seconds, rounded down.
            cx.silence(conn) >= cx.now.saturating_sub(failed_at) + Duration::from_secs(1)
        };
        let silent = failed.filter(is_silent).map(|(conn, _)| conn);
        silent.min_by_key(|&conn| Reverse(cx.silence(conn)))
    }
}

impl PlaceClaims {
    /// Removes the claim of a client that has gone or wants something else.
    pub(super) fn remove(&mut self, conn: ConnectionId) {
        if let Some(key) = self.claimants.remove(&conn) {
            self.retain(&key, |claim| claim.conn != conn);
        }
    }

    /// Returns whether a client waits for this username.
    pub(super) fn waits_for(&self, conn: ConnectionId, key: &str) -> bool {
        self.claimants
            .get(&conn)
            .is_some_and(|claimed| claimed == key)
    }

    /// Returns whether a client waits for any username.
    pub(super) fn is_waiting(&self, conn: ConnectionId) -> bool {
        self.claimants.contains_key(&conn)
    }

    /// Removes and returns the claims to a username of those who have no token for it.
    pub(super) fn take_unproven(&mut self, key: &str) -> Vec<Claim> {
        let claims = self.by_user.remove(key).unwrap_or_default();
        let is_unproven = |claim: &Claim| !claim.entitlement.right.is_proven();
        let (unproven, others): (Vec<_>, Vec<_>) = claims.into_iter().partition(is_unproven);
        if !others.is_empty() {
            self.by_user.insert(key.to_owned(), others);
        }
        for claim in &unproven {
            self.claimants.remove(&claim.conn);
        }
        unproven
    }

    /// Removes a connection from those that are probed for a username: it has gone or given a sign of life.
    pub(super) fn forget_probed(&mut self, key: &str, conn: ConnectionId) {
        for claim in self.by_user.get_mut(key).into_iter().flatten() {
            claim.probed.remove(&conn);
        }
    }

    fn fail_probe(&mut self, now: Duration, key: &str, conn: ConnectionId) {
        for claim in self.by_user.get_mut(key).into_iter().flatten() {
            claim
                .probed
                .entry(conn)
                .and_modify(|failed| *failed = Some(now));
        }
    }

    fn retain(&mut self, key: &str, keep: impl FnMut(&Claim) -> bool) {
        if let Some(claims) = self.by_user.get_mut(key) {
            claims.retain(keep);
            if claims.is_empty() {
                self.by_user.remove(key);
            }
        }
    }

    /// Removes and returns the first claim, or the first whose probes are over.
    fn pop(&mut self, key: &str, must_be_over: bool) -> Option<Claim> {
        let claims = self.by_user.get_mut(key)?;
        let is_next = |claim: &Claim| !must_be_over || claim.probed.values().all(Option::is_some);
        let index = claims.iter().position(is_next)?;
        let claim = claims.remove(index);
        self.retain(key, |_| true);
        self.claimants.remove(&claim.conn);
        Some(claim)
    }

    /// Returns the number of clients that wait.
    pub(super) fn len(&self) -> usize {
        self.claimants.len()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.by_user.is_empty() && self.claimants.is_empty()
    }
}

impl Workspace {
    /// Returns the connections of a user that are to be probed for another one; none if too many clients wait
    /// already.
    pub(super) fn replaceable(&self, cx: &Context, key: &str) -> Vec<ConnectionId> {
        let waiting = self.claims.by_user.get(key).map_or(0, Vec::len);
        if waiting >= self.options.max_connections_per_user as usize {
            return Vec::new();
        }
        let connections = self
            .users
            .get(key)
            .into_iter()
            .flat_map(|user| &user.connections);
        let silent =
            connections.filter(|&&conn| cx.silence(conn) >= self.options.takeover_after.duration());
        silent.copied().collect()
    }

    /// Makes a client wait until these connections, of which there is at least one, have been probed.
    pub(super) fn wait_for_place(
        &mut self,
        cx: &mut Context,
        mut claim: Claim,
        probed: Vec<ConnectionId>,
    ) {
        for &conn in &probed {
            cx.probe(conn, self.options.takeover_timeout.duration());
        }
        // A newcomer must not displace anybody once its token has ended.
        let right = claim.entitlement.right;
        if right.end.is_some() && self.members.get(claim.conn).is_none() {
            right.limit(cx, claim.conn);
        }
        claim.probed = probed.into_iter().map(|conn| (conn, None)).collect();
        let key = claim.entitlement.key.clone();
        self.claims.claimants.insert(claim.conn, key.clone());
        self.claims.by_user.entry(key).or_default().push(claim);
    }

    /// Handles the result of a probe.
    pub(super) fn handle_probe_result(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        alive: bool,
    ) {
        let Some(key) = self
            .members
            .get(conn)
            .map(|member| Arc::clone(&member.user))
        else {
            return;
        };
        if alive {
            self.claims.forget_probed(&key, conn);
        } else {
            self.claims.fail_probe(cx.now, &key, conn);
        }
        self.settle_claims(cx, key);
    }

    /// Decides about the clients that wait for a username, as far as that is possible by now, and about those that
    /// wait for the usernames whose connections change with it.
    pub(super) fn settle_claims(&mut self, cx: &mut Context, key: Arc<str>) {
        let mut keys = vec![key];
        while let Some(key) = keys.last().cloned() {
            let is_full = self.is_full(&key);
            let Some(claim) = self.claims.pop(&key, is_full) else {
                keys.pop();
                continue;
            };
            if is_full {
                let Some(silent) = claim.longest_silent(cx) else {
                    self.refuse(cx, &claim);
                    continue;
                };
                cx.close(silent, close_reasons::REPLACED);
                self.remove_member(cx, silent);
            }
            keys.extend(self.grant(cx, &claim));
        }
    }

    /// Tells a client that there is no place for it.
    fn refuse(&self, cx: &mut Context, claim: &Claim) {
        match claim.kind {
            ClaimKind::Connect => cx.reject(claim.conn, REJECTION),
            ClaimKind::Auth => {
                if let Some(recipient) = self.recipient(claim.conn) {
                    too_many_connections().send(cx, recipient);
                }
            }
        }
    }

    /// Gives a client the place that it waits for. Returns the username that it had before.
    fn grant(&mut self, cx: &mut Context, claim: &Claim) -> Option<Arc<str>> {
        let (conn, entitlement) = (claim.conn, &claim.entitlement);
        match claim.kind {
            ClaimKind::Connect => {
                self.insert_connection(cx, conn, entitlement);
                cx.admit(conn);
                None
            }
            ClaimKind::Auth if self.unauthenticated.contains_key(&conn) => {
                self.enter(cx, conn, entitlement);
                None
            }
            ClaimKind::Auth => {
                let before = self.move_member(cx, conn, entitlement);
                if let Some(member) = self.members.get(conn) {
                    let ack = ServerMessage::AuthAck { ok: true };
                    member.recipient().send(cx, &ack);
                }
                before
            }
        }
    }
}

/// Returns the error for a username that has all its connections.
pub(super) fn too_many_connections() -> ErrorReply {
    ErrorReply::new(ErrorCode::TooManyConnections, TOO_MANY)
}

impl FreeSpare for PlaceClaims {
    fn free_spare(&mut self) {
        let Self { by_user, claimants } = self;
        by_user.free_spare();
        claimants.free_spare();
    }
}
