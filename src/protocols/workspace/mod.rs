//! Workspace: one room per listener, with presence and typing indicators.
//!
//! A user is a username, compared without regard to case and without invisible characters, and may have several
//! connections (three by default). The other users see the user, not its connections: `online` with the first one,
//! `offline` with the end of the last. The README in this folder describes the protocol for authors of clients.

mod access;
mod announcements;
mod close_reasons;
mod codec;
mod codec_document;
mod codec_electron;
mod identity;
mod members;
mod membership;
mod messages;
mod options;
mod reservations;
mod standing;
mod takeovers;
mod text_window;
mod texts;
mod unauthenticated;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::spare::FreeSpare;
use crate::realm::protocol::new_realm;
use crate::realm::setting_list::Settings as _;
use crate::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, Identity, Protocol, Realm, Rejection,
    Retention, SettingError, SettingMap, SlowConsumerPolicy, TryPage,
};
use crate::toolkit::dialect::Recipient;
use crate::toolkit::heap_bytes::HeapBytes;
use crate::toolkit::proven::Proven;
use crate::toolkit::rate_limit::WINDOW;
use crate::toolkit::recently_gone::RecentlyGone;
use announcements::{Announcements, Due, Gone};
pub use codec::Decoder;
use members::{
    Member, Members, RateLimits, User, Users, broadcast_presence, set_typing, user_count_message,
};
pub use messages::{Auth, ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, Status};
use messages::{Presence, ServerMessage};
pub use options::Options;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use takeovers::PlaceClaims;
use texts::LargeTexts;
use unauthenticated::Unauthenticated;

/// Shortest time between two `userCount` broadcasts. Changes in between are gathered into one.
const USER_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The room of one listener.
pub struct Workspace {
    options: Options,
    members: Members,
    users: Users,
    /// Rate limits of users that disconnected during the last minute, so that reconnecting does not
    /// reset them.
    recently_gone: RecentlyGone<String, RateLimits>,
    /// Clients that wait for a place among the connections of a username.
    claims: PlaceClaims,
    /// Clients that have to send a token and have not sent one yet.
    unauthenticated: BTreeMap<ConnectionId, Box<Unauthenticated>>,
    /// Keys of the users whose token holders have gone. Others cannot have their names.
    proven: Proven<String>,
    announcements: Announcements,
    large_texts: LargeTexts,
    /// Memory of the rate limits of the users online, counted once a second.
    online_bytes: usize,
    last_user_id: u64,
    last_message_id: u64,
    /// Number of messages that were refused with `RATE_LIMITED`.
    rate_limited: u64,
    user_count: UserCount,
}

/// State of the `userCount` broadcasts.
#[derive(Default)]
struct UserCount {
    last_sent: Option<Duration>,
    /// Whether a user connected or disconnected since then.
    has_changed: bool,
}

/// Path that a client connects to.
const ENDPOINT: &str = "/ws";

/// Workspace as the daemon sees it.
pub static PROTOCOL: Protocol = Protocol {
    name: "workspace",
    endpoint: |_| ENDPOINT.to_owned(),
    listener_defaults: || json!({"address": "localhost:4000", "handshake_timeout": 30, "max_message_size": 1 << 20}),
    options: Options::list,
    close_reasons: close_reasons::ALL,
    slow_consumer_policy: SlowConsumerPolicy::Disconnect,
    min_outbox_messages: 2,
    methods: &[],
    full_message: None,
    matches_path: |path| path == ENDPOINT,
    client_id: |_| None,
    token_parameter: None,
    try_page: Some(TryPage {
        title: "Workspace",
        path: |_| "/".to_owned(),
        html: include_str!("try.html"),
        script: include_str!("try.js"),
        options: &[],
    }),
    new_decoder: |tokens| {
        let mut decoder = Decoder::new(tokens);
        Box::new(move |message| Some(Command::new(decoder.decode(message))))
    },
    new_realm: new_realm::<Workspace>,
};

impl Realm for Workspace {
    fn new(options: &SettingMap) -> Result<Self, Vec<SettingError>> {
        let options = Options::from_map(options)?;
        let interval = options.announcement_interval.duration();
        Ok(Self {
            announcements: Announcements::new(options.announcements_per_second, interval),
            options,
            members: Members::default(),
            users: BTreeMap::new(),
            recently_gone: RecentlyGone::default(),
            claims: PlaceClaims::default(),
            unauthenticated: BTreeMap::new(),
            proven: Proven::default(),
            large_texts: LargeTexts::default(),
            online_bytes: 0,
            last_user_id: 0,
            last_message_id: 0,
            rate_limited: 0,
            user_count: UserCount::default(),
        })
    }

