//! Wrong codes: which networks tried too many and may not join, and whether all clients together tried so
//! many that each join has to wait (rulings, "PeerDrop").
//!
//! The eviction of memory never removes them: an attacker could cause it, and guess on. So their number is
//! fixed.

use crate::base::ip::ClientAddress;
use crate::base::spare::FreeSpare;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// The time for which a wrong code counts, and for which a network is rejected (rulings).
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Prefix lengths of the networks that are rejected, each with the factor of its limit. A provider assigns a
/// /64 at the least, mostly a /56, and a /48 on request. An IPv4 address counts by itself only.
pub(super) const LEVELS: [(u8, u32); 3] = [(64, 1), (56, 4), (48, 16)];

/// Wrong codes of the last minute that are kept without a limit for all clients together. At this number the
/// oldest is dropped, which would be the next to be too old.
const UNLIMITED_CAPACITY: usize = 16_384;

/// An IPv6 network of at most 64 bits, an IPv4 address, or the clients of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network {
    bits: u64,
    prefix: u8,
}

impl Network {
    /// Bits above those of an IPv4 address. The IPv6 addresses that begin with them belong to a reserved block
    /// (0000::/8, RFC 4291 section 2.4) and to no client.
    const IPV4: u64 = 1 << 48;

    /// The bits of the clients of Unix sockets, of the same block.
    const UNIX: u64 = 1 << 49;

    /// Returns the network that contains an address. An IPv4 address is alone in its network, and so are the clients of
    /// Unix sockets. `prefix` is at most 64.
    pub(super) fn of(address: ClientAddress, prefix: u8) -> Self {
        let network = |bits| Self { bits, prefix: 64 };
        match address {
            ClientAddress::Unix => network(Self::UNIX),
            ClientAddress::Ip(IpAddr::V4(v4)) => network(Self::IPV4 | u64::from(u32::from(v4))),
            ClientAddress::Ip(IpAddr::V6(v6)) => {
                let [a, b, c, d, ..] = v6.segments();
                let bits = [a, b, c, d].into_iter();
                network(bits.fold(0, |bits, next| bits << 16 | u64::from(next))).widened(prefix)
            }
        }
    }

    /// Returns the network of this prefix length that contains this one; one that is alone unchanged.
    fn widened(self, prefix: u8) -> Self {
        if self.is_alone() {
            return self;
        }
        let bits = self.bits & u64::MAX.checked_shl(64 - u32::from(prefix)).unwrap_or(0);
        Self { bits, prefix }
    }

    /// Returns how many of its first bits a /64, or one that is alone, shares with another. Those that are alone share
    /// none with others.
    fn shared_bits(self, other: Self) -> u8 {
        let shared = (self.bits ^ other.bits).leading_zeros() as u8;
        if shared < 64 && self.is_alone() {
            0
        } else {
            shared
        }
    }

    /// Returns whether this is not a network of IPv6, and so is in no larger one.
    const fn is_alone(self) -> bool {
        self.bits >> 32 == Self::IPV4 >> 32 || self.bits == Self::UNIX
    }
}

/// A wrong code of the last minute.
struct WrongCode {
    at: Duration,
    /// The smallest network that contains its client.
    network: Network,
}

/// Returns how many wrong codes are kept at most.
const fn capacity(total_limit: u32, joins_per_second: u32) -> usize {
    match total_limit as usize {
        0 => UNLIMITED_CAPACITY,
        // All that a minute, its first and its last instant included, can bring: none is ever dropped.
        total_limit => total_limit + 1 + 61 * joins_per_second as usize,
    }
}

/// The wrong codes of one listener.
pub(super) struct WrongCodes {
    /// Wrong codes of an address in a minute at which it is rejected; 0: no limit.
    limit: u32,
    /// Wrong codes of all clients in a minute above which joins wait; 0: no limit.
    total_limit: u32,
    /// Maximum of `recent`.
    capacity: usize,
    /// The wrong codes of the last minute, oldest first. May contain older ones until they are needed next.
    recent: VecDeque<WrongCode>,
    /// The networks that may not join, each with the time until which.
    rejected: BTreeMap<Network, Duration>,
}

