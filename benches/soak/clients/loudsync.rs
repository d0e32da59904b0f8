//! LOUDSYNC clients, in sessions of a host and nine guests that all know the members.
//!
//! A client that takes the newest `member_list` and applies each `member_joined` and `member_left` since
//! must know, at a quiescent point, exactly the members of its session: each of them connected, and for
//! all clients with the same id and `joinedAt` (but that the upper-case dialect tells a device its own id).
//! A member whose connection is cut, and that is back before its last heartbeat expires, keeps its place.
//! When the host leaves, all members are told so and closed; so is a member that the host kicks.

use super::{ClientModel, Outgoing};
use crate::checks::{CLOSED_WITH_REASON, DOCUMENTED, PONG, REJECTED_WITH_REASON, Violation};
use crate::connection::{ConnectionEnd, Disconnect};
use crate::expectations::loudsync::{
    CLOSED, KICKED, LoudsyncExpectations, MEMBERS, MEMBERS_PER_SESSION, MemberView, SessionState,
    is_upper_case, name,
};
use crate::random::Random;
use crate::shared_state::{LogicalTime, Phase, Protocol, SharedState};
use serde_json::{Value, json};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

pub const PROTOCOL: Protocol = Protocol("loudsync");

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How long after a heartbeat the server keeps a member, as the document has it.
const HEARTBEAT_LIFETIME: Duration = Duration::from_secs(15);

/// A longer time between two heartbeats, because this client was kept from sending them, may be too long
/// for the server.
const LATE_HEARTBEAT: Duration = Duration::from_secs(12);

const PLACE: &str = "a member that is back in time has its place";

/// The place in a session that a member keeps when its connection is cut.
struct KeptPlace {
    generation: u64,
    view: MemberView,
    /// Of the session.
    epoch: u64,
    /// When the server may remove the member.
    until: Instant,
}

/// A client: slot 0 of each session is its host.
pub struct LoudsyncClient {
    shared: Rc<SharedState>,
    expectations: Rc<RefCell<LoudsyncExpectations>>,
    session: usize,
    slot: usize,
    random: Random,
    connecting_at: LogicalTime,
    /// When the host had been admitted before this client connected.
    host_admitted_at: LogicalTime,
    has_welcome: bool,
    /// The server has sent `session_closed`.
    is_session_closed: bool,
    is_kicked: bool,
    /// The server has said why this client may not join.
    is_rejected: bool,
    kept_place: Option<KeptPlace>,
    /// When it sent the newest heartbeat that the server is known to have read.
    confirmed_heartbeat: Option<Instant>,
    last_heartbeat: Instant,
    longest_gap: Duration,
    /// The timestamps of its pings in flight, and when it sent them.
    pings: VecDeque<(LogicalTime, Instant)>,
    /// The slot of the guest that it kicked last, and when that guest had been admitted.
    kicked: Option<(usize, LogicalTime)>,
    next_action: Instant,
}

impl LoudsyncClient {
    pub fn new(
        shared: &Rc<SharedState>,
        expectations: &Rc<RefCell<LoudsyncExpectations>>,
        index: usize,
    ) -> Self {
        Self {
            shared: Rc::clone(shared),
            expectations: Rc::clone(expectations),
            session: index / MEMBERS_PER_SESSION,
            slot: index % MEMBERS_PER_SESSION,
            random: shared.random(PROTOCOL, index + (1 << 20)),
            connecting_at: 0,
            host_admitted_at: 0,
            has_welcome: false,
            is_session_closed: false,
            is_kicked: false,
            is_rejected: false,
            kept_place: None,
            confirmed_heartbeat: None,
            last_heartbeat: Instant::now(),
            longest_gap: Duration::ZERO,
            pings: VecDeque::new(),
            kicked: None,
            next_action: Instant::now(),
        }
    }

