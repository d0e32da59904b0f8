//! How a connection becomes one of a user, and ceases to be.

use super::Workspace;
use super::announcements::Gone;
use super::members::{Member, User, broadcast_typing, newcomer};
use super::messages::{Dialect, ServerMessage};
use super::standing::{Entitlement, Standing};
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::Recipient;
use crate::toolkit::heap_bytes::HeapBytes;
use std::sync::Arc;

impl Workspace {
    /// Returns whether a user has all the connections that it may have.
    pub(super) fn is_full(&self, key: &str) -> bool {
        let limit = self.options.max_connections_per_user as usize;
        let connections = self.users.get(key).map_or(0, |user| user.connections.len());
        limit > 0 && connections >= limit
    }

    /// Returns the connection and the dialect of a member, or of a client that has not authenticated yet.
    pub(super) fn recipient(&self, conn: ConnectionId) -> Option<Recipient<Dialect>> {
        let member = self.members.get(conn).map(|member| member.recipient());
        let client = self.unauthenticated.get(&conn);
        member.or(client.map(|client| client.recipient))
    }

    /// Inserts a connection as a member of the user with this key, and sends it its `connected`.
    pub(super) fn insert_connection(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        entitlement: &Entitlement,
    ) {
        let recipient = newcomer(conn);
        self.insert_member(cx, recipient, entitlement);
        if let Some(user) = self.users.get(&*entitlement.key) {
            let connected = ServerMessage::Connected {
                user_id: &user.id,
                username: &user.name,
                timestamp: cx.timestamp(),
                connected_users: self.users.len(),
            };
            recipient.send(cx, &connected);
        }
    }

    /// Inserts a connection as a member of the user with this key.
    pub(super) fn insert_member(
        &mut self,
        cx: &mut Context,
        recipient: Recipient<Dialect>,
        entitlement: &Entitlement,
    ) {
        let (conn, right) = (recipient.connection, entitlement.right);
        if right.is_proven() {
            self.displace(cx, &entitlement.key, None);
        }
        let key = self.attach(cx, conn, entitlement);
        let member = Member::new(cx.now, recipient, key, right.standing);
        self.members.insert(member);
        right.limit(cx, conn);
    }

    /// Adds a connection to its user, which is created with the first one. Returns the user's key.
    pub(super) fn attach(
        &mut self,
        cx: &Context,
        conn: ConnectionId,
        entitlement: &Entitlement,
    ) -> Arc<str> {
        let key = entitlement.key.as_str();
        if !self.users.contains_key(key) {
            let user = self.create_user(cx, entitlement);
            self.announcements.come(cx.now, &user.key);
            self.users.insert(Arc::clone(&user.key), Box::new(user));
            self.user_count.has_changed = true;
        }
        let user = self.users.get_mut(key).expect("the user was created");
        user.connections.push(conn);
        Arc::clone(&user.key)
    }

    /// Creates a user. One whose going has not been announced yet is still the same for the others, but a token
    /// holder's name is written as in its token.
    fn create_user(&mut self, cx: &Context, entitlement: &Entitlement) -> User {
        let Entitlement { key, name, right } = entitlement;
        let (id, name) = match self.announcements.gone(key).cloned() {
            Some(Gone { id, .. }) if right.is_proven() => (id, name.clone()),
            Some(Gone { id, name }) => (id, name),
            None => (self.next_user_id(cx), name.clone()),
        };
        let rate_limits = self.recently_gone.remove(key);
        let rate_limits = rate_limits.unwrap_or_default();
        self.online_bytes += rate_limits.heap_bytes();
        User {
            key: key.as_str().into(),
            name,
            id,
            // Most users have only one.
            connections: Vec::with_capacity(1),
            typing_connections: 0,
            rate_limits,
        }
    }

    /// Returns an id that no user has had yet.
    pub(super) fn next_user_id(&mut self, cx: &Context) -> Box<str> {
        self.last_user_id = cx.epoch_millis().max(self.last_user_id + 1);
        format!("ws_user_{}", self.last_user_id).into()
    }

    /// Removes a member whose connection has ended or is being closed. Returns the key of its user.
    pub(super) fn remove_member(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
    ) -> Option<Arc<str>> {
        let member = self.members.remove(conn)?;
        self.claims.remove(conn);
        if member.waiting_bytes > 0 {
            self.large_texts.remove(conn);
        }
        self.detach(cx, &member);
        Some(member.user)
    }

    /// Takes the connection of a removed member from its user, who stops typing, and goes offline with its last
    /// connection.
    pub(super) fn detach(&mut self, cx: &mut Context, member: &Member) {
        let conn = member.recipient().connection;
        self.claims.forget_probed(&member.user, conn);
        let Some(user) = self.users.get_mut(&member.user) else {
            return;
        };
        if member.is_typing {
            user.typing_connections -= 1;
            if user.typing_connections == 0 {
                broadcast_typing(&mut self.members, cx, user);
            }
        }
        user.connections.retain(|other| *other != conn);
        if !user.connections.is_empty() {
            return;
        }
        self.user_count.has_changed = true;
        if let Some(mut user) = self.users.remove(&member.user) {
            let gone = Gone {
                id: user.id,
                name: user.name,
            };
            self.announcements.go(cx.now, &user.key, gone);
            if member.standing == Standing::Proven {
                self.proven.insert(cx.now, (*user.key).to_owned());
            }
            let bytes = user.rate_limits.heap_bytes();
            self.online_bytes = self.online_bytes.saturating_sub(bytes);
            user.rate_limits.compact(cx.now);
            if user.rate_limits.has_recent_events(cx.now) {
                let _ = self
                    .recently_gone
                    .insert(cx.now, (*user.key).to_owned(), user.rate_limits);
            }
        }
    }
}
