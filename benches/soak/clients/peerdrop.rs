//! PeerDrop: pairs of people. What one says the other hears, octet for octet, until one goes.
//!
//! Due is everything that was said in a session while both are in it. If one leaves with a Close
//! frame, also what it said right before; if it is cut, that may be lost, and only that.

use crate::client_task::{Broken, Person, Say};
use crate::connection::{End, Farewell};
use crate::expectations::Place;
use crate::shared_state::{Chance, GLANCE, Protocol, World, text};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

const JOINED: &str = "the other guy joined";
const ALPHABET: &str = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// A flood is more than the daemon holds for one client, and what the sockets hold.
const FLOOD: usize = 96;
const FLOOD_LETTERS: usize = 30_000;

/// One session, from its code to its end. Index 0 is its creator's side, 1 the other's.
#[derive(Default)]
struct Session {
    code: String,
    /// The creator has been told of the other.
    is_paired: bool,
    there: [bool; 2],
    /// Who went with a Close frame, and so that all is due that it said.
    went_well: [bool; 2],
    /// What each has said and the other has not heard.
    unheard: [VecDeque<String>; 2],
    /// The creator is about to say more than fits anywhere.
    is_flooded: bool,
}

/// All pairs; each its newest session.
pub struct Pairs {
    sessions: Vec<Rc<RefCell<Session>>>,
}

impl Pairs {
    pub fn new(size: usize) -> Self {
        Self {
            sessions: (0..size.div_ceil(2)).map(|_| Rc::default()).collect(),
        }
    }
}

impl Place for Pairs {
    fn disagreements(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        for (pair, session) in self.sessions.iter().enumerate() {
            let session = session.borrow();
            if session.there != [true; 2] {
                continue;
            }
            let promise = "messages reach those to whom they are due";
            if !session.is_paired {
                let seen = format!("pair {pair}: the creator was not told of the other");
                broken.push((promise, seen));
            }
            for (side, unheard) in session.unheard.iter().enumerate() {
                if let Some(first) = unheard.front() {
                    let first: String = first.chars().take(30).collect();
                    let seen = format!("pair {pair}: {} of side {side}: {first:?}", unheard.len());
                    broken.push((promise, seen));
                }
            }
        }
        broken
    }

    fn forget(&mut self) -> Vec<(&'static str, usize)> {
        let there = |session: &&Rc<RefCell<Session>>| session.borrow().there == [true; 2];
        let count = self.sessions.iter().filter(there).count();
        vec![("pairs of PeerDrop have heard all of each other", count)]
    }
}

/// One of a pair.
pub struct Peer {
    world: Rc<World>,
    pairs: Rc<RefCell<Pairs>>,
    index: usize,
    side: usize,
    chance: Chance,
    session: Rc<RefCell<Session>>,
    is_settled: bool,
    has_flood: bool,
    said: u64,
    due: Instant,
}

impl Peer {
    pub fn new(world: &Rc<World>, pairs: &Rc<RefCell<Pairs>>, index: usize) -> Self {
        Self {
            world: Rc::clone(world),
            pairs: Rc::clone(pairs),
            index,
            side: index % 2,
            chance: world.chance(Protocol::PeerDrop, index + (1 << 20)),
            session: Rc::default(),
            is_settled: false,
            has_flood: false,
            said: 0,
            due: Instant::now(),
        }
    }

    fn say(&mut self, letters: usize, say: &mut Say) {
        self.said += 1;
        let text = match self.chance.below(20) {
            0 if letters < 1000 => String::new(),
            1 if letters < 1000 => JOINED.to_owned(),
            _ => text(self.index, self.said, letters),
        };
        self.world.report.sent(Protocol::PeerDrop);
        self.session.borrow_mut().unheard[self.side].push_back(text.clone());
        say.push(text);
    }

    fn settle(&mut self, code: &str) {
        self.is_settled = true;
        self.session.borrow_mut().there[self.side] = true;
        if self.side == 0 {
            self.session.borrow_mut().code = code.to_owned();
            self.pairs.borrow_mut().sessions[self.index / 2] = Rc::clone(&self.session);
        }
    }
}

impl Person for Peer {
    const PROTOCOL: Protocol = Protocol::PeerDrop;

