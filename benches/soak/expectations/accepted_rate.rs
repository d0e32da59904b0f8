//! Rate limits as a client can check them: so many messages that are accepted take a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub const MINUTE: Duration = Duration::from_secs(60);

/// When somebody sent the last messages that were accepted.
#[derive(Default)]
pub struct Accepted(VecDeque<Instant>);

impl Accepted {
    /// One more was, that was sent then. Where there are `limit` before it: how long all of them
    /// took. It was longer until they got there, and the answer took time, too; so they were closer.
    pub fn add(&mut self, sent: Instant, limit: usize) -> Option<Duration> {
        self.0.push_back(sent);
        if self.0.len() <= limit {
            return None;
        }
        self.0.pop_front().map(|first| first.elapsed())
    }

    /// The count begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
