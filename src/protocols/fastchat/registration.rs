//! HELLO and the end of a connection: how a connection becomes that of a user, and what is kept of the user.

use super::identity::{Newcomer, already_said_hello, refuse, refuse_token};
use super::messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Hello, ServerMessage};
use super::{FastChat, Recipient, User, UserState, close_reasons};
use crate::base::close::DisconnectReason;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::heap_bytes::HeapBytes;

impl FastChat {
    /// Handles a message of a connection that is not registered yet.
    pub(super) fn handle_pending(
        &mut self,
        cx: &mut Context,
        recipient: Recipient,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let is_claimant = self.pending.is_taking_over(recipient.connection);
        if let ClientMessage::OpenChat(_) = message {
            self.record_failed_open_of_claimant(recipient);
        }
        match message {
            ClientMessage::Hello(_) if is_claimant => Err(already_said_hello()),
            _ if is_claimant => {
                let text =
                    "another connection of this user is being checked; try again after the answer";
                Err(ErrorReply::new(ErrorCode::Unauthorized, text))
            }
            ClientMessage::Hello(hello) => self.handle_hello(cx, recipient, *hello?),
            ClientMessage::Invalid(mut error) | ClientMessage::OpenChat(Err(mut error)) => {
                error.code = ErrorCode::Unauthorized;
                error.message = format!("send HELLO first; also, {}", error.message);
                Err(error)
            }
            _ => Err(ErrorReply::new(ErrorCode::Unauthorized, "send HELLO first")),
        }
    }

    /// Handles the HELLO of a connection that is not registered yet, and no claimant.
    ///
    /// # Errors
    /// A field is missing or wrong; the connection stays open.
    fn handle_hello(
        &mut self,
        cx: &mut Context,
        recipient: Recipient,
        mut hello: Hello,
    ) -> Result<(), ErrorReply> {
        let token = hello.token.take();
        match self.access.claims(recipient.connection, token, cx.wall) {
            Ok(claims) => {
                let newcomer = self.identify(cx, hello, claims.as_ref())?;
                self.enter(cx, recipient, newcomer);
            }
            Err(error) => refuse_token(cx, recipient, error),
        }
        Ok(())
    }

    /// Registers a connection as a user, unless that user is connected: then that connection is probed,
    /// and the new one becomes a claimant. One whose token says that it is this user takes the place of one without
    /// at once; one without takes no place that such a client has had.
    fn enter(&mut self, cx: &mut Context, recipient: Recipient, newcomer: Newcomer) {
        let conn = recipient.connection;
        let user_id = newcomer.user_id;
        if !newcomer.is_proven && self.is_proven(&user_id) {
            let text = "this user has an access token; send yours as \"token\", or be another user";
            refuse(cx, recipient, text, "user_id");
            return;
        }
        // Also for one that waits: it must not displace anybody once its token has ended.
        if newcomer.end.is_some() {
            cx.expire_at(conn, newcomer.end);
        }
        if let Some(user) = self.users.get(&user_id) {
            let owner = user.recipient.connection;
            if newcomer.is_proven && !user.state.is_proven {
                // When it has closed, `handle_disconnect` lets the newcomer in.
                cx.close(owner, close_reasons::REPLACED);
            } else {
                cx.probe(owner, self.options.takeover_timeout.duration());
            }
            let claim = (recipient, newcomer);
            self.pending.start_takeover(conn, owner, claim);
            return;
        }
        self.remove_pending(conn);
        let state = self.take_state(&newcomer);
        let Newcomer { display_name, .. } = newcomer;
        self.connections.insert(conn, user_id);
        self.presence_changes
            .record(user_id, display_name.clone(), true);
        let user = User {
            recipient,
            name: display_name,
            seen_version: None,
            typing_to: None,
            may_have_missed_chat: false,
            claimant_open_failed: false,
            state,
        };
        self.online_bytes += user.state.heap_bytes();
        self.users.insert(user_id, Box::new(user));
        recipient.send(cx, &ServerMessage::hello_ack(user_id));
        // A long list waits for the next broadcast, so that all users that connect until then share one.
        if self.is_list_short() {
            recipient.send(cx, &self.presence_list([]));
            self.user(user_id).seen_version = Some(self.presence_changes.version());
        }
    }

    /// Returns the state that is kept of a user who comes back. A client with the user's token and one without are two
    /// people: the chats of one, and what others write in them, are not for the other.
    fn take_state(&mut self, newcomer: &Newcomer) -> UserState {
        let Newcomer {
            user_id, is_proven, ..
        } = *newcomer;
        match self.gone.remove(&user_id) {
            Some(state) if state.is_proven == is_proven => return state,
            Some(state) => self.end_chats(user_id, state),
            None => {}
        }
        UserState {
            is_proven,
            ..UserState::default()
        }
    }

    /// Removes a connection that was registered or has closed from the unregistered ones.
    pub(super) fn remove_pending(&mut self, conn: ConnectionId) {
        self.pending.remove(conn);
        self.access.remove(conn);
        self.pending_dialects.remove(&conn);
    }

    /// Takes note of an OPEN_CHAT that fails since the connection waits for a takeover. Its page has selected
    /// the user in it, and may already have another connection when the takeover is decided.
    fn record_failed_open_of_claimant(&mut self, claimant: Recipient) {
        let owner = self.pending.owner(claimant.connection);
        let owner = owner
            .and_then(|owner| self.connections.get(&owner))
            .copied();
        if let Some(owner) = owner.filter(|_| claimant.dialect == Dialect::Flat) {
            self.user(owner).claimant_open_failed = true;
        }
    }

    /// Ends the session of a user whose connection has closed. Its claimants try again, those with tokens before those
    /// without, and the first of them is registered.
    pub(super) fn handle_disconnect(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        reason: DisconnectReason,
    ) {
        let Some(id) = self.connections.remove(&conn) else {
            return;
        };
        self.stop_typing(cx, id);
        if let Some(mut user) = self.users.remove(&id) {
            // The server gave the connection up, so the last it has sent may not have arrived.
            let has_missed_chat = user.may_have_missed_chat
                && matches!(
                    reason,
                    DisconnectReason::Unresponsive | DisconnectReason::Closed(_)
                );
            if has_missed_chat || user.claimant_open_failed {
                user.state.partner.record_unknown(Dialect::Flat);
            }
            self.online_bytes = self.online_bytes.saturating_sub(user.state.heap_bytes());
            user.state.compact(cx);
            if user.state.is_proven {
                self.proven.insert(cx.now, id);
            }
            self.presence_changes.record(id, user.name, false);
            if let Some((dropped, state)) = self.gone.insert(cx.now, id, user.state) {
                self.end_chats(dropped, state);
            }
        }
        let mut claims = self.pending.end_takeovers(conn);
        claims.sort_by_key(|(_, (_, newcomer))| !newcomer.is_proven);
        for (_, (recipient, newcomer)) in claims {
            self.enter(cx, recipient, newcomer);
        }
    }
}
