//! Workspace's room: what is said in it, in which order, and who has heard what.

use crate::client_task::Broken;
use crate::expectations::{Place, Visit};
use crate::shared_state::Ticket;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// So many names stand in `userCount`.
const NAMED: usize = 200;

pub const ORDER: &str = "everybody in the room hears everything, in one order";
const PRESENCE: &str = "presence:update adds up to who is there and what they do";
const COUNT: &str = "userCount is who is there";

/// What somebody said, and nobody has forgotten.
pub struct Said {
    pub at: Ticket,
    /// The life in which it was said.
    pub life: Ticket,
    pub letters: usize,
    pub reply_to: Option<String>,
    /// `msg_` and this, once somebody has heard it.
    pub id: Option<u64>,
    pub refused: bool,
}

/// What somebody does, as it is, or as another believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    pub status: String,
    pub typing: bool,
}

/// One who is or was in the room.
#[derive(Default)]
pub struct Member {
    /// 0 if it is not there.
    pub life: Ticket,
    /// When it came last: when that began, and when it was done.
    pub came: (Ticket, Ticket),
    pub went: Ticket,
    pub doing: Doing,
    pub did: Ticket,
    pub typed: Ticket,
    /// The id of what it heard first since it came or since all was forgotten, of what it heard
    /// last, and how much that is.
    pub first: Option<u64>,
    pub last: u64,
    pub heard: usize,
    /// The last words about others.
    pub words: HashMap<usize, Doing>,
    pub is_newer: bool,
    /// The newest `userCount`.
    pub count: Value,
}

/// Everybody on Workspace.
pub struct Room {
    pub members: Vec<Member>,
    pub said: HashMap<(usize, u64), Said>,
    /// Who said what, in the order of the ids.
    pub log: BTreeMap<u64, (usize, u64)>,
}

impl Room {
    pub fn new(size: usize) -> Self {
        Self {
            members: (0..size).map(|_| Member::default()).collect(),
            said: HashMap::new(),
            log: BTreeMap::new(),
        }
    }

    /// Somebody hears a message.
    pub fn heard(&mut self, by: usize, id: u64, who: usize, number: u64) -> Result<(), Broken> {
        let what = || format!("{by} hears {who}.{number} as msg_{id}");
        let said = self.said.get_mut(&(who, number));
        let said = said.ok_or_else(|| ("nothing comes that nobody sent", what()))?;
        if said.refused {
            return Err(("what is refused is not delivered", what()));
        }
        match said.id {
            Some(known) if known != id => {
                return Err((ORDER, format!("{}, it was msg_{known}", what())));
            }
            _ => said.id = Some(id),
        }
        let named = self.log.insert(id, (who, number));
        if named.is_some_and(|named| named != (who, number)) {
            return Err((ORDER, format!("{}, that was {named:?}", what())));
        }
        let member = &mut self.members[by];
        let last = std::mem::replace(&mut member.last, id);
        let begins = member.first.get_or_insert(id) == &id;
        if id <= last {
            return Err((ORDER, format!("{} after msg_{last}", what())));
        }
        member.heard += 1;
        let missed = self.log.range(last + 1..id).next();
        match missed {
            Some((_, missed)) if !begins => Err((ORDER, format!("{}, not {missed:?}", what()))),
            _ => Ok(()),
        }
    }

    /// Whether somebody has heard all that it should have.
    pub fn has_heard_all(&self, who: usize) -> Result<(), Broken> {
        let member = &self.members[who];
        let due = |at: &(usize, u64)| self.said.get(at).is_some_and(|it| it.at > member.came.1);
        let first_due = self.log.iter().find(|(_, at)| due(at));
        let Some((first_due, at)) = first_due else {
            return Ok(());
        };
        let from = member.first.unwrap_or(u64::MAX);
        if from > *first_due {
            return Err((
                ORDER,
                format!("{who} has not heard {at:?}, but from msg_{from}"),
            ));
        }
        let there = self.log.range(from..).count();
        if there == member.heard {
            return Ok(());
        }
        let heard = member.heard;
        Err((
            ORDER,
            format!(
                "{who} has heard {heard} of {there}, last msg_{}",
                member.last
            ),
        ))
    }

    /// Whether somebody knows of another what it must.
    pub fn knows(&self, who: usize, of: usize) -> bool {
        let (reader, other) = (&self.members[who], &self.members[of]);
        let since = reader.came.1;
        let word = reader.words.get(&of);
        let is_offline = word.is_some_and(|word| word.status == "offline");
        if other.life == 0 {
            return other.went < since || is_offline;
        }
        let news = other.came.0 > since;
        (word.is_some() || !news)
            && !is_offline
            && (other.did < since || word.is_some_and(|it| it.status == other.doing.status))
            && (other.typed < since || word.is_some_and(|it| it.typing == other.doing.typing))
    }

    pub fn present(&self) -> impl Iterator<Item = usize> {
        let members = self.members.iter().enumerate();
        members.filter(|(_, it)| it.life != 0).map(|(who, _)| who)
    }
}

impl Place for Room {
    fn disagreements(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        for ((who, number), said) in &self.said {
            let stayed = self.members[*who].life == said.life;
            if stayed && said.id.is_none() && !said.refused {
                broken.push((ORDER, format!("{who}.{number} is heard by nobody")));
            }
        }
        let mut last: HashMap<usize, u64> = HashMap::new();
        for (who, number) in self.log.values() {
            if last
                .insert(*who, *number)
                .is_some_and(|last| last >= *number)
            {
                broken.push((ORDER, format!("{who}.{number} comes after later ones")));
            }
        }
        let mut names: Vec<String> = self.present().map(name).collect();
        names.sort();
        let count = json!({"count": names.len(), "users": names[..names.len().min(NAMED)]});
        for who in self.present() {
            broken.extend(self.has_heard_all(who).err());
            let member = &self.members[who];
            if member.is_newer {
                if member.count != count {
                    broken.push((COUNT, format!("{who}: {} and not {count}", member.count)));
                }
                continue;
            }
            let others = (0..self.members.len()).filter(|of| *of != who);
            for of in others.filter(|of| !self.knows(who, *of)) {
                let (word, is) = (member.words.get(&of), &self.members[of].doing);
                let there = self.members[of].life != 0;
                let seen = format!("{who} of {of}: {word:?}, it is there: {there}, does {is:?}");
                broken.push((PRESENCE, seen));
            }
        }
        broken
    }

    fn forget(&mut self) -> Vec<(&'static str, usize)> {
        let present = self.present().count();
        let newer = self.members.iter().filter(|it| it.life != 0 && it.is_newer);
        let newer = newer.count();
        self.said.clear();
        self.log.clear();
        for member in &mut self.members {
            member.first = None;
            member.heard = 0;
        }
        vec![
            (ORDER, present),
            (PRESENCE, present - newer),
            (COUNT, newer),
        ]
    }

    fn visits(&self) -> Option<Visit> {
        Some(Visit {
            target: "/ws?username=visitor".to_owned(),
            told: format!(r#""connectedUsers":{}"#, self.present().count() + 1),
        })
    }
}

pub fn name(who: usize) -> String {
    format!("w{who}")
}
