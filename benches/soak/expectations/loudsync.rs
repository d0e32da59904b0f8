//! LOUDSYNC's sessions: who is in them, and what each of these knows of the others.

use crate::client_task::Broken;
use crate::expectations::Place;
use crate::shared_state::Ticket;
use std::collections::BTreeMap;

/// The host and its guests.
pub const SEATS: usize = 10;

pub const MEMBERS: &str = "the members whom each knows of are those who are there";
pub const CLOSED: &str = "session_closed comes when the host goes, and only then";
pub const KICKED: &str = "who is kicked is told and sent away, and nobody else";

/// A member in somebody's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub joined_at: u64,
    pub is_host: bool,
    pub is_connected: bool,
}

/// One seat of a session.
#[derive(Default)]
pub struct Seat {
    /// 0 if nobody sits there.
    pub life: Ticket,
    /// Of which session, of those one after the other.
    pub epoch: u64,
    /// By name, which is the device's alone.
    pub view: BTreeMap<String, Seen>,
    /// The life in which the host kicked it, and the host's.
    pub kicked: Option<(Ticket, Ticket)>,
}

/// A session, again and again.
pub struct Session {
    pub seats: Vec<Seat>,
    /// Counts the sessions, one after the other.
    pub epoch: u64,
    /// When the host went last.
    pub host_went: Ticket,
}

/// Everybody on LOUDSYNC.
pub struct Party {
    pub sessions: Vec<Session>,
}

impl Party {
    pub fn new(size: usize) -> Self {
        let session = |_| Session {
            seats: (0..SEATS).map(|_| Seat::default()).collect(),
            epoch: 0,
            host_went: 0,
        };
        Self {
            sessions: (0..size.div_ceil(SEATS)).map(session).collect(),
        }
    }
}

impl Session {
    pub fn disagreements(&self, number: usize) -> Vec<Broken> {
        let mut broken = Vec::new();
        let there = self.seats.iter().enumerate().filter(|(_, it)| it.life != 0);
        let there: Vec<(String, usize, &Seat)> = there
            .map(|(at, seat)| (name(number, at), at, seat))
            .collect();
        let host_life = self.seats[0].life;
        for (name, at, seat) in &there {
            if host_life == 0 || seat.epoch != self.epoch {
                broken.push((CLOSED, format!("{name} is in a session that has ended")));
                continue;
            }
            if seat.kicked == Some((seat.life, host_life)) {
                broken.push((KICKED, format!("{name} is there still")));
            }
            let names: Vec<&String> = there.iter().map(|(name, ..)| name).collect();
            let known: Vec<&String> = seat.view.keys().collect();
            let mut sorted = names.clone();
            sorted.sort();
            if known != sorted {
                broken.push((
                    MEMBERS,
                    format!("{name} knows {known:?}, there are {sorted:?}"),
                ));
                continue;
            }
            for (other, seen) in &seat.view {
                let Some((_, at_other, theirs)) = there.iter().find(|(it, ..)| it == other) else {
                    continue;
                };
                let Some(own) = theirs.view.get(other) else {
                    continue;
                };
                let same_id = own.id == seen.id || is_upper(*at_other) && at_other != at;
                let is_same = same_id
                    && seen.joined_at == own.joined_at
                    && seen.is_connected
                    && seen.is_host == (*at_other == 0);
                if !is_same {
                    broken.push((MEMBERS, format!("{name} knows {seen:?}, but it is {own:?}")));
                }
            }
        }
        broken
    }
}

impl Place for Party {
    fn disagreements(&self) -> Vec<Broken> {
        let sessions = self.sessions.iter().enumerate();
        let broken = sessions.map(|(number, session)| session.disagreements(number));
        broken.flatten().collect()
    }

    fn forget(&mut self) -> Vec<(&'static str, usize)> {
        let seats = self.sessions.iter().flat_map(|session| &session.seats);
        vec![(MEMBERS, seats.filter(|seat| seat.life != 0).count())]
    }
}

/// Every second guest speaks in capitals.
pub const fn is_upper(seat: usize) -> bool {
    seat % 2 == 1
}

pub fn name(session: usize, seat: usize) -> String {
    format!("m{session}-{seat}")
}