    fn session(&self) -> RefMut<'_, SessionState> {
        let expectations = self.expectations.borrow_mut();
        RefMut::map(expectations, |it| &mut it.sessions[self.session])
    }

    fn admitted_at(&self) -> LogicalTime {
        self.session().slots[self.slot].admitted_at
    }

    fn name(&self) -> String {
        name(self.session, self.slot)
    }

    fn device_id(&self) -> String {
        format!("device-{}-{}", self.session, self.slot)
    }

    /// Returns a message in this client's dialect.
    fn encode(&self, kind: &str, fields: Value, timestamp: u64) -> String {
        if is_upper_case(self.slot) {
            let kind = kind.to_uppercase();
            return json!({"type": kind, "timestamp": timestamp, "payload": fields}).to_string();
        }
        let mut message = fields;
        message["type"] = json!(kind);
        message["timestamp"] = json!(timestamp);
        message.to_string()
    }

    /// Sends a heartbeat, and a ping whose answer confirms it.
    fn send_heartbeat(&mut self, outgoing: &mut Outgoing) {
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now - self.last_heartbeat);
        self.last_heartbeat = now;
        let timestamp = self.shared.next_event();
        self.pings.push_back((timestamp, now));
        let fields = if is_upper_case(self.slot) {
            json!({"deviceId": self.device_id(), "timestamp": timestamp})
        } else {
            json!({})
        };
        outgoing.push(self.encode("heartbeat", fields.clone(), timestamp));
        outgoing.push(self.encode("ping", fields, timestamp));
    }

    /// Kicks some guest, if this host knows it by now.
    fn send_kick(&mut self, outgoing: &mut Outgoing) {
        let slot = 1 + self.random.below(MEMBERS_PER_SESSION - 1);
        let mut session = self.session();
        let host = session.slots[0].admitted_at;
        let guest = session.slots[slot].admitted_at;
        let known = &session.slots[0].known_members;
        let view = known.get(&name(self.session, slot));
        let Some(view) = view.filter(|_| guest != 0) else {
            return;
        };
        let id = view.id.clone();
        session.slots[slot].kicked = Some((guest, host));
        drop(session);
        self.kicked = Some((slot, guest));
        self.shared.report.fault("was kicked by the host");
        let timestamp = self.shared.next_event();
        outgoing.push(self.encode("kick", json!({"memberId": id}), timestamp));
    }

    /// Handles the first member list: the client is admitted. Checks that it has the place that it kept.
    fn on_admitted(&mut self) -> Result<(), Violation> {
        let admitted_at = self.shared.next_event();
        let own = self.name();
        let mut session = self.session();
        let view = session.slots[self.slot].known_members.get(&own).cloned();
        let Some(view) = view else {
            return Err((MEMBERS, format!("{own} is not in its own first list")));
        };
        let generation = self.shared.generation();
        let kept_place = self.kept_place.as_ref();
        let kept_place = kept_place.filter(|kept| kept.generation == generation);
        // A member that was kicked meanwhile has lost its place.
        let kept_place = kept_place.filter(|_| session.slots[self.slot].kicked.is_none());
        let is_same =
            |kept: &KeptPlace| kept.view.id == view.id && kept.view.joined_at == view.joined_at;
        let has_place = kept_place.is_some_and(is_same);
        if self.slot == 0 && !has_place {
            session.epoch += 1;
        }
        let epoch = session.epoch;
        let in_time = kept_place.filter(|kept| Instant::now() < kept.until);
        // A guest has lost its place if the session has ended meanwhile.
        let must_have_place = in_time.is_some_and(|kept| self.slot == 0 || kept.epoch == epoch);
        let slot = &mut session.slots[self.slot];
        (slot.admitted_at, slot.epoch, slot.kicked) = (admitted_at, epoch, None);
        drop(session);
        if must_have_place {
            self.shared.report.checked(PLACE);
        }
        let before = self.kept_place.take().map(|kept| kept.view);
        if must_have_place && !has_place {
            return Err((PLACE, format!("{own} was {before:?}, and now is {view:?}")));
        }
        Ok(())
    }

    fn on_member_list(&mut self, members: &Value) -> Result<(), Violation> {
        let views = members.as_array().into_iter().flatten().map(parse_member);
        let known: Option<BTreeMap<String, MemberView>> = views.collect();
        let unexpected = || (MEMBERS, format!("{members}"));
        let known = known.ok_or_else(unexpected)?;
        let prefix = format!("m{}-", self.session);
        let is_own_session = known.keys().all(|name| name.starts_with(&prefix));
        if !is_own_session || known.len() != members.as_array().map_or(0, Vec::len) {
            return Err(unexpected());
        }
        self.session().slots[self.slot].known_members = known;
        self.shared.report.received(PROTOCOL);
        let may_join = self.has_welcome && !self.is_session_closed && !self.is_kicked;
        if self.admitted_at() == 0 && may_join {
            return self.on_admitted();
        }
        Ok(())
    }

    fn on_member_joined(&mut self, member: &Value) -> Result<(), Violation> {
        let Some((name, view)) = parse_member(member) else {
            return Err((MEMBERS, format!("joined: {member}")));
        };
        let slot = &mut self.session().slots[self.slot];
        slot.known_members.insert(name, view);
        Ok(())
    }

    fn on_member_left(&mut self, fields: &Value) -> Result<(), Violation> {
        let key = if is_upper_case(self.slot) {
            "deviceId"
        } else {
            "memberId"
        };
        let known = &mut self.session().slots[self.slot].known_members;
        let before = known.len();
        known.retain(|_, view| fields[key] != json!(view.id));
        let reasons = ["left", "kicked", "timeout", "error"].map(|it| json!(it));
        if known.len() + 1 != before || !reasons.contains(&fields["reason"]) {
            return Err((MEMBERS, format!("of {before} left {fields}")));
        }
        Ok(())
    }

    fn on_kicked(&mut self) -> Result<(), Violation> {
        self.is_kicked = true;
        let name = self.name();
        let slot = &mut self.session().slots[self.slot];
        let admitted_at = std::mem::take(&mut slot.admitted_at);
        let is_due = slot.kicked.is_some_and(|(guest, _)| guest == admitted_at);
        if !is_due {
            return Err((KICKED, format!("{name}: {:?}", slot.kicked)));
        }
        Ok(())
    }

    fn on_session_closed(&mut self, fields: &Value) -> Result<(), Violation> {
        self.is_session_closed = true;
        let name = self.name();
        let mut session = self.session();
        session.slots[self.slot].admitted_at = 0;
        let host_left = session.host_left_at > self.connecting_at;
        if !host_left && self.shared.phase() == Phase::Up {
            return Err((CLOSED, format!("{name}: {fields}")));
        }
        Ok(())
    }

    fn on_pong(&mut self, timestamp: &Value) -> Result<(), Violation> {
        let ping = self.pings.pop_front();
        self.shared.report.checked(PONG);
        match ping {
            Some((expected, sent_at)) if *timestamp == json!(expected) => {
                self.confirmed_heartbeat = Some(sent_at);
                Ok(())
            }
            _ => Err((PONG, format!("{timestamp}, not {ping:?}"))),
        }
    }

    fn on_error(&mut self, error: &Value) -> Result<(), Violation> {
        let code = error["code"].as_str().unwrap_or_default().to_lowercase();
        let is_expected = if self.admitted_at() == 0 {
            self.is_rejected = true;
            let host_stayed = self.session().slots[0].admitted_at == self.host_admitted_at;
            code == "session_not_found" && self.slot != 0 && !host_stayed
        } else {
            // The guest that this host kicked may have left before.
            let kicked = self.kicked.take();
            let has_left =
                |(slot, at): (usize, LogicalTime)| self.session().slots[slot].admitted_at != at;
            code == "invalid_message" && kicked.is_some_and(has_left)
        };
        if is_expected {
            Ok(())
        } else {
            Err((REJECTED_WITH_REASON, format!("{error}")))
        }
    }
}

