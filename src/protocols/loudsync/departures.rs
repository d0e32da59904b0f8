//! How members leave their session: the host removes them, they are lost, or the session ends.

use super::codec::Recipient;
use super::messages::{ErrorCode, ErrorReply, Join, Kick, LeaveReason, ServerMessage};
use super::session::{Member, Session};
use super::{HOST_LOST, Loudsync, close_reasons, reject_join};
use crate::base::close::CloseReason;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::json::InvalidMessage;
use crate::toolkit::pending_clients::PendingClients;
use std::time::Duration;

impl Loudsync {
    /// Removes a member for its host.
    ///
    /// # Errors
    /// `conn` is not the host, or no guest has the ID.
    pub(super) fn kick(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        session_id: &str,
        kick: Kick,
    ) -> Result<(), ErrorReply> {
        let Some(session) = self.sessions.get_mut(session_id) else {
            return Ok(());
        };
        if !session.is_hosted_by(conn) {
            let text = "only the host can remove members";
            return Err(ErrorReply::new(ErrorCode::Unauthorized, text));
        }
        let Some(member) = session.take_guest(|guest| guest.id == kick.member_id) else {
            let problem = if session.host.id() == kick.member_id {
                "is the host; to end the session, the host sends leave"
            } else {
                "must be the ID of a member of this session"
            };
            return Err(InvalidMessage::field("memberId", problem).into());
        };
        session.broadcast_left(cx, &member, LeaveReason::Kicked);
        if let Some(Recipient { connection, .. }) = member.recipient {
            let reason = kick.reason.as_deref();
            let kicked = ServerMessage::Kicked {
                timestamp: cx.epoch_millis(),
                reason: reason.unwrap_or("Host removed you from the session"),
            };
            member.send(cx, &kicked);
            cx.close(connection, close_reasons::KICKED);
            // A connection that waits to take this member's place is the same device.
            let text = "the host has removed this device from the session";
            let error = ErrorReply::new(ErrorCode::Unauthorized, text);
            self.reject_takeovers(cx, connection, &error);
        }
        Ok(())
    }

    /// Removes the member of a connection; if it is the host, its session ends.
    pub(super) fn remove_member(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        reason: LeaveReason,
    ) {
        let Some(session_id) = self.connections.remove(&conn) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return;
        };
        if session.is_hosted_by(conn) {
            let reason = match reason {
                LeaveReason::Left => "Host ended the session",
                _ => HOST_LOST,
            };
            self.close_session(cx, &session_id, reason);
        } else if let Some(member) = session.take_guest(|guest| guest.is_on(conn)) {
            session.broadcast_left(cx, &member, reason);
        }
    }

    /// Separates a member from its connection, so that the member is `reconnecting`. Returns the session.
    pub(super) fn detach_member(&mut self, conn: ConnectionId) -> Option<&mut Session> {
        let session_id = self.connections.remove(&conn)?;
        self.member_mut(&session_id, conn)?.recipient = None;
        self.sessions.get_mut(&session_id)
    }

    pub(super) fn member_mut(
        &mut self,
        session_id: &str,
        conn: ConnectionId,
    ) -> Option<&mut Member> {
        let mut members = self.sessions.get_mut(session_id)?.members_mut();
        members.find(|member| member.is_on(conn))
    }

    /// Removes the members of a session whose last heartbeat is `timeout` ago, and closes their
    /// connections.
    pub(super) fn remove_timed_out(
        &mut self,
        cx: &mut Context,
        session_id: &str,
        timeout: Duration,
    ) {
        let Some(session) = self.sessions.get_mut(session_id) else {
            return;
        };
        let has_timed_out = |member: &Member| has_lost_place(&self.pending, cx, member, timeout);
        let (expired, guests) = std::mem::take(&mut session.guests)
            .into_iter()
            .partition::<Vec<Member>, _>(has_timed_out);
        session.guests = guests;
        let host = session.host.member().filter(|host| has_timed_out(host));
        for recipient in expired.iter().chain(host).filter_map(|it| it.recipient) {
            cx.close(recipient.connection, CloseReason::TIMED_OUT);
        }
        if host.is_some() {
            self.close_session(cx, session_id, HOST_LOST);
        } else {
            for member in &expired {
                session.broadcast_left(cx, member, LeaveReason::Timeout);
            }
        }
    }

    /// Ends a session: notifies its remaining members, and closes their connections.
    pub(super) fn close_session(&mut self, cx: &mut Context, session_id: &str, reason: &str) {
        if let Some(session) = self.sessions.remove(session_id) {
            let timestamp = cx.epoch_millis();
            session.broadcast(cx, &ServerMessage::SessionClosed { timestamp, reason });
            for recipient in session.members().filter_map(|member| member.recipient) {
                cx.close(recipient.connection, close_reasons::SESSION_CLOSED);
            }
        }
    }

    /// Rejects the connections that wait for the place of `owner`.
    pub(super) fn reject_takeovers(
        &mut self,
        cx: &mut Context,
        owner: ConnectionId,
        error: &ErrorReply,
    ) {
        for (_, (client, _)) in self.pending.end_takeovers(owner) {
            reject_join(cx, client, error);
        }
    }
}

/// Returns whether the last heartbeat of a member is too long ago. Its place is kept while another connection of
/// its device waits for it: that JOIN came in time, and the probe must not make it late.
pub(super) fn has_lost_place(
    pending: &PendingClients<(Recipient, Join)>,
    cx: &Context,
    member: &Member,
    timeout: Duration,
) -> bool {
    let is_waited_for = |recipient: Recipient| pending.has_takeover_of(recipient.connection);
    member.has_timed_out(cx, timeout) && !member.recipient.is_some_and(is_waited_for)
}
