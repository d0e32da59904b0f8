//! FastChat clients, which see which users are online and send each other messages in chats.
//!
//! Each MSG is answered by MSG_ACK or ERROR. An acknowledged message is due to its recipient; a rejected
//! one must not arrive. As long as two users stay, so does their chat, and nothing between them is
//! rejected but for the rate limit. A client that starts with an empty list at HELLO_ACK and merges each
//! PRESENCE must know which users are online (in the flat dialect, `update` replaces the list). Every
//! second client speaks the flat dialect.

use super::{ClientModel, Outgoing};
use crate::checks::{
    ADMITTED, ANSWERED_ONCE, CLOSED_WITH_REASON, DOCUMENTED, PONG, REJECTED_WITH_REASON,
    RIGHT_RECIPIENT, UNCHANGED, Violation, WAS_SENT,
};
use crate::connection::{ConnectionEnd, Disconnect};
use crate::expectations::accepted_rate::{AcceptedRate, MINUTE};
use crate::expectations::fastchat::{CHATS, FastChatExpectations, PRESENCE};
use crate::payload::parse_origin;
use crate::random::Random;
use crate::shared_state::{LogicalTime, POLL_INTERVAL, Protocol, SharedState};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub const PROTOCOL: Protocol = Protocol("fastchat");

/// Messages of one user in a minute, as the document has it.
const LIMIT: usize = 60;
const PING_INTERVAL: Duration = Duration::from_secs(15);

const RATE: &str = "at most 60 messages a minute are accepted";

/// A client.
pub struct FastChatClient {
    shared: Rc<SharedState>,
    expectations: Rc<RefCell<FastChatExpectations>>,
    index: usize,
    is_flat: bool,
    random: Random,
    /// 0 if it is not admitted.
    admitted_at: LogicalTime,
    /// The daemon process that it was connected to last.
    generation: u64,
    /// The number of the last message that it sent.
    number: u64,
    /// The client that it writes to, and when that one had been admitted.
    partner: Option<(usize, LogicalTime)>,
    /// It has sent OPEN_CHAT for its partner, and has no answer yet.
    awaits_chat: bool,
    pings_in_flight: usize,
    pinged_at: Instant,
    next_action: Instant,
    /// The number and time of its messages of the last two minutes.
    sent: VecDeque<(u64, Instant)>,
    accepted: AcceptedRate,
}

impl FastChatClient {
    pub fn new(
        shared: &Rc<SharedState>,
        expectations: &Rc<RefCell<FastChatExpectations>>,
        index: usize,
    ) -> Self {
        Self {
            shared: Rc::clone(shared),
            expectations: Rc::clone(expectations),
            index,
            is_flat: index % 2 == 1,
            random: shared.random(PROTOCOL, index + (1 << 20)),
            admitted_at: 0,
            generation: 0,
            number: 0,
            partner: None,
            awaits_chat: false,
            pings_in_flight: 0,
            pinged_at: Instant::now(),
            next_action: Instant::now(),
            sent: VecDeque::new(),
            accepted: AcceptedRate::default(),
        }
    }

    /// Returns a message in this client's dialect.
    fn encode(&self, kind: &str, fields: Value) -> String {
        if !self.is_flat {
            return json!({"type": kind, "data": fields}).to_string();
        }
        let mut message = fields;
        message["type"] = json!(kind);
        message.to_string()
    }

    fn send_message(&mut self, recipient: usize, outgoing: &mut Outgoing) {
        let length = self.random.below(200);
        // In the flat dialect a message without `to` goes to the current partner.
        let has_to = !self.is_flat || !self.random.one_in(10);
        self.number += 1;
        let named = has_to.then_some(recipient);
        let mut expectations = self.expectations.borrow_mut();
        let ledger = &mut expectations.ledger;
        let content = ledger.send(self.index, self.number, named, length);
        let id = format!("{}.{}", self.index, self.number);
        let mut fields = json!({"content": content, "message_id": id});
        if has_to {
            fields["to"] = json!(expectations.ids[recipient]);
        }
        drop(expectations);
        let now = Instant::now();
        self.sent.push_back((self.number, now));
        self.sent.retain(|(_, at)| now < *at + MINUTE * 2);
        self.shared.report.sent(PROTOCOL);
        outgoing.push(self.encode("MSG", fields));
    }