/// Returns the name and the view of a member in a message of either dialect.
fn parse_member(member: &Value) -> Option<(String, MemberView)> {
    let view = MemberView {
        id: member["id"].as_str()?.to_owned(),
        joined_at: member["joinedAt"].as_u64()?,
        is_host: member["isHost"] == true || member["role"] == "host",
        is_connected: member["connectionStatus"] == "connected",
    };
    Some((member["name"].as_str()?.to_owned(), view))
}

impl ClientModel for LoudsyncClient {
    const PROTOCOL: Protocol = PROTOCOL;

    fn connect_target(&mut self) -> Option<String> {
        let host_admitted_at = self.session().slots[0].admitted_at;
        self.host_admitted_at = host_admitted_at;
        self.connecting_at = self.shared.next_event();
        (self.slot == 0 || self.host_admitted_at != 0).then(|| "/".to_owned())
    }

    fn on_connected(&mut self, outgoing: &mut Outgoing) {
        (self.has_welcome, self.is_session_closed) = (false, false);
        (self.is_kicked, self.is_rejected) = (false, false);
        self.pings.clear();
        self.confirmed_heartbeat = None;
        self.longest_gap = Duration::ZERO;
        self.last_heartbeat = Instant::now();
        self.next_action = Instant::now() + self.random.seconds(0, 5);
        let session = format!("s{}", self.session);
        let join = if is_upper_case(self.slot) {
            json!({"sessionId": session, "deviceId": self.device_id(), "deviceName": self.name(),
                   "version": "1.0.0"})
        } else {
            let kind = if self.slot == 0 { "host" } else { "client" };
            let device = json!({"id": self.device_id(), "name": self.name(), "type": kind});
            json!({"sessionId": session, "deviceInfo": device})
        };
        outgoing.push(self.encode("join", join, self.shared.next_event()));
    }

    fn is_settled(&self) -> bool {
        self.admitted_at() != 0 || self.is_session_closed || self.is_kicked || self.is_rejected
    }

