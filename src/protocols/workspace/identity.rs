//! Usernames: requested in the query, taken from a token, or generated.

use super::Workspace;
use super::messages::ErrorReply;
use super::takeovers::{ClaimKind, too_many_connections};
use crate::realm::{Claims, ConnectionId, Context};
use crate::toolkit::jwt;
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

    /// Returns a random username that is not in use.
    pub(super) fn generate_username(&self, cx: &mut Context) -> String {
        loop {
            let name = format!("User_{}", cx.random_string(USERNAME_ALPHABET, 6));
            if !self.users.contains_key(name_key(&name).as_str()) {
                return name;
            }
        }
    }

    /// Returns the username in a token. Without `auth_secret` the token is not verified, and `None` is
    /// returned for one that has no username.
    ///
    /// # Errors
    /// There is an `auth_secret`, and the token is not valid or has no username.
    pub(super) fn username_from_token(
        &self,
        cx: &Context,
        token: Option<&str>,
    ) -> Result<Option<String>, ErrorReply> {
        let token = token.unwrap_or_default();
        let Some(verifier) = self.options.auth_secret.verifier() else {
            let claims = jwt::decode_unverified(token).unwrap_or_default();
            return Ok(name_in(claims).and_then(|name| self.sanitize_username(&name)));
        };
        let claims = verifier.read(token).and_then(|claims| {
            claims.check_times(cx.wall)?;
            Ok(claims)
        });
        let claims = claims.map_err(ErrorReply::unauthorized)?;
        let name = name_in(claims).ok_or_else(|| {
            ErrorReply::unauthorized("the token must have a \"sub\" or a \"username\"")
        })?;
        let name = self.sanitize_username(&name).ok_or_else(|| {
            let problem = "the name in the token is empty; must contain a visible character";
            ErrorReply::unauthorized(problem)
        })?;
        Ok(Some(name))
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
        name: String,
    ) -> Result<bool, ErrorReply> {
        let key = name_key(&name);
        if self.claims.waits_for(conn, &key) {
            return Ok(false);
        }
        self.claims.remove(conn);
        let is_full = self.is_full(&key);
        let replaceable = self.replaceable(cx, &key);
        let member = self.members.get_mut(conn);
        let Some(member) = member.filter(|member| *member.user != *key) else {
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
            self.wait_for_place(cx, conn, &key, name, ClaimKind::Rename, replaceable);
            return Ok(false);
        }
        if let Some(before) = self.move_member(cx, conn, &key, name) {
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
        key: &str,
        name: String,
    ) -> Option<Arc<str>> {
        let mut member = self.members.remove(conn)?;
        self.detach(cx, &member);
        let key = self.attach(cx, conn, key, name);
        member.is_typing = false;
        let before = std::mem::replace(&mut member.user, key);
        self.members.insert(member);
        Some(before)
    }
}

/// Returns the username that a token is for.
fn name_in(claims: Claims) -> Option<String> {
    claims.subject.or(claims.username)
}
