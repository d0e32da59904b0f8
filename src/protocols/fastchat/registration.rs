//! HELLO and the end of a connection: how a connection becomes that of a user, and what is kept of the user.

use super::messages::{
    ClientMessage, Dialect, ErrorCode, ErrorReply, Hello, ServerMessage, Status,
};
use super::{FastChat, MIN_NAME_LENGTH, Recipient, User};
use crate::base::close::DisconnectReason;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::heap_bytes::HeapBytes;
use crate::toolkit::json::check_length;

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
            ClientMessage::Hello(hello) => {
                let hello = hello?;
                let configured = (MIN_NAME_LENGTH, self.options.display_name_length as usize);
                let (min, max) = hello.name_length.unwrap_or(configured);
                check_length(&hello.display_name, "display_name", min, max)?;
                self.handle_hello(cx, recipient, hello);
                Ok(())
            }
            ClientMessage::Invalid(mut error) | ClientMessage::OpenChat(Err(mut error)) => {
                error.code = ErrorCode::Unauthorized;
                error.message = format!("send HELLO first; also, {}", error.message);
                Err(error)
            }
            _ => Err(ErrorReply::new(ErrorCode::Unauthorized, "send HELLO first")),
        }
    }

    /// Registers a connection as a user, unless that user is connected: then that connection is probed,
    /// and the new one becomes a claimant.
    fn handle_hello(&mut self, cx: &mut Context, recipient: Recipient, hello: Hello) {
        let conn = recipient.connection;
        let user_id = hello.user_id.unwrap_or_else(|| cx.uuid());
        if let Some(user) = self.users.get(&user_id) {
            let timeout = self.options.takeover_timeout.duration();
            let owner = user.recipient.connection;
            cx.probe(owner, timeout);
            self.pending.start_takeover(conn, owner, (recipient, hello));
            return;
        }
        let Hello { display_name, .. } = hello;
        self.remove_pending(conn);
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
            state: self.gone.remove(&user_id).unwrap_or_default(),
        };
        self.online_bytes += user.state.heap_bytes();
        self.users.insert(user_id, Box::new(user));
        let status = Status::Connected;
        recipient.send(cx, &ServerMessage::HelloAck { user_id, status });
        // A long list waits for the next broadcast, so that all users that connect until then share one.
        if self.is_list_short() {
            recipient.send(cx, &self.presence_list([]));
            self.user(user_id).seen_version = Some(self.presence_changes.version());
        }
    }

    /// Removes a connection that was registered or has closed from the unregistered ones.
    pub(super) fn remove_pending(&mut self, conn: ConnectionId) {
        self.pending.remove(conn);
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

    /// Ends the session of a user whose connection has closed. Its claimants try again, and the first of
    /// them is registered.
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
            self.presence_changes.record(id, user.name, false);
            if let Some((dropped, state)) = self.gone.insert(cx.now, id, user.state) {
                self.end_chats(dropped, state);
            }
        }
        for (_, (recipient, hello)) in self.pending.end_takeovers(conn) {
            self.handle_hello(cx, recipient, hello);
        }
    }
}

/// Returns the error for a second HELLO on a connection.
pub(super) fn already_said_hello() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Validation,
        "this connection has already sent a HELLO",
    )
    .with_field("type")
}
