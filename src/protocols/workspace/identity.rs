//! What Workspace's users are called: as they want, as a token says, or somehow.

use super::Workspace;
use super::messages::{ErrorCode, ErrorReply};
use crate::realm::{ConnectionId, Context};
use crate::toolkit::jwt;
use crate::toolkit::sanitize::{cut, sanitize};
use serde::Deserialize;
use std::time::Duration;

/// The letters of a made-up name.
pub(super) const USERNAME_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// How often a connection may become another user's in a minute. Everybody hears of each time,
/// and a new name comes with new limits.
const RENAMES_PER_MINUTE: u32 = 5;

/// What a token says that matters here.
#[derive(Deserialize)]
struct Claims {
    username: String,
}

impl Workspace {
    /// A name that somebody wants, made fit for others to see, if anything is left of it.
    pub(super) fn sanitize_username(&self, requested: &str) -> Option<String> {
        let clean = sanitize(requested);
        let name = cut(clean.trim(), self.options.username_length as usize).trim_end();
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// A name that nobody has.
    pub(super) fn generate_username(&self, cx: &mut Context) -> String {
        loop {
            let name = format!("User_{}", cx.random_string(USERNAME_ALPHABET, 6));
            if !self.users.contains_key(&name.to_lowercase()) {
                return name;
            }
        }
    }

    /// The name that a token gives, if it gives one. Where there is a secret, it has to.
    pub(super) fn username_from_token(
        &self,
        cx: &Context,
        token: Option<&str>,
    ) -> Result<Option<String>, ErrorReply> {
        let token = token.unwrap_or_default();
        let Some(secret) = self.options.auth_secret.bytes() else {
            let claims = jwt::unverified::<Claims>(token).ok();
            return Ok(claims.and_then(|claims| self.sanitize_username(&claims.username)));
        };
        let now = Duration::from_millis(cx.epoch_millis());
        let claims: Claims = jwt::verified(token, secret, now).map_err(ErrorReply::unauthorized)?;
        match self.sanitize_username(&claims.username) {
            Some(name) => Ok(Some(name)),
            None => Err(ErrorReply::unauthorized(
                "the username in the token is empty",
            )),
        }
    }

    /// Makes a connection another user's: to the others, one goes and another comes.
    pub(super) fn rename(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        name: String,
    ) -> Result<(), ErrorReply> {
        let key = name.to_lowercase();
        let is_full = self.is_full(&key);
        let Some(member) = self
            .members
            .get_mut(&conn)
            .filter(|member| member.user != key)
        else {
            return Ok(());
        };
        if is_full {
            let message = "this user has too many connections";
            return Err(ErrorReply::new(ErrorCode::TooManyConnections, message));
        }
        let counted = member.renames.take(cx.now, RENAMES_PER_MINUTE);
        counted.map_err(|wait| ErrorReply::rate_limited("changes of name", wait))?;
        if let Some(mut member) = self.members.remove(&conn) {
            self.detach(cx, &member);
            self.attach(cx, &key, name);
            member.user = key;
            member.typing = false;
            self.insert(cx, member);
        }
        Ok(())
    }
}
