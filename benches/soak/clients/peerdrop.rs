//! PeerDrop clients, in pairs: what one sends the other receives, byte for byte, until one leaves.
//!
//! Due is everything sent in a session while both peers are in it. If a peer leaves with a Close frame,
//! also what it sent right before that; if its connection is cut, that may be lost, and nothing else.

use super::{ClientModel, Outgoing};
use crate::checks::{CLOSED_WITH_REASON, IN_ORDER, Violation};
use crate::connection::{ConnectionEnd, Disconnect};
use crate::expectations::peerdrop::{PeerDropExpectations, Session};
use crate::payload::text;
use crate::random::Random;
use crate::shared_state::{POLL_INTERVAL, Protocol, SharedState};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub const PROTOCOL: Protocol = Protocol("peerdrop");

/// What the creator of a session is told when the other peer joins. Clients may send it, too.
const JOINED: &str = "the other guy joined";

/// The characters of a code.
const ALPHABET: &str = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// The messages of a flood, more than the daemon's outbox and the socket buffers hold together.
const FLOOD: usize = 96;
const FLOOD_LENGTH: usize = 30_000;

/// A client: side 0 of each pair creates sessions, side 1 joins them.
pub struct PeerDropClient {
    shared: Rc<SharedState>,
    expectations: Rc<RefCell<PeerDropExpectations>>,
    index: usize,
    side: usize,
    random: Random,
    session: Rc<RefCell<Session>>,
    is_settled: bool,
    /// The next action is a flood.
    will_flood: bool,
    sent: u64,
    next_action: Instant,
}

impl PeerDropClient {
    pub fn new(
        shared: &Rc<SharedState>,
        expectations: &Rc<RefCell<PeerDropExpectations>>,
        index: usize,
    ) -> Self {
        Self {
            shared: Rc::clone(shared),
            expectations: Rc::clone(expectations),
            index,
            side: index % 2,
            random: shared.random(PROTOCOL, index + (1 << 20)),
            session: Rc::default(),
            is_settled: false,
            will_flood: false,
            sent: 0,
            next_action: Instant::now(),
        }
    }

    fn send(&mut self, length: usize, outgoing: &mut Outgoing) {
        self.sent += 1;
        let text = match self.random.below(20) {
            0 if length < 1000 => String::new(),
            1 if length < 1000 => JOINED.to_owned(),
            _ => text(self.index, self.sent, length),
        };
        self.shared.report.sent(PROTOCOL);
        self.session.borrow_mut().unreceived[self.side].push_back(text.clone());
        outgoing.push(text);
    }

    /// Handles the first message, the session's code.
    fn on_code(&mut self, code: &str) -> Result<(), Violation> {
        self.is_settled = true;
        self.session.borrow_mut().is_online[self.side] = true;
        if self.side == 0 {
            self.session.borrow_mut().code = code.to_owned();
            let session = Rc::clone(&self.session);
            self.expectations.borrow_mut().sessions[self.index / 2] = session;
        }
        if code.len() == 6 && code.chars().all(|c| ALPHABET.contains(c)) {
            Ok(())
        } else {
            Err(("the first message is a code", format!("{code:?}")))
        }
    }
}

impl ClientModel for PeerDropClient {
    const PROTOCOL: Protocol = PROTOCOL;

    fn connect_target(&mut self) -> Option<String> {
        if self.side == 0 {
            self.session = Rc::default();
            return Some("/ws/chat".to_owned());
        }
        let session = Rc::clone(&self.expectations.borrow().sessions[self.index / 2]);
        if !session.borrow().is_online[0] {
            return None;
        }
        self.session = session;
        // A code can be used once.
        let mut code = std::mem::take(&mut self.session.borrow_mut().code);
        if code.is_empty() {
            return None;
        }
        if self.random.one_in(3) {
            code = code.to_lowercase();
        }
        Some(format!("/ws/chat/{code}"))
    }

    fn on_connected(&mut self, _: &mut Outgoing) {
        self.is_settled = false;
    }

