//! A harness that runs a realm without sockets, with a clock that the test moves and with ids in a known
//! order.
//!
//! It keeps the broker's guarantees: `close` is called once for each connection that closes, and a closed
//! connection receives nothing more. The effects of a call are returned as lines: `2 < text` for a frame to
//! connection 2, `2 x 4404 no such session` for a Close, `2 ? 5 s` for a probe with that timeout, `2 ~ deferred`,
//! `2 ~ admitted` and `2 ~ rejected 429` for an open that is deferred, `2 ~ paused` and `2 ~ resumed`, and
//! `2 ~ expires at 1768557660` and `2 ~ never expires` for the end of a client's token.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::ClientAddress;
use crate::realm::{
    Access, Claims, Command, ConnectRequest, ConnectionId, Connections, Context, DecodeFn, Effect,
    HttpReply, Ids, Message, Method, Protocol, Realm, Rejection, Request, Retention, SettingMap,
    TokenError, TokenReader,
};
use crate::toolkit::jwt::{self, Secret, Verifier};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use uuid::{Builder, Uuid};

/// A realm with simulated connections.
pub struct RealmHarness<R: Realm + ?Sized = dyn Realm> {
    pub realm: Box<R>,
    pub now: Duration,
    ids: DeterministicIds,
    open: BTreeSet<ConnectionId>,
    decoders: BTreeMap<ConnectionId, DecodeFn>,
    /// What reads the tokens in the messages of connections that have not sent any yet.
    pub tokens: Arc<dyn TokenReader>,
    facts: Facts,
    /// Connections whose open is deferred.
    deferred: BTreeSet<ConnectionId>,
    /// Paused connections, each with the commands that it has sent since.
    paused: BTreeMap<ConnectionId, Vec<Command>>,
}

/// What a realm can learn about connections.
#[derive(Default)]
struct Facts {
    round_trip_times: BTreeMap<ConnectionId, Duration>,
    /// Time of the last message, or of the answer to a probe, of each connection.
    last_activity: BTreeMap<ConnectionId, Duration>,
    /// Connections whose outbox is full.
    full: BTreeSet<ConnectionId>,
    /// Connections that are not read, or were not, with the last such time.
    read_since: BTreeMap<ConnectionId, Duration>,
}

impl Connections for Facts {
    fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.round_trip_times.get(&conn).copied()
    }

    fn last_activity(&self, conn: ConnectionId) -> Option<Duration> {
        self.last_activity.get(&conn).copied()
    }

    fn can_deliver(&self, conn: ConnectionId, _: &Frame) -> bool {
        // A connection has an entry while it is open.
        self.last_activity.contains_key(&conn) && !self.full.contains(&conn)
    }

    fn read_since(&self, conn: ConnectionId) -> Duration {
        self.read_since.get(&conn).copied().unwrap_or_default()
    }
}

/// A listener that reads no tokens.
struct NoTokens;

impl TokenReader for NoTokens {
    fn is_reading(&self) -> bool {
        false
    }

    fn read(&self, _: &str) -> Option<Result<Claims, TokenError>> {
        None
    }
}

/// The secret of the tokens of tests.
const SECRET: &[u8] = b"a secret of the tests, 32 bytes and more";

/// Returns the reader of a listener that reads no tokens.
pub fn no_tokens() -> Arc<dyn TokenReader> {
    Arc::new(NoTokens)
}

/// Returns the reader of a listener that reads the tokens that [`token`] makes.
pub fn test_tokens() -> Arc<dyn TokenReader> {
    Arc::new(Verifier {
        secrets: vec![Secret::new(SECRET)],
        audience: None,
    })
}

/// Returns a signed token with these claims.
pub fn token(claims: &serde_json::Value) -> String {
    jwt::sign(claims, &Secret::new(SECRET))
}

/// Returns what a client shows that has a token with these claims in its request, or none, to a listener that demands one,
/// or does not.
pub fn access(is_required: bool, claims: Option<serde_json::Value>) -> Access {
    let token = claims.and_then(|claims| test_tokens().read(&token(&claims)));
    Access {
        are_tokens_read: true,
        is_required,
        token,
    }
}

