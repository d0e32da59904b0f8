//! PeerJS clients that call each other, online or not.
//!
//! A call is an OFFER, which the callee answers by an ANSWER; then both send some CANDIDATEs. A message
//! must arrive at its destination, under the id of its source, with the payload as it was written. If the
//! callee does not connect in time, an EXPIRE must arrive instead; never both. A client that connects
//! with the id of another one and a wrong token is told that the id is taken; one that connects again
//! with its own token takes over.

use super::{ClientModel, Outgoing};
use crate::checks::{CLOSED_WITH_REASON, DOCUMENTED, RIGHT_RECIPIENT, UNCHANGED, Violation};
use crate::connection::{ConnectionEnd, Disconnect};
use crate::expectations::peerjs::{PeerJsExpectations, client_of, connect_target, peer_id};
use crate::payload::parse_origin;
use crate::random::Random;
use crate::shared_state::{DEADLINE, POLL_INTERVAL, Protocol, SharedState};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub const PROTOCOL: Protocol = Protocol("peerjs");

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(20);

const OUTCOME: &str = "a call is answered, or it expires";

/// An OFFER that has no ANSWER yet.
struct Call {
    callee: usize,
    number: u64,
    since: Instant,
    /// The number of transitions of the callee before.
    transitions: u64,
}

/// A client.
pub struct PeerJsClient {
    shared: Rc<SharedState>,
    expectations: Rc<RefCell<PeerJsExpectations>>,
    index: usize,
    random: Random,
    /// The number of the last message that it sent.
    number: u64,
    call: Option<Call>,
    /// The clients to send a CANDIDATE to.
    candidates_to: VecDeque<usize>,
    /// When and to which clients it sent anything but an OFFER. That may expire, too, and an EXPIRE does
    /// not say for which message it is.
    other_messages: VecDeque<(usize, Instant)>,
    heartbeat_at: Instant,
    next_action: Instant,
    /// The server closes the connection that is being ended.
    is_closed_by_server: bool,
}

