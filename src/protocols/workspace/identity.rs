//! Usernames: requested in the query, taken from a token, or generated.

use super::Workspace;
use super::messages::{ErrorReply, ServerMessage, Typing};
use super::standing::Entitlement;
use super::takeovers::{Claim, ClaimKind, too_many_connections};
use crate::realm::{ConnectionId, Context};
use crate::toolkit::sanitize::{name_key, sanitize_name, truncate_name};
use std::sync::Arc;

/// Characters of the random part of a generated username.
pub(super) const USERNAME_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Number of times that one connection may change its username in a minute. Each change is broadcast, and a
/// new username has rate limits of its own.
const RENAMES_PER_MINUTE: u32 = 5;

impl Workspace {
    /// Sanitizes and trims a username and cuts it at `username_length`; `None` if nothing visible is left.
    pub(super) fn sanitize_username(&self, requested: &str) -> Option<String> {
        let clean = sanitize_name(requested);
        let name = truncate_name(&clean, self.options.username_length as usize);
        (!name_key(name).is_empty()).then(|| name.to_owned())
    }

    /// Returns a random username that is free.
    pub(super) fn generate_username(&self, cx: &mut Context) -> String {
        loop {
            let name = format!("User_{}", cx.random_string(USERNAME_ALPHABET, 6));
            let key = name_key(&name);
            if !self.users.contains_key(&*key) && !self.is_reserved(&key) {
                return name;
            }
        }
    }

    /// Changes the username of a connection, which moves it to another user. Returns whether it is done: if the new
    /// user has all its connections and some have been silent, the client waits until these have been probed.
    ///
    /// # Errors
    /// The new user has all its connections, or the connection has changed its username too often. Then
    /// nothing changes.
    pub(super) fn rename(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        entitlement: Entitlement,
    ) -> Result<bool, ErrorReply> {
        let key = entitlement.key.as_str();
        if self.claims.waits_for(conn, key) {
            return Ok(false);
        }
        self.claims.remove(conn);
        let is_full = !self.has_place(&entitlement);
        let replaceable = self.replaceable(cx, key);
        let member = self.members.get(conn);
        if member.is_none_or(|member| *member.user == *key) {
            self.prove(cx, conn, entitlement);
            return Ok(true);
        }
        self.check_free(&entitlement)?;
        let Some(member) = self.members.get_mut(conn) else {
            return Ok(true);
        };
        if is_full && replaceable.is_empty() {
            return Err(too_many_connections());
        }
        let counted = member.renames.try_record(cx.now, RENAMES_PER_MINUTE);
        counted.map_err(|wait| {
            ErrorReply::rate_limited("changes of username", RENAMES_PER_MINUTE, wait)
        })?;
        if is_full {
            let claim = Claim::new(conn, entitlement, ClaimKind::Auth);
            self.wait_for_place(cx, claim, replaceable);
            return Ok(false);
        }
        if let Some(before) = self.move_member(cx, conn, &entitlement) {
            self.settle_claims(cx, before);
        }
        self.announce_presence(cx);
        Ok(true)
    }

    /// Moves a member to the user with this key, which may be new. The other members see the old user go
    /// offline, if this was its last connection, and the new one come online. Returns the key of the old user.
    pub(super) fn move_member(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        entitlement: &Entitlement,
    ) -> Option<Arc<str>> {
        let Entitlement { key, right, .. } = entitlement;
        if right.is_proven() {
            // While it still is one of the others, who are told that these stop typing.
            self.displace(cx, key, Some(conn));
        }
        self.tell_not_typing(cx, conn, key);
        let mut member = self.members.remove(conn)?;
        self.detach(cx, &member);
        let key = self.attach(cx, conn, entitlement);
        member.is_typing = false;
        member.standing = right.standing;
        let before = std::mem::replace(&mut member.user, key);
        self.members.insert(member);
        right.limit(cx, conn);
        Some(before)
    }

    /// Tells a member that a user whom it will be has stopped typing, if it is: later it is told nothing of itself.
    fn tell_not_typing(&self, cx: &mut Context, conn: ConnectionId, key: &str) {
        let user = self.users.get(key);
        let user = user.filter(|user| user.typing_connections > 0);
        if let (Some(user), Some(member)) = (user, self.members.get(conn)) {
            let data = Typing {
                is_typing: false,
                ..user.typing()
            };
            member.recipient().send(cx, &ServerMessage::Typing { data });
        }
    }
}