    fn is_settled(&self) -> bool {
        self.is_settled
    }

    fn on_message(&mut self, seen: &str, _: &mut Outgoing) -> Result<(), Violation> {
        if !self.is_settled {
            return self.on_code(seen);
        }
        let start_of = |text: &str| text.chars().take(30).collect::<String>();
        let mut session = self.session.borrow_mut();
        if self.side == 0 && !session.is_paired {
            session.is_paired = true;
            return if seen == JOINED {
                Ok(())
            } else {
                let check = "the creator is told that the other peer joined";
                Err((check, format!("{:?}", start_of(seen))))
            };
        }
        let expected = session.unreceived[1 - self.side].pop_front();
        if expected.as_deref() == Some(seen) {
            self.shared.report.received(PROTOCOL);
            return Ok(());
        }
        let expected = expected.as_deref().map(start_of);
        let seen = format!("{:?} instead of {expected:?}", start_of(seen));
        Err((IN_ORDER, seen))
    }

    fn next_action(&self) -> Instant {
        self.next_action
    }

    fn act(&mut self, outgoing: &mut Outgoing) {
        if self.shared.is_quiet() {
            self.next_action = Instant::now() + POLL_INTERVAL * 5;
            return;
        }
        self.next_action = Instant::now() + self.random.seconds(2, 15);
        let is_alone = {
            let session = self.session.borrow();
            self.side == 0 && !session.is_paired || !session.is_complete()
        };
        if is_alone {
            return;
        }
        if std::mem::take(&mut self.will_flood) {
            for _ in 0..FLOOD {
                self.send(FLOOD_LENGTH, outgoing);
            }
        } else if self.side == 0 && self.random.one_in(40) && self.shared.try_begin_flood() {
            // The messages below wake up the other peer, which then stops reading before the flood.
            self.session.borrow_mut().is_flooded = true;
            self.will_flood = true;
            self.next_action = Instant::now() + Duration::from_secs(1);
        }
        for _ in 0..1 + self.random.below(4) {
            let length = self.random.below(400);
            self.send(length, outgoing);
        }
    }

    fn must_stop_reading(&mut self) -> bool {
        let mut session = self.session.borrow_mut();
        self.side == 1 && session.is_flooded && {
            session.is_flooded = false;
            self.shared.report.fault("flooded while reading nothing");
            self.shared.end_flood();
            true
        }
    }

    fn on_disconnecting(&mut self, how: Disconnect, _: &mut Outgoing) {
        let mut session = self.session.borrow_mut();
        session.is_online[self.side] = false;
        session.left_cleanly[self.side] =
            matches!(how, Disconnect::CloseFrame | Disconnect::LeaveMessage);
    }

    fn on_closed_by_server(&mut self, end: &ConnectionEnd) -> Result<(), Violation> {
        let session = self.session.borrow();
        let other = 1 - self.side;
        match end {
            ConnectionEnd::Closed(1001, _) => Ok(()),
            ConnectionEnd::Closed(1000, reason)
                if reason == "peer left" && !session.is_online[other] =>
            {
                let missing = session.unreceived[other].len();
                if session.left_cleanly[other] && missing > 0 {
                    let check = "what a peer sends before its Close frame is delivered";
                    return Err((check, format!("{missing} messages are missing")));
                }
                Ok(())
            }
            // The creator left while this client was using the code.
            ConnectionEnd::Closed(4404, _) if self.side == 1 && !session.is_online[0] => Ok(()),
            _ => {
                let other_online = session.is_online[other];
                let seen = format!("{end:?}, the other peer is online: {other_online}");
                Err((CLOSED_WITH_REASON, seen))
            }
        }
    }

    fn on_gone(&mut self) {
        let mut session = self.session.borrow_mut();
        session.is_online[self.side] = false;
        if std::mem::take(&mut session.is_flooded) || std::mem::take(&mut self.will_flood) {
            self.shared.end_flood();
        }
        self.is_settled = false;
    }
}
