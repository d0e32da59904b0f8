//! Workspace: the messages of the one room in their order, what each member received of them, and what it
//! was told of the others.

use super::{Expectations, Visitor};
use crate::checks::{REJECTED_UNDELIVERED, Violation, WAS_SENT};
use crate::shared_state::LogicalTime;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// The most names in `userCount`.
const LISTED_NAMES: usize = 200;

pub const ORDER: &str = "every member receives every message, in one order";
const PRESENCE: &str = "presence:update adds up to the users that are online and their activity";
const COUNT: &str = "userCount lists the users that are online";

/// A message to the room, since the last quiescent point.
pub struct SentMessage {
    pub sent_at: LogicalTime,
    pub sender_admitted_at: LogicalTime,
    /// Of its random text, in characters.
    pub length: usize,
    pub reply_to: Option<String>,
    /// The number in its id `msg_N`, once a member has received it.
    pub id: Option<u64>,
    pub is_rejected: bool,
}

/// The activity of a member, as it is or as another member was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    pub status: String,
    pub is_typing: bool,
}

/// A client that is or was in the room.
#[derive(Default)]
pub struct Member {
    /// 0 if it is not admitted.
    pub admitted_at: LogicalTime,
    /// When it last joined: when that began, and when it was completed.
    pub joined: (LogicalTime, LogicalTime),
    pub left_at: LogicalTime,
    pub activity: Activity,
    pub status_changed_at: LogicalTime,
    pub typing_changed_at: LogicalTime,
    /// The id of the first message that it received since it joined or since the last quiescent point.
    pub first_received: Option<u64>,
    /// The id of the last message that it received.
    pub last_received: u64,
    /// How many messages it received since the first.
    pub received: usize,
    /// The activity that it was told last, by member.
    pub known_activity: HashMap<usize, Activity>,
    /// It speaks the dialect of the Electron client.
    pub is_electron: bool,
    /// The last `userCount` that it got.
    pub user_count: Value,
}

/// The expectations of all Workspace clients.
pub struct WorkspaceExpectations {
    pub members: Vec<Member>,
    /// By sender and number.
    pub messages: HashMap<(usize, u64), SentMessage>,
    /// The sender and number of each message that a member received, by its id.
    order: BTreeMap<u64, (usize, u64)>,
}

