//! FastChat: which users are online, which of them each client believes to be online, and their chats.

use super::Expectations;
use super::message_ledger::MessageLedger;
use crate::checks::{DELIVERED, KNOWN_USERS, Violation};
use crate::clients::fastchat::PROTOCOL;
use crate::shared_state::{LogicalTime, SharedState};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use uuid::{Builder, Uuid};

pub const PRESENCE: &str = "PRESENCE adds up to the users that are online";
pub const CHATS: &str = "both members are told the same chat as long as both stay";

/// The chat of two users: its id, and when each of them had been admitted.
type Chat = (String, [LogicalTime; 2]);

/// The expectations of all FastChat clients.
pub struct FastChatExpectations {
    pub ledger: MessageLedger,
    /// By user id.
    clients: HashMap<Uuid, usize>,
    /// The user id of each client.
    pub ids: Vec<Uuid>,
    /// The clients that each client was told are online.
    pub presence: Vec<BTreeSet<usize>>,
    /// By the two clients, the lower index first.
    chats: HashMap<(usize, usize), Chat>,
}

impl FastChatExpectations {
    pub fn new(shared: &SharedState) -> Self {
        let count = shared.clients_per_protocol;
        let mut random = shared.random(PROTOCOL, 1 << 21);
        let mut random_id = |_| {
            let number = u128::from(random.number()) << 64 | u128::from(random.number());
            Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
        };
        let ids: Vec<Uuid> = (0..count).map(&mut random_id).collect();
        let by_id = ids.iter().enumerate().map(|(client, id)| (*id, client));
        Self {
            ledger: MessageLedger::new(count, true),
            clients: by_id.collect(),
            ids,
            presence: vec![BTreeSet::new(); count],
            chats: HashMap::new(),
        }
    }

    /// Returns the client with this user id.
    pub fn client_of(&self, id: &Value) -> Result<usize, Violation> {
        let known = id.as_str().and_then(|id| id.parse::<Uuid>().ok());
        let known = known.and_then(|id| self.clients.get(&id).copied());
        known.ok_or_else(|| (KNOWN_USERS, format!("{id}")))
    }

    /// Records that one of two users was told of their chat. Fails if the chat is another than before.
    pub fn record_chat(&mut self, one: usize, other: usize, chat: &str) -> Result<(), Violation> {
        let (pair, admitted_at) = self.pair(one, other);
        let before = self.chats.insert(pair, (chat.to_owned(), admitted_at));
        match before {
            Some((before, then))
                if then == admitted_at && !admitted_at.contains(&0) && before != chat =>
            {
                Err((CHATS, format!("{pair:?}: {before}, and now {chat}")))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether these two ever had a chat.
    pub fn had_chat(&self, one: usize, other: usize) -> bool {
        self.chats.contains_key(&self.pair(one, other).0)
    }

    /// Returns whether two users were told of their chat and have both stayed since.
    pub fn have_chat(&self, one: usize, other: usize) -> bool {
        let (pair, admitted_at) = self.pair(one, other);
        let chat = self.chats.get(&pair);
        !admitted_at.contains(&0) && chat.is_some_and(|(_, then)| *then == admitted_at)
    }

    /// Returns two clients, the lower index first, and when they were admitted.
    fn pair(&self, one: usize, other: usize) -> ((usize, usize), [LogicalTime; 2]) {
        let pair = (one.min(other), one.max(other));
        let admitted_at = [
            self.ledger.admitted_at(pair.0),
            self.ledger.admitted_at(pair.1),
        ];
        (pair, admitted_at)
    }
}

impl Expectations for FastChatExpectations {
    fn violations(&self) -> Vec<Violation> {
        let mut violations = self.ledger.missing();
        let online: BTreeSet<usize> = self.ledger.online().collect();
        for client in &online {
            let presence = &self.presence[*client];
            if *presence != online {
                let lacks: Vec<_> = online.difference(presence).collect();
                let has: Vec<_> = presence.difference(&online).collect();
                let seen = format!("{client} lacks {lacks:?} and wrongly has {has:?}");
                violations.push((PRESENCE, seen));
            }
        }
        violations
    }

    fn start_anew(&mut self) -> Vec<(&'static str, usize)> {
        vec![
            (PRESENCE, self.ledger.online().count()),
            (DELIVERED, self.ledger.start_anew()),
        ]
    }
}
