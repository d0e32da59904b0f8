//! Workspace clients, all in one room.
//!
//! All messages have one order, that of their ids. A client that is in the room from before a message was
//! sent until a quiescent point must have received it and all after it, its own included. What a client
//! was told last of another client must be true, if that client joined, left or changed its activity
//! after the first had joined. Every third client speaks the dialect of the Electron client, which gets
//! `userCount` instead.

use super::{ClientModel, Outgoing};
use crate::checks::{
    CLOSED_WITH_REASON, DOCUMENTED, KNOWN_USERS, REJECTED_WITH_REASON, RIGHT_RECIPIENT, UNCHANGED,
    Violation,
};
use crate::connection::{ConnectionEnd, Disconnect};
use crate::expectations::accepted_rate::{AcceptedRate, MINUTE};
use crate::expectations::workspace::{
    Activity, Member, ORDER, SentMessage, WorkspaceExpectations, name,
};
use crate::payload::{parse_origin, text};
use crate::random::Random;
use crate::shared_state::{LogicalTime, POLL_INTERVAL, Protocol, SharedState};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

pub const PROTOCOL: Protocol = Protocol("workspace");

/// Messages of one user in a minute, as the document has it.
const LIMIT: usize = 100;

const RATE: &str = "at most 100 messages a minute are accepted";

/// A client.
pub struct WorkspaceClient {
    shared: Rc<SharedState>,
    expectations: Rc<RefCell<WorkspaceExpectations>>,
    index: usize,
    is_electron: bool,
    random: Random,
    connecting_at: LogicalTime,
    /// The daemon process that it was connected to last.
    generation: u64,
    /// The number of the last message that it sent.
    number: u64,
    /// The messages that it has sent and not received itself, and when it sent them.
    unreceived: VecDeque<(u64, Instant)>,
    /// When it sent its messages of the last two minutes.
    sent_at: VecDeque<Instant>,
    accepted: AcceptedRate,
    next_action: Instant,
}

impl WorkspaceClient {
    pub fn new(
        shared: &Rc<SharedState>,
        expectations: &Rc<RefCell<WorkspaceExpectations>>,
        index: usize,
    ) -> Self {
        Self {
            shared: Rc::clone(shared),
            expectations: Rc::clone(expectations),
            index,
            is_electron: index % 3 == 2,
            random: shared.random(PROTOCOL, index + (1 << 20)),
            connecting_at: 0,
            generation: 0,
            number: 0,
            unreceived: VecDeque::new(),
            sent_at: VecDeque::new(),
            accepted: AcceptedRate::default(),
            next_action: Instant::now(),
        }
    }

    /// Handles the message by which the server admits this client.
    fn on_admitted(&mut self) {
        let admitted_at = self.shared.next_event();
        let member = &mut self.expectations.borrow_mut().members[self.index];
        let known_activity = std::mem::take(&mut member.known_activity);
        let user_count = member.user_count.take();
        *member = Member {
            admitted_at,
            joined: (self.connecting_at, admitted_at),
            is_electron: self.is_electron,
            activity: Activity {
                status: "online".to_owned(),
                is_typing: false,
            },
            known_activity,
            user_count,
            first_received: member.first_received,
            last_received: member.last_received,
            received: member.received,
            ..Member::default()
        };
    }

    fn send_message(&mut self, outgoing: &mut Outgoing) {
        self.number += 1;
        let length = self.random.below(120);
        let mut expectations = self.expectations.borrow_mut();
        let member = &expectations.members[self.index];
        let last = member.last_received;
        let is_reply = self.is_electron && last != 0 && self.random.one_in(4);
        let reply_to = is_reply.then(|| format!("msg_{last}"));
        let message = SentMessage {
            sent_at: self.shared.next_event(),
            sender_admitted_at: member.admitted_at,
            length,
            reply_to: reply_to.clone(),
            id: None,
            is_rejected: false,
        };
        let key = (self.index, self.number);
        expectations.messages.insert(key, message);
        let text = text(self.index, self.number, length);
        let now = Instant::now();
        self.unreceived.push_back((self.number, now));
        self.sent_at.push_back(now);
        self.sent_at.retain(|at| now < *at + MINUTE * 2);
        self.shared.report.sent(PROTOCOL);
        outgoing.push(match (self.is_electron, reply_to) {
            (false, _) => json!({"type": "message:send", "text": text}).to_string(),
            (_, None) => json!({"type": "message", "text": text}).to_string(),
            (_, id) => json!({"type": "message", "text": text, "replyTo": id}).to_string(),
        });
    }