impl WorkspaceExpectations {
    pub fn new(clients: usize) -> Self {
        Self {
            members: (0..clients).map(|_| Member::default()).collect(),
            messages: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// Checks and records that a member received a message under this id.
    pub fn receive(
        &mut self,
        recipient: usize,
        id: u64,
        sender: usize,
        number: u64,
    ) -> Result<(), Violation> {
        let what = || format!("{recipient} received {sender}.{number} as msg_{id}");
        let message = self.messages.get_mut(&(sender, number));
        let message = message.ok_or_else(|| (WAS_SENT, what()))?;
        if message.is_rejected {
            return Err((REJECTED_UNDELIVERED, what()));
        }
        match message.id {
            Some(known) if known != id => {
                return Err((ORDER, format!("{}, others as msg_{known}", what())));
            }
            _ => message.id = Some(id),
        }
        let before = self.order.insert(id, (sender, number));
        if let Some(before) = before.filter(|before| *before != (sender, number)) {
            return Err((ORDER, format!("{}, others received {before:?}", what())));
        }
        let member = &mut self.members[recipient];
        let last = std::mem::replace(&mut member.last_received, id);
        let is_first = member.first_received.get_or_insert(id) == &id;
        if id <= last {
            return Err((ORDER, format!("{} after msg_{last}", what())));
        }
        member.received += 1;
        let skipped = self.order.range(last + 1..id).next();
        match skipped {
            Some((_, skipped)) if !is_first => {
                Err((ORDER, format!("{}, but not {skipped:?} before", what())))
            }
            _ => Ok(()),
        }
    }

    /// Checks that a member has received all messages that are due to it.
    fn check_received(&self, recipient: usize) -> Result<(), Violation> {
        let member = &self.members[recipient];
        let is_due = |key: &(usize, u64)| {
            let message = self.messages.get(key);
            message.is_some_and(|message| message.sent_at > member.joined.1)
        };
        let Some((first_due, key)) = self.order.iter().find(|(_, key)| is_due(key)) else {
            return Ok(());
        };
        let first = member.first_received.unwrap_or(u64::MAX);
        if first > *first_due {
            let seen = format!("{recipient} did not receive {key:?}; its first is msg_{first}");
            return Err((ORDER, seen));
        }
        let expected = self.order.range(first..).count();
        let (received, last) = (member.received, member.last_received);
        if expected == received {
            return Ok(());
        }
        let seen = format!("{recipient} received {received} of {expected}, the last is msg_{last}");
        Err((ORDER, seen))
    }

    /// Returns whether a member was told what it must know of another one: that it is online or not, and
    /// its activity, where that changed after the member had joined.
    fn is_informed(&self, member: usize, other: usize) -> bool {
        let (member, known) = (
            &self.members[member],
            self.members[member].known_activity.get(&other),
        );
        let other = &self.members[other];
        let since = member.joined.1;
        let is_offline = known.is_some_and(|known| known.status == "offline");
        if other.admitted_at == 0 {
            return other.left_at < since || is_offline;
        }
        let must_be_told = other.joined.0 > since;
        let has_status = known.is_some_and(|known| known.status == other.activity.status);
        let has_typing = known.is_some_and(|known| known.is_typing == other.activity.is_typing);
        (known.is_some() || !must_be_told)
            && !is_offline
            && (other.status_changed_at < since || has_status)
            && (other.typing_changed_at < since || has_typing)
    }

    fn online(&self) -> impl Iterator<Item = usize> {
        let members = self.members.iter().enumerate();
        members
            .filter(|(_, member)| member.admitted_at != 0)
            .map(|(index, _)| index)
    }

    /// Returns the messages that no member received, and those that are out of their sender's order.
    fn order_violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for ((sender, number), message) in &self.messages {
            let stayed = self.members[*sender].admitted_at == message.sender_admitted_at;
            if stayed && message.id.is_none() && !message.is_rejected {
                violations.push((ORDER, format!("no member received {sender}.{number}")));
            }
        }
        let mut last: HashMap<usize, u64> = HashMap::new();
        for (sender, number) in self.order.values() {
            let before = last.insert(*sender, *number);
            if before.is_some_and(|before| before >= *number) {
                violations.push((ORDER, format!("{sender}.{number} is after later ones")));
            }
        }
        violations
    }
}

impl Expectations for WorkspaceExpectations {
    fn violations(&self) -> Vec<Violation> {
        let mut violations = self.order_violations();
        let mut names: Vec<String> = self.online().map(name).collect();
        names.sort();
        let listed = &names[..names.len().min(LISTED_NAMES)];
        let user_count = json!({"count": names.len(), "users": listed});
        for index in self.online() {
            violations.extend(self.check_received(index).err());
            let member = &self.members[index];
            if member.is_electron {
                if member.user_count != user_count {
                    let seen = format!("{index}: {} instead of {user_count}", member.user_count);
                    violations.push((COUNT, seen));
                }
                continue;
            }
            let others = (0..self.members.len()).filter(|other| *other != index);
            for other in others.filter(|other| !self.is_informed(index, *other)) {
                let known = member.known_activity.get(&other);
                let Member {
                    activity,
                    admitted_at,
                    ..
                } = &self.members[other];
                let is_online = *admitted_at != 0;
                let seen = format!("{index} knows {known:?} of {other}");
                let actual = format!("online: {is_online}, {activity:?}");
                violations.push((PRESENCE, format!("{seen}, which is {actual}")));
            }
        }
        violations
    }

    fn start_anew(&mut self) -> Vec<(&'static str, usize)> {
        let online = self.online().count();
        let is_electron = |index: &usize| self.members[*index].is_electron;
        let electron = self.online().filter(is_electron).count();
        self.messages.clear();
        self.order.clear();
        for member in &mut self.members {
            member.first_received = None;
            member.received = 0;
        }
        vec![
            (ORDER, online),
            (PRESENCE, online - electron),
            (COUNT, electron),
        ]
    }

    fn visitor(&self) -> Option<Visitor> {
        Some(Visitor {
            target: "/ws?username=visitor".to_owned(),
            expected: format!(r#""connectedUsers":{}"#, self.online().count() + 1),
        })
    }
}

/// Returns the user name of a client.
pub fn name(client: usize) -> String {
    format!("w{client}")
}
