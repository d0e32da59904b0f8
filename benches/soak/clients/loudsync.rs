//! LOUDSYNC: sessions of a host and nine guests, who all know who is there.
//!
//! What a member knows is the newest `member_list` with each `member_joined` and `member_left`
//! since. In a moment of quiet it is exactly who is there, each connected, and each with the same
//! id and `joinedAt` in everybody's eyes (but that the upper-case dialect shows a device its own
//! id). A member that is cut and back within the time of its last heartbeat keeps its place. When
//! the host goes for good, everybody is told and sent away; whom it kicks is, too.

use crate::client_task::{Broken, Person, Say};
use crate::connection::{End, Farewell};
use crate::expectations::loudsync::{
    CLOSED, KICKED, MEMBERS, Party, SEATS, Seen, Session, is_upper, name,
};
use crate::shared_state::{Chance, Phase, Protocol, Ticket, World};
use serde_json::{Value, json};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_secs(5);

/// How long a heartbeat is good, as the document has it.
const GOOD: Duration = Duration::from_secs(15);

/// Whoever was kept so long from sending its heartbeats may be late.
const LATE: Duration = Duration::from_secs(12);

const PLACE: &str = "a device that comes back in time has its place";

/// What of a place outlives a broken connection.
struct Kept {
    generation: u64,
    seen: Seen,
    epoch: u64,
    until: Instant,
}

/// One member.
pub struct Member {
    world: Rc<World>,
    party: Rc<RefCell<Party>>,
    session: usize,
    seat: usize,
    chance: Chance,
    /// When it set out, and the life of the host then.
    began: Ticket,
    host_life: Ticket,
    is_welcome: bool,
    is_closed: bool,
    is_kicked: bool,
    /// The server said why it may not join.
    is_refused: bool,
    kept: Option<Kept>,
    /// When the newest heartbeat was sent that the server is known to have read.
    good: Option<Instant>,
    last_beat: Instant,
    longest_gap: Duration,
    pings: VecDeque<(Ticket, Instant)>,
    /// Whom it has kicked last, and in which life of that one.
    kicked: Option<(usize, Ticket)>,
    due: Instant,
}

impl Member {
    pub fn new(world: &Rc<World>, party: &Rc<RefCell<Party>>, index: usize) -> Self {
        Self {
            world: Rc::clone(world),
            party: Rc::clone(party),
            session: index / SEATS,
            seat: index % SEATS,
            chance: world.chance(Protocol::Loudsync, index + (1 << 20)),
            began: 0,
            host_life: 0,
            is_welcome: false,
            is_closed: false,
            is_kicked: false,
            is_refused: false,
            kept: None,
            good: None,
            last_beat: Instant::now(),
            longest_gap: Duration::ZERO,
            pings: VecDeque::new(),
            kicked: None,
            due: Instant::now(),
        }
    }