    fn send_typing(&mut self, recipient: usize, outgoing: &mut Outgoing) {
        let is_typing = self.random.one_in(2);
        let to = self.expectations.borrow().ids[recipient];
        let typing = json!({"is_typing": is_typing, "to": to});
        outgoing.push(self.encode("TYPING", typing));
    }

    /// Returns the number of this client's message with this id.
    fn own_number(&self, id: &Value) -> Result<u64, Violation> {
        let id = id.as_str().unwrap_or_default();
        let own = self.index.to_string();
        let number = id.split_once('.').filter(|(sender, _)| *sender == own);
        let number = number.and_then(|(_, number)| number.parse().ok());
        number.ok_or_else(|| (ANSWERED_ONCE, format!("about {id:?}")))
    }

    fn on_ack(&mut self, number: u64) -> Result<(), Violation> {
        let ledger = &mut self.expectations.borrow_mut().ledger;
        ledger.answer(self.index, number, true)?;
        let sent = self.sent.iter().find(|(it, _)| *it == number);
        let Some((_, sent_at)) = sent.copied() else {
            return Ok(());
        };
        if let Some(time) = self.accepted.add(sent_at, LIMIT) {
            self.shared.report.checked(RATE);
            if time < MINUTE {
                return Err((RATE, format!("{} in {time:?}", LIMIT + 1)));
            }
        }
        Ok(())
    }

    fn on_error(&mut self, code: &str, details: &Value) -> Result<(), Violation> {
        let unexpected = Err((REJECTED_WITH_REASON, format!("{code} {details}")));
        let is_expected = if details["message_id"].is_null() {
            self.may_reject_other(code)
        } else {
            let number = self.own_number(&details["message_id"])?;
            let mut expectations = self.expectations.borrow_mut();
            expectations.ledger.answer(self.index, number, false)?;
            drop(expectations);
            if code == "RATE_LIMITED" {
                self.may_be_rate_limited(number, details)
            } else {
                let may_reject = self.may_reject_message(number);
                if may_reject {
                    self.partner = None;
                }
                may_reject
            }
        };
        if is_expected { Ok(()) } else { unexpected }
    }

    /// Returns whether an ERROR about no message may have this code.
    fn may_reject_other(&mut self, code: &str) -> bool {
        // TYPING has a rate limit, too, which random clients may reach.
        if code == "RATE_LIMITED" && !self.awaits_chat {
            return true;
        }
        let awaited = std::mem::take(&mut self.awaits_chat);
        let ledger = &self.expectations.borrow().ledger;
        let partner = self.partner.take();
        let stayed = partner.is_some_and(|(client, at)| ledger.admitted_at(client) == at);
        awaited && !stayed && code == "USER_NOT_FOUND"
    }

    /// Returns whether a message of this number may have been above the rate limit.
    fn may_be_rate_limited(&self, number: u64, details: &Value) -> bool {
        self.shared.report.checked(RATE);
        let retry = details["retry_after_ms"].as_u64().unwrap_or_default();
        let sent_at = self.sent.iter().find(|(it, _)| *it == number);
        let sent_at = sent_at.map_or_else(Instant::now, |(_, at)| *at);
        // Half a minute more than the limit says, for messages that were in flight.
        let window = MINUTE + Duration::from_secs(30);
        let is_counted = |(it, at): &&(u64, Instant)| *it < number && sent_at < *at + window;
        let count = self.sent.iter().filter(is_counted).count();
        count >= LIMIT && (1..=60_000).contains(&retry)
    }

    /// Returns whether a message may be rejected: unless both users have stayed in a chat.
    fn may_reject_message(&self, number: u64) -> bool {
        let expectations = self.expectations.borrow();
        let recipient = expectations.ledger.due_recipient(self.index, number);
        !recipient.is_some_and(|recipient| expectations.have_chat(self.index, recipient))
    }

