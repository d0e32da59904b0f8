//! The limit of text: bytes of a user in a sliding minute.

use crate::base::spare::FreeSpare;
use crate::toolkit::heap_bytes::{HeapBytes, allocation};
use crate::toolkit::rate_limit::WINDOW;
use std::time::Duration;

/// The bytes of text that a user has sent in the last minute.
#[derive(Debug, Default)]
pub(super) struct TextWindow {
    /// For each second with a text: the time of the last of them in milliseconds, and the bytes of all.
    seconds: Vec<(u64, u32)>,
}

impl HeapBytes for TextWindow {
    fn heap_bytes(&self) -> usize {
        allocation(self.seconds.capacity() * size_of::<(u64, u32)>())
    }
}

impl TextWindow {
    /// Frees capacity that is not needed while the user is offline.
    pub(super) fn compact(&mut self, now: Duration) {
        self.remove_expired(now);
        // Copied, not shrunk, for the reason that `base::spare::compacted` gives.
        self.seconds = self.seconds.to_vec();
    }

    /// Checks that a text of `bytes` bytes is within `limit`. The first text of a minute always is. A `limit` of
    /// 0 is no limit.
    ///
    /// # Errors
    /// The time until the text is allowed.
    pub(super) fn check(
        &mut self,
        now: Duration,
        bytes: usize,
        limit: u32,
    ) -> Result<(), Duration> {
        self.remove_expired(now);
        let limit = limit as usize;
        if limit == 0 {
            return Ok(());
        }
        let mut left = self.bytes();
        if left == 0 || left + bytes <= limit {
            return Ok(());
        }
        let mut at = 0;
        for &(millis, freed) in &self.seconds {
            left -= freed as usize;
            at = millis;
            if left + bytes <= limit {
                break;
            }
        }
        Err((Duration::from_millis(at) + WINDOW).saturating_sub(now))
    }

    /// Counts a text.
    pub(super) fn record(&mut self, now: Duration, bytes: usize) {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let added = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.seconds.last_mut() {
            Some((last, sum))
                if *last / 1000 == millis / 1000 && sum.checked_add(added).is_some() =>
            {
                *last = millis;
                *sum += added;
            }
            _ => self.seconds.push((millis, added)),
        }
    }

    /// Returns the bytes of the last minute.
    pub(super) fn count(&mut self, now: Duration) -> usize {
        self.remove_expired(now);
        self.bytes()
    }

    fn bytes(&self) -> usize {
        self.seconds.iter().map(|(_, bytes)| *bytes as usize).sum()
    }

    fn remove_expired(&mut self, now: Duration) {
        let is_expired = |(millis, _): &&(u64, u32)| Duration::from_millis(*millis) + WINDOW <= now;
        let expired = self.seconds.iter().take_while(is_expired).count();
        self.seconds.drain(..expired);
        self.seconds.free_spare();
    }
}