/// A message of the server, with its payload as it was written.
#[derive(serde::Deserialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    src: Option<&'a str>,
    dst: Option<&'a str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl PeerJsClient {
    pub fn new(
        shared: &Rc<SharedState>,
        expectations: &Rc<RefCell<PeerJsExpectations>>,
        index: usize,
    ) -> Self {
        Self {
            shared: Rc::clone(shared),
            expectations: Rc::clone(expectations),
            index,
            random: shared.random(PROTOCOL, index + (1 << 20)),
            number: 0,
            call: None,
            candidates_to: VecDeque::new(),
            other_messages: VecDeque::new(),
            heartbeat_at: Instant::now(),
            next_action: Instant::now(),
            is_closed_by_server: false,
        }
    }

    fn send(&mut self, kind: &str, recipient: usize, outgoing: &mut Outgoing) {
        self.number += 1;
        if kind != "OFFER" {
            let message = (recipient, Instant::now());
            self.other_messages.push_back(message);
        }
        let length = self.random.below(1500);
        let ledger = &mut self.expectations.borrow_mut().ledger;
        let text = ledger.send(self.index, self.number, Some(recipient), length);
        self.shared.report.sent(PROTOCOL);
        let payload = payload(&text);
        let dst = json!(peer_id(recipient));
        outgoing.push(format!(
            r#"{{"type":"{kind}","payload":{payload},"dst":{dst},"src":"forged"}}"#
        ));
    }

    fn receive(&mut self, message: &Message, outgoing: &mut Outgoing) -> Result<(), Violation> {
        let what = || format!("{:?} from {:?}", message.kind, message.src);
        let changed = || (UNCHANGED, what());
        let sender = message.src.and_then(client_of).ok_or_else(changed)?;
        if message.dst != Some(peer_id(self.index).as_str()) {
            return Err((RIGHT_RECIPIENT, what()));
        }
        let raw = message.payload.ok_or_else(changed)?.get();
        let parsed: Value = serde_json::from_str(raw).map_err(|_| changed())?;
        let text = parsed["text"].as_str().unwrap_or_default();
        let (origin, number) = parse_origin(text).ok_or_else(changed)?;
        if raw != payload(text) || origin != sender {
            return Err(changed());
        }
        let mut expectations = self.expectations.borrow_mut();
        let ledger = &mut expectations.ledger;
        ledger.receive(sender, number, self.index, text)?;
        drop(expectations);
        self.shared.report.received(PROTOCOL);
        match message.kind {
            "OFFER" => {
                self.send("ANSWER", sender, outgoing);
                self.candidates_to.push_back(sender);
            }
            "ANSWER" if self.call.as_ref().is_some_and(|it| it.callee == sender) => {
                self.call = None;
                self.shared.report.checked(OUTCOME);
                self.candidates_to.extend([sender, sender]);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_expire(&mut self, message: &Message) -> Result<(), Violation> {
        let Some(callee) = message.src.and_then(client_of) else {
            return Err((OUTCOME, format!("EXPIRE from {:?}", message.src)));
        };
        let has_other_messages = self.has_other_messages_to(callee);
        let ledger = &mut self.expectations.borrow_mut().ledger;
        let Some(call) = self.call.take_if(|call| call.callee == callee) else {
            // It is for an ANSWER or a CANDIDATE to a client that has just left.
            ledger.set_doubtful(self.index, callee);
            return Ok(());
        };
        if has_other_messages {
            ledger.set_doubtful(self.index, callee);
            return Ok(());
        }
        self.shared.report.checked(OUTCOME);
        let number = call.number;
        if ledger.due_recipient(self.index, number).is_some() {
            let seen = format!("{}.{number} to {callee} expired while online", self.index);
            return Err((OUTCOME, seen));
        }
        ledger.answer(self.index, number, false)
    }

    fn has_other_messages_to(&self, recipient: usize) -> bool {
        let mut messages = self.other_messages.iter();
        messages.any(|(to, _)| *to == recipient)
    }

    /// Looks after a call that has no answer: if the callee connected or disconnected meanwhile, the call
    /// may be lost with a connection, and is given up. Otherwise there must be an answer in time.
    fn check_call(&mut self, now: Instant) {
        let Some(call) = &self.call else {
            return;
        };
        let (number, callee) = (call.number, call.callee);
        let is_late = now > call.since + DEADLINE && !self.shared.is_quiet();
        let transitions = self.expectations.borrow().ledger.transitions(callee);
        let may_be_lost = transitions != call.transitions;
        if is_late && !may_be_lost {
            let seen = format!("{}.{number} to {callee}", self.index);
            let at = self.shared.elapsed();
            let name = peer_id(self.index);
            self.shared.report.violation(at, OUTCOME, &name, &seen);
        }
        if is_late || may_be_lost && now > call.since + DEADLINE / 2 {
            self.call = None;
        }
    }
}

/// Returns a payload with spaces and a number that no JSON library would write like this, to see that it
/// is passed on as it is.
fn payload(text: &str) -> String {
    format!(r#"{{ "z":1e2,  "text" :{},"a":[ ]}}"#, json!(text))
}

impl ClientModel for PeerJsClient {
    const PROTOCOL: Protocol = PROTOCOL;

    fn connect_target(&mut self) -> Option<String> {
        let token = format!("token{}", self.index);
        Some(connect_target(self.index, &token))
    }

    fn on_connected(&mut self, _: &mut Outgoing) {
        self.call = None;
        self.candidates_to.clear();
        let ledger = &mut self.expectations.borrow_mut().ledger;
        ledger.set_admitted(self.index, 0);
    }

    fn is_settled(&self) -> bool {
        self.expectations.borrow().admitted_at(self.index) != 0
    }

    fn on_message(&mut self, text: &str, outgoing: &mut Outgoing) -> Result<(), Violation> {
        let unknown = || (DOCUMENTED, text.to_owned());
        let message: Message = serde_json::from_str(text).map_err(|_| unknown())?;
        match message.kind {
            "OPEN" if !self.is_settled() => {
                let admitted_at = self.shared.next_event();
                let ledger = &mut self.expectations.borrow_mut().ledger;
                ledger.set_admitted(self.index, admitted_at);
                Ok(())
            }
            _ if !self.is_settled() => Err(("OPEN is the first message", text.to_owned())),
            "OFFER" | "ANSWER" | "CANDIDATE" => self.receive(&message, outgoing),
            "EXPIRE" => self.on_expire(&message),
            _ => Err(unknown()),
        }
    }

    fn next_action(&self) -> Instant {
        self.next_action
    }

    fn act(&mut self, outgoing: &mut Outgoing) {
        let now = Instant::now();
        if now >= self.heartbeat_at + HEARTBEAT_INTERVAL {
            self.heartbeat_at = now;
            outgoing.push(json!({"type": "HEARTBEAT"}).to_string());
        }
        self.next_action = now + POLL_INTERVAL * 5;
        self.check_call(now);
        let messages = &mut self.other_messages;
        messages.retain(|(_, at)| now < *at + DEADLINE / 2);
        if self.shared.is_quiet() {
            return;
        }
        self.next_action = now + self.random.seconds(3, 15);
        if let Some(recipient) = self.candidates_to.pop_front() {
            return self.send("CANDIDATE", recipient, outgoing);
        }
        // One call in 20 is to the client that never connects.
        let clients = self.shared.clients_per_protocol;
        let callee = self.random.below(clients * 21 / 20 + 1).min(clients);
        if self.call.is_none() && callee != self.index && !self.has_other_messages_to(callee) {
            self.send("OFFER", callee, outgoing);
            self.call = Some(Call {
                callee,
                number: self.number,
                since: now,
                transitions: self.expectations.borrow().ledger.transitions(callee),
            });
        }
    }

    fn on_disconnecting(&mut self, how: Disconnect, outgoing: &mut Outgoing) {
        let ledger = &mut self.expectations.borrow_mut().ledger;
        ledger.set_admitted(self.index, 0);
        self.is_closed_by_server = matches!(how, Disconnect::CloseFrame | Disconnect::LeaveMessage);
        if how == Disconnect::LeaveMessage {
            outgoing.push(json!({"type": "LEAVE"}).to_string());
        }
    }

    fn on_closed_by_server(&mut self, end: &ConnectionEnd) -> Result<(), Violation> {
        match end {
            ConnectionEnd::Closed(1001, _) => Ok(()),
            _ => Err((CLOSED_WITH_REASON, format!("{end:?}"))),
        }
    }

    fn on_gone(&mut self) {
        let ledger = &mut self.expectations.borrow_mut().ledger;
        if std::mem::take(&mut self.is_closed_by_server) {
            ledger.set_gone(self.index);
        } else {
            ledger.set_admitted(self.index, 0);
        }
    }

    fn supports_takeover(&self) -> bool {
        true
    }
}
