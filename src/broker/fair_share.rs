//! Which connections are closed when memory is short: those of the addresses that hold more than a fair
//! share of it (rulings, "memory").

use super::memory::Holding;
use crate::base::ip::SubnetKey;
use crate::realm::ConnectionId;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Bytes that a connection holds for a usual message: twice the largest of most protocols, since a message
/// is held both as received and as decoded. A connection that holds no more is not closed for what it holds,
/// only for how long it has held it: many clients with little each must not get one closed that sends a
/// usual message.
const USUAL_BYTES: usize = 2 << 20;

/// With a small budget, the budget divided by this counts as usual instead.
const BUDGET_PER_USUAL: usize = 8;

/// The holdings of one address.
#[derive(Default)]
struct AddressHoldings {
    bytes: usize,
    holdings: Vec<Holding>,
}

/// Chooses the connections to close so that all that is held is `excess` bytes less, as far as that is
/// possible without taking an address below its fair share of `target`. First go the large ones of the
/// addresses that hold most, then the ones that have held theirs longest.
pub(super) fn choose(holdings: Vec<Holding>, target: usize, mut excess: usize) -> Vec<Holding> {
    let mut addresses: BTreeMap<SubnetKey, AddressHoldings> = BTreeMap::new();
    for holding in holdings {
        let address = addresses.entry(holding.address).or_default();
        address.bytes += holding.bytes;
        address.holdings.push(holding);
    }
    let fair_share = target / addresses.len().max(1);
    let usual = USUAL_BYTES.min(target / BUDGET_PER_USUAL);
    let mut addresses: Vec<AddressHoldings> = addresses.into_values().collect();
    addresses.sort_by_key(|address| Reverse(address.bytes));
    let mut chosen = Vec::new();
    for address in &mut addresses {
        address.sort(usual);
        address.choose(fair_share.max(usual), &mut excess, &mut chosen);
    }
    // What is left to choose from are many addresses with a little each.
    addresses.sort_by_key(|address| address.holdings.first().map(Holding::order_by_age));
    for address in &mut addresses {
        address.choose(fair_share, &mut excess, &mut chosen);
    }
    chosen
}

impl Holding {
    /// The order in which usual holdings are closed: the oldest first, and of those that began in the same second
    /// the newest connection first, since a client that has been served for long is not the one that has just come
    /// to fill the memory.
    fn order_by_age(&self) -> (u32, Reverse<ConnectionId>) {
        (self.since, Reverse(self.conn))
    }
}

impl AddressHoldings {
    /// Puts what is to be closed first to the front: the largest above `usual`, then the oldest.
    fn sort(&mut self, usual: usize) {
        self.holdings.sort_by_key(|holding| {
            let unusual = if holding.bytes > usual {
                holding.bytes
            } else {
                0
            };
            (Reverse(unusual), holding.order_by_age())
        });
    }

