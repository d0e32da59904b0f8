//! What has happened on a listener in the last five minutes, second by second.

use crate::broker::ListenerCounters;
use serde::Serialize;
use std::collections::VecDeque;

/// Seconds that are kept.
const SECONDS: usize = 300;

/// The figures of a listener in each of the last seconds, oldest first.
#[derive(Serialize)]
pub(super) struct History {
    messages_in: VecDeque<u64>,
    messages_out: VecDeque<u64>,
    connections: VecDeque<u64>,
    /// The numbers of messages so far, at the last second: in, out.
    #[serde(skip)]
    so_far: (u64, u64),
}

impl History {
    /// Creates an empty history. It takes all its memory now: allocated during a storm, it would keep the memory below
    /// it (see [`crate::base::spare`]).
    pub(super) fn new() -> Self {
        let ring = || VecDeque::with_capacity(SECONDS);
        Self {
            messages_in: ring(),
            messages_out: ring(),
            connections: ring(),
            so_far: (0, 0),
        }
    }

    /// Appends what has happened since the last call.
    pub(super) fn record_second(&mut self, counters: &ListenerCounters) {
        let traffic = counters.traffic.get();
        let so_far = (traffic.messages_in, traffic.messages_out);
        let before = std::mem::replace(&mut self.so_far, so_far);
        push(&mut self.messages_in, so_far.0 - before.0);
        push(&mut self.messages_out, so_far.1 - before.1);
        push(&mut self.connections, counters.connections());
    }
}

fn push(ring: &mut VecDeque<u64>, value: u64) {
    if ring.len() == SECONDS {
        ring.pop_front();
    }
    ring.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_the_messages_of_each_of_the_last_300_seconds_oldest_first() {
        let (counters, mut history) = (ListenerCounters::default(), History::new());
        let capacity = history.messages_in.capacity();
        for second in 0..400 {
            counters.traffic.messages_in.add(second);
            history.record_second(&counters);
        }
        assert!(history.messages_in.iter().copied().eq(100..400));
        assert!(history.messages_out.iter().copied().eq([0; SECONDS]));
        assert_eq!(history.messages_in.capacity(), capacity);
    }
}
