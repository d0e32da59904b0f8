//! FastChat's people: who they are, who believes whom to be there, and their chats.

use crate::client_task::Broken;
use crate::expectations::Place;
use crate::expectations::message_ledger::Post;
use crate::shared_state::{Protocol, Ticket, World};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use uuid::{Builder, Uuid};

pub const PRESENCE: &str = "PRESENCE adds up to who is there";
pub const CHATS: &str = "a chat is the same for both, as long as both stay";

/// Everybody on FastChat.
pub struct Town {
    pub post: Post,
    /// By user id.
    pub people: HashMap<Uuid, usize>,
    pub ids: Vec<Uuid>,
    /// Whom each believes to be there.
    pub views: Vec<BTreeSet<usize>>,
    /// The chat of two, and the lives of both when that was told, the lower index first.
    pub chats: HashMap<(usize, usize), (String, [Ticket; 2])>,
}

impl Town {
    pub fn new(world: &World) -> Self {
        let mut chance = world.chance(Protocol::FastChat, 1 << 21);
        let mut id = |_| {
            let number = u128::from(chance.number()) << 64 | u128::from(chance.number());
            Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
        };
        let ids: Vec<Uuid> = (0..world.size).map(&mut id).collect();
        Self {
            post: Post::new(world.size, true),
            people: ids.iter().enumerate().map(|(who, id)| (*id, who)).collect(),
            ids,
            views: vec![BTreeSet::new(); world.size],
            chats: HashMap::new(),
        }
    }

    pub fn who(&self, id: &Value) -> Result<usize, Broken> {
        let known = id.as_str().and_then(|id| id.parse::<Uuid>().ok());
        let known = known.and_then(|id| self.people.get(&id).copied());
        known.ok_or_else(|| ("nobody is told of strangers", format!("{id}")))
    }

    /// Two are told of their chat.
    pub fn opened(&mut self, one: usize, other: usize, chat: &str) -> Result<(), Broken> {
        let pair = (one.min(other), one.max(other));
        let lives = [self.post.life(pair.0), self.post.life(pair.1)];
        let before = self.chats.insert(pair, (chat.to_owned(), lives));
        match before {
            Some((before, then)) if then == lives && !lives.contains(&0) && before != chat => {
                Err((CHATS, format!("{pair:?}: {before}, and now {chat}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether two have a chat, and have stayed since they were told.
    pub fn have_chat(&self, one: usize, other: usize) -> bool {
        let pair = (one.min(other), one.max(other));
        let lives = [self.post.life(pair.0), self.post.life(pair.1)];
        let chat = self.chats.get(&pair);
        !lives.contains(&0) && chat.is_some_and(|(_, then)| *then == lives)
    }
}

impl Place for Town {
    fn disagreements(&self) -> Vec<Broken> {
        let mut broken = self.post.missing();
        let there: BTreeSet<usize> = self.post.present().collect();
        for who in &there {
            let view = &self.views[*who];
            if *view != there {
                let lacks: Vec<_> = there.difference(view).collect();
                let has: Vec<_> = view.difference(&there).collect();
                broken.push((PRESENCE, format!("{who} lacks {lacks:?} and has {has:?}")));
            }
        }
        broken
    }

    fn forget(&mut self) -> Vec<(&'static str, usize)> {
        vec![
            (PRESENCE, self.post.present().count()),
            (
                "messages reach those to whom they are due",
                self.post.forget(),
            ),
        ]
    }
}
