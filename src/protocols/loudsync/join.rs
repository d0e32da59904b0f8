//! JOIN: which device joins which session, as what, and why it is rejected.

use super::codec::Recipient;
use super::fields::MIN_MEMBERS;
use super::identity::refuse;
use super::messages::{Details, ErrorCode, ErrorReply, Join, Role};
use super::session::{Host, Member, Session};
use super::{HOST_LOST, Loudsync, close_reasons, reject_join};
use crate::realm::{ConnectionId, Context};
use crate::toolkit::json::InvalidMessage;
use std::time::Duration;

/// Characters of the random part of a client ID: without `l`, `o`, `0` and `1`, which look alike.
pub(super) const ID_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Characters in the random part of a client ID (rulings): 60 bits, so that IDs do not repeat.
const ID_LENGTH: usize = 12;

impl Loudsync {
    /// Adds the client to the session that its JOIN names, starts a takeover if its device is connected,
    /// or rejects the JOIN. A client whose token says that it is this device takes the place of one without at once.
    pub(super) fn join(&mut self, cx: &mut Context, client: Recipient, join: Join) {
        if let Some(text) = self.refusal(&join) {
            refuse(cx, client, text);
        } else if let Err(error) = self.try_to_join(cx, client, join) {
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
            return self.create_session(cx, client, join);
        };
        check_role(&join, &session.host)?;
        let conn = client.connection;
        let is_same_device = |member: &&mut Member| member.device_id == join.device_id;
        let member = session.members_mut().find(is_same_device);
        let owner = member.as_ref().and_then(|member| member.recipient);
        match (member, owner) {
            (Some(member), Some(Recipient { connection, .. })) => {
                if join.is_proven && !member.is_proven {
                    // As after a probe that is not answered.
                    self.detach_member(connection);
                    cx.close(connection, close_reasons::REPLACED);
                } else {
                    cx.probe(connection, self.options.takeover_timeout.duration());
                }
                // One that waits must not displace anybody once its token has ended.
                if join.end.is_some() {
                    cx.expire_at(conn, join.end);
                }
                self.pending
                    .start_takeover(conn, connection, (client, join));
                return Ok(());
            }
            (Some(member), None) => {
                member.recipient = Some(client);
                member.name.clone_from(&join.device_name);
                member.is_proven = join.is_proven;
                member.last_heartbeat = cx.now;
                session.welcome(cx, conn, &join.session_id);
                session.broadcast_list(cx, Some(conn));
            }
            (None, _) => {
                session.check_capacity()?;
                let id = new_id(cx, "client", |id| session.has_id(id));
                session.add(cx, Member::new(cx, client, id, &join));
                session.welcome(cx, conn, &join.session_id);
            }
        }
        self.register(cx, conn, join);
        Ok(())
    }

    fn create_session(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        join: Join,
    ) -> Result<(), ErrorReply> {
        let Role::Host {
            session_name,
            max_members,
        } = &join.role
        else {
            let text = "no session has this ID";
            return Err(ErrorReply::new(ErrorCode::SessionNotFound, text));
        };
        let max_sessions = self.options.max_sessions;
        // Sessions from the configuration do not count: they are the operator's, and never end.
        let hosted = self.sessions.len() - self.options.sessions.len();
        let is_full = max_sessions > 0 && hosted >= max_sessions as usize;
        if is_full && !self.close_abandoned_session(cx) {
            return Err(ErrorReply {
                code: ErrorCode::SessionFull,
                message: format!(
                    "this server already has {max_sessions} sessions, its maximum; try again later"
                ),
                details: Some(Details::Sessions { max_sessions }),
            });
        }
        let id = new_id(cx, "host", |_| false);
        let session = Session::new(
            session_name.as_ref().unwrap_or(&join.device_name).clone(),
            max_members.unwrap_or(self.options.max_members) as usize,
            Member::new(cx, client, id, &join),
        );
        session.welcome(cx, client.connection, &join.session_id);
        self.sessions.insert(join.session_id.clone(), session);
        self.register(cx, client.connection, join);
        Ok(())
    }

    /// Records that a connection has joined.
    fn register(&mut self, cx: &mut Context, conn: ConnectionId, join: Join) {
        self.pending.remove(conn);
        self.access.remove(conn);
        self.connections.insert(conn, join.session_id);
        if join.is_proven {
            self.proven.connect(conn, &join.device_id);
        }
        if join.end.is_some() {
            cx.expire_at(conn, join.end);
        }
    }

    /// Checks the `maxMembers` of a host's JOIN.
    ///
    /// # Errors
    /// It is out of range.
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
        let problem = format!("is {wanted}; must be {MIN_MEMBERS} to {limit}");
        Err(InvalidMessage::field("maxMembers", problem))
    }

    /// Ends the session whose host's last heartbeat is oldest, of those in which no member is
    /// connected. Returns false if there is none. Otherwise one client that opens session after
    /// session and disconnects would lock all others out.
    fn close_abandoned_session(&mut self, cx: &mut Context) -> bool {
        let oldest = self.abandoned_sessions().min();
        let Some(session_id) = oldest.map(|(_, id)| id.clone()) else {
            return false;
        };
        self.close_session(cx, &session_id, HOST_LOST);
        true
    }

    /// Returns the sessions in which no member is connected: the time of their host's last heartbeat, and
    /// their ID. A session from the configuration has no host device, and so is never among them.
    fn abandoned_sessions(&self) -> impl Iterator<Item = (Duration, &String)> {
        let is_abandoned = |session: &Session| session.members().all(|it| it.recipient.is_none());
        let abandoned = self.sessions.iter().filter(move |(_, it)| is_abandoned(it));
        abandoned.filter_map(|(id, it)| Some((it.host.member()?.last_heartbeat, id)))
    }

    /// Ends sessions in which no member is connected, oldest heartbeat of the host first, until `bytes` are
    /// freed. Returns the bytes that were freed.
    pub(super) fn shed_abandoned(&mut self, cx: &mut Context, bytes: usize) -> usize {
        let sessions = self
            .abandoned_sessions()
            .map(|(since, id)| (since, id.clone()));
        let mut sessions: Vec<(Duration, String)> = sessions.collect();
        sessions.sort_unstable();
        let mut freed = 0;
        for (_, id) in sessions {
            if freed >= bytes {
                break;
            }
            freed += self.sessions.get(&id).map_or(0, Session::bytes);
            self.close_session(cx, &id, HOST_LOST);
        }
        self.stored_bytes = self.stored_bytes.saturating_sub(freed);
        freed
    }
}

/// Checks that a device joins as the host only the session that it opened, and never its own session
/// as a guest.
fn check_role(join: &Join, host: &Host) -> Result<(), ErrorReply> {
    let host_device = host.member().map(|member| &member.device_id);
    let is_host_device = host_device == Some(&join.device_id);
    let text = match (&join.role, host_device) {
        (Role::Host { .. }, None) => {
            "this session is part of the server's configuration; no device can host it"
        }
        (Role::Host { .. }, Some(_)) if !is_host_device => {
            "another device is the host of this session"
        }
        (Role::Guest, _) if is_host_device => {
            "this device is the host of this session and cannot join it as a guest"
        }
        _ => return Ok(()),
    };
    Err(ErrorReply::new(ErrorCode::Unauthorized, text))
}

/// Returns a new random client ID that is not `taken`.
fn new_id(cx: &mut Context, prefix: &str, taken: impl Fn(&str) -> bool) -> String {
    loop {
        let id = format!("{prefix}-{}", cx.random_string(ID_ALPHABET, ID_LENGTH));
        if !taken(&id) {
            return id;
        }
    }
}
