//! The lines of the log that wait to be written.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of lines that may wait: the lines of more than 1,000 connections. What does not fit is dropped.
pub(super) const QUEUE_LIMIT: usize = 256 * 1024;

/// Longest line in bytes, without its end; a longer one is cut. The server's own lines are shorter, since they
/// cut what a client sent.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// Bytes of whole lines that are written at once, if there are as many.
pub(super) const BATCH: usize = 4096;

/// A bounded queue of whole lines, filled by one thread and emptied by another.
pub(super) struct LineQueue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Whole lines, each with its end.
    bytes: VecDeque<u8>,
    /// Number of lines that were dropped and not yet reported.
    dropped: u64,
    /// Whether no more lines follow.
    closed: bool,
}

impl LineQueue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                bytes: VecDeque::with_capacity(QUEUE_LIMIT),
                dropped: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Appends a line, or counts it as dropped if it does not fit. `line` has its end.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes.len() + line.len() > QUEUE_LIMIT {
            state.dropped += 1;
        } else {
            state.bytes.extend(line);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Counts lines that could not be written.
    pub(super) fn add_dropped(&self, lines: u64) {
        self.lock().dropped += lines;
    }

    /// Returns the number of lines dropped since the last call that did not return 0. Returns 0 while the
    /// queue is more than half full: a report of them would be dropped next.
    pub(super) fn take_dropped(&self) -> u64 {
        let mut state = self.lock();
        if state.bytes.len() > QUEUE_LIMIT / 2 {
            return 0;
        }
        std::mem::take(&mut state.dropped)
    }

    /// Says that no more lines follow.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits for lines and moves them to `batch`, which it clears first: as many as [`BATCH`] bytes hold, and at
    /// least one. Returns false if the queue is closed and empty.
    pub(super) fn pop(&self, batch: &mut Vec<u8>) -> bool {
        batch.clear();
        let mut state = self.lock();
        while state.bytes.is_empty() {
            if state.closed {
                return false;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let is_end = |(_, byte): &(usize, &u8)| **byte == b'\n';
        let mut ends = state.bytes.iter().enumerate().filter(is_end);
        let first = ends.next().map(|(at, _)| at);
        let last = ends.take_while(|(at, _)| *at < BATCH).last();
        let end = last.map(|(at, _)| at).or(first);
        let length = end.map_or(state.bytes.len(), |at| at + 1);
        batch.extend(state.bytes.drain(..length));
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits what is printed into lines.
pub(super) struct LineSplitter {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Default for LineSplitter {
    fn default() -> Self {
        let partial = Vec::with_capacity(MAX_LINE + 1);
        Self { partial }
    }
}

impl LineSplitter {
    /// Calls `take` with each line that ends within `bytes`, its end included, and keeps the rest.
    pub(super) fn push(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let fits = text.len().min(MAX_LINE - self.partial.len());
            self.partial.extend(text.get(..fits).unwrap_or_default());
            if piece.ends_with(b"\n") {
                self.end_line(take);
            }
        }
    }

    /// Calls `take` with a last line that had no end.
    pub(super) fn finish(&mut self, take: &mut impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.end_line(take);
        }
    }

    fn end_line(&mut self, take: &mut impl FnMut(&[u8])) {
        self.partial.push(b'\n');
        take(&self.partial);
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removes all lines of a queue.
    fn drain(queue: &LineQueue) -> String {
        queue.close();
        let (mut batch, mut all) = (Vec::new(), Vec::new());
        while queue.pop(&mut batch) {
            all.extend_from_slice(&batch);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn lines_leave_in_order_whole_and_in_batches() {
        let queue = LineQueue::new();
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| queue.push(line.as_bytes()));
        let mut batch = Vec::new();
        assert!(queue.pop(&mut batch));
        assert!(batch.ends_with(b"\n") && batch.len() <= BATCH && batch.len() > BATCH - 10);
        let rest = drain(&queue);
        assert_eq!(String::from_utf8(batch).unwrap() + &rest, lines.concat());
    }

    #[test]
    fn a_line_longer_than_a_batch_leaves_alone() {
        let queue = LineQueue::new();
        let long = format!("{}\n", "x".repeat(2 * BATCH));
        queue.push(long.as_bytes());
        queue.push(b"next\n");
        let mut batch = Vec::new();
        assert!(queue.pop(&mut batch));
        assert_eq!(batch, long.as_bytes());
        assert_eq!(drain(&queue), "next\n");
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_reported_once_there_is_space() {
        let queue = LineQueue::new();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        (0..300).for_each(|_| queue.push(&line));
        assert_eq!(queue.take_dropped(), 0, "there is no space for a report");
        let mut batch = Vec::new();
        for _ in 0..40 {
            assert!(queue.pop(&mut batch));
        }
        assert_eq!(queue.take_dropped(), 300 - 256);
        assert_eq!(queue.take_dropped(), 0);
    }

    #[test]
    fn lines_are_found_in_whatever_pieces_they_come() {
        let text = "one\n\ntwo\nthree";
        for size in 1..=text.len() {
            let (queue, mut splitter) = (LineQueue::new(), LineSplitter::default());
            for piece in text.as_bytes().chunks(size) {
                splitter.push(piece, &mut |line| queue.push(line));
            }
            splitter.finish(&mut |line| queue.push(line));
            assert_eq!(drain(&queue), "one\n\ntwo\nthree\n");
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_cut() {
        let (queue, mut splitter) = (LineQueue::new(), LineSplitter::default());
        for _ in 0..100 {
            splitter.push(&[b'x'; 1000], &mut |line| queue.push(line));
        }
        splitter.push(b"\nnext\n", &mut |line| queue.push(line));
        assert_eq!(drain(&queue), format!("{}\nnext\n", "x".repeat(MAX_LINE)));
    }
}