    fn target(&mut self) -> Option<String> {
        if self.side == 0 {
            self.session = Rc::default();
            return Some("/ws/chat".to_owned());
        }
        let session = Rc::clone(&self.pairs.borrow().sessions[self.index / 2]);
        if !session.borrow().there[0] {
            return None;
        }
        self.session = session;
        // A code is good for one.
        let mut code = std::mem::take(&mut self.session.borrow_mut().code);
        if code.is_empty() {
            return None;
        }
        if self.chance.once_in(3) {
            code = code.to_lowercase();
        }
        Some(format!("/ws/chat/{code}"))
    }

    fn arrives(&mut self, _: &mut Say) {
        self.is_settled = false;
    }

    fn is_settled(&self) -> bool {
        self.is_settled
    }

    fn hears(&mut self, seen: &str, _: &mut Say) -> Result<(), Broken> {
        if !self.is_settled {
            let is_code = seen.len() == 6 && seen.chars().all(|c| ALPHABET.contains(c));
            self.settle(seen);
            return if is_code {
                Ok(())
            } else {
                Err(("a code comes first", format!("{seen:?}")))
            };
        }
        let mut session = self.session.borrow_mut();
        if self.side == 0 && !session.is_paired {
            session.is_paired = true;
            return if seen == JOINED {
                Ok(())
            } else {
                let seen = seen.chars().take(30).collect::<String>();
                Err(("the creator is told of the other", format!("{seen:?}")))
            };
        }
        let said = session.unheard[1 - self.side].pop_front();
        if said.as_deref() == Some(seen) {
            self.world.report.received(Protocol::PeerDrop);
            return Ok(());
        }
        let cut = |text: &str| text.chars().take(30).collect::<String>();
        let said = said.as_deref().map(cut);
        let promise = "messages come once, in the order in which they were sent";
        Err((promise, format!("{:?} instead of {said:?}", cut(seen))))
    }

    fn due(&self) -> Instant {
        self.due
    }

    fn acts(&mut self, say: &mut Say) {
        if self.world.is_quiet() {
            self.due = Instant::now() + GLANCE * 5;
            return;
        }
        self.due = Instant::now() + self.chance.seconds(2, 15);
        let is_alone = {
            let session = self.session.borrow();
            self.side == 0 && !session.is_paired || session.there != [true; 2]
        };
        if is_alone {
            return;
        }
        if std::mem::take(&mut self.has_flood) {
            for _ in 0..FLOOD {
                self.say(FLOOD_LETTERS, say);
            }
        } else if self.side == 0 && self.chance.once_in(40) && self.world.may_flood() {
            // First the other is to stop reading.
            self.session.borrow_mut().is_flooded = true;
            self.has_flood = true;
            self.due = Instant::now() + Duration::from_secs(1);
        }
        for _ in 0..1 + self.chance.below(4) {
            let letters = self.chance.below(400);
            self.say(letters, say);
        }
    }

    fn pauses(&mut self) -> bool {
        let mut session = self.session.borrow_mut();
        self.side == 1 && session.is_flooded && {
            session.is_flooded = false;
            self.world.report.fault("flooded while it read nothing");
            self.world.floods_no_more();
            true
        }
    }

    fn goes(&mut self, how: Farewell, _: &mut Say) {
        let mut session = self.session.borrow_mut();
        session.there[self.side] = false;
        session.went_well[self.side] = matches!(how, Farewell::Close | Farewell::Goodbye);
    }

    fn is_ended(&mut self, end: &End) -> Result<(), Broken> {
        let session = self.session.borrow();
        let other = 1 - self.side;
        match end {
            End::Closed(1001, _) => Ok(()),
            End::Closed(1000, reason) if reason == "peer left" && !session.there[other] => {
                let unheard = &session.unheard[other];
                if session.went_well[other] && !unheard.is_empty() {
                    let promise = "what a peer says before it leaves is delivered";
                    return Err((promise, format!("{} messages are missing", unheard.len())));
                }
                Ok(())
            }
            // The creator went while the code was on its way.
            End::Closed(4404, _) if self.side == 1 && !session.there[0] => Ok(()),
            _ => {
                let promise = "nobody is sent away without a reason";
                Err((
                    promise,
                    format!("{end:?}, the other there: {}", session.there[other]),
                ))
            }
        }
    }

    fn is_gone(&mut self) {
        let mut session = self.session.borrow_mut();
        session.there[self.side] = false;
        if std::mem::take(&mut session.is_flooded) || std::mem::take(&mut self.has_flood) {
            self.world.floods_no_more();
        }
        self.is_settled = false;
    }
}