    fn on_presence(&mut self, fields: &Value) -> Result<(), Violation> {
        let mut expectations = self.expectations.borrow_mut();
        if fields["action"] == "update" {
            expectations.presence[self.index].clear();
        }
        for entry in fields["users"].as_array().into_iter().flatten() {
            let client = expectations.client_of(&entry["user_id"])?;
            if entry["display_name"] != json!(name(client)) {
                return Err((PRESENCE, format!("{client} has another name: {entry}")));
            }
            let presence = &mut expectations.presence[self.index];
            if entry["online"] == true {
                presence.insert(client);
            } else {
                presence.remove(&client);
            }
        }
        Ok(())
    }

    fn on_msg(&mut self, fields: &Value, outgoing: &mut Outgoing) -> Result<(), Violation> {
        let key = if self.is_flat { "sender_id" } else { "from" };
        let mut expectations = self.expectations.borrow_mut();
        let sender = expectations.client_of(&fields[key])?;
        let content = fields["content"].as_str().unwrap_or_default();
        let Some((origin, number)) = parse_origin(content) else {
            return Err((WAS_SENT, format!("{fields}")));
        };
        let id = &fields["message_id"];
        if origin != sender || *id != json!(format!("{origin}.{number}")) {
            return Err((UNCHANGED, format!("{fields}")));
        }
        if !self.is_flat && fields["to"] != json!(expectations.ids[self.index]) {
            return Err((RIGHT_RECIPIENT, format!("{fields}")));
        }
        let ledger = &mut expectations.ledger;
        ledger.receive(sender, number, self.index, content)?;
        drop(expectations);
        self.shared.report.received(PROTOCOL);
        if !self.is_flat {
            outgoing.push(self.encode("MSG_ACK", json!({"message_id": id})));
        }
        Ok(())
    }

    fn on_chat_opened(&mut self, fields: &Value, outgoing: &mut Outgoing) -> Result<(), Violation> {
        let mut expectations = self.expectations.borrow_mut();
        let other = expectations.client_of(&fields["target_user_id"])?;
        let own_id = json!(expectations.ids[self.index]);
        let other_id = json!(expectations.ids[other]);
        let participants = fields["participants"].as_array();
        let is_pair =
            |ids: &Vec<Value>| ids.len() == 2 && ids.contains(&own_id) && ids.contains(&other_id);
        if !participants.is_some_and(is_pair) {
            return Err((CHATS, format!("{fields}")));
        }
        let chat = fields["chat_id"].as_str().unwrap_or_default();
        expectations.record_chat(self.index, other, chat)?;
        self.shared.report.checked(CHATS);
        drop(expectations);
        if self.awaits_chat && self.partner.is_some_and(|(client, _)| client == other) {
            self.awaits_chat = false;
            self.send_message(other, outgoing);
        }
        Ok(())
    }

    fn on_typing(&self, fields: &Value) -> Result<(), Violation> {
        let expectations = self.expectations.borrow();
        let sender = expectations.client_of(&fields["user_id"])?;
        if expectations.had_chat(sender, self.index) {
            Ok(())
        } else {
            Err((RIGHT_RECIPIENT, format!("TYPING {fields}")))
        }
    }

    fn partner_stayed(&self) -> bool {
        let expectations = self.expectations.borrow();
        self.partner.is_some_and(|(client, at)| {
            let admitted_at = expectations.ledger.admitted_at(client);
            admitted_at == at && expectations.have_chat(self.index, client)
        })
    }

    /// Asks for a chat with some user that is online.
    fn choose_partner(&mut self, outgoing: &mut Outgoing) {
        let expectations = self.expectations.borrow();
        let ledger = &expectations.ledger;
        let others: Vec<usize> = ledger.online().filter(|it| *it != self.index).collect();
        if others.is_empty() {
            return;
        }
        let partner = others[self.random.below(others.len())];
        let id = expectations.ids[partner];
        let fields = json!({"target_user_id": id, "target_display_name": name(partner)});
        self.partner = Some((partner, ledger.admitted_at(partner)));
        drop(expectations);
        self.awaits_chat = true;
        outgoing.push(self.encode("OPEN_CHAT", fields));
    }
}

