//! Accounting of large responses that are being sent. A client that reads slowly keeps its response in
//! memory, so the total size of distinct responses is limited.

use std::sync::Arc;

/// Limit of the bytes of distinct responses of one kind that are being sent. A list of all clients with names
/// of the greatest length is several megabytes.
pub const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

/// The responses of one kind that are being sent.
#[derive(Debug, Default)]
pub struct InFlightResponses(Vec<Arc<str>>);

impl InFlightResponses {
    /// Returns whether another response may be sent now.
    pub fn has_capacity(&mut self) -> bool {
        self.release_unused();
        self.0.iter().map(|response| response.len()).sum::<usize>() < MAX_IN_FLIGHT_BYTES
    }

    /// Adds a response that is being sent. It counts until all other references to it are dropped.
    pub fn add(&mut self, response: &Arc<str>) {
        self.0.push(Arc::clone(response));
    }

    /// Removes the responses without other references, which frees them.
    pub fn release_unused(&mut self) {
        self.0.retain(|response| Arc::strong_count(response) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_counts_until_its_other_references_are_dropped() {
        let mut responses = InFlightResponses::default();
        let large: Arc<str> = "x".repeat(MAX_IN_FLIGHT_BYTES / 2).into();
        let small: Arc<str> = "x".into();
        (0..1000).for_each(|_| responses.add(&small));
        responses.add(&large);
        assert!(responses.has_capacity());
        let other: Arc<str> = large.to_string().into();
        responses.add(&other);
        assert!(!responses.has_capacity());
        drop((other, small));
        assert!(responses.has_capacity());
        responses.release_unused();
        assert_eq!(Arc::strong_count(&large), 2);
    }
}