    fn on_message(&mut self, text: &str, _: &mut Outgoing) -> Result<(), Violation> {
        let unknown = || (DOCUMENTED, text.to_owned());
        let message: Value = serde_json::from_str(text).map_err(|_| unknown())?;
        let kind = message["type"].as_str().unwrap_or_default();
        let is_upper = is_upper_case(self.slot);
        if is_upper != kind.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            return Err(unknown());
        }
        let fields = if is_upper {
            &message["payload"]
        } else {
            &message
        };
        match kind.to_lowercase().as_str() {
            "welcome" if !self.has_welcome => {
                self.has_welcome = true;
                let is_own = !is_upper || fields["yourDeviceId"] == json!(self.device_id());
                if is_own { Ok(()) } else { Err(unknown()) }
            }
            "member_list" if self.has_welcome => self.on_member_list(&fields["members"]),
            kind @ ("member_joined" | "member_left" | "kicked" | "session_closed")
                if self.has_welcome =>
            {
                match kind {
                    "member_joined" => self.on_member_joined(&fields["member"]),
                    "member_left" => self.on_member_left(fields),
                    "kicked" => self.on_kicked(),
                    _ => self.on_session_closed(fields),
                }?;
                self.shared.report.received(PROTOCOL);
                Ok(())
            }
            "pong" => self.on_pong(if is_upper {
                &fields["pingTimestamp"]
            } else {
                &fields["timestamp"]
            }),
            "error" => self.on_error(fields),
            _ => Err(unknown()),
        }
    }

    fn next_action(&self) -> Instant {
        self.next_action
    }

    fn act(&mut self, outgoing: &mut Outgoing) {
        self.next_action = Instant::now() + HEARTBEAT_INTERVAL;
        if self.admitted_at() == 0 {
            return;
        }
        self.send_heartbeat(outgoing);
        if self.shared.is_quiet() {
            return;
        }
        self.shared.report.sent(PROTOCOL);
        if self.random.one_in(10) {
            let timestamp = self.shared.next_event();
            outgoing.push(self.encode("member_list", json!({}), timestamp));
        }
        if self.slot == 0 && self.random.one_in(20) {
            self.send_kick(outgoing);
        }
    }

    fn on_disconnecting(&mut self, how: Disconnect, outgoing: &mut Outgoing) {
        let own = self.name();
        let left_at = self.shared.next_event();
        let mut session = self.session();
        if self.slot == 0 {
            session.host_left_at = left_at;
        }
        let slot = &mut session.slots[self.slot];
        slot.admitted_at = 0;
        let epoch = slot.epoch;
        let view = slot.known_members.get(&own).cloned();
        drop(session);
        let generation = self.shared.generation();
        let is_cut = matches!(
            how,
            Disconnect::Reset | Disconnect::ResetInFrame | Disconnect::EndInFrame
        );
        let kept = view.zip(self.confirmed_heartbeat).filter(|_| is_cut);
        self.kept_place = kept.map(|(view, heartbeat)| KeptPlace {
            generation,
            view,
            epoch,
            until: heartbeat + HEARTBEAT_LIFETIME,
        });
        if how == Disconnect::LeaveMessage {
            let fields = json!({"deviceId": self.device_id(), "reason": "left"});
            outgoing.push(self.encode("leave", fields, self.shared.next_event()));
        }
    }

    fn on_closed_by_server(&mut self, end: &ConnectionEnd) -> Result<(), Violation> {
        self.kept_place = None;
        let longest_gap = self.longest_gap.max(self.last_heartbeat.elapsed());
        match end {
            ConnectionEnd::Closed(1000 | 1001, _) if self.is_session_closed => Ok(()),
            ConnectionEnd::Closed(1001, _) if self.admitted_at() == 0 => Ok(()),
            ConnectionEnd::Closed(1000, _) if self.is_rejected => Ok(()),
            ConnectionEnd::Closed(4403, _) if self.is_kicked => Ok(()),
            ConnectionEnd::Closed(4408, _) if longest_gap > LATE_HEARTBEAT => {
                let report = &self.shared.report;
                report.fault("closed for heartbeats that it sent late");
                Ok(())
            }
            _ => {
                let seen = format!(
                    "{end:?}; welcome: {}, session_closed: {}, kicked: {}, rejected: {}",
                    self.has_welcome, self.is_session_closed, self.is_kicked, self.is_rejected
                );
                Err((CLOSED_WITH_REASON, seen))
            }
        }
    }

    fn on_gone(&mut self) {
        let left_at = self.shared.next_event();
        let mut session = self.session();
        let slot = &mut session.slots[self.slot];
        if std::mem::take(&mut slot.admitted_at) != 0 && self.slot == 0 {
            session.host_left_at = left_at;
        }
    }
}