    /// Moves holdings from the front to `chosen` until no more than `share` is left or there is no `excess`
    /// any more.
    fn choose(&mut self, share: usize, excess: &mut usize, chosen: &mut Vec<Holding>) {
        let is_enough = |bytes: usize, excess: usize| excess == 0 || bytes <= share;
        let mut count = 0;
        for holding in &self.holdings {
            if is_enough(self.bytes, *excess) {
                break;
            }
            self.bytes -= holding.bytes;
            *excess = excess.saturating_sub(holding.bytes);
            count += 1;
        }
        chosen.extend(self.holdings.drain(..count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const MIB: usize = 1 << 20;
    const TARGET: usize = 28 * MIB;

    fn holding(address: u32, conn: u64, bytes: usize, since: u32) -> Holding {
        Holding {
            address: SubnetKey::of(IpAddr::V4(Ipv4Addr::from(address))),
            conn: ConnectionId(conn),
            bytes,
            since,
        }
    }

    /// The connections that are chosen so that the rest is within [`TARGET`].
    fn chosen(holdings: &[Holding]) -> Vec<u64> {
        let bytes: usize = holdings.iter().map(|holding| holding.bytes).sum();
        let chosen = choose(holdings.to_vec(), TARGET, bytes.saturating_sub(TARGET));
        chosen.iter().map(|holding| holding.conn.0).collect()
    }

    #[test]
    fn the_largest_of_one_address_go_first_and_no_more_than_needed() {
        let sizes = [(1, 8), (2, 11), (3, 9), (4, 7)];
        let holdings = sizes.map(|(conn, mib)| holding(1, conn, mib * MIB, 0));
        assert_eq!(chosen(&holdings), [2]);
        let holdings = sizes.map(|(conn, mib)| holding(1, conn, mib * MIB / 2, 0));
        assert_eq!(chosen(&holdings), [0; 0]);
    }

    #[test]
    fn the_connections_of_an_address_count_together() {
        let mut holdings: Vec<_> = (1..=8).map(|conn| holding(1, conn, 3 * MIB, 0)).collect();
        holdings.push(holding(2, 9, 7 * MIB, 0));
        assert_eq!(
            chosen(&holdings),
            [8],
            "no connection is larger than that of address 2"
        );
    }

    #[test]
    fn an_address_within_its_fair_share_keeps_its_connections() {
        let mut holdings = vec![holding(1, 1, 9 * MIB, 0), holding(1, 2, 9 * MIB, 0)];
        holdings.push(holding(2, 3, 13 * MIB, 0));
        holdings.push(holding(2, 4, MIB, 0));
        assert_eq!(chosen(&holdings), [2]);
        holdings.push(holding(3, 5, 13 * MIB, 0));
        assert_eq!(
            chosen(&holdings),
            [2, 3],
            "among three, the share of address 2 is smaller than what it holds"
        );
    }

    #[test]
    fn a_usual_message_is_not_closed_for_thousands_of_small_ones_of_its_own_address() {
        let mut holdings: Vec<_> = (1..=9000).map(|conn| holding(1, conn, 4000, 5)).collect();
        holdings.push(holding(1, 10_000, 2_000_000, 6));
        let chosen = chosen(&holdings);
        assert!(!chosen.is_empty() && !chosen.contains(&10_000));
    }

    #[test]
    fn a_usual_message_is_not_closed_for_small_ones_of_thousands_of_addresses() {
        let holdings = |age_of_usual| {
            let small = (1..=9000).map(|conn| holding(conn as u32, conn, 4000, 5));
            let mut holdings: Vec<_> = small.collect();
            holdings.push(holding(10_000, 10_000, 2_000_000, age_of_usual));
            holdings
        };
        let chosen = chosen(&holdings(6));
        assert!(!chosen.is_empty() && !chosen.contains(&10_000));
        // One that has been there for longer than all of them has had its time.
        assert!(self::chosen(&holdings(4)).contains(&10_000));
    }

    #[test]
    fn of_what_began_in_the_same_second_the_newest_connection_goes_first() {
        for one_address in [true, false] {
            let address = |conn: u64| if one_address { 1 } else { conn as u32 };
            let small = (1..=9000).map(|conn| holding(address(conn), conn, 4000, 5));
            let mut holdings = vec![holding(address(0), 0, 2_000_000, 5)];
            holdings.extend(small);
            let chosen = chosen(&holdings);
            assert_eq!(chosen.first(), Some(&9000));
            assert!(!chosen.contains(&0));
        }
    }

    #[test]
    fn whatever_the_addresses_hold_the_rest_is_within_the_target() {
        for addresses in [1, 2, 100, 5000] {
            let holdings: Vec<_> = (0..10_000)
                .map(|conn| {
                    let (size, since) = (conn * 7919 % 50_000, (conn % 30) as u32);
                    holding((conn % addresses) as u32, conn, size as usize, since)
                })
                .collect();
            let all: usize = holdings.iter().map(|holding| holding.bytes).sum();
            let chosen = choose(holdings, TARGET, all - TARGET);
            let freed: usize = chosen.iter().map(|holding| holding.bytes).sum();
            assert!(all - freed <= TARGET, "{addresses} addresses");
        }
    }
}
