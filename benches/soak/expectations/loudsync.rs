//! LOUDSYNC: the members of each session, and what each of them was told of the others.

use super::Expectations;
use crate::checks::Violation;
use crate::shared_state::LogicalTime;
use std::collections::BTreeMap;

/// The host and its guests.
pub const MEMBERS_PER_SESSION: usize = 10;

pub const MEMBERS: &str = "each member knows exactly the members of its session";
pub const CLOSED: &str = "session_closed arrives when the host leaves, and only then";
pub const KICKED: &str = "a kicked member, and no other, is told so and closed";

/// A member as another member knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    pub id: String,
    pub joined_at: u64,
    pub is_host: bool,
    pub is_connected: bool,
}

/// One client's place in a session, used again each time the client joins. Slot 0 is the host's.
#[derive(Default)]
pub struct MemberSlot {
    /// 0 if the client is not admitted.
    pub admitted_at: LogicalTime,
    /// The [epoch](SessionState::epoch) of the session that it joined.
    pub epoch: u64,
    /// The members that it knows, itself included, by name. Each name is used by one device only.
    pub known_members: BTreeMap<String, MemberView>,
    /// When it and the host had been admitted when the host kicked it.
    pub kicked: Option<(LogicalTime, LogicalTime)>,
}

/// A session of one id, which is opened again each time the host joins.
pub struct SessionState {
    pub slots: Vec<MemberSlot>,
    /// The number of times that it was opened.
    pub epoch: u64,
    /// When the host left last.
    pub host_left_at: LogicalTime,
}

/// The expectations of all LOUDSYNC clients.
pub struct LoudsyncExpectations {
    pub sessions: Vec<SessionState>,
}

impl LoudsyncExpectations {
    pub fn new(clients: usize) -> Self {
        let session = |_| SessionState {
            slots: (0..MEMBERS_PER_SESSION)
                .map(|_| MemberSlot::default())
                .collect(),
            epoch: 0,
            host_left_at: 0,
        };
        Self {
            sessions: (0..clients.div_ceil(MEMBERS_PER_SESSION))
                .map(session)
                .collect(),
        }
    }
}

impl SessionState {
    /// Returns what is wrong in this session, which has this number.
    fn violations(&self, number: usize) -> Vec<Violation> {
        let mut violations = Vec::new();
        let members: BTreeMap<String, (usize, &MemberSlot)> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.admitted_at != 0)
            .map(|(index, slot)| (name(number, index), (index, slot)))
            .collect();
        let host_admitted_at = self.slots[0].admitted_at;
        for (name, (index, slot)) in &members {
            if host_admitted_at == 0 || slot.epoch != self.epoch {
                violations.push((CLOSED, format!("{name} is in a session that has ended")));
                continue;
            }
            if slot.kicked == Some((slot.admitted_at, host_admitted_at)) {
                violations.push((KICKED, format!("{name} is still a member")));
            }
            let actual: Vec<&String> = members.keys().collect();
            let known: Vec<&String> = slot.known_members.keys().collect();
            if known != actual {
                let seen = format!("{name} knows {known:?}, the members are {actual:?}");
                violations.push((MEMBERS, seen));
                continue;
            }
            for (other, seen) in &slot.known_members {
                let Some((other_index, other_slot)) = members.get(other) else {
                    continue;
                };
                let Some(own) = other_slot.known_members.get(other) else {
                    continue;
                };
                // In the upper-case dialect a device knows itself by its device id.
                let is_other_id = is_upper_case(*other_index) && other_index != index;
                let is_same = (own.id == seen.id || is_other_id)
                    && seen.joined_at == own.joined_at
                    && seen.is_connected
                    && seen.is_host == (*other_index == 0);
                if !is_same {
                    let seen = format!("{name} knows {seen:?}, which is {own:?}");
                    violations.push((MEMBERS, seen));
                }
            }
        }
        violations
    }
}

impl Expectations for LoudsyncExpectations {
    fn violations(&self) -> Vec<Violation> {
        let sessions = self.sessions.iter().enumerate();
        let violations = sessions.map(|(number, session)| session.violations(number));
        violations.flatten().collect()
    }

    fn start_anew(&mut self) -> Vec<(&'static str, usize)> {
        let slots = self.sessions.iter().flat_map(|session| &session.slots);
        let members = slots.filter(|slot| slot.admitted_at != 0);
        vec![(MEMBERS, members.count())]
    }
}

/// Returns whether the client in this slot speaks the upper-case dialect: every second guest does.
pub const fn is_upper_case(slot: usize) -> bool {
    slot % 2 == 1
}

/// Returns the name of the client in this slot of this session.
pub fn name(session: usize, slot: usize) -> String {
    format!("m{session}-{slot}")
}