    fn session(&self) -> RefMut<'_, Session> {
        RefMut::map(self.party.borrow_mut(), |it| &mut it.sessions[self.session])
    }

    fn life(&self) -> Ticket {
        self.session().seats[self.seat].life
    }

    fn name(&self) -> String {
        name(self.session, self.seat)
    }

    fn device(&self) -> String {
        format!("device-{}-{}", self.session, self.seat)
    }

    /// A message in its dialect.
    fn message(&self, kind: &str, fields: Value, timestamp: u64) -> String {
        if is_upper(self.seat) {
            let kind = kind.to_uppercase();
            return json!({"type": kind, "timestamp": timestamp, "payload": fields}).to_string();
        }
        let mut message = fields;
        message["type"] = json!(kind);
        message["timestamp"] = json!(timestamp);
        message.to_string()
    }

    fn beats(&mut self, say: &mut Say) {
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now - self.last_beat);
        self.last_beat = now;
        let ticket = self.world.ticket();
        self.pings.push_back((ticket, now));
        let device = json!({"deviceId": self.device(), "timestamp": ticket});
        let upper = is_upper(self.seat);
        let fields = if upper { device } else { json!({}) };
        say.push(self.message("heartbeat", fields.clone(), ticket));
        say.push(self.message("ping", fields, ticket));
    }

    fn kicks(&mut self, say: &mut Say) {
        let seat = 1 + self.chance.below(SEATS - 1);
        let mut session = self.session();
        let (host, guest) = (session.seats[0].life, session.seats[seat].life);
        let view = &session.seats[0].view;
        let Some(seen) = view.get(&name(self.session, seat)).filter(|_| guest != 0) else {
            return;
        };
        let id = seen.id.clone();
        session.seats[seat].kicked = Some((guest, host));
        drop(session);
        self.kicked = Some((seat, guest));
        self.world.report.fault("was kicked by the host");
        say.push(self.message("kick", json!({"memberId": id}), self.world.ticket()));
    }

    /// It has its first list: it is in.
    fn settles(&mut self) -> Result<(), Broken> {
        let life = self.world.ticket();
        let own = self.name();
        let mut session = self.session();
        let seen = session.seats[self.seat].view.get(&own).cloned();
        let Some(seen) = seen else {
            return Err((MEMBERS, format!("{own} does not stand in its first list")));
        };
        let generation = self.world.generation();
        let kept = self
            .kept
            .as_ref()
            .filter(|kept| kept.generation == generation);
        // Who was kicked meanwhile is not in the same place.
        let kept = kept.filter(|_| session.seats[self.seat].kicked.is_none());
        let has_place = kept.filter(|kept| Instant::now() < kept.until);
        let stands = |kept: &Kept| kept.seen.id == seen.id && kept.seen.joined_at == seen.joined_at;
        let kept_place = kept.is_some_and(stands);
        if self.seat == 0 && !kept_place {
            session.epoch += 1;
        }
        let epoch = session.epoch;
        let was_same = has_place.filter(|kept| self.seat == 0 || kept.epoch == epoch);
        let is_broken = was_same.is_some() && !kept_place;
        let seat = &mut session.seats[self.seat];
        (seat.life, seat.epoch, seat.kicked) = (life, epoch, None);
        drop(session);
        if was_same.is_some() {
            self.world.report.checked(PLACE);
        }
        let before = self.kept.take();
        if is_broken {
            let before = before.map(|kept| kept.seen);
            return Err((PLACE, format!("{own} was {before:?}, and now is {seen:?}")));
        }
        Ok(())
    }

    fn sees(&mut self, members: &Value) -> Result<(), Broken> {
        let seen = members.as_array().into_iter().flatten().map(seen);
        let view: Option<BTreeMap<String, Seen>> = seen.collect();
        let strange = || (MEMBERS, format!("{members}"));
        let view = view.ok_or_else(strange)?;
        let is_own = |name: &String| name.starts_with(&format!("m{}-", self.session));
        if !view.keys().all(is_own) || view.len() != members.as_array().map_or(0, Vec::len) {
            return Err(strange());
        }
        self.session().seats[self.seat].view = view;
        self.world.report.received(Protocol::Loudsync);
        if self.life() == 0 && self.is_welcome && !self.is_closed && !self.is_kicked {
            return self.settles();
        }
        Ok(())
    }

    fn is_told(&mut self, kind: &str, fields: &Value) -> Result<(), Broken> {
        match kind {
            "member_joined" => {
                let Some((name, seen)) = seen(&fields["member"]) else {
                    return Err((MEMBERS, format!("{fields}")));
                };
                self.session().seats[self.seat].view.insert(name, seen);
            }
            "member_left" => {
                let key = if is_upper(self.seat) {
                    "deviceId"
                } else {
                    "memberId"
                };
                let view = &mut self.session().seats[self.seat].view;
                let before = view.len();
                view.retain(|_, seen| fields[key] != json!(seen.id));
                let reasons = ["left", "kicked", "timeout", "error"].map(|it| json!(it));
                if view.len() + 1 != before || !reasons.contains(&fields["reason"]) {
                    return Err((MEMBERS, format!("of {before} left {fields}")));
                }
            }
            "kicked" => {
                self.is_kicked = true;
                let mut session = self.session();
                let was = session.seats[self.seat].kicked;
                let is_due = was.is_some_and(|(life, _)| life == session.seats[self.seat].life);
                session.seats[self.seat].life = 0;
                if !is_due {
                    return Err((
                        KICKED,
                        format!("{}: {was:?}", name(self.session, self.seat)),
                    ));
                }
            }
            _ => {
                self.is_closed = true;
                let mut session = self.session();
                let went = session.host_went > self.began;
                session.seats[self.seat].life = 0;
                if !went && self.world.phase() == Phase::Up {
                    return Err((
                        CLOSED,
                        format!("{}: {fields}", name(self.session, self.seat)),
                    ));
                }
            }
        }
        self.world.report.received(Protocol::Loudsync);
        Ok(())
    }

    fn hears_pong(&mut self, stamp: &Value) -> Result<(), Broken> {
        let ping = self.pings.pop_front();
        self.world.report.checked("PING is answered by PONG");
        match ping {
            Some((ticket, beat)) if *stamp == json!(ticket) => {
                self.good = Some(beat);
                Ok(())
            }
            _ => Err(("PING is answered by PONG", format!("{stamp}, not {ping:?}"))),
        }
    }

    fn is_wrong(&mut self, error: &Value) -> Result<(), Broken> {
        let code = error["code"].as_str().unwrap_or_default().to_lowercase();
        let unexpected = Err(("nothing is refused without a reason", format!("{error}")));
        if self.life() == 0 {
            self.is_refused = true;
            let stayed = self.session().seats[0].life == self.host_life;
            return if code == "session_not_found" && self.seat != 0 && !stayed {
                Ok(())
            } else {
                unexpected
            };
        }
        let kicked = self.kicked.take();
        let missed = kicked.is_some_and(|(seat, life)| self.session().seats[seat].life != life);
        if code == "invalid_message" && missed {
            Ok(())
        } else {
            unexpected
        }
    }
}

