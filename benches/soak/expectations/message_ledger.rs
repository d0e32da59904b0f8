//! A ledger of messages from one client to another, as they were sent and as they arrived: for FastChat
//! and PeerJS.
//!
//! A message is due if its recipient stays admitted from before the message was sent until the quiescent
//! point. On PeerJS, which stores messages, it is also due to a recipient that was gone and then
//! connected, unless it has expired.

use crate::checks::{
    ANSWERED_ONCE, DELIVERED, IN_ORDER, REJECTED_UNDELIVERED, RIGHT_RECIPIENT, UNCHANGED,
    Violation, WAS_SENT,
};
use crate::payload::text;
use crate::shared_state::{DEADLINE, LogicalTime};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long after the end of a connection the server certainly knows that the client is gone.
const SERVER_LAG: Duration = Duration::from_secs(2);

/// What the server has said about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Delivered,
    Rejected,
    /// Some message to this recipient was not delivered, and this may be the one.
    Doubtful,
}

#[derive(Debug)]
struct SentMessage {
    /// None if only the server knows the recipient.
    recipient: Option<usize>,
    sender_admitted_at: LogicalTime,
    sent_at: Instant,
    /// 0 if the recipient was not admitted.
    recipient_admitted_at: LogicalTime,
    /// The number of transitions of the recipient before.
    recipient_transitions: u64,
    /// The server certainly knew that the recipient was gone.
    recipient_was_gone: bool,
    /// Of its random text, in characters.
    length: usize,
    answer: Answer,
    received: bool,
}

/// All messages since the last quiescent point, and which clients are admitted.
pub struct MessageLedger {
    /// When each client was admitted; 0 if it is not.
    admitted_at: Vec<LogicalTime>,
    /// How often each client's state has changed: see [`transitions`](Self::transitions).
    transitions: Vec<u64>,
    /// When the server closed the connection of each client that is gone.
    gone_at: Vec<Option<Instant>>,
    /// By sender and number.
    messages: HashMap<(usize, u64), SentMessage>,
    /// The number of the last message received, by recipient and sender.
    last_received: HashMap<(usize, usize), u64>,
    /// The server answers each message.
    has_answers: bool,
}

impl MessageLedger {
    pub fn new(clients: usize, has_answers: bool) -> Self {
        Self {
            admitted_at: vec![0; clients],
            transitions: vec![0; clients],
            gone_at: vec![Some(Instant::now()); clients],
            messages: HashMap::new(),
            last_received: HashMap::new(),
            has_answers,
        }
    }

    /// Returns when a client was admitted; 0 if it is not.
    pub fn admitted_at(&self, client: usize) -> LogicalTime {
        self.admitted_at[client]
    }

    /// Records that a client was admitted at this time; 0: that it no longer is, or that it connects.
    pub fn set_admitted(&mut self, client: usize, at: LogicalTime) {
        self.admitted_at[client] = at;
        self.transitions[client] += 1;
        self.gone_at[client] = None;
    }

    /// Records that a client is gone and that the server knows, as it has closed the connection.
    pub fn set_gone(&mut self, client: usize) {
        self.set_admitted(client, 0);
        self.gone_at[client] = Some(Instant::now());
    }

    /// Returns the number of transitions of a client, four for each connection: when it connects, is
    /// admitted, begins to disconnect, and is gone.
    pub fn transitions(&self, client: usize) -> u64 {
        self.transitions[client]
    }

    /// Returns the clients that are admitted.
    pub fn online(&self) -> impl Iterator<Item = usize> {
        let all = self.admitted_at.iter().enumerate();
        all.filter(|(_, at)| **at != 0).map(|(client, _)| client)
    }

    /// Records a message that is being sent, and returns its text.
    pub fn send(
        &mut self,
        sender: usize,
        number: u64,
        recipient: Option<usize>,
        length: usize,
    ) -> String {
        let is_gone =
            |client: usize| self.gone_at[client].is_some_and(|at| at.elapsed() > SERVER_LAG);
        let message = SentMessage {
            recipient,
            sender_admitted_at: self.admitted_at(sender),
            sent_at: Instant::now(),
            recipient_admitted_at: recipient.map_or(0, |client| self.admitted_at(client)),
            recipient_transitions: recipient.map_or(0, |client| self.transitions(client)),
            recipient_was_gone: recipient.is_some_and(is_gone),
            length,
            answer: Answer::None,
            received: false,
        };
        self.messages.insert((sender, number), message);
        text(sender, number, length)
    }