/// Returns no lines, for assertions that a call had no effects.
pub fn no_lines() -> Vec<String> {
    Vec::new()
}

/// Returns the JSON messages in these lines that a connection was sent.
pub fn sent_to(lines: &[String], conn: u64) -> Vec<serde_json::Value> {
    let prefix = format!("{conn} < ");
    let texts = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    texts
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

/// Returns those of a type.
pub fn sent_of_type(lines: &[String], conn: u64, kind: &str) -> Vec<serde_json::Value> {
    let mut messages = sent_to(lines, conn);
    messages.retain(|message| message["type"] == kind);
    messages
}

/// The wall-clock time at which a harness starts, since the Unix epoch: 2026-01-16T10:00:00.000Z.
pub const START: Duration = Duration::from_millis(1_768_557_600_000);

impl RealmHarness {
    /// Creates a harness with an empty realm of a protocol, with default options.
    pub fn of(protocol: &Protocol) -> Self {
        let realm = (protocol.new_realm)(&SettingMap::new());
        Self::with_realm(realm.unwrap_or_else(|problem| panic!("{problem:?}")))
    }
}

impl<R: Realm> RealmHarness<R> {
    /// Creates a harness with an empty realm. Options are given as in the configuration; the others have
    /// their defaults.
    pub fn new(options: serde_json::Value) -> Self {
        let options = options.as_object().expect("options are an object");
        let realm = R::new(options).unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_known(options, realm.protocol());
        Self::with_realm(Box::new(realm))
    }

    /// Returns the key of the option because of which no realm is created.
    pub fn invalid_option(options: serde_json::Value) -> String {
        let options = options.as_object().expect("options are an object");
        let realm = R::new(&SettingMap::new()).unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_known(options, realm.protocol());
        let mut errors = R::new(options).err().expect("an invalid option");
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0).key
    }
}

/// Asserts that the protocol has all of the options. A realm ignores the others, so that a test with a misspelt one
/// would pass with the default.
fn assert_known(options: &SettingMap, protocol: &Protocol) {
    let known = (protocol.options)();
    for key in options.keys() {
        let is_known = known.iter().any(|setting| setting.name == key);
        assert!(is_known, "{} has no option {key}", protocol.name);
    }
}

impl<R: Realm + ?Sized> RealmHarness<R> {
    fn with_realm(realm: Box<R>) -> Self {
        Self {
            realm,
            now: Duration::ZERO,
            ids: DeterministicIds::default(),
            open: BTreeSet::new(),
            decoders: BTreeMap::new(),
            tokens: no_tokens(),
            facts: Facts::default(),
            deferred: BTreeSet::new(),
            paused: BTreeMap::new(),
        }
    }

    /// Opens a connection from localhost, which must not be rejected by an HTTP status.
    pub fn open(&mut self, conn: u64, target: &str) -> Vec<String> {
        self.open_from(conn, target, "127.0.0.1")
    }

    /// Opens a connection from `address`, which must not be rejected by an HTTP status.
    pub fn open_from(&mut self, conn: u64, target: &str, address: &str) -> Vec<String> {
        self.try_open(conn, target, address)
            .expect("no rejection by an HTTP status")
    }

    /// Opens a connection of a client that shows this to a listener that reads tokens; it must not be rejected by an HTTP
    /// status.
    pub fn open_with(&mut self, conn: u64, target: &str, access: Access) -> Vec<String> {
        self.try_open_with(conn, target, "127.0.0.1", access)
            .expect("no rejection by an HTTP status")
    }

    /// Opens a connection, unless the realm rejects it by an HTTP status.
    pub fn try_open(
        &mut self,
        conn: u64,
        target: &str,
        address: &str,
    ) -> Result<Vec<String>, Rejection> {
        self.try_open_with(conn, target, address, Access::default())
    }

