//! Usernames of token holders, which clients without a token for them cannot take, and lose when a token holder comes.

use super::Workspace;
use super::access::refuse;
use super::close_reasons;
use super::members::newcomer;
use super::messages::ErrorReply;
use super::standing::{Entitlement, Standing};
use super::takeovers::Claim;
use crate::realm::{ConnectionId, Context};

impl Workspace {
    /// Checks that a username does not belong to token holders, unless the client has a token for it.
    ///
    /// # Errors
    /// It does.
    pub(super) fn check_free(&self, entitlement: &Entitlement) -> Result<(), ErrorReply> {
        if !entitlement.right.is_proven() && self.is_reserved(&entitlement.key) {
            let problem = "this username belongs to a client with a token; take another one, or send a token for it";
            return Err(ErrorReply::unauthorized(problem));
        }
        Ok(())
    }

    /// Returns whether a token holder has a username, or had it since the realm was created.
    pub(super) fn is_reserved(&self, key: &str) -> bool {
        self.is_proven(key) || self.proven.contains(&key.to_owned())
    }

    /// Returns whether the connections of a user have tokens for its name: all have, or none has.
    fn is_proven(&self, key: &str) -> bool {
        let user = self.users.get(key);
        let first = user.and_then(|user| user.connections.first());
        let first = first.and_then(|&conn| self.members.get(conn));
        first.is_some_and(|member| member.standing == Standing::Proven)
    }

    /// Returns whether a client may have another connection of a username at once. The holder of a token for it takes
    /// the places of those who have none.
    pub(super) fn has_place(&self, entitlement: &Entitlement) -> bool {
        let Entitlement { key, right, .. } = entitlement;
        !self.is_full(key) || (right.is_proven() && !self.is_proven(key))
    }

    /// Closes the connections of a username that have no token for it, but for `except`, since a token holder comes;
    /// those that wait for it are refused.
    pub(super) fn displace(&mut self, cx: &mut Context, key: &str, except: Option<ConnectionId>) {
        let is_displaced = |conn: &ConnectionId| {
            let member = self.members.get(*conn);
            Some(*conn) != except && member.is_some_and(|it| it.standing != Standing::Proven)
        };
        let user = self.users.get(key).into_iter();
        let connections = user.flat_map(|user| user.connections.iter().copied());
        let displaced: Vec<ConnectionId> = connections.filter(is_displaced).collect();
        for conn in displaced {
            cx.close(conn, close_reasons::REPLACED);
            self.remove_member(cx, conn);
        }
        for claim in self.claims.take_unproven(key) {
            self.refuse_reserved(cx, &claim);
        }
        if !self.users.contains_key(key) && !self.is_reserved(key) {
            // What is remembered is of others, who must not use up the limits of this user.
            self.recently_gone.remove(&key.to_owned());
        }
    }

    /// Tells a client that the username that it waits for has become that of a token holder.
    fn refuse_reserved(&mut self, cx: &mut Context, claim: &Claim) {
        let problem = "a client with a token has taken this username; take another one";
        let error = ErrorReply::unauthorized(problem);
        if let Some(member) = self.members.get(claim.conn) {
            // It stays who it is.
            error.send(cx, member.recipient());
            return;
        }
        let client = self.unauthenticated.remove(&claim.conn);
        let recipient = client.map_or_else(|| newcomer(claim.conn), |client| client.recipient);
        refuse(cx, recipient, &error);
    }
}
