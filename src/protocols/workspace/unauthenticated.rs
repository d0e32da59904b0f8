//! Clients that have not shown a token yet where one is demanded.

use super::Workspace;
use super::access::refuse;
use super::members::{newcomer, user_count_message};
use super::messages::{Auth, ClientMessage, Dialect, ErrorReply, Incoming, ServerMessage};
use super::standing::Entitlement;
use super::takeovers::{Claim, ClaimKind, too_many_connections};
use crate::base::close::CloseReason;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::Recipient;
use std::time::Duration;

/// Time for a client to send `auth` with a token where one is demanded and its request has none.
const AUTH_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that has to send a token and has not sent one yet. It is no member of the room.
pub(super) struct Unauthenticated {
    pub(super) recipient: Recipient<Dialect>,
    /// The username that it asked for, or a generated one: what it gets by a token that names no user.
    name: String,
    since: Duration,
}

impl Workspace {
    /// Greets a client that has to send `auth`. It is told nothing of the room.
    pub(super) fn wait_for_auth(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        requested: Option<String>,
    ) {
        let name = requested.unwrap_or_else(|| self.generate_username(cx));
        let recipient = newcomer(conn);
        let connected = ServerMessage::Connected {
            user_id: &self.next_user_id(cx),
            username: &name,
            timestamp: cx.timestamp(),
            connected_users: 0,
        };
        recipient.send(cx, &connected);
        let client = Unauthenticated {
            recipient,
            name,
            since: cx.now,
        };
        self.unauthenticated.insert(conn, Box::new(client));
    }

    /// Handles a message of a client that has to send `auth` first.
    pub(super) fn handle_unauthenticated(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        incoming: Incoming,
    ) {
        let Some(client) = self.unauthenticated.get_mut(&conn) else {
            return;
        };
        client.recipient.dialect = incoming.dialect;
        let (recipient, requested) = (client.recipient, client.name.clone());
        let ClientMessage::Auth(auth) = incoming.message else {
            ErrorReply::token_missing().send(cx, recipient);
            return;
        };
        let entitled = match auth {
            Auth::Missing => Err(ErrorReply::token_missing()),
            Auth::Verified(claims) => {
                let claims = claims.and_then(|claims| claims.valid_at(cx.wall));
                self.entitle(cx, claims.map(Some), Some(requested))
            }
            // The listener has stopped reading tokens since, and demands none any more.
            Auth::Claimed(name) => {
                let name = name.and_then(|name| self.sanitize_username(&name));
                self.entitle(cx, Ok(None), name.or(Some(requested)))
            }
        };
        match entitled {
            Ok(entitlement) => self.authenticate(cx, recipient, entitlement),
            Err(error) => {
                self.claims.remove(conn);
                self.unauthenticated.remove(&conn);
                refuse(cx, recipient, &error);
            }
        }
    }

    /// Lets a client enter that has shown a token, once there is a place for it.
    fn authenticate(
        &mut self,
        cx: &mut Context,
        recipient: Recipient<Dialect>,
        entitlement: Entitlement,
    ) {
        let conn = recipient.connection;
        if self.claims.waits_for(conn, &entitlement.key) {
            return;
        }
        self.claims.remove(conn);
        if self.has_place(&entitlement) {
            self.enter(cx, conn, &entitlement);
            return;
        }
        let replaceable = self.replaceable(cx, &entitlement.key);
        if replaceable.is_empty() {
            too_many_connections().send(cx, recipient);
            return;
        }
        let claim = Claim::new(conn, entitlement, ClaimKind::Auth);
        self.wait_for_place(cx, claim, replaceable);
    }

    /// Makes a client that has authenticated a member of the room.
    pub(super) fn enter(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        entitlement: &Entitlement,
    ) {
        let Some(client) = self.unauthenticated.remove(&conn) else {
            return;
        };
        let recipient = client.recipient;
        self.insert_member(cx, recipient, entitlement);
        self.announce_presence(cx);
        recipient.send(cx, &ServerMessage::AuthAck { ok: true });
        if !self.broadcast_user_count(cx) {
            recipient.send(cx, &user_count_message(&self.users));
        }
    }

    /// Closes the clients that have not sent a token in time.
    pub(super) fn close_unauthenticated(&mut self, cx: &mut Context) {
        let clients = self.unauthenticated.iter();
        let late = clients.filter(|(conn, client)| {
            let since = cx.silent_since(**conn, client.since);
            cx.now >= since + AUTH_TIMEOUT && !self.claims.is_waiting(**conn)
        });
        let late: Vec<ConnectionId> = late.map(|(&conn, _)| conn).collect();
        for conn in late {
            self.unauthenticated.remove(&conn);
            cx.close(conn, CloseReason::UNAUTHORIZED);
        }
    }
}
