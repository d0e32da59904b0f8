//! JOIN: who comes into which session, and who does not.

use super::codec::Recipient;
use super::fields::MIN_MEMBERS;
use super::messages::{Details, ErrorCode, ErrorReply, Join, Role};
use super::session::{Host, Member, Session};
use super::{HOST_LOST, Loudsync, reject_join};
use crate::realm::{ConnectionId, Context};
use crate::toolkit::json::InvalidMessage;
use std::time::Duration;

/// The random part of a client's id.
pub(super) const ID_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const ID_LENGTH: usize = 12;

impl Loudsync {
    /// Lets somebody into a session, or says why not, and goodbye.
    pub(super) fn join(&mut self, cx: &mut Context, client: Recipient, join: Join) {
        if let Err(error) = self.try_to_join(cx, client, join) {
            reject_join(cx, client, &error);
        }
    }

    fn try_to_join(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        join: Join,
    ) -> Result<(), ErrorReply> {
        let Some(session) = self.sessions.get_mut(&join.session_id) else {
            return self.create(cx, client, join);
        };
        check_role(&join, &session.host)?;
        let conn = client.connection;
        let same_device = |member: &&mut Member| member.device_id == join.device_id;
        let member = session.members_mut().find(same_device);
        let owner = member.as_ref().and_then(|member| member.recipient);
        match (member, owner) {
            (Some(_), Some(owner)) => {
                let timeout = Duration::from_secs(self.options.takeover_timeout.into());
                cx.probe(owner.connection, timeout);
                self.pending
                    .start_takeover(conn, owner.connection, (client, join));
                return Ok(());
            }
            (Some(member), None) => {
                member.recipient = Some(client);
                member.name = join.device_name;
                member.last_heartbeat = cx.now;
                session.welcome(cx, conn, &join.session_id);
                session.broadcast_list(cx, Some(conn));
            }
            (None, _) => {
                session.check_capacity()?;
                let id = new_id(cx, "client", |id| session.has_id(id));
                session.add(
                    cx,
                    Member::new(cx, client, id, join.device_id, join.device_name),
                );
                session.welcome(cx, conn, &join.session_id);
            }
        }
        self.register(conn, join.session_id);
        Ok(())
    }

    fn create(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        join: Join,
    ) -> Result<(), ErrorReply> {
        let Role::Host {
            session_name,
            max_members,
        } = join.role
        else {
            let message = "there is no session of this id";
            return Err(ErrorReply::new(ErrorCode::SessionNotFound, message));
        };
        let max_sessions = self.options.max_sessions;
        // Those of the configuration are the operator's, and never go.
        let made = self.sessions.len() - self.options.sessions.len();
        let is_full = max_sessions > 0 && made >= max_sessions as usize;
        if is_full && !self.evict_abandoned_session(cx) {
            return Err(ErrorReply {
                code: ErrorCode::SessionFull,
                message: format!("this server has all the sessions it may have ({max_sessions})"),
                details: Some(Details::Sessions { max_sessions }),
            });
        }
        let id = new_id(cx, "host", |_| false);
        let session = Session::new(
            session_name.unwrap_or_else(|| join.device_name.clone()),
            max_members.unwrap_or(self.options.max_members) as usize,
            Member::new(cx, client, id, join.device_id, join.device_name),
        );
        session.welcome(cx, client.connection, &join.session_id);
        self.sessions.insert(join.session_id.clone(), session);
        self.register(client.connection, join.session_id);
        Ok(())
    }

    /// Somebody has come in from the doorstep.
    fn register(&mut self, conn: ConnectionId, session: String) {
        self.pending.remove(conn);
        self.connections.insert(conn, session);
    }

    pub(super) fn check_max_members(&self, join: &Join) -> Result<(), InvalidMessage> {
        let Role::Host {
            max_members: Some(wanted),
            ..
        } = join.role
        else {
            return Ok(());
        };
        let limit = self.options.max_members;
        if (MIN_MEMBERS..=limit).contains(&wanted) {
            return Ok(());
        }
        let problem = format!("is {wanted}; it is from {MIN_MEMBERS} to {limit}");
        Err(InvalidMessage::field("maxMembers", problem))
    }

    /// Ends the session that has waited longest for somebody to come back, none of its members
    /// being connected. Otherwise who opens sessions and goes would keep all others from it.
    fn evict_abandoned_session(&mut self, cx: &mut Context) -> bool {
        let is_deserted = |session: &Session| session.members().all(|it| it.recipient.is_none());
        // A session whose host is a name waits for nobody.
        let deserted = self.sessions.iter().filter(|(_, it)| is_deserted(it));
        let since = deserted.filter_map(|(id, it)| Some((it.host.member()?.last_heartbeat, id)));
        let longest = since.min_by_key(|(heartbeat, _)| *heartbeat);
        let Some(id) = longest.map(|(_, id)| id.clone()) else {
            return false;
        };
        self.end(cx, &id, HOST_LOST);
        true
    }
}

/// Only the device that made a session comes to it as its host.
fn check_role(join: &Join, host: &Host) -> Result<(), ErrorReply> {
    let device = host.member().map(|member| &member.device_id);
    let is_its_device = device == Some(&join.device_id);
    let message = match (&join.role, device) {
        (Role::Host { .. }, None) => "this session is the server's own, and no device is its host",
        (Role::Host { .. }, Some(_)) if !is_its_device => {
            "this session has a host, and it is not this device"
        }
        (Role::Guest, _) if is_its_device => "this device is the session's host, and no guest",
        _ => return Ok(()),
    };
    Err(ErrorReply::new(ErrorCode::Unauthorized, message))
}

/// A new id for a member, one that is not `taken`.
fn new_id(cx: &mut Context, prefix: &str, taken: impl Fn(&str) -> bool) -> String {
    loop {
        let id = format!("{prefix}-{}", cx.random_string(ID_ALPHABET, ID_LENGTH));
        if !taken(&id) {
            return id;
        }
    }
}