impl WrongCodes {
    /// Creates an empty table. `joins_per_second` is the maximum of codes that are looked up in a second once
    /// joins have to wait.
    pub(super) fn new(limit: u32, total_limit: u32, joins_per_second: u32) -> Self {
        Self {
            limit,
            total_limit,
            capacity: capacity(total_limit, joins_per_second),
            recent: VecDeque::new(),
            rejected: BTreeMap::new(),
        }
    }

    /// Changes the limits. Networks that are rejected stay so until their minute is over.
    pub(super) fn set_limits(&mut self, limit: u32, total_limit: u32, joins_per_second: u32) {
        self.limit = limit;
        self.total_limit = total_limit;
        self.capacity = capacity(total_limit, joins_per_second);
        let above = self.recent.len().saturating_sub(self.capacity);
        self.recent.drain(..above);
    }

    /// Returns whether an address may not join at `now`.
    pub(super) fn is_rejected(&self, now: Duration, address: ClientAddress) -> bool {
        let until = |(prefix, _)| self.rejected.get(&Network::of(address, prefix));
        LEVELS
            .into_iter()
            .filter_map(until)
            .any(|&until| now < until)
    }

    /// Returns whether all clients together tried so many wrong codes in the last minute that joins wait.
    pub(super) fn is_above_total(&mut self, now: Duration) -> bool {
        self.remove_expired(now);
        self.total_limit > 0 && self.recent.len() > self.total_limit as usize
    }

    /// Counts a wrong code from an address, and rejects the networks that reach their limit by it for a minute.
    pub(super) fn record(&mut self, now: Duration, address: ClientAddress) {
        self.remove_expired(now);
        let network = Network::of(address, 64);
        if self.recent.len() >= self.capacity {
            self.recent.pop_front();
        }
        self.recent.push_back(WrongCode { at: now, network });
        if self.limit == 0 {
            return;
        }
        let mut counts = LEVELS.map(|_| 0);
        for code in &self.recent {
            let shared = network.shared_bits(code.network);
            for ((prefix, _), count) in LEVELS.into_iter().zip(&mut counts) {
                *count += u32::from(shared >= prefix);
            }
        }
        for ((prefix, factor), count) in LEVELS.into_iter().zip(counts) {
            if count >= self.limit * factor {
                self.reject(network.widened(prefix), now + MINUTE);
            }
        }
    }

    /// Rejects a network. One that is rejected already never gives way to another. With a limit for all
    /// clients together there is always a place: see `capacity`.
    fn reject(&mut self, network: Network, until: Duration) {
        if self.rejected.len() < self.max_rejected() || self.rejected.contains_key(&network) {
            self.rejected.insert(network, until);
        }
    }

    /// Returns the maximum of `rejected`. With a `limit` of 1 all wrong codes of a minute reject a network each,
    /// and every fourth and sixteenth of two minutes a larger one.
    const fn max_rejected(&self) -> usize {
        2 * self.capacity
    }

    /// Removes what is too old to count, and returns the memory that it took.
    pub(super) fn tick(&mut self, now: Duration) {
        self.remove_expired(now);
        self.rejected.retain(|_, until| now < *until);
        if self.recent.len() <= self.recent.capacity() / 4 {
            self.recent.shrink_to(2 * self.recent.len());
        }
    }

    fn remove_expired(&mut self, now: Duration) {
        while self
            .recent
            .front()
            .is_some_and(|code| code.at + MINUTE <= now)
        {
            self.recent.pop_front();
        }
    }

    /// Returns the number of wrong codes in the minute before the last tick, and since then.
    pub(super) fn len(&self) -> usize {
        self.recent.len()
    }

    /// Returns the memory of the table, in bytes. The nodes of a tree are not full, so its entries count twice.
    pub(super) fn bytes(&self) -> usize {
        self.recent.capacity() * size_of::<WrongCode>()
            + self.rejected.len() * 2 * size_of::<(Network, Duration)>()
    }
}

