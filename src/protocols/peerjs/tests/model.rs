//! PeerJS under random sequences of steps by several clients, beside a second implementation of its rules
//! ([`Reference`]) that is as plain as possible and searches lists instead of keeping indexes.
//!
//! Invariants that are checked after each step:
//!
//! - the effects are those of the reference, in the same order;
//! - stored messages stay within the limits for a destination, for a source and in all;
//! - an id has one connection at a time;
//! - there are never more clients than the limit;
//! - a client that waits for an id is admitted or rejected in time;
//! - once all clients have disconnected, the realm holds no state.

use crate::protocols::peerjs::mailbox::{Limits, MESSAGE_OVERHEAD};
use crate::protocols::peerjs::*;
use crate::realm::{Access, Claims, Message};
use crate::testing::Input;
use crate::testing::model::{DISCONNECTS, Model, ModelClients};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

const EXPIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Storage limits. A message costs little more than [`MESSAGE_OVERHEAD`] bytes, so that each limit is
/// reached with one of these.
const LIMITS: [Limits; 2] = [
    Limits {
        per_destination: 4,
        per_source: 5,
        source_bytes: usize::MAX,
        bytes: usize::MAX,
        expire_timeout: EXPIRE_TIMEOUT,
    },
    Limits {
        per_destination: usize::MAX,
        per_source: usize::MAX,
        source_bytes: 4 * MESSAGE_OVERHEAD,
        bytes: 9 * MESSAGE_OVERHEAD,
        expire_timeout: EXPIRE_TIMEOUT,
    },
];

const IDS: usize = 5;

/// What clients show, by number: the document's tokens `t0` and `t1`; an access token without a subject with each of them
/// beside it, and with none; and an access token whose subject is the id.
const SHOWN: usize = 6;

/// Returns how much a client shows.
fn rank(shown: usize) -> usize {
    [0, 0, 1, 1, 1, 2][shown]
}

/// Returns whether two clients of one id are the same.
fn is_same(shown: usize, other: usize) -> bool {
    shown == other && shown != 4
}

/// Number of addresses from which clients connect.
const ADDRESSES: usize = 3;

/// Limit of clients, below the number of ids.
const MAX_CLIENTS: usize = 4;

const TYPES: [&str; 5] = ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"];

/// Selects a connection, modulo their number.
type Pick = usize;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A connection under an id, of a client that shows this (see [`SHOWN`]), from an address.
    Connect(usize, usize, usize),
    /// A message to an id, of a type, with a payload of this many bytes.
    Signal(Pick, usize, &'static str, usize),
    /// Any text message.
    Send(Pick, String),
    /// A request for the list of ids.
    List,
    /// Any other HTTP request.
    Request(String),
    FillOutbox(Pick),
    DrainOutbox(Pick),
    /// Whether a probed connection gives a sign of life.
    ProbeResult(Pick, bool),
    /// A disconnection in one of the [`DISCONNECTS`].
    Disconnect(Pick, usize),
    /// Milliseconds.
    Wait(u64),
}

