//! Accounting of large responses that are being sent. A client that reads slowly keeps its response in
//! memory, so the total size of distinct responses is limited.

use std::sync::Arc;

/// Limit of the bytes of distinct responses of one kind that are being sent. A list of all clients with names
/// of the greatest length is several megabytes.
pub const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

/// The responses of one kind that are being sent.
#[derive(Debug, Default)]
pub struct InFlightResponses {
    responses: Vec<Arc<str>>,
    /// The sum of their lengths.
    bytes: usize,
}

impl InFlightResponses {
    /// Returns whether another response may be sent now.
    pub fn has_capacity(&mut self) -> bool {
        self.release_unused();
        self.bytes < MAX_IN_FLIGHT_BYTES
    }

    /// Returns the bytes of the responses, of which some may not be referenced any more.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a response that is being sent. It counts until all other references to it are dropped.
    pub fn add(&mut self, response: &Arc<str>) {
        self.bytes += response.len();
        self.responses.push(Arc::clone(response));
    }

    /// Removes the responses without other references, which frees them.
    ///
    /// The others that hold one are the realm, while it is its newest list, and the connections that are sending
    /// it. A reference is made only from another one, and this list makes none. So a count of 1 is final: nobody is
    /// being sent the response, and nobody can be. Connections drop theirs in tasks of their own, so a higher count
    /// may be a moment old; then the response is removed at the next call, at the latest a second later.
    pub fn release_unused(&mut self) {
        self.responses
            .retain(|response| Arc::strong_count(response) > 1);
        self.bytes = self.responses.iter().map(|response| response.len()).sum();
        // The capacity that a storm of requests needed is given back.
        self.responses.shrink_to_fit();
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
        assert!(responses.bytes() >= MAX_IN_FLIGHT_BYTES);
        drop((other, small));
        assert!(responses.has_capacity());
        responses.release_unused();
        assert_eq!(Arc::strong_count(&large), 2);
    }
}
