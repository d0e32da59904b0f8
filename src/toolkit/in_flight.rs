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
    /// The reference count tells: a response is also referenced by the realm that keeps the latest one, and by
    /// each connection that is sending it. Nobody can clone it from here, so a count of 1 is final. A count that
    /// is a moment old is too high: then the response counts as in flight until the next call.
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