    /// Checks and records that a message has arrived with this text.
    pub fn receive(
        &mut self,
        sender: usize,
        number: u64,
        recipient: usize,
        seen: &str,
    ) -> Result<(), Violation> {
        let what = || format!("{sender}.{number} arrived at {recipient}");
        let last = self.last_received.entry((recipient, sender)).or_default();
        if *last >= number {
            return Err((IN_ORDER, format!("{} after {sender}.{last}", what())));
        }
        *last = number;
        let Some(message) = self.messages.get_mut(&(sender, number)) else {
            return Err((WAS_SENT, what()));
        };
        if message.recipient.is_some_and(|named| named != recipient) {
            return Err((RIGHT_RECIPIENT, format!("{}: {message:?}", what())));
        }
        if std::mem::replace(&mut message.received, true) {
            return Err((IN_ORDER, what()));
        }
        if message.answer == Answer::Rejected {
            return Err((REJECTED_UNDELIVERED, what()));
        }
        if seen != text(sender, number, message.length) {
            return Err((UNCHANGED, format!("{}: {seen:?}", what())));
        }
        Ok(())
    }

    /// Checks and records the server's answer to a message.
    pub fn answer(&mut self, sender: usize, number: u64, delivered: bool) -> Result<(), Violation> {
        let what = format!("{sender}.{number}, delivered: {delivered}");
        let Some(message) = self.messages.get_mut(&(sender, number)) else {
            return Err((ANSWERED_ONCE, format!("{what}; not sent, or long ago")));
        };
        if message.answer != Answer::None {
            let before = message.answer;
            return Err((ANSWERED_ONCE, format!("{what}; before that {before:?}")));
        }
        message.answer = if delivered {
            Answer::Delivered
        } else {
            Answer::Rejected
        };
        if message.received && !delivered {
            return Err((REJECTED_UNDELIVERED, what));
        }
        Ok(())
    }

    /// Records that the server could not deliver some message to this recipient, without saying which.
    pub fn set_doubtful(&mut self, sender: usize, recipient: usize) {
        for ((from, _), message) in &mut self.messages {
            if *from == sender && message.recipient == Some(recipient) {
                message.answer = Answer::Doubtful;
            }
        }
    }

    /// Returns the recipient of a message that is due: that has stayed admitted since before it was sent.
    pub fn due_recipient(&self, sender: usize, number: u64) -> Option<usize> {
        let message = self.messages.get(&(sender, number))?;
        message.recipient.filter(|_| self.recipient_stayed(message))
    }

    fn recipient_stayed(&self, message: &SentMessage) -> bool {
        let since = message.recipient_admitted_at;
        let stayed = |client: usize| self.admitted_at(client) == since;
        since != 0 && message.recipient.is_some_and(stayed)
    }

    /// Returns whether the recipient was gone when the message was sent, and connected after that.
    fn recipient_connected(&self, message: &SentMessage) -> bool {
        let connected = |client: usize| {
            let transitions = message.recipient_transitions + 2;
            self.admitted_at(client) != 0 && self.transitions(client) == transitions
        };
        message.recipient_was_gone && message.recipient.is_some_and(connected)
    }

    /// Returns the answers and messages that are due and have not arrived.
    pub fn missing(&self) -> Vec<Violation> {
        let mut missing = Vec::new();
        for ((sender, number), message) in &self.messages {
            let sender_stayed = self.admitted_at(*sender) == message.sender_admitted_at;
            let what = || format!("{sender}.{number}: {message:?}");
            if self.has_answers && sender_stayed && message.answer == Answer::None {
                missing.push((ANSWERED_ONCE, what()));
            }
            let was_accepted = match message.answer {
                Answer::Delivered => true,
                Answer::None => !self.has_answers && sender_stayed,
                Answer::Rejected | Answer::Doubtful => false,
            };
            let was_stored = !self.has_answers && self.recipient_connected(message);
            let is_due = self.recipient_stayed(message) || was_stored;
            if was_accepted && !message.received && is_due {
                missing.push((DELIVERED, what()));
            }
        }
        missing
    }

    /// Forgets all messages but those that may still be delivered to a client that connects later.
    /// Returns how many there were.
    pub fn start_anew(&mut self) -> usize {
        let count = self.messages.len();
        self.messages.retain(|_, message| {
            let is_recent = message.sent_at.elapsed() < DEADLINE;
            !message.received && message.answer == Answer::None && is_recent
        });
        count
    }
}
