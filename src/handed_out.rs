//! Large answers that have been given out. Whoever reads slowly keeps one in memory, so there is a
//! limit to how many different ones there may be.

use std::sync::Arc;

/// Different answers at a time. A list of all clients with names as long as can be is megabytes.
pub const HANDED_OUT: usize = 8;

/// The answers of one kind, the newest last.
#[derive(Debug, Default)]
pub struct HandedOut(Vec<Arc<str>>);

impl HandedOut {
    /// Whether another may be given out now.
    pub fn has_room(&mut self) -> bool {
        self.0.retain(|answer| Arc::strong_count(answer) > 1);
        self.0.len() < HANDED_OUT
    }

    /// Gives one out. It counts as long as anybody else has it.
    pub fn add(&mut self, answer: String) -> Arc<str> {
        let answer: Arc<str> = answer.into();
        self.0.push(Arc::clone(&answer));
        answer
    }

    /// The newest, whoever has it.
    pub fn newest(&self) -> Option<Arc<str>> {
        self.0.last().map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_at_a_time_and_no_more() {
        let mut answers = HandedOut::default();
        let mut held = Vec::new();
        for at in 0..HANDED_OUT {
            assert!(answers.has_room());
            held.push(answers.add(at.to_string()));
        }
        assert!(!answers.has_room());
        assert_eq!(answers.newest().as_deref(), Some("7"));
        held.remove(3);
        assert!(answers.has_room());
        held.clear();
        assert!(answers.has_room());
        assert_eq!(answers.newest(), None);
    }
}