    /// Opens a connection of a client that shows this to a listener that reads tokens, unless the realm rejects it by an
    /// HTTP status.
    pub fn try_open_with(
        &mut self,
        conn: u64,
        target: &str,
        address: &str,
        access: Access,
    ) -> Result<Vec<String>, Rejection> {
        let request = ConnectRequest {
            access,
            ..connect_request(target, address)
        };
        let conn = ConnectionId(conn);
        self.open.insert(conn);
        self.record_activity(conn);
        let mut rejection = None;
        let lines = self.run(|realm, cx| rejection = realm.open(cx, conn, request).err());
        match rejection {
            None => Ok(lines),
            Some(rejection) => {
                assert_eq!(lines, no_lines(), "a rejection has no other effect");
                self.open.remove(&conn);
                self.facts.last_activity.remove(&conn);
                Err(rejection)
            }
        }
    }

    /// Sends a plain GET request.
    pub fn get(&mut self, target: &str) -> HttpReply {
        self.get_with(target, Access::default())
    }

    /// Sends a plain GET request of a client that shows this to a listener that reads tokens.
    pub fn get_with(&mut self, target: &str, access: Access) -> HttpReply {
        self.request(Method::Get, target, access, "")
    }

    /// Sends a plain POST request.
    pub fn post(&mut self, target: &str, body: &str) -> HttpReply {
        self.request(Method::Post, target, Access::default(), body)
    }

    fn request(&mut self, method: Method, target: &str, access: Access, body: &str) -> HttpReply {
        let request = Request {
            connect: ConnectRequest {
                access,
                ..connect_request(target, "127.0.0.1")
            },
            method,
            body: body.into(),
        };
        let mut reply = None;
        let lines = self.run(|realm, cx| reply = Some(realm.request(cx, &request)));
        assert_eq!(lines, no_lines(), "a plain request has no effects");
        reply.expect("the realm was called")
    }

    /// Sends a text message from a client.
    pub fn send(&mut self, conn: u64, text: &str) -> Vec<String> {
        self.send_message(conn, Message::Text(text.into()))
    }

    /// Sends a message from a client.
    pub fn send_message(&mut self, conn: u64, message: Message) -> Vec<String> {
        self.record_activity(ConnectionId(conn));
        let new_decoder = self.realm.protocol().new_decoder;
        let decode = self
            .decoders
            .entry(ConnectionId(conn))
            .or_insert_with(|| new_decoder(&self.tokens));
        match decode(message) {
            Some(command) => self.command(conn, command),
            None => no_lines(),
        }
    }

    /// Passes a command of a client to the realm without decoding a message.
    pub fn command(&mut self, conn: u64, command: Command) -> Vec<String> {
        let conn = ConnectionId(conn);
        assert!(self.open.contains(&conn), "{conn:?} is not connected");
        assert!(!self.deferred.contains(&conn), "{conn:?} is not admitted");
        if let Some(commands) = self.paused.get_mut(&conn) {
            commands.push(command);
            return no_lines();
        }
        self.record_activity(conn);
        self.run(|realm, cx| realm.command(cx, conn, command))
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, conn: u64, reason: DisconnectReason) -> Vec<String> {
        let conn = ConnectionId(conn);
        assert!(self.open.remove(&conn), "{conn:?} is not connected");
        self.deferred.remove(&conn);
        self.paused.remove(&conn);
        self.facts.last_activity.remove(&conn);
        self.run(|realm, cx| realm.close(cx, conn, reason))
    }

    /// Reports that a probed connection gave a sign of life.
    pub fn answer_probe(&mut self, conn: u64) -> Vec<String> {
        self.record_activity(ConnectionId(conn));
        self.run(|realm, cx| realm.probe_result(cx, ConnectionId(conn), true))
    }

    /// Reports that a probed connection gave no sign of life.
    pub fn fail_probe(&mut self, conn: u64) -> Vec<String> {
        self.run(|realm, cx| realm.probe_result(cx, ConnectionId(conn), false))
    }

    /// Records that a connection gave a sign of life.
    fn record_activity(&mut self, conn: ConnectionId) {
        if self.open.contains(&conn) {
            self.facts.last_activity.insert(conn, self.now);
        }
    }

    /// Marks a connection's outbox as full from now on.
    pub fn fill_outbox(&mut self, conn: u64) {
        self.facts.full.insert(ConnectionId(conn));
    }

    /// Marks a connection's outbox as empty from now on.
    pub fn drain_outbox(&mut self, conn: u64) {
        self.facts.full.remove(&ConnectionId(conn));
    }

