//! A harness that runs a realm without sockets, with a clock that the test moves and with ids in a known
//! order.
//!
//! It keeps the broker's guarantees: `close` is called once for each connection that closes, and a closed
//! connection receives nothing more. The effects of a call are returned as lines: `2 < text` for a frame to
//! connection 2, `2 x 4404 no such session` for a Close, and `2 ? 5 s` for a probe with that timeout.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::realm::{
    ConnectRequest, ConnectionId, Connections, Context, Effect, HttpReply, Ids, Message, Method,
    Realm, Receipt, Rejection, Request, Retention,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};
use uuid::{Builder, Uuid};

/// A realm with simulated connections.
pub struct RealmHarness<R: Realm> {
    pub realm: R,
    pub now: Duration,
    ids: DeterministicIds,
    open: BTreeSet<ConnectionId>,
    decoders: BTreeMap<ConnectionId, R::Decoder>,
    /// Connections whose outbox is full.
    full: BTreeSet<ConnectionId>,
    round_trip_times: RoundTripTimes,
}

#[derive(Default)]
struct RoundTripTimes(BTreeMap<ConnectionId, Duration>);

impl Connections for RoundTripTimes {
    fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.0.get(&conn).copied()
    }
}

/// Returns no lines, for assertions that a call had no effects.
pub fn no_lines() -> Vec<String> {
    Vec::new()
}

/// The wall-clock time at which a harness starts, since the Unix epoch: 2026-01-16T10:00:00.000Z.
pub const START: Duration = Duration::from_millis(1_768_557_600_000);

impl<R: Realm> RealmHarness<R> {
    /// Creates a harness with an empty realm. Options are given as in the configuration; the others have
    /// their defaults.
    pub fn new(options: serde_json::Value) -> Self {
        let mut all = serde_json::to_value(R::Options::default()).expect("options are JSON");
        for (key, value) in options.as_object().expect("options are an object") {
            all[key] = value.clone();
        }
        let options = serde_json::from_value(all).expect("options are of the right types");
        let realm = R::new(options).unwrap_or_else(|problem| panic!("{problem:?}"));
        Self {
            realm,
            now: Duration::ZERO,
            ids: DeterministicIds::default(),
            open: BTreeSet::new(),
            decoders: BTreeMap::new(),
            full: BTreeSet::new(),
            round_trip_times: RoundTripTimes::default(),
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

    /// Opens a connection, unless the realm rejects it by an HTTP status.
    pub fn try_open(
        &mut self,
        conn: u64,
        target: &str,
        address: &str,
    ) -> Result<Vec<String>, Rejection> {
        let request = connect_request(target, address);
        let conn = ConnectionId(conn);
        self.open.insert(conn);
        let mut rejection = None;
        let lines = self.run(|realm, cx| rejection = realm.open(cx, conn, request).err());
        match rejection {
            None => Ok(lines),
            Some(rejection) => {
                assert_eq!(lines, no_lines(), "a rejection has no other effect");
                self.open.remove(&conn);
                Err(rejection)
            }
        }
    }

    /// Sends a plain GET request.
    pub fn get(&mut self, target: &str) -> HttpReply {
        self.requests(Method::Get, target, "")
    }

    /// Sends a plain POST request.
    pub fn post(&mut self, target: &str, body: &str) -> HttpReply {
        self.requests(Method::Post, target, body)
    }

    fn requests(&mut self, method: Method, target: &str, body: &str) -> HttpReply {
        let request = Request {
            connect: connect_request(target, "127.0.0.1"),
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
        let decoder = self.decoders.entry(ConnectionId(conn)).or_default();
        match R::decode(decoder, message) {
            Some(command) => self.command(conn, command),
            None => no_lines(),
        }
    }

    /// Passes a command of a client to the realm without decoding a message.
    pub fn command(&mut self, conn: u64, command: R::Command) -> Vec<String> {
        let conn = ConnectionId(conn);
        assert!(self.open.contains(&conn), "{conn:?} is not connected");
        self.run(|realm, cx| realm.command(cx, conn, command))
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, conn: u64, reason: DisconnectReason) -> Vec<String> {
        let conn = ConnectionId(conn);
        assert!(self.open.remove(&conn), "{conn:?} is not connected");
        self.run(|realm, cx| realm.close(cx, conn, reason))
    }

    /// Reports that a probed connection gave a sign of life.
    pub fn answer_probe(&mut self, conn: u64) -> Vec<String> {
        self.run(|realm, cx| realm.probe_result(cx, ConnectionId(conn), true))
    }

    /// Reports that a probed connection gave no sign of life.
    pub fn fail_probe(&mut self, conn: u64) -> Vec<String> {
        self.run(|realm, cx| realm.probe_result(cx, ConnectionId(conn), false))
    }

    /// Marks a connection's outbox as full from now on.
    pub fn fill_outbox(&mut self, conn: u64) {
        self.full.insert(ConnectionId(conn));
    }

    /// Sets a connection's round-trip time from now on.
    pub fn set_rtt(&mut self, conn: u64, rtt: Duration) {
        self.round_trip_times.0.insert(ConnectionId(conn), rtt);
    }

    /// Returns the open connections.
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
        let mut effects = Vec::new();
        self.with_context(&mut effects, first);
        let mut next = 0;
        while let Some(effect) = effects.get(next).cloned() {
            next += 1;
            match effect {
                Effect::Send(to, frame) => {
                    if !self.deliver(&mut lines, to, &frame) {
                        self.close(&mut lines, &mut effects, to, CloseReason::TooSlow);
                    }
                }
                Effect::Deliver(to, frame, receipt) => {
                    let Receipt {
                        to: sender,
                        delivered,
                        failed,
                    } = *receipt;
                    let receipt = if self.deliver(&mut lines, to, &frame) {
                        delivered
                    } else {
                        failed
                    };
                    effects.splice(next..next, receipt.map(|frame| Effect::Send(sender, frame)));
                }
                Effect::Close(conn, reason) => self.close(&mut lines, &mut effects, conn, reason),
                Effect::Probe(conn, timeout) if self.open.contains(&conn) => {
                    lines.push(format!("{} ? {} s", conn.0, timeout.as_secs_f64()));
                }
                Effect::Probe(..) => {}
            }
        }
        lines
    }

    fn with_context(&mut self, effects: &mut Vec<Effect>, call: impl FnOnce(&mut R, &mut Context)) {
        let wall = SystemTime::UNIX_EPOCH + START + self.now;
        let (round_trip_times, ids) = (&self.round_trip_times, &mut self.ids);
        call(
            &mut self.realm,
            &mut Context::new(self.now, wall, round_trip_times, ids, effects),
        );
    }

    fn deliver(&self, lines: &mut Vec<String>, to: ConnectionId, frame: &Frame) -> bool {
        let has_room = self.open.contains(&to) && !self.full.contains(&to);
        if has_room {
            lines.push(format!("{} < {}", to.0, frame.as_text().expect("text")));
        }
        has_room
    }

    fn close(
        &mut self,
        lines: &mut Vec<String>,
        effects: &mut Vec<Effect>,
        conn: ConnectionId,
        reason: CloseReason,
    ) {
        if self.open.remove(&conn) {
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
        address: address.parse().expect("an IP address"),
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
