//! A desk to try a realm at: no sockets, a clock that the test moves, ids in a known order.
//!
//! It keeps the broker's promises: who is closed is told to the realm once, and gets nothing
//! more. What the realm does comes back as lines, `2 < text` for a frame to connection 2,
//! `2 x 4404 no such session` for a Close and `2 ? 5 s` for a probe with that patience.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::realm::{
    ConnectRequest, ConnectionId, Connections, Context, Effect, HttpReply, Ids, Message, Method,
    Realm, Receipt, Rejection, Request,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};
use uuid::{Builder, Uuid};

/// A realm and the world around it.
pub struct RealmHarness<R: Realm> {
    pub realm: R,
    pub now: Duration,
    ids: KnownIds,
    open: BTreeSet<ConnectionId>,
    readers: BTreeMap<ConnectionId, R::Reader>,
    /// Who has no room for anything more.
    full: BTreeSet<ConnectionId>,
    round_trips: RoundTrips,
}

#[derive(Default)]
struct RoundTrips(BTreeMap<ConnectionId, Duration>);

impl Connections for RoundTrips {
    fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.0.get(&conn).copied()
    }
}

/// No lines at all, for comparing.
pub fn no_lines() -> Vec<String> {
    Vec::new()
}

/// When the desk's clock starts: 2026-01-16T10:00:00.000Z.
pub const START: Duration = Duration::from_millis(1_768_557_600_000);

