//! Rate limits as a client can check them: more accepted messages than the limit take at least a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time span of the documents' rate limits.
pub const MINUTE: Duration = Duration::from_secs(60);

/// When a client sent its newest accepted messages.
#[derive(Default)]
pub struct AcceptedRate(VecDeque<Instant>);

impl AcceptedRate {
    /// Records that the message sent at `sent` was accepted. If `limit` messages were accepted before it,
    /// returns how long ago the first of these was sent. At the server they arrived within less time
    /// than that, because the first needed time to get there and the answer time to get back.
    pub fn add(&mut self, sent: Instant, limit: usize) -> Option<Duration> {
        self.0.push_back(sent);
        if self.0.len() <= limit {
            return None;
        }
        self.0.pop_front().map(|first| first.elapsed())
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
