//! PeerJS: people who call each other, some of whom are not there.
//!
//! A call is an OFFER, to which the other says ANSWER, and then both some CANDIDATEs. It comes to
//! whom it is for, from whom it is, as it was written. If nobody is there who fetches it in time,
//! EXPIRE comes instead; never both. An impostor is told that the id is taken, and whoever comes
//! again with its own token takes over.

use crate::client_task::{Broken, Person, Say};
use crate::connection::{End, Farewell};
use crate::expectations::Place;
use crate::expectations::message_ledger::Post;
use crate::shared_state::{Chance, DEADLINE, GLANCE, Protocol, Ticket, World, origin};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(20);

const FATE: &str = "a call is answered, or EXPIRE comes";

/// Everybody on PeerJS.
pub struct Exchange {
    post: Post,
}

impl Exchange {
    pub fn new(size: usize) -> Self {
        Self {
            // One more, who never comes.
            post: Post::new(size + 1, false),
        }
    }

    /// Somebody who is there, and in which life.
    pub fn someone(&self, chance: &mut Chance) -> Option<(usize, Ticket)> {
        let there: Vec<usize> = self.post.present().collect();
        let who = *there.get(chance.below(there.len().max(1)))?;
        Some((who, self.post.life(who)))
    }

    pub fn life(&self, who: usize) -> Ticket {
        self.post.life(who)
    }
}

impl Place for Exchange {
    fn disagreements(&self) -> Vec<Broken> {
        self.post.missing()
    }

    fn forget(&mut self) -> Vec<(&'static str, usize)> {
        vec![(
            "messages reach those to whom they are due",
            self.post.forget(),
        )]
    }
}

/// An OFFER without an ANSWER.
struct Call {
    to: usize,
    number: u64,
    since: Instant,
    /// How often the other had come and gone before.
    changes: u64,
}

/// One of them.
pub struct Caller {
    world: Rc<World>,
    exchange: Rc<RefCell<Exchange>>,
    index: usize,
    chance: Chance,
    number: u64,
    call: Option<Call>,
    /// To whom it has something to say besides: CANDIDATEs.
    says: VecDeque<usize>,
    /// To whom it has said something of late that was no OFFER, and may expire, too.
    lately: VecDeque<(usize, Instant)>,
    beat: Instant,
    due: Instant,
    /// The server has closed its connection, or will have when it is gone.
    is_let_go: bool,
}

/// What comes, with the payload as it was written.
#[derive(serde::Deserialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    src: Option<&'a str>,
    dst: Option<&'a str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl Caller {
    pub fn new(world: &Rc<World>, exchange: &Rc<RefCell<Exchange>>, index: usize) -> Self {
        Self {
            world: Rc::clone(world),
            exchange: Rc::clone(exchange),
            index,
            chance: world.chance(Protocol::PeerJs, index + (1 << 20)),
            number: 0,
            call: None,
            says: VecDeque::new(),
            lately: VecDeque::new(),
            beat: Instant::now(),
            due: Instant::now(),
            is_let_go: false,
        }
    }

    fn sends(&mut self, kind: &str, to: usize, say: &mut Say) {
        self.number += 1;
        if kind != "OFFER" {
            self.lately.push_back((to, Instant::now()));
        }
        let letters = self.chance.below(1500);
        let mut exchange = self.exchange.borrow_mut();
        let text = exchange
            .post
            .send(self.index, self.number, Some(to), letters);
        self.world.report.sent(Protocol::PeerJs);
        // The payload is written unlike any program would write it.
        let payload = payload(&text);
        let to = json!(id(to));
        say.push(format!(
            r#"{{"type":"{kind}","payload":{payload},"dst":{to},"src":"nobody"}}"#
        ));
    }

    fn receives(&mut self, message: &Message, say: &mut Say) -> Result<(), Broken> {
        let what = || format!("{:?} from {:?}", message.kind, message.src);
        let strange = || ("messages come as they were sent", what());
        let from = message.src.and_then(who).ok_or_else(strange)?;
        if message.dst != Some(id(self.index).as_str()) {
            return Err(("nothing comes to others", what()));
        }
        let raw = message.payload.ok_or_else(strange)?.get();
        let parsed: Value = serde_json::from_str(raw).map_err(|_| strange())?;
        let text = parsed["text"].as_str().unwrap_or_default();
        let (author, number) = origin(text).ok_or_else(strange)?;
        if raw != payload(text) || author != from {
            return Err(strange());
        }
        let mut exchange = self.exchange.borrow_mut();
        exchange.post.receive(from, number, self.index, text)?;
        drop(exchange);
        self.world.report.received(Protocol::PeerJs);
        match message.kind {
            "OFFER" => {
                self.sends("ANSWER", from, say);
                self.says.push_back(from);
            }
            "ANSWER" if self.call.as_ref().is_some_and(|call| call.to == from) => {
                self.call = None;
                self.world.report.checked(FATE);
                self.says.extend([from, from]);
            }
            _ => {}
        }
        Ok(())
    }

    fn expires(&mut self, message: &Message) -> Result<(), Broken> {
        let Some(src) = message.src.and_then(who) else {
            return Err((FATE, format!("EXPIRE from {:?}", message.src)));
        };
        let Some(call) = self.call.take_if(|call| call.to == src) else {
            // An ANSWER or a CANDIDATE to somebody who has just gone.
            self.exchange.borrow_mut().post.is_doubtful(self.index, src);
            return Ok(());
        };
        let mut exchange = self.exchange.borrow_mut();
        if self.spoke_lately_to(src) {
            exchange.post.is_doubtful(self.index, src);
            return Ok(());
        }
        self.world.report.checked(FATE);
        if exchange.post.due_to(self.index, call.number).is_some() {
            let seen = format!("{}.{} to {src}, who is there", self.index, call.number);
            return Err((FATE, seen));
        }
        exchange.post.answered(self.index, call.number, false)
    }

    fn spoke_lately_to(&self, who: usize) -> bool {
        self.lately.iter().any(|(to, _)| *to == who)
    }

    /// A call without an answer: it is given up if the other has come or gone meanwhile, since it
    /// may have been lost with a connection. Otherwise there has to be something in time.
    fn waits(&mut self, now: Instant) {
        let Some(call) = &self.call else {
            return;
        };
        let is_late = now > call.since + DEADLINE && !self.world.is_quiet();
        let is_lost = self.exchange.borrow().post.changes(call.to) != call.changes;
        if is_late && !is_lost {
            let seen = format!("{}.{} to {}", self.index, call.number, call.to);
            let at = self.world.elapsed();
            self.world.report.broken(at, FATE, &id(self.index), &seen);
        }
        if is_late || is_lost && now > call.since + DEADLINE / 2 {
            self.call = None;
        }
    }
}