/// A member as either dialect has it.
fn seen(member: &Value) -> Option<(String, Seen)> {
    let seen = Seen {
        id: member["id"].as_str()?.to_owned(),
        joined_at: member["joinedAt"].as_u64()?,
        is_host: member["isHost"] == true || member["role"] == "host",
        is_connected: member["connectionStatus"] == "connected",
    };
    Some((member["name"].as_str()?.to_owned(), seen))
}

impl Person for Member {
    const PROTOCOL: Protocol = Protocol::Loudsync;

    fn target(&mut self) -> Option<String> {
        let host_life = self.session().seats[0].life;
        self.host_life = host_life;
        self.began = self.world.ticket();
        (self.seat == 0 || self.host_life != 0).then(|| "/".to_owned())
    }

    fn arrives(&mut self, say: &mut Say) {
        (self.is_welcome, self.is_closed) = (false, false);
        (self.is_kicked, self.is_refused) = (false, false);
        self.pings.clear();
        self.good = None;
        self.longest_gap = Duration::ZERO;
        self.last_beat = Instant::now();
        self.due = Instant::now() + self.chance.seconds(0, 5);
        let session = format!("s{}", self.session);
        let join = if is_upper(self.seat) {
            json!({"sessionId": session, "deviceId": self.device(), "deviceName": self.name(),
                   "version": "1.0.0"})
        } else {
            let kind = if self.seat == 0 { "host" } else { "client" };
            let device = json!({"id": self.device(), "name": self.name(), "type": kind});
            json!({"sessionId": session, "deviceInfo": device})
        };
        say.push(self.message("join", join, self.world.ticket()));
    }

    fn is_settled(&self) -> bool {
        self.life() != 0 || self.is_closed || self.is_kicked || self.is_refused
    }