    /// Sets a connection's round-trip time from now on.
    pub fn set_rtt(&mut self, conn: u64, rtt: Duration) {
        self.facts.round_trip_times.insert(ConnectionId(conn), rtt);
    }

    /// Lets time pass in which the server does not read from a connection, and calls `tick` at its end.
    pub fn advance_unread(&mut self, conn: u64, time: Duration) -> Vec<String> {
        self.facts
            .read_since
            .insert(ConnectionId(conn), self.now + time);
        self.advance(time)
    }

    /// Returns whether a connection is paused.
    pub fn is_paused(&self, conn: u64) -> bool {
        self.paused.contains_key(&ConnectionId(conn))
    }

    /// Returns the open connections, those whose open is deferred included.
    pub fn open_connections(&self) -> impl Iterator<Item = u64> {
        self.open.iter().map(|conn| conn.0)
    }

    /// Has the realm give up stored data, as the broker does when memory is short. Returns the bytes freed, and
    /// the lines.
    pub fn shed(&mut self, retention: Retention, bytes: usize) -> (usize, Vec<String>) {
        let mut freed = 0;
        let lines = self.run(|realm, cx| freed = realm.shed(cx, retention, bytes));
        (freed, lines)
    }

    /// Changes the options. They are given as in the configuration; the others have their defaults.
    pub fn reconfigure(&mut self, options: serde_json::Value) -> Vec<String> {
        let options = options.as_object().expect("options are an object");
        assert_known(options, self.realm.protocol());
        let mut result = Ok(());
        let lines = self.run(|realm, cx| result = realm.reconfigure(cx, options));
        result.unwrap_or_else(|problem| panic!("{problem:?}"));
        lines
    }

    /// Shuts the realm down.
    pub fn stop(&mut self) -> Vec<String> {
        self.run(|realm, cx| realm.stop(cx))
    }

    /// Moves the clock, then calls `tick`.
    pub fn advance(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.run(|realm, cx| realm.tick(cx))
    }

    /// Makes the next id equal to the last one.
    pub fn repeat_last_id(&mut self) {
        self.ids.count -= 1;
    }

    /// Makes a call to the realm and applies its effects, and theirs, until none is left. Returns them as
    /// lines.
    fn run(&mut self, first: impl FnOnce(&mut R, &mut Context)) -> Vec<String> {
        let mut lines = Vec::new();
        let mut resumed = Vec::new();
        self.call(&mut lines, &mut resumed, first);
        while !resumed.is_empty() {
            let (conn, command) = resumed.remove(0);
            if let Some(commands) = self.paused.get_mut(&conn) {
                commands.push(command);
            } else if self.open.contains(&conn) {
                self.call(&mut lines, &mut resumed, |realm, cx| {
                    realm.command(cx, conn, command);
                });
            }
        }
        lines
    }

    /// Makes one call, and appends the held commands of the connections that it resumes to `resumed`.
    fn call(
        &mut self,
        lines: &mut Vec<String>,
        resumed: &mut Vec<(ConnectionId, Command)>,
        call: impl FnOnce(&mut R, &mut Context),
    ) {
        let mut effects = Vec::new();
        self.with_context(&mut effects, call);
        let mut next = 0;
        while let Some(effect) = effects.get(next).cloned() {
            next += 1;
            match effect {
                Effect::Send(to, frame) => {
                    if !self.deliver(lines, to, &frame) {
                        self.close(lines, &mut effects, to, CloseReason::TOO_SLOW);
                    }
                }
                Effect::Broadcast { to, except, frame } => {
                    let recipients = to.iter().filter(|to| !except.contains(to));
                    for to in recipients {
                        if !self.deliver(lines, to, &frame) {
                            self.close(lines, &mut effects, to, CloseReason::TOO_SLOW);
                        }
                    }
                }
                Effect::Deliver(to, frame) => {
                    self.deliver(lines, to, &frame);
                }
                Effect::Close(conn, reason) => self.close(lines, &mut effects, conn, reason),
                Effect::Probe(conn, timeout) if self.open.contains(&conn) => {
                    lines.push(format!("{} ? {} s", conn.0, timeout.as_secs_f64()));
                }
                Effect::Probe(..) => {}
                Effect::ExpireAt(conn, end) if self.open.contains(&conn) => lines.push(match end {
                    Some(end) => format!("{} ~ expires at {}", conn.0, end.as_secs_f64()),
                    None => format!("{} ~ never expires", conn.0),
                }),
                Effect::ExpireAt(..) => {}
                Effect::ResumeReading(conn) => {
                    if let Some(commands) = self.paused.remove(&conn) {
                        lines.push(format!("{} ~ resumed", conn.0));
                        self.record_activity(conn);
                        resumed.extend(commands.into_iter().map(|command| (conn, command)));
                    }
                }
                effect => lines.extend(self.apply_to_reading(&effect)),
            }
        }
    }