fn name(client: usize) -> String {
    format!("Citizen {client}")
}

impl ClientModel for FastChatClient {
    const PROTOCOL: Protocol = PROTOCOL;

    fn connect_target(&mut self) -> Option<String> {
        Some("/ws".to_owned())
    }

    fn on_connected(&mut self, outgoing: &mut Outgoing) {
        self.admitted_at = 0;
        self.partner = None;
        self.awaits_chat = false;
        self.pings_in_flight = 0;
        let generation = self.shared.generation();
        if std::mem::replace(&mut self.generation, generation) != generation {
            // A restarted daemon counts anew.
            self.accepted.clear();
        }
        let id = self.expectations.borrow().ids[self.index];
        let hello = json!({"user_id": id, "display_name": name(self.index)});
        outgoing.push(self.encode("HELLO", hello));
    }

    fn is_settled(&self) -> bool {
        self.admitted_at != 0
    }

    fn on_message(&mut self, seen: &str, outgoing: &mut Outgoing) -> Result<(), Violation> {
        let unknown = || (DOCUMENTED, seen.to_owned());
        let message: Value = serde_json::from_str(seen).map_err(|_| unknown())?;
        let fields = if self.is_flat {
            &message
        } else {
            &message["data"]
        };
        let is_admitted = self.admitted_at != 0;
        match message["type"].as_str().unwrap_or_default() {
            "HELLO_ACK" if !is_admitted => {
                self.admitted_at = self.shared.next_event();
                let mut expectations = self.expectations.borrow_mut();
                expectations.presence[self.index].clear();
                let ledger = &mut expectations.ledger;
                ledger.set_admitted(self.index, self.admitted_at);
                if fields["user_id"] == json!(expectations.ids[self.index]) {
                    Ok(())
                } else {
                    Err((ADMITTED, seen.to_owned()))
                }
            }
            "PRESENCE" if is_admitted => self.on_presence(fields),
            "CHAT_OPENED" if is_admitted => self.on_chat_opened(fields, outgoing),
            "MSG" if is_admitted => self.on_msg(fields, outgoing),
            "MSG_ACK" => {
                let number = self.own_number(&fields["message_id"])?;
                self.on_ack(number)
            }
            "TYPING" => self.on_typing(fields),
            "PONG" if self.pings_in_flight > 0 => {
                self.pings_in_flight -= 1;
                self.shared.report.checked(PONG);
                Ok(())
            }
            "ERROR" if is_admitted => {
                let key = if self.is_flat { "error_code" } else { "code" };
                let code = fields[key].as_str().unwrap_or_default();
                self.on_error(code, &fields["details"])
            }
            _ => Err(unknown()),
        }
    }

    fn next_action(&self) -> Instant {
        self.next_action
    }

    fn act(&mut self, outgoing: &mut Outgoing) {
        let now = Instant::now();
        if now >= self.pinged_at + PING_INTERVAL {
            self.pinged_at = now;
            self.pings_in_flight += 1;
            outgoing.push(self.encode("PING", json!({})));
        }
        if self.shared.is_quiet() {
            self.next_action = now + POLL_INTERVAL * 5;
            return;
        }
        self.next_action = now + self.random.seconds(4, 14);
        let partner_stayed = self.partner_stayed();
        match self.partner {
            _ if self.awaits_chat => {}
            Some((partner, _)) if partner_stayed && !self.random.one_in(8) => {
                if self.random.one_in(4) {
                    self.send_typing(partner, outgoing);
                }
                // Rarely, more than the rate limit allows.
                let count = if self.random.one_in(400) {
                    let report = &self.shared.report;
                    report.fault("sent more than the rate limit allows");
                    LIMIT + 8
                } else {
                    1 + self.random.below(2)
                };
                (0..count).for_each(|_| self.send_message(partner, outgoing));
            }
            _ => self.choose_partner(outgoing),
        }
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
        self.admitted_at = 0;
        let ledger = &mut self.expectations.borrow_mut().ledger;
        ledger.set_admitted(self.index, 0);
    }
}