/// An effect of the reference.
enum Expected {
    Send(u64, String),
    Close(u64, &'static str),
    Probe(u64),
}

/// The holder of an id.
struct Holder {
    conn: u64,
    shown: usize,
    address: usize,
    last_message: Duration,
    check_at: Duration,
    takeovers: Vec<Duration>,
    refusals: u32,
    last_refusal: Option<Duration>,
}

/// A client that waits for an id.
struct Waiting {
    id: String,
    shown: usize,
    address: usize,
    refused_at: Option<Duration>,
}

/// A stored message.
struct Stored {
    from: String,
    to: String,
    address: usize,
    cost: usize,
    text: String,
}

/// The rules, without any index. The lists are short.
struct Reference {
    limits: Limits,
    now: Duration,
    holders: BTreeMap<String, Holder>,
    /// Ids of holders that have gone and had an access token, with the most that one has shown.
    proven: BTreeMap<String, usize>,
    waiting: BTreeMap<u64, Waiting>,
    /// All stored messages, oldest first.
    stored: Vec<Stored>,
    /// Whether each pair has had its EXPIRE, and when this ends.
    pairs: BTreeMap<(String, String), (bool, Duration)>,
    open: BTreeSet<u64>,
    full: BTreeSet<u64>,
    last_activity: HashMap<u64, Duration>,
}

impl Reference {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Duration::ZERO,
            holders: BTreeMap::new(),
            proven: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stored: Vec::new(),
            pairs: BTreeMap::new(),
            open: BTreeSet::new(),
            full: BTreeSet::new(),
            last_activity: HashMap::new(),
        }
    }

    /// Returns the lines of effects and of all that follow from them.
    fn lines(&mut self, effects: Vec<Expected>) -> Vec<String> {
        let mut effects = VecDeque::from(effects);
        let mut lines = Vec::new();
        while let Some(effect) = effects.pop_front() {
            let (conn, close) = match effect {
                Expected::Send(conn, text) => {
                    if self.can_deliver(conn) {
                        lines.push(format!("{conn} < {text}"));
                        continue;
                    }
                    (conn, "1013 too slow")
                }
                Expected::Close(conn, close) => (conn, close),
                Expected::Probe(conn) => {
                    lines.push(format!("{conn} ? 5 s"));
                    continue;
                }
            };
            if self.open.remove(&conn) {
                lines.push(format!("{conn} x {close}"));
                effects.extend(self.closed(conn));
            }
        }
        lines
    }

    fn can_deliver(&self, conn: u64) -> bool {
        self.open.contains(&conn) && !self.full.contains(&conn)
    }

    fn id_of(&self, conn: u64) -> Option<String> {
        let mut holders = self.holders.iter();
        let holder = holders.find(|(_, holder)| holder.conn == conn);
        holder.map(|(id, _)| id.clone())
    }

    fn open(&mut self, conn: u64, id: &str, shown: usize, address: usize) -> Vec<Expected> {
        self.open.insert(conn);
        self.last_activity.insert(conn, self.now);
        let claim = Waiting {
            id: id.to_owned(),
            shown,
            address,
            refused_at: None,
        };
        let Some(holder) = self.holders.get(id) else {
            if Some(&rank(shown)) < self.proven.get(id) {
                return id_taken(conn);
            }
            if self.holders.len() >= MAX_CLIENTS {
                let full = Expected::Send(conn, FULL_ERROR.to_owned());
                return vec![full, Expected::Close(conn, "4429 too many connections")];
            }
            let mut effects = self.admit(conn, claim, None);
            self.pairs.retain(|(_, to), _| to != id);
            self.stored.retain(|message| {
                if message.to == id {
                    effects.push(Expected::Send(conn, message.text.clone()));
                }
                message.to != id
            });
            return effects;
        };
        let since = |at: Duration| self.now - at;
        if rank(shown) < rank(holder.shown) {
            return id_taken(conn);
        }
        if rank(shown) > rank(holder.shown) {
            return self.replace(conn, claim);
        }
        let is_same_client = is_same(holder.shown, shown);
        let must_probe = if is_same_client {
            let lately = |at: &&Duration| since(**at) < Duration::from_secs(10);
            holder.takeovers.iter().filter(lately).count() >= 3
                || holder
                    .last_refusal
                    .is_some_and(|at| since(at) < Duration::from_secs(60))
        } else {
            since(self.last_activity[&holder.conn]) >= Duration::from_secs(40)
        };
        if must_probe {
            let probe = vec![Expected::Probe(holder.conn)];
            self.waiting.insert(conn, claim);
            probe
        } else if is_same_client {
            self.replace(conn, claim)
        } else {
            id_taken(conn)
        }
    }

    fn admit(&mut self, conn: u64, claim: Waiting, old: Option<Holder>) -> Vec<Expected> {
        let mut holder = Holder {
            conn,
            shown: claim.shown,
            address: claim.address,
            last_message: self.now,
            check_at: self.now + Duration::from_secs(90),
            takeovers: Vec::new(),
            refusals: 0,
            last_refusal: None,
        };
        if let Some(old) = old.filter(|old| is_same(old.shown, claim.shown)) {
            holder.takeovers = old.takeovers;
            holder.refusals = old.refusals;
            holder.last_refusal = old.last_refusal;
        }
        self.holders.insert(claim.id, holder);
        vec![Expected::Send(conn, r#"{"type":"OPEN"}"#.to_owned())]
    }

    fn replace(&mut self, conn: u64, claim: Waiting) -> Vec<Expected> {
        let (id, shown) = (claim.id.clone(), claim.shown);
        let old = self.holders.remove(&id).unwrap();
        let is_same = is_same(old.shown, shown);
        if !is_same {
            self.forget_source(&id);
        }
        let close = if is_same {
            "4409 connected again elsewhere"
        } else if rank(shown) > rank(old.shown) {
            "4409 ID is taken"
        } else {
            "4408 timed out"
        };
        let mut effects = vec![Expected::Close(old.conn, close)];
        effects.extend(self.admit(conn, claim, Some(old)));
        if is_same {
            let holder = self.holders.get_mut(&id).unwrap();
            holder.takeovers.push(self.now);
        }
        effects.extend(self.refuse(&id));
        effects
    }

    /// Refuses the clients that wait for the result of a probe.
    fn refuse(&mut self, id: &str) -> Vec<Expected> {
        let holder = self.holders.get_mut(id).unwrap();
        let mut effects = Vec::new();
        self.waiting.retain(|&conn, waiting| {
            if waiting.id != id || waiting.refused_at.is_some() {
                return true;
            }
            if !is_same(waiting.shown, holder.shown) {
                effects.extend(id_taken(conn));
                return false;
            }
            let is_over = |at: Duration| self.now - at >= Duration::from_secs(60);
            if holder.last_refusal.is_none_or(is_over) {
                holder.refusals = 0;
            }
            let delay = [2, 4, 8, 16].get(holder.refusals as usize).unwrap_or(&30);
            holder.refusals += 1;
            holder.last_refusal = Some(self.now);
            waiting.refused_at = Some(self.now + Duration::from_secs(*delay));
            true
        });
        effects
    }

    fn forget_source(&mut self, id: &str) {
        self.stored.retain(|message| message.from != id);
        self.pairs.retain(|(from, _), _| from != id);
    }

    fn closed(&mut self, conn: u64) -> Vec<Expected> {
        if self.waiting.remove(&conn).is_some() {
            return Vec::new();
        }
        let Some(id) = self.id_of(conn) else {
            return Vec::new();
        };
        let old = self.holders.remove(&id).unwrap();
        self.forget_source(&id);
        if rank(old.shown) > 0 {
            let before = self.proven.entry(id.clone()).or_default();
            *before = rank(old.shown).max(*before);
        }
        let first = self
            .waiting
            .iter()
            .find(|(_, waiting)| waiting.id == id && rank(waiting.shown) >= rank(old.shown));
        let Some(first) = first.map(|(conn, _)| *conn) else {
            return Vec::new();
        };
        let claim = self.waiting.remove(&first).unwrap();
        let mut effects = self.admit(first, claim, Some(old));
        effects.extend(self.refuse(&id));
        effects
    }

    fn probed(&mut self, conn: u64, alive: bool) -> Vec<Expected> {
        if alive {
            self.last_activity.insert(conn, self.now);
        }
        let Some(id) = self.id_of(conn) else {
            return Vec::new();
        };
        if alive {
            return self.refuse(&id);
        }
        let mut waiting = self.waiting.iter();
        let first = waiting.find(|(_, waiting)| waiting.id == id && waiting.refused_at.is_none());
        let Some(first) = first.map(|(conn, _)| *conn) else {
            return Vec::new();
        };
        let claim = self.waiting.remove(&first).unwrap();
        self.replace(first, claim)
    }

    fn send(&mut self, conn: u64, text: &str) -> Vec<Expected> {
        self.last_activity.insert(conn, self.now);
        let (now, id) = (self.now, self.id_of(conn));
        let message = codec::decode(&Message::Text(text.into()));
        let (Some(id), Some(message)) = (id, message) else {
            return Vec::new();
        };
        let holder = self.holders.get_mut(&id).unwrap();
        holder.last_message = now;
        let address = holder.address;
        let message = match message {
            ClientMessage::KeepAlive => return Vec::new(),
            ClientMessage::Leave => return vec![Expected::Close(conn, "1000 goodbye")],
            ClientMessage::Transmit(message) => message,
        };
        let (message_type, dst) = (message.message_type, message.dst().to_owned());
        let text = message.into_frame(&id).as_text().unwrap();
        let destination = self.holders.get(&dst).map(|holder| holder.conn);
        let pair = (id, dst);
        if let Some(to) = destination.filter(|&to| self.can_deliver(to)) {
            self.pairs.remove(&pair);
            return vec![Expected::Send(to, text)];
        }
        if !message_type.is_stored() {
            return Vec::new();
        }
        let state = self.pairs.get(&pair).copied();
        let is_offer = message_type == TransmissionType::Offer;
        if matches!(state, Some((true, until)) if now < until) && !is_offer {
            return Vec::new();
        }
        let (from, to) = pair.clone();
        let cost = text.len() + from.len() + 2 * to.len() + MESSAGE_OVERHEAD;
        let fresh = (false, now + EXPIRE_TIMEOUT);
        if destination.is_none() && self.make_place(&from, &to, address, cost) {
            let mut stored = self.stored.iter();
            if !stored.any(|other| (&other.from, &other.to) == (&from, &to)) {
                self.pairs.insert(pair, fresh);
            }
            self.stored.push(Stored {
                from,
                to,
                address,
                cost,
                text,
            });
        } else if state.is_none_or(|(had_expire, _)| had_expire) {
            self.pairs.insert(pair, fresh);
        }
        Vec::new()
    }

    /// Removes what makes place for a message. Returns whether there is place.
    fn make_place(&mut self, from: &str, to: &str, address: usize, cost: usize) -> bool {
        let limits = self.limits;
        let sum = |list: &[&Stored]| list.iter().map(|message| message.cost).sum::<usize>();
        let mut left: Vec<&Stored> = self.stored.iter().collect();
        let of_source: Vec<&Stored> = left.iter().copied().filter(|it| it.from == from).collect();
        if of_source.len() + 1 > limits.per_source || sum(&of_source) + cost > limits.source_bytes {
            return false;
        }
        let remove_newest = |left: &mut Vec<&Stored>, to: Option<&str>, address: usize| {
            let is_it = |it: &&Stored| it.address == address && to.is_none_or(|to| it.to == to);
            let index = left.iter().rposition(is_it).unwrap();
            left.remove(index);
        };
        let largest = |amount: &dyn Fn(usize) -> usize| {
            let all = (0..ADDRESSES).map(|address| (amount(address), address));
            all.max().unwrap()
        };
        let count_of = |left: &[&Stored], address| {
            let is_it = |it: &&&Stored| it.to == to && it.address == address;
            left.iter().filter(is_it).count()
        };
        if left.iter().filter(|it| it.to == to).count() + 1 > limits.per_destination {
            let (count, other) = largest(&|address| count_of(&left, address));
            if count_of(&left, address) + 1 >= count {
                return false;
            }
            remove_newest(&mut left, Some(to), other);
        }
        while sum(&left) + cost > limits.bytes {
            let bytes_of = |address| {
                let of_address = left.iter().copied().filter(|it| it.address == address);
                sum(&of_address.collect::<Vec<_>>())
            };
            let (bytes, other) = largest(&bytes_of);
            if bytes_of(address) + cost >= bytes {
                return false;
            }
            remove_newest(&mut left, None, other);
        }
        let kept: Vec<*const Stored> = left.into_iter().map(std::ptr::from_ref).collect();
        self.stored
            .retain(|message| kept.contains(&std::ptr::from_ref(message)));
        true
    }

    fn wait(&mut self, time: Duration) -> Vec<Expected> {
        self.now += time;
        let now = self.now;
        let mut effects = Vec::new();
        let due = self.pairs.iter().filter(|(_, (_, due))| *due <= now);
        let mut due: Vec<_> = due
            .map(|(pair, state)| (state.1, pair.clone(), state.0))
            .collect();
        due.sort();
        for (_, pair, had_expire) in due {
            if had_expire {
                self.pairs.remove(&pair);
                continue;
            }
            let (from, to) = &pair;
            self.stored.retain(|it| (&it.from, &it.to) != (from, to));
            if let Some(holder) = self.holders.get(from) {
                let expire = format!(r#"{{"type":"EXPIRE","src":"{to}","dst":"{from}"}}"#);
                effects.push(Expected::Send(holder.conn, expire));
            }
            self.pairs.insert(pair, (true, now + EXPIRE_TIMEOUT));
        }
        let refused = self
            .waiting
            .iter()
            .filter_map(|(conn, it)| Some((it.refused_at?, *conn)));
        let mut refused: Vec<_> = refused.filter(|(at, _)| *at <= now).collect();
        refused.sort();
        for (_, conn) in refused {
            self.waiting.remove(&conn);
            effects.extend(id_taken(conn));
        }
        let mut timed_out = Vec::new();
        for holder in self.holders.values_mut().filter(|it| it.check_at <= now) {
            let times_out_at = holder.last_message + Duration::from_secs(90);
            if times_out_at <= now {
                timed_out.push((holder.check_at, holder.conn));
            } else {
                holder.check_at = times_out_at;
            }
        }
        timed_out.sort();
        let close = |(_, conn)| Expected::Close(conn, "4408 timed out");
        effects.extend(timed_out.into_iter().map(close));
        effects
    }
}

fn id_taken(conn: u64) -> Vec<Expected> {
    let text = r#"{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}"#.to_owned();
    vec![
        Expected::Send(conn, text),
        Expected::Close(conn, "4409 ID is taken"),
    ]
}

/// The realm and the reference.
pub(crate) struct World {
    clients: ModelClients<PeerJs>,
    reference: Reference,
    /// Number of messages so far.
    count: u64,
}

impl Model for World {
    type Step = Step;

    const REALMS: usize = LIMITS.len();

    /// | step | what happens |
    /// | --- | --- |
    /// | `o` id token address | a client connects as id 0 to 4 with token 0 or 1 from address 0 to 2; 2 to 5: with an access token ([`SHOWN`]) |
    /// | `m` client id type size | OFFER (0), ANSWER, CANDIDATE, LEAVE or EXPIRE (4) to an id; payload of 0 to 3 times what a stored message costs |
    /// | `i`, `g` target | GET the list of ids, or any path |
    /// | `f` client, `d` client | the client's outbox is full from now on, or no longer |
    /// | `a` client yes/no | a client that was probed, counted among those, answers or does not |
    fn read(letter: u8, input: &mut Input) -> Option<Step> {
        Some(match letter {
            b'o' => {
                let (id, shown) = (input.below(IDS)?, input.below(SHOWN)?);
                Step::Connect(id, shown, input.below(ADDRESSES)?)
            }
            b'm' => {
                let (conn, to) = (input.below(6)?, input.below(IDS)?);
                let message_type = TYPES.get(input.below(TYPES.len())?)?;
                Step::Signal(conn, to, message_type, input.below(4)? * MESSAGE_OVERHEAD)
            }
            b's' => Step::Send(input.below(6)?, input.text()?),
            b'i' => Step::List,
            b'g' => Step::Request(input.text()?),
            b'f' => Step::FillOutbox(input.below(6)?),
            b'd' => Step::DrainOutbox(input.below(6)?),
            b'a' => Step::ProbeResult(input.below(6)?, input.flag()?),
            b'l' => Step::Disconnect(input.below(6)?, input.below(DISCONNECTS.len())?),
            b'w' => Step::Wait(input.millis()?),
            _ => return None,
        })
    }

    #[cfg(test)]
    fn step() -> impl Strategy<Value = Step> {
        let (conn, id) = (0..6usize, 0..IDS);
        let texts = vec![r#"{"type":"HEARTBEAT"}"#, r#"{"type":"LEAVE"}"#, "nonsense"];
        prop_oneof![
            // Mostly without an access token, and the same one.
            5 => (id.clone(), 0..16usize, 0..ADDRESSES)
                .prop_map(|(id, pick, address)| Step::Connect(id, pick.saturating_sub(10), address)),
            12 => (conn.clone(), id, prop::sample::select(&TYPES), 0..8usize)
                .prop_map(|(conn, to, message_type, size)| {
                    Step::Signal(conn, to, message_type, size.saturating_sub(4) * MESSAGE_OVERHEAD)
                }),
            1 => (conn.clone(), prop::sample::select(texts))
                .prop_map(|(conn, text)| Step::Send(conn, text.to_owned())),
            1 => Just(Step::List),
            1 => conn.clone().prop_map(Step::FillOutbox),
            1 => conn.clone().prop_map(Step::DrainOutbox),
            1 => (conn.clone(), any::<bool>()).prop_map(|(conn, alive)| Step::ProbeResult(conn, alive)),
            2 => (conn, 0..DISCONNECTS.len()).prop_map(|(conn, how)| Step::Disconnect(conn, how)),
            4 => prop_oneof![0..3000u64, 0..70_000u64].prop_map(Step::Wait),
        ]
    }

    fn new(realm: usize) -> Self {
        let limits = LIMITS[realm];
        Self {
            clients: ModelClients::new(json!({
                "concurrent_limit": MAX_CLIENTS,
                "allow_discovery": true,
                "stored_per_destination": limits.per_destination,
                "stored_per_source": limits.per_source,
                "stored_source_size": limits.source_bytes,
                "stored_size": limits.bytes,
            })),
            reference: Reference::new(limits),
            count: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Connect(id, shown, address) => {
                let id = format!("id{id}");
                let token = ["&token=t0", "&token=t1"].into_iter().cycle().nth(shown);
                let token = token.filter(|_| shown < 4).unwrap_or_default();
                let target = format!("/peerjs?key=peerjs&id={id}{token}");
                let claims = Claims {
                    subject: (rank(shown) == 2).then(|| id.clone()),
                    ..Claims::default()
                };
                let access = Access {
                    are_tokens_read: true,
                    is_required: false,
                    token: (rank(shown) > 0).then_some(Ok(claims)),
                };
                let from = format!("192.0.2.{address}");
                let lines = self.clients.open_with(&target, &from, access).unwrap();
                let conn = self.clients.count;
                let effects = self.reference.open(conn, &id, shown, address);
                self.check(&lines, effects);
            }
            Step::Signal(conn, to, message_type, size) => {
                self.count += 1;
                let payload = format!("{}{}", self.count, "x".repeat(size));
                let message =
                    json!({"type": message_type, "dst": format!("id{to}"), "payload": payload});
                self.send(conn, &message.to_string());
            }
            Step::Send(conn, text) => self.send(conn, &text),
            Step::List => {
                let HttpReply::Ok { body, .. } = self.clients.harness.get("/peerjs/peers") else {
                    panic!("discovery is on");
                };
                let ids: Vec<&String> = self.reference.holders.keys().collect();
                let body = body.to_string();
                assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!(ids));
            }
            Step::Request(target) => {
                self.clients.harness.get(&target);
            }
            Step::FillOutbox(conn) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.clients.harness.fill_outbox(conn);
                    self.reference.full.insert(conn);
                }
            }
            Step::DrainOutbox(conn) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.clients.harness.drain_outbox(conn);
                    self.reference.full.remove(&conn);
                }
            }
            Step::ProbeResult(pick, alive) => {
                if let Some(conn) = self.clients.pick_probed(pick) {
                    let lines = self.clients.resolve_probe(pick, alive);
                    let effects = self.reference.probed(conn, alive);
                    self.check(&lines, effects);
                }
            }
            Step::Disconnect(conn, how) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.disconnect(conn, DISCONNECTS[how]);
                }
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
        }
    }

    fn check_invariants(&self) {
        let Reference { limits, stored, .. } = &self.reference;
        for message in stored {
            let of_source = stored.iter().filter(|it| it.from == message.from);
            let bytes: usize = of_source.clone().map(|it| it.cost).sum();
            assert!(of_source.count() <= limits.per_source && bytes <= limits.source_bytes);
            let for_destination = stored.iter().filter(|it| it.to == message.to);
            assert!(for_destination.count() <= limits.per_destination);
        }
        let bytes: usize = stored.iter().map(|it| it.cost).sum();
        assert!(bytes <= limits.bytes);
        // The rest are pairs without messages.
        assert!(self.clients.harness.realm.mailbox.bytes() >= bytes);
        assert!(self.reference.holders.len() <= MAX_CLIENTS);
    }

    fn finish(mut self) {
        while self.clients.pick_probed(0).is_some() {
            self.apply(Step::ProbeResult(0, true));
        }
        self.wait(Duration::from_secs(30));
        assert!(self.reference.waiting.is_empty(), "a client still waits");
        self.wait(Duration::from_secs(6));
        self.wait(Duration::from_secs(6));
        assert!(self.clients.harness.realm.mailbox.is_empty());
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        assert!(self.clients.harness.realm.is_empty());
    }
}

impl World {
    fn send(&mut self, conn: Pick, text: &str) {
        if let Some(conn) = self.clients.pick_open(conn) {
            let lines = self.clients.send(conn, text);
            let effects = self.reference.send(conn, text);
            self.check(&lines, effects);
        }
    }

    fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        let lines = self.clients.disconnect(conn, reason);
        self.reference.open.remove(&conn);
        let effects = self.reference.closed(conn);
        self.check(&lines, effects);
    }

    fn wait(&mut self, time: Duration) {
        let lines = self.clients.advance(time);
        let effects = self.reference.wait(time);
        self.check(&lines, effects);
    }

    fn check(&mut self, lines: &[String], effects: Vec<Expected>) {
        assert_eq!(lines, self.reference.lines(effects));
    }
}
