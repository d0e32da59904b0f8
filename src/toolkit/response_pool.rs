//! Large answers that have been given out. Whoever reads slowly keeps one in memory, so there is a
//! limit to how much different ones may take.

use std::sync::Arc;

/// The most bytes of different answers of one kind that may be with slow readers. A list of all
/// clients with names as long as can be is megabytes.
pub const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

/// The answers of one kind.
#[derive(Debug, Default)]
pub struct InFlightResponses(Vec<Arc<str>>);

impl InFlightResponses {
    /// Whether another may be given out now.
    pub fn has_capacity(&mut self) -> bool {
        self.release_unused();
        self.0.iter().map(|answer| answer.len()).sum::<usize>() < MAX_IN_FLIGHT_BYTES
    }

    /// Notes one that is given out. It counts as long as anybody else has it.
    pub fn add(&mut self, answer: &Arc<str>) {
        self.0.push(Arc::clone(answer));
    }

    /// Lets go of those that nobody has any more.
    pub fn release_unused(&mut self) {
        self.0.retain(|answer| Arc::strong_count(answer) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_as_long_as_somebody_has_them() {
        let mut answers = InFlightResponses::default();
        let large: Arc<str> = "x".repeat(MAX_IN_FLIGHT_BYTES / 2).into();
        let small: Arc<str> = "x".into();
        (0..1000).for_each(|_| answers.add(&small));
        answers.add(&large);
        assert!(answers.has_capacity());
        let other: Arc<str> = large.to_string().into();
        answers.add(&other);
        assert!(!answers.has_capacity());
        drop((other, small));
        assert!(answers.has_capacity());
        answers.release_unused();
        assert_eq!(Arc::strong_count(&large), 2);
    }
}