impl<R: Realm> RealmHarness<R> {
    /// A desk with an empty realm; options as in the configuration, the others at their defaults.
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
            ids: KnownIds::default(),
            open: BTreeSet::new(),
            readers: BTreeMap::new(),
            full: BTreeSet::new(),
            round_trips: RoundTrips::default(),
        }
    }

    /// Somebody comes in from localhost and is not refused by an HTTP status.
    pub fn opens(&mut self, conn: u64, target: &str) -> Vec<String> {
        self.opens_from(conn, target, "127.0.0.1")
    }

    /// Somebody comes in from elsewhere.
    pub fn opens_from(&mut self, conn: u64, target: &str, address: &str) -> Vec<String> {
        self.tries_to_open(conn, target, address)
            .expect("no refusal by an HTTP status")
    }

    /// Somebody comes in, or is refused by an HTTP status.
    pub fn tries_to_open(
        &mut self,
        conn: u64,
        target: &str,
        address: &str,
    ) -> Result<Vec<String>, Rejection> {
        let hello = hello(target, address);
        let conn = ConnectionId(conn);
        self.open.insert(conn);
        let mut refused = None;
        let lines = self.act(|realm, cx| refused = realm.open(cx, conn, hello).err());
        match refused {
            None => Ok(lines),
            Some(refusal) => {
                assert_eq!(lines, no_lines(), "a refusal has no other effect");
                self.open.remove(&conn);
                Err(refusal)
            }
        }
    }

    /// Somebody asks something by a plain GET.
    pub fn asks(&mut self, target: &str) -> HttpReply {
        self.requests(Method::Get, target, "")
    }

    /// Somebody sends something by a plain POST.
    pub fn posts(&mut self, target: &str, body: &str) -> HttpReply {
        self.requests(Method::Post, target, body)
    }

    fn requests(&mut self, method: Method, target: &str, body: &str) -> HttpReply {
        let request = Request {
            hello: hello(target, "127.0.0.1"),
            method,
            body: body.into(),
        };
        let mut reply = None;
        let lines = self.act(|realm, cx| reply = Some(realm.request(cx, &request)));
        assert_eq!(lines, no_lines(), "a question changes nothing");
        reply.expect("an answer")
    }

    /// Somebody sends a text message.
    pub fn says(&mut self, conn: u64, text: &str) -> Vec<String> {
        self.sends(conn, Message::Text(text.into()))
    }

    /// Somebody sends a message.
    pub fn sends(&mut self, conn: u64, message: Message) -> Vec<String> {
        let reader = self.readers.entry(ConnectionId(conn)).or_default();
        match R::decode(reader, message) {
            Some(command) => self.wants(conn, command),
            None => no_lines(),
        }
    }

    /// Somebody wants something, however that was said.
    pub fn wants(&mut self, conn: u64, command: R::Command) -> Vec<String> {
        let conn = ConnectionId(conn);
        assert!(self.open.contains(&conn), "{conn:?} is not here");
        self.act(|realm, cx| realm.command(cx, conn, command))
    }

    /// Somebody's connection ends.
    pub fn leaves(&mut self, conn: u64, how: DisconnectReason) -> Vec<String> {
        let conn = ConnectionId(conn);
        assert!(self.open.remove(&conn), "{conn:?} is not here");
        self.act(|realm, cx| realm.close(cx, conn, how))
    }

    /// Somebody who is asked for a sign of life gives one.
    pub fn answers(&mut self, conn: u64) -> Vec<String> {
        self.act(|realm, cx| realm.probe_result(cx, ConnectionId(conn), true))
    }

    /// Somebody who is asked for a sign of life gives none.
    pub fn is_silent(&mut self, conn: u64) -> Vec<String> {
        self.act(|realm, cx| realm.probe_result(cx, ConnectionId(conn), false))
    }

    /// Somebody's outbox is full from now on.
    pub fn is_full(&mut self, conn: u64) {
        self.full.insert(ConnectionId(conn));
    }

    /// A Ping to somebody takes so long from now on.
    pub fn is_far(&mut self, conn: u64, rtt: Duration) {
        self.round_trips.0.insert(ConnectionId(conn), rtt);
    }

    /// Who is connected.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.open.iter().map(|conn| conn.0)
    }

    /// The daemon stops.
    pub fn stops(&mut self) -> Vec<String> {
        self.act(|realm, cx| realm.stop(cx))
    }

    /// Time passes, with a tick at its end.
    pub fn waits(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.act(|realm, cx| realm.tick(cx))
    }

    /// The next id will be the last one again.
    pub fn repeat_the_last_id(&mut self) {
        self.ids.drawn -= 1;
    }

    /// Does something to the realm, and then what the realm wants done, until all is quiet.
    fn act(&mut self, first: impl FnOnce(&mut R, &mut Context)) -> Vec<String> {
        let mut lines = Vec::new();
        let mut effects = Vec::new();
        self.with_context(&mut effects, first);
        let mut at = 0;
        while let Some(effect) = effects.get(at).cloned() {
            at += 1;
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
                    let news = if self.deliver(&mut lines, to, &frame) {
                        delivered
                    } else {
                        failed
                    };
                    effects.splice(at..at, news.map(|news| Effect::Send(sender, news)));
                }
                Effect::Close(conn, why) => self.close(&mut lines, &mut effects, conn, why),
                Effect::Probe(conn, patience) if self.open.contains(&conn) => {
                    lines.push(format!("{} ? {} s", conn.0, patience.as_secs_f64()));
                }
                Effect::Probe(..) => {}
            }
        }
        lines
    }

    fn with_context(&mut self, effects: &mut Vec<Effect>, act: impl FnOnce(&mut R, &mut Context)) {
        let wall = SystemTime::UNIX_EPOCH + START + self.now;
        let (round_trips, ids) = (&self.round_trips, &mut self.ids);
        act(
            &mut self.realm,
            &mut Context::new(self.now, wall, round_trips, ids, effects),
        );
    }

    fn deliver(&self, lines: &mut Vec<String>, to: ConnectionId, frame: &Frame) -> bool {
        let has_capacity = self.open.contains(&to) && !self.full.contains(&to);
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
        why: CloseReason,
    ) {
        if self.open.remove(&conn) {
            lines.push(format!("{} x {} {}", conn.0, why.code(), why.reason()));
            self.with_context(effects, |realm, cx| {
                realm.close(cx, conn, DisconnectReason::Closed(why));
            });
        }
    }
}

fn hello(target: &str, address: &str) -> ConnectRequest {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    ConnectRequest {
        path: path.to_owned(),
        query: query.to_owned(),
        address: address.parse().expect("an IP address"),
    }
}

/// Ids that look random and are the same in each run.
#[derive(Default)]
struct KnownIds {
    drawn: u64,
}

impl Ids for KnownIds {
    fn uuid(&mut self) -> Uuid {
        // SplitMix64.
        let scramble = |seed: u64| {
            let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        self.drawn += 1;
        let (high, low) = (scramble(2 * self.drawn), scramble(2 * self.drawn + 1));
        let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