    fn send_activity(&mut self, outgoing: &mut Outgoing) {
        let member = &mut self.expectations.borrow_mut().members[self.index];
        if self.random.one_in(2) {
            let status = ["online", "away", "busy"][self.random.below(3)];
            member.activity.status = status.to_owned();
            member.status_changed_at = self.shared.next_event();
            outgoing.push(json!({"type": "presence:update", "status": status}).to_string());
        } else {
            let is_typing = !member.activity.is_typing;
            member.activity.is_typing = is_typing;
            member.typing_changed_at = self.shared.next_event();
            outgoing.push(json!({"type": "typing:indicator", "isTyping": is_typing}).to_string());
        }
    }

    fn on_new_message(&mut self, data: &Value) -> Result<(), Violation> {
        let changed = || (UNCHANGED, format!("{data}"));
        let content = data["text"].as_str().unwrap_or_default();
        let (sender, number) = parse_origin(content).ok_or_else(changed)?;
        let id = data["id"].as_str().and_then(|id| id.strip_prefix("msg_"));
        let id: u64 = id.and_then(|id| id.parse().ok()).ok_or_else(changed)?;
        let mut expectations = self.expectations.borrow_mut();
        expectations.receive(self.index, id, sender, number)?;
        let message = &expectations.messages[&(sender, number)];
        // Only the Electron dialect has `replyTo`.
        let is_admitted = expectations.members[self.index].admitted_at != 0;
        let has_reply_to = self.is_electron && is_admitted;
        let reply_to = message.reply_to.as_ref().filter(|_| has_reply_to);
        let text = text(sender, number, message.length);
        let expected = json!([name(sender), text, reply_to]);
        let is_same = json!([data["username"], data["text"], data["replyTo"]]) == expected;
        drop(expectations);
        self.shared.report.received(PROTOCOL);
        if !is_same {
            return Err((UNCHANGED, format!("{data} instead of {expected}")));
        }
        if sender == self.index {
            return self.on_accepted(number);
        }
        Ok(())
    }

    /// Handles the arrival of one of its own messages.
    fn on_accepted(&mut self, number: u64) -> Result<(), Violation> {
        let own = self.unreceived.pop_front();
        let Some((_, sent_at)) = own.filter(|(expected, _)| *expected == number) else {
            let seen = format!("{} received its own message {number}", self.index);
            return Err((ORDER, seen));
        };
        if let Some(time) = self.accepted.add(sent_at, LIMIT) {
            self.shared.report.checked(RATE);
            if time < MINUTE {
                return Err((RATE, format!("{} in {time:?}", LIMIT + 1)));
            }
        }
        Ok(())
    }

    fn on_error(&mut self, error: &Value) -> Result<(), Violation> {
        let unexpected = || (REJECTED_WITH_REASON, format!("{error}"));
        if error["code"] != "RATE_LIMITED" {
            return Err(unexpected());
        }
        self.shared.report.checked(RATE);
        let (number, sent_at) = self.unreceived.pop_front().ok_or_else(unexpected)?;
        let messages = &mut self.expectations.borrow_mut().messages;
        if let Some(message) = messages.get_mut(&(self.index, number)) {
            message.is_rejected = true;
        }
        // Half a minute more than the limit says, for messages that were in flight.
        let window = MINUTE + MINUTE / 2;
        let is_counted = |at: &&Instant| **at <= sent_at && sent_at < **at + window;
        if self.sent_at.iter().filter(is_counted).count() <= LIMIT {
            return Err(unexpected());
        }
        Ok(())
    }

    /// Handles `presence:update` and `typing:indicator`.
    fn on_activity(&mut self, message: &Value) -> Result<(), Violation> {
        let data = &message["data"];
        let username = data["username"].as_str().unwrap_or_default();
        // The scenario's visitor, and the names that the server makes up for Electron clients until they
        // have sent their token.
        if username == "visitor" || username.starts_with("User_") {
            return Ok(());
        }
        let other = username.strip_prefix('w').and_then(|it| it.parse().ok());
        let other: usize = other
            .filter(|other| *other < self.shared.clients_per_protocol)
            .ok_or_else(|| (KNOWN_USERS, format!("{message}")))?;
        // Until its first message has been read, an Electron client gets the document's messages.
        if other == self.index || self.is_electron && self.is_settled() {
            return Err((RIGHT_RECIPIENT, format!("{message}")));
        }
        let member = &mut self.expectations.borrow_mut().members[self.index];
        let known = member.known_activity.entry(other).or_default();
        match data["isTyping"].as_bool() {
            Some(is_typing) => known.is_typing = is_typing,
            None => known.status = data["status"].as_str().unwrap_or_default().to_owned(),
        }
        Ok(())
    }