impl FreeSpare for WrongCodes {
    fn free_spare(&mut self) {
        let Self {
            rejected,
            limit: _,
            total_limit: _,
            capacity: _,
            // `tick` has freed it.
            recent: _,
        } = self;
        rejected.free_spare();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ip::from_text::client;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns one of 65,536 addresses, each in a /48 of its own.
    fn distant(number: u64) -> ClientAddress {
        client(&format!("2001:{:x}::1", number % 65_536))
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_with_its_prefix() {
        let network = |address, prefix| Network::of(client(address), prefix);
        for (one, other, prefixes) in [
            ("2001:db8:1:200::1", "2001:db8:1:200:ffff::", 64..=64),
            ("2001:db8:1:200::1", "2001:db8:1:2ff::1", 48..=56),
            ("2001:db8:1:200::1", "2001:db8:1:300::1", 48..=55),
            ("2001:db8:1:200::1", "2001:db8:2:200::1", 0..=46),
            ("192.0.2.1", "::ffff:192.0.2.1", 0..=64),
        ] {
            for prefix in 0..=64 {
                if prefixes.contains(&prefix) {
                    assert_eq!(network(one, prefix), network(other, prefix));
                } else if prefix > *prefixes.end() {
                    assert_ne!(network(one, prefix), network(other, prefix));
                }
            }
        }
        for prefix in 0..=64 {
            assert_ne!(network("192.0.2.1", prefix), network("192.0.2.2", prefix));
            assert_ne!(network("0.0.0.1", prefix), network("::1", prefix));
            let unix = Network::of(ClientAddress::Unix, prefix);
            assert_eq!(unix, Network::of(ClientAddress::Unix, 64));
            assert_ne!(unix, network("0.0.0.0", prefix));
            assert_ne!(unix, network("0:2::", prefix).widened(0));
        }
    }

    #[test]
    fn the_table_has_a_fixed_size_and_a_flood_frees_no_rejected_address() {
        for total_limit in [100, 0] {
            let mut table = WrongCodes::new(10, total_limit, 5);
            table.capacity = table.capacity.min(500);
            let rejected = client("192.0.2.1");
            (0..10).for_each(|_| table.record(second(0), rejected));
            for number in 0..4 * table.capacity as u64 {
                table.record(second(59), distant(number));
                assert!(table.recent.len() <= table.capacity);
            }
            assert!(table.is_rejected(second(59), rejected), "{total_limit}");
            assert!(!table.is_rejected(second(60), rejected));
        }
    }

    #[test]
    fn the_largest_table_has_less_than_a_megabyte() {
        for total_limit in [1000, 0] {
            let table = WrongCodes::new(10, total_limit, 200);
            let recent = table.capacity.next_power_of_two() * size_of::<WrongCode>();
            // Each tenth wrong code of two minutes rejects a /64, each 40th a /56, each 160th a /48.
            let rejected = 2 * table.capacity * 21 / 160;
            assert!(recent + rejected * 2 * size_of::<(Network, Duration)>() < 1_000_000);
        }
    }

    #[test]
    fn rejected_networks_are_bounded_and_none_gives_way_to_another() {
        let mut table = WrongCodes::new(1, 1, 1);
        let max_rejected = table.max_rejected();
        for number in 0..2 * max_rejected as u64 {
            table.record(second(0), distant(number));
        }
        assert_eq!(table.rejected.len(), max_rejected);
        assert!(table.is_rejected(second(1), distant(0)));
        table.tick(second(60));
        assert!(table.rejected.is_empty() && table.bytes() == 0);
    }

    #[test]
    fn no_wrong_code_of_the_last_minute_is_dropped_at_the_greatest_rate() {
        let mut table = WrongCodes::new(10, 100, 20);
        let careful = client("192.0.2.1");
        table.record(second(0), careful);
        (0..100).for_each(|number| table.record(second(0), distant(number)));
        for seconds in 1..60 {
            (0..20).for_each(|number| table.record(second(seconds), distant(number)));
        }
        assert!(!table.is_rejected(second(59), careful));
        (0..9).for_each(|_| table.record(Duration::from_millis(59_999), careful));
        assert!(table.is_rejected(second(60), careful));
    }

    #[test]
    fn memory_is_free_again_a_minute_after_a_flood() {
        let mut table = WrongCodes::new(10, 0, 200);
        for number in 0..1000 {
            table.record(second(0), distant(number % 100));
        }
        assert!(table.bytes() > 30_000);
        table.record(second(59), distant(1));
        table.tick(second(60));
        assert!(table.bytes() < 1000, "{}", table.bytes());
        table.tick(second(120));
        assert_eq!(table.bytes(), 0);
    }
}