/// The id that somebody has.
pub fn id(who: usize) -> String {
    format!("peer {who}+ü")
}

/// Whose id it is.
fn who(id: &str) -> Option<usize> {
    id.strip_prefix("peer ")?.strip_suffix("+ü")?.parse().ok()
}

/// Where somebody connects.
pub fn target(who: usize, token: &str) -> String {
    format!("/peerjs?key=peerjs&id=peer+{who}%2B%C3%BC&token={token}")
}

fn payload(text: &str) -> String {
    format!(r#"{{ "z":1e2,  "text" :{},"a":[ ]}}"#, json!(text))
}

impl Person for Caller {
    const PROTOCOL: Protocol = Protocol::PeerJs;

    fn target(&mut self) -> Option<String> {
        Some(target(self.index, &format!("token{}", self.index)))
    }

    fn arrives(&mut self, _: &mut Say) {
        self.call = None;
        self.says.clear();
        self.exchange.borrow_mut().post.set_life(self.index, 0);
    }

    fn is_settled(&self) -> bool {
        self.exchange.borrow().life(self.index) != 0
    }

    fn hears(&mut self, text: &str, say: &mut Say) -> Result<(), Broken> {
        let unknown = || ("only what the document has is said", text.to_owned());
        let message: Message = serde_json::from_str(text).map_err(|_| unknown())?;
        match message.kind {
            "OPEN" if !self.is_settled() => {
                let life = self.world.ticket();
                self.exchange.borrow_mut().post.set_life(self.index, life);
                Ok(())
            }
            _ if !self.is_settled() => Err(("OPEN comes first", text.to_owned())),
            "OFFER" | "ANSWER" | "CANDIDATE" => self.receives(&message, say),
            "EXPIRE" => self.expires(&message),
            _ => Err(unknown()),
        }
    }

    fn due(&self) -> Instant {
        self.due
    }

    fn acts(&mut self, say: &mut Say) {
        let now = Instant::now();
        if now >= self.beat + HEARTBEAT {
            self.beat = now;
            say.push(json!({"type": "HEARTBEAT"}).to_string());
        }
        self.due = now + GLANCE * 5;
        self.waits(now);
        self.lately.retain(|(_, at)| now < *at + DEADLINE / 2);
        if self.world.is_quiet() {
            return;
        }
        self.due = now + self.chance.seconds(3, 15);
        if let Some(to) = self.says.pop_front() {
            return self.sends("CANDIDATE", to, say);
        }
        let some = self.chance.below(self.world.size * 21 / 20 + 1);
        let to = some.min(self.world.size);
        if self.call.is_none() && to != self.index && !self.spoke_lately_to(to) {
            self.sends("OFFER", to, say);
            self.call = Some(Call {
                to,
                number: self.number,
                since: now,
                changes: self.exchange.borrow().post.changes(to),
            });
        }
    }

    fn goes(&mut self, how: Farewell, say: &mut Say) {
        self.exchange.borrow_mut().post.set_life(self.index, 0);
        self.is_let_go = matches!(how, Farewell::Close | Farewell::Goodbye);
        if how == Farewell::Goodbye {
            say.push(json!({"type": "LEAVE"}).to_string());
        }
    }

    fn is_ended(&mut self, end: &End) -> Result<(), Broken> {
        match end {
            End::Closed(1001, _) => Ok(()),
            _ => Err(("nobody is sent away without a reason", format!("{end:?}"))),
        }
    }

    fn is_gone(&mut self) {
        let mut exchange = self.exchange.borrow_mut();
        if std::mem::take(&mut self.is_let_go) {
            exchange.post.is_gone(self.index);
        } else {
            exchange.post.set_life(self.index, 0);
        }
    }

    fn may_take_over(&self) -> bool {
        true
    }
}
