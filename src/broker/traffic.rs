//! What goes over a socket, and over all sockets of a listener.

use super::count::Count;
use std::sync::Arc;

/// Messages and bytes, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// The numbers of a [`Traffic`] while it grows.
#[derive(Default)]
pub(crate) struct TrafficCounts {
    pub(crate) messages_in: Count,
    pub(crate) messages_out: Count,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
}

impl TrafficCounts {
    /// Returns the numbers so far.
    pub(crate) fn get(&self) -> Traffic {
        Traffic {
            messages_in: self.messages_in.get(),
            messages_out: self.messages_out.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
        }
    }

    /// Adds what is new to `total`: what these numbers have and `reported` has not.
    fn report(&self, reported: &Self, total: &Self) {
        let report = |count: fn(&Self) -> &Count| {
            let new = count(self).get() - count(reported).get();
            if new > 0 {
                count(reported).add(new);
                count(total).add_beside_others(new);
            }
        };
        report(|counts| &counts.messages_in);
        report(|counts| &counts.messages_out);
        report(|counts| &counts.bytes_in);
        report(|counts| &counts.bytes_out);
    }
}

/// The traffic of one socket. Its listener has it within a second, and all of it once the socket is closed, whatever
/// ended the connection. Between those times a message costs no instruction on memory that connections share.
///
/// The counts come first (`repr(C)`), beside the fields of `SocketStatus` that each write changes.
#[repr(C)]
pub(crate) struct TrafficMeter {
    /// Written by those who use the socket, the connection's task and the broker, one at a time.
    pub(crate) counts: TrafficCounts,
    /// The part of it that the listener has.
    reported: TrafficCounts,
    listener: Arc<TrafficCounts>,
}

impl TrafficMeter {
    pub(crate) fn new(listener: Arc<TrafficCounts>) -> Self {
        Self {
            counts: TrafficCounts::default(),
            reported: TrafficCounts::default(),
            listener,
        }
    }

    /// Adds what is new to the traffic of the listener. Called by one task at a time: the handshake's before the
    /// broker knows the connection, then the broker until its end.
    pub(crate) fn report(&self) {
        self.counts.report(&self.reported, &self.listener);
    }
}

impl Drop for TrafficMeter {
    fn drop(&mut self) {
        self.report();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_of_a_listener_is_that_of_its_sockets_each_counted_once() {
        let listener = Arc::new(TrafficCounts::default());
        let meters = [(); 2].map(|()| TrafficMeter::new(Arc::clone(&listener)));
        for (meter, messages) in meters.iter().zip([3, 4]) {
            meter.counts.messages_in.add(messages);
            meter.counts.bytes_out.add(10 * messages);
            meter.report();
            meter.report();
        }
        let messages_and_bytes = || {
            let traffic = listener.get();
            (traffic.messages_in, traffic.bytes_out)
        };
        assert_eq!(messages_and_bytes(), (7, 70));
        meters
            .iter()
            .for_each(|meter| meter.counts.messages_in.add(1));
        drop(meters);
        assert_eq!(messages_and_bytes(), (9, 70), "the drop reports the rest");
    }
}
