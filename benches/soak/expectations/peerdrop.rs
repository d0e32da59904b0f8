//! PeerDrop: for each pair of clients, the messages that one has sent and the other has not received.

use super::Expectations;
use crate::checks::{DELIVERED, Violation};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

const PAIRS: &str = "both clients of a pair have received all messages";

/// One session, from its code to its end. Index 0 is the creator's, 1 the other peer's.
#[derive(Default)]
pub struct Session {
    /// Empty once a peer has used it.
    pub code: String,
    /// The creator was told that the other peer joined.
    pub is_paired: bool,
    pub is_online: [bool; 2],
    /// The peer left with a Close frame, and so all that it has sent is due.
    pub left_cleanly: [bool; 2],
    /// What each has sent and the other has not received.
    pub unreceived: [VecDeque<String>; 2],
    /// The creator is about to send more than fits into all buffers.
    pub is_flooded: bool,
}

impl Session {
    pub fn is_complete(&self) -> bool {
        self.is_online == [true; 2]
    }
}

/// The expectations of all PeerDrop clients.
pub struct PeerDropExpectations {
    /// The newest session of each pair.
    pub sessions: Vec<Rc<RefCell<Session>>>,
}

impl PeerDropExpectations {
    pub fn new(clients: usize) -> Self {
        Self {
            sessions: (0..clients.div_ceil(2)).map(|_| Rc::default()).collect(),
        }
    }
}

impl Expectations for PeerDropExpectations {
    fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (pair, session) in self.sessions.iter().enumerate() {
            let session = session.borrow();
            if !session.is_complete() {
                continue;
            }
            if !session.is_paired {
                let seen = format!("pair {pair}: the creator was not told of the other peer");
                violations.push((DELIVERED, seen));
            }
            for (side, unreceived) in session.unreceived.iter().enumerate() {
                if let Some(first) = unreceived.front() {
                    let first: String = first.chars().take(30).collect();
                    let count = unreceived.len();
                    let seen = format!("pair {pair}: {count} of side {side}, first {first:?}");
                    violations.push((DELIVERED, seen));
                }
            }
        }
        violations
    }

    fn start_anew(&mut self) -> Vec<(&'static str, usize)> {
        let sessions = self.sessions.iter();
        let complete = sessions.filter(|session| session.borrow().is_complete());
        vec![(PAIRS, complete.count())]
    }
}