    /// Returns the token by which an Electron client says its name. Its signature is not verified, as no
    /// secret is configured.
    fn token(&self) -> String {
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = part(json!({"alg": "HS256", "typ": "JWT"}));
        let claims = part(json!({"username": name(self.index)}));
        format!("{header}.{claims}.c2lnbmF0dXJl")
    }
}

impl ClientModel for WorkspaceClient {
    const PROTOCOL: Protocol = PROTOCOL;

    fn connect_target(&mut self) -> Option<String> {
        self.connecting_at = self.shared.next_event();
        Some(if self.is_electron {
            "/ws".to_owned()
        } else {
            format!("/ws?username={}", name(self.index))
        })
    }

    fn on_connected(&mut self, outgoing: &mut Outgoing) {
        let member = &mut self.expectations.borrow_mut().members[self.index];
        member.known_activity.clear();
        member.user_count = Value::Null;
        member.first_received = None;
        (member.last_received, member.received) = (0, 0);
        self.unreceived.clear();
        let generation = self.shared.generation();
        if std::mem::replace(&mut self.generation, generation) != generation {
            // A restarted daemon counts anew.
            self.accepted.clear();
        }
        if self.is_electron {
            outgoing.push(json!({"type": "auth", "token": self.token()}).to_string());
        }
    }

    fn is_settled(&self) -> bool {
        self.expectations.borrow().members[self.index].admitted_at != 0
    }

    fn on_message(&mut self, seen: &str, _: &mut Outgoing) -> Result<(), Violation> {
        let unknown = || (DOCUMENTED, seen.to_owned());
        let message: Value = serde_json::from_str(seen).map_err(|_| unknown())?;
        match message["type"].as_str().unwrap_or_default() {
            "connected" if !self.is_settled() => {
                if !self.is_electron {
                    self.on_admitted();
                }
                Ok(())
            }
            "auth:ack" if self.is_electron && !self.is_settled() => {
                self.on_admitted();
                Ok(())
            }
            "message:new" => self.on_new_message(&message["data"]),
            "presence:update" | "typing:indicator" => self.on_activity(&message),
            "userCount" if self.is_electron => {
                let count = json!({"count": message["count"], "users": message["users"]});
                let members = &mut self.expectations.borrow_mut().members;
                members[self.index].user_count = count;
                Ok(())
            }
            "error" => self.on_error(&message),
            _ => Err(unknown()),
        }
    }

    fn next_action(&self) -> Instant {
        self.next_action
    }

    fn act(&mut self, outgoing: &mut Outgoing) {
        let now = Instant::now();
        if self.shared.is_quiet() {
            self.next_action = now + POLL_INTERVAL * 5;
            return;
        }
        self.next_action = now + self.random.seconds(8, 30);
        if !self.is_electron && self.random.one_in(8) {
            return self.send_activity(outgoing);
        }
        // Rarely, more than the rate limit allows.
        let count = if self.random.one_in(4000) {
            let report = &self.shared.report;
            report.fault("sent more than the rate limit allows");
            LIMIT + 8
        } else {
            1
        };
        (0..count).for_each(|_| self.send_message(outgoing));
    }

    fn on_disconnecting(&mut self, _: Disconnect, _: &mut Outgoing) {
        self.on_gone();
    }

    fn on_closed_by_server(&mut self, end: &ConnectionEnd) -> Result<(), Violation> {
        match end {
            ConnectionEnd::Closed(1001, _) => Ok(()),
            _ => Err((CLOSED_WITH_REASON, format!("{end:?}"))),
        }
    }

    fn on_gone(&mut self) {
        let left_at = self.shared.next_event();
        let member = &mut self.expectations.borrow_mut().members[self.index];
        if std::mem::take(&mut member.admitted_at) != 0 {
            member.left_at = left_at;
        }
    }
}