    fn hears(&mut self, text: &str, _: &mut Say) -> Result<(), Broken> {
        let unknown = || ("only what the document has is said", text.to_owned());
        let message: Value = serde_json::from_str(text).map_err(|_| unknown())?;
        let kind = message["type"].as_str().unwrap_or_default();
        let upper = is_upper(self.seat);
        if upper != kind.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            return Err(unknown());
        }
        let fields = if upper { &message["payload"] } else { &message };
        match kind.to_lowercase().as_str() {
            "welcome" if !self.is_welcome => {
                self.is_welcome = true;
                let is_own = !upper || fields["yourDeviceId"] == json!(self.device());
                if is_own { Ok(()) } else { Err(unknown()) }
            }
            "member_list" if self.is_welcome => self.sees(&fields["members"]),
            kind @ ("member_joined" | "member_left" | "kicked" | "session_closed")
                if self.is_welcome =>
            {
                self.is_told(kind, fields)
            }
            "pong" => {
                let stamp = if upper {
                    &fields["pingTimestamp"]
                } else {
                    &fields["timestamp"]
                };
                self.hears_pong(stamp)
            }
            "error" => self.is_wrong(fields),
            _ => Err(unknown()),
        }
    }

    fn due(&self) -> Instant {
        self.due
    }

    fn acts(&mut self, say: &mut Say) {
        self.due = Instant::now() + BEAT;
        if self.life() == 0 {
            return;
        }
        self.beats(say);
        if self.world.is_quiet() {
            return;
        }
        self.world.report.sent(Protocol::Loudsync);
        if self.chance.once_in(10) {
            say.push(self.message("member_list", json!({}), self.world.ticket()));
        }
        if self.seat == 0 && self.chance.once_in(20) {
            self.kicks(say);
        }
    }

    fn goes(&mut self, how: Farewell, say: &mut Say) {
        let own = self.name();
        let seat = self.seat;
        let mut session = self.session();
        let (epoch, seen) = (
            session.seats[seat].epoch,
            session.seats[seat].view.get(&own),
        );
        let seen = seen.cloned();
        session.seats[seat].life = 0;
        if seat == 0 {
            session.host_went = self.world.ticket();
        }
        drop(session);
        let generation = self.world.generation();
        let is_cut = matches!(
            how,
            Farewell::Reset | Farewell::ResetInFrame | Farewell::EndInFrame
        );
        self.kept = seen
            .zip(self.good)
            .filter(|_| is_cut)
            .map(|(seen, good)| Kept {
                generation,
                seen,
                epoch,
                until: good + GOOD,
            });
        if how == Farewell::Goodbye {
            let fields = json!({"deviceId": self.device(), "reason": "left"});
            say.push(self.message("leave", fields, self.world.ticket()));
        }
    }

    fn is_ended(&mut self, end: &End) -> Result<(), Broken> {
        self.kept = None;
        match end {
            End::Closed(1001, _) | End::Closed(1000, _) if self.is_closed => Ok(()),
            End::Closed(1001, _) if self.life() == 0 => Ok(()),
            End::Closed(1000, _) if self.is_refused => Ok(()),
            End::Closed(4403, _) if self.is_kicked => Ok(()),
            End::Closed(4408, _) if self.longest_gap.max(self.last_beat.elapsed()) > LATE => {
                self.world
                    .report
                    .fault("sent its heartbeats late, and was closed");
                Ok(())
            }
            _ => {
                let seen = format!(
                    "{end:?}; welcome: {}, session_closed: {}, kicked: {}, refused: {}",
                    self.is_welcome, self.is_closed, self.is_kicked, self.is_refused
                );
                Err(("nobody is sent away without a reason", seen))
            }
        }
    }

    fn is_gone(&mut self) {
        let went = self.world.ticket();
        let mut session = self.session();
        let seat = &mut session.seats[self.seat];
        if std::mem::take(&mut seat.life) != 0 && self.seat == 0 {
            session.host_went = went;
        }
    }
}