    fn reconfigure(
        &mut self,
        cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        self.options = Options::from_map(options)?;
        let interval = self.options.announcement_interval.duration();
        self.announcements
            .set_limits(self.options.announcements_per_second, interval);
        // A budget that has become larger lets more of what waits pass.
        self.announce(cx);
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        &PROTOCOL
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection> {
        self.proven.forget_unprovable(&request.access);
        let requested = request.parameter("username").unwrap_or_default();
        let requested = self.sanitize_username(&requested);
        self.open_with(cx, conn, &request.access, requested)
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        let incoming: Incoming = command.into();
        self.broadcast_due_texts(cx);
        if self.unauthenticated.contains_key(&conn) {
            self.handle_unauthenticated(cx, conn, incoming);
            return;
        }
        let before = self.members.record_message(cx.now, conn, incoming.dialect);
        let Some(before) = before else {
            return;
        };
        let recipient = Recipient {
            dialect: incoming.dialect,
            ..before
        };
        if let Err(error) = self.handle(cx, recipient, incoming.message) {
            self.rate_limited += u64::from(error.code == ErrorCode::RateLimited);
            error.send(cx, recipient);
        }
        let count_was_sent = self.broadcast_user_count(cx);
        // Before its first message the connection counted as one of the document's dialect, which has no
        // `userCount`.
        if recipient != before && !count_was_sent {
            recipient.send(cx, &user_count_message(&self.users));
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _reason: DisconnectReason) {
        self.claims.remove(conn);
        self.unauthenticated.remove(&conn);
        if let Some(key) = self.remove_member(cx, conn) {
            self.settle_claims(cx, key);
        }
        self.announce(cx);
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        self.handle_probe_result(cx, conn, alive);
        self.announce(cx);
    }

    fn stored_bytes(&self) -> usize {
        let waiting = self.large_texts.bytes() + self.announcements.bytes();
        waiting + self.recently_gone.bytes() + self.online_bytes + self.proven.bytes()
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        let Some(member) = self.members.get(conn) else {
            return 0;
        };
        let user = self.users.get(&member.user);
        member.waiting_bytes + user.map_or(0, |user| user.rate_limits.heap_bytes())
    }

    fn figures(&self) -> Figures {
        Figures {
            sizes: vec![
                ("members", self.members.len()),
                ("users", self.users.len()),
                ("users_gone", self.recently_gone.len()),
                ("claims", self.claims.len()),
                ("waiting_texts", self.large_texts.len()),
                ("unauthenticated", self.unauthenticated.len()),
            ],
            rate_limited: self.rate_limited,
        }
    }

    fn identity(&self, conn: ConnectionId) -> Identity {
        let member = self.members.get(conn);
        let user = member.and_then(|member| self.users.get(&member.user));
        Identity {
            name: user.map(|user| user.name.clone()),
            id: user.map(|user| user.id.clone().into()),
        }
    }

    /// Forgets users that are gone; the document does not promise to remember them. That a name is a token holder's is
    /// promised.
    fn shed(&mut self, _: &mut Context, retention: Retention, bytes: usize) -> usize {
        match retention {
            Retention::BestEffort => self.recently_gone.shed(bytes, |_| false),
            Retention::Promised => 0,
            Retention::Identity => self.proven.shed(bytes),
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        let users = self.users.values();
        self.online_bytes = users.map(|user| user.rate_limits.heap_bytes()).sum();
        while self.recently_gone.pop_expired(cx.now, WINDOW).is_some() {}
        self.broadcast_due_texts(cx);
        self.close_idle(cx);
        self.close_unauthenticated(cx);
        // Before the announcements, which may use up the budget of this second.
        self.broadcast_user_count(cx);
        self.announce(cx);
    }

    fn free_spare(&mut self) {
        let Self {
            members,
            users,
            recently_gone,
            claims,
            unauthenticated,
            proven,
            announcements,
            large_texts,
            options: _,
            online_bytes: _,
            last_user_id: _,
            last_message_id: _,
            rate_limited: _,
            user_count: _,
        } = self;
        members.free_spare();
        users.free_spare();
        recently_gone.free_spare();
        claims.free_spare();
        unauthenticated.free_spare();
        proven.free_spare();
        announcements.free_spare();
        large_texts.free_spare();
    }
}

impl Workspace {
    /// Closes the connections that have been idle for `idle_timeout`.
    fn close_idle(&mut self, cx: &mut Context) {
        let idle_timeout = self.options.idle_timeout.duration();
        if idle_timeout.is_zero() {
            return;
        }
        let is_idle = |member: &&Member| {
            // A member whose large text waits is not read from, and has no chance to be active.
            let is_waiting = member.waiting_bytes > 0;
            let conn = member.recipient().connection;
            let since = cx.silent_since(conn, self.members.last_activity(member));
            !is_waiting && cx.now >= since + idle_timeout
        };
        let idle = self.members.iter().filter(is_idle);
        let idle: Vec<_> = idle.map(|member| member.recipient().connection).collect();
        let take = |conn| self.members.remove(conn).map(|member| (conn, member));
        let idle: Vec<_> = idle.into_iter().filter_map(take).collect();
        // All idle members are removed before the first broadcast, so that the end of a quiet room sends
        // nothing to connections that are closed with it.
        for (conn, member) in idle {
            cx.close(conn, CloseReason::TIMED_OUT);
            self.claims.remove(conn);
            self.detach(cx, &member);
            self.settle_claims(cx, member.user);
        }
    }

    /// Handles a message; an error is for its sender.
    fn handle(
        &mut self,
        cx: &mut Context,
        sender: Recipient<Dialect>,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let conn = sender.connection;
        let signal_limit = self.options.signals_per_minute;
        match message {
            ClientMessage::Send { text, reply_to } => self.handle_send(cx, conn, text, reply_to),
            ClientMessage::Presence(status) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.rate_limits.count_signal(cx.now, signal_limit)?;
                broadcast_presence(&mut self.members, cx, user, status);
                if status != Status::Offline {
                    self.announcements.reveal(&user.key);
                }
                Ok(())
            }
            ClientMessage::Typing(is_typing) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.rate_limits.count_signal(cx.now, signal_limit)?;
                set_typing(&mut self.members, cx, user, conn, is_typing);
                Ok(())
            }
            ClientMessage::Auth(auth) => {
                if self.handle_auth(cx, conn, auth)? {
                    sender.send(cx, &ServerMessage::AuthAck { ok: true });
                }
                Ok(())
            }
            ClientMessage::Invalid(error) => Err(error),
        }
    }

    /// Announces the comings and goings that are due, and the number of users.
    fn announce(&mut self, cx: &mut Context) {
        self.announce_presence(cx);
        self.broadcast_user_count(cx);
    }

    /// Announces the comings and goings that are due.
    fn announce_presence(&mut self, cx: &mut Context) {
        let is_empty = self.members.is_empty();
        while let Some(due) = self.announcements.pop_due(cx.now, is_empty) {
            let deliveries = match due {
                Due::Online(key) => self.users.get(&key).map_or(0, |user| {
                    broadcast_presence(&mut self.members, cx, user, Status::Online)
                }),
                Due::Offline(Gone { id, name }) => {
                    let data = Presence {
                        user_id: &id,
                        username: &name,
                        status: Status::Offline,
                    };
                    let message = ServerMessage::Presence { data };
                    self.members.broadcast(cx, &[], &message)
                }
            };
            self.announcements.charge(deliveries);
        }
    }

    /// Broadcasts a `userCount` if the users have changed and the last one is long enough ago. Returns
    /// whether it did.
    fn broadcast_user_count(&mut self, cx: &mut Context) -> bool {
        let last_sent = self.user_count.last_sent;
        let is_early = last_sent.is_some_and(|last_sent| cx.now < last_sent + USER_COUNT_INTERVAL);
        let is_due = self.user_count.has_changed && !is_early;
        if !is_due || !self.announcements.has_budget(cx.now) {
            return false;
        }
        self.user_count = UserCount {
            last_sent: Some(cx.now),
            has_changed: false,
        };
        let message = user_count_message(&self.users);
        let deliveries = self.members.broadcast(cx, &[], &message);
        self.announcements.charge(deliveries);
        true
    }
}

/// Returns the user of a member. It borrows single fields of the realm, so that a caller can broadcast while
/// it holds the user.
fn user_of<'a>(members: &Members, users: &'a mut Users, conn: ConnectionId) -> &'a mut User {
    let member = members.get(conn);
    let user = member.and_then(|member| users.get_mut(&member.user));
    user.expect("a connection sends messages only while it is a member, and each member has a user")
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