    /// Applies an effect that has to do with the opening of a connection, or pauses it. Returns the line.
    fn apply_to_reading(&mut self, effect: &Effect) -> Option<String> {
        match *effect {
            Effect::Defer(conn) if self.open.contains(&conn) => {
                self.deferred.insert(conn);
                Some(format!("{} ~ deferred", conn.0))
            }
            Effect::Admit(conn) if self.deferred.remove(&conn) => {
                self.record_activity(conn);
                Some(format!("{} ~ admitted", conn.0))
            }
            Effect::Reject(conn, rejection) if self.deferred.remove(&conn) => {
                self.open.remove(&conn);
                Some(format!("{} ~ rejected {}", conn.0, rejection.status))
            }
            Effect::PauseReading(conn)
                if self.open.contains(&conn) && !self.paused.contains_key(&conn) =>
            {
                self.paused.insert(conn, Vec::new());
                Some(format!("{} ~ paused", conn.0))
            }
            _ => None,
        }
    }

    fn with_context(&mut self, effects: &mut Vec<Effect>, call: impl FnOnce(&mut R, &mut Context)) {
        let wall = SystemTime::UNIX_EPOCH + START + self.now;
        let (facts, ids) = (&self.facts, &mut self.ids);
        call(
            &mut self.realm,
            &mut Context::new(self.now, wall, facts, ids, effects),
        );
    }

    fn deliver(&self, lines: &mut Vec<String>, to: ConnectionId, frame: &Frame) -> bool {
        let has_capacity = self.open.contains(&to) && !self.facts.full.contains(&to);
        if has_capacity {
            lines.push(format!("{} < {}", to.0, frame.as_text().expect("text")));
        }
        has_capacity
    }

    fn close(
        &mut self,
        lines: &mut Vec<String>,
        effects: &mut Vec<Effect>,
        conn: ConnectionId,
        reason: CloseReason,
    ) {
        let protocol = self.realm.protocol();
        let is_listed =
            CloseReason::COMMON.contains(&reason) || protocol.close_reasons.contains(&reason);
        assert!(is_listed, "{} does not list {reason:?}", protocol.name);
        if self.open.remove(&conn) {
            self.deferred.remove(&conn);
            self.paused.remove(&conn);
            self.facts.last_activity.remove(&conn);
            lines.push(format!(
                "{} x {} {}",
                conn.0,
                reason.code(),
                reason.reason()
            ));
            self.with_context(effects, |realm, cx| {
                realm.close(cx, conn, DisconnectReason::Closed(reason));
            });
        }
    }
}

fn connect_request(target: &str, address: &str) -> ConnectRequest {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    ConnectRequest {
        path: path.to_owned(),
        query: query.to_owned(),
        address: match address {
            "unix" => ClientAddress::Unix,
            ip => ip.parse::<IpAddr>().expect("an IP address").into(),
        },
        access: Access::default(),
    }
}

/// Pseudo-random ids that are the same in each run.
#[derive(Default)]
struct DeterministicIds {
    /// Number of ids so far.
    count: u64,
}

impl Ids for DeterministicIds {
    fn uuid(&mut self) -> Uuid {
        // SplitMix64.
        let mix = |seed: u64| {
            let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        self.count += 1;
        let (high, low) = (mix(2 * self.count), mix(2 * self.count + 1));
        let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
