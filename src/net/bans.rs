//! The networks whose clients the operator does not want, until a time or until the daemon ends.

use crate::base::ip::{ClientAddress, Network, ProxyAddress};
use crate::config::Config;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Bans at the same time, at most: about a megabyte. Whoever has more to block has a firewall.
const MAX_BANS: usize = 10_000;

/// The bans of all listeners.
///
/// They are here and not in the broker, so that a banned client is refused before anything is done for it.
#[derive(Default)]
pub(crate) struct Bans {
    /// Number of bans in `state`, so that without one no connection takes the lock.
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The end of each ban, if it has one, by the prefix length of its network and by the network, whose addresses have
    /// no bits behind the prefix.
    ends: BTreeMap<u8, BTreeMap<Network, Option<Instant>>>,
    /// The networks of the proxies that any listener trusts.
    trusted_proxies: Vec<Network>,
}

/// A ban as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) network: Network,
    /// When it ends; `None`: when the daemon does.
    pub(crate) until: Option<SystemTime>,
}

/// The reason why a network cannot be banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BanError {
    /// It is of a proxy that a listener trusts: whose address it is says nothing about its clients.
    TrustedProxy(Network),
    /// There are [`MAX_BANS`].
    TooMany,
    /// The time is longer than can be counted.
    TooLong,
}

impl fmt::Display for BanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrustedProxy(proxy) => write!(
                f,
                "it is in {proxy}, which \"trusted_proxies\" has: ban the clients behind the proxy, by the addresses that \
                 switchboard clients shows"
            ),
            Self::TooMany => write!(
                f,
                "there are {MAX_BANS} bans, and there can be no more: end some, ban larger networks, or use a firewall"
            ),
            Self::TooLong => {
                f.write_str("the time is too long; without one it lasts as long as the daemon runs")
            }
        }
    }
}

impl Bans {
    /// Takes the trusted proxies of a configuration, also of one that replaces another. The bans stay.
    pub(crate) fn configure(&self, config: &Config) {
        let listeners = config.listeners.iter();
        let proxies = listeners.flat_map(|it| &it.settings.trusted_proxies);
        let proxies = proxies.filter_map(|proxy| match proxy {
            ProxyAddress::Network(network) => Some(*network),
            ProxyAddress::Unix => None,
        });
        self.lock().trusted_proxies = proxies.collect();
    }

    /// Bans a network for this time, or as long as the daemon runs. Replaces a ban of the same network.
    ///
    /// # Errors
    /// The network is within that of a trusted proxy, the time is too long, or there are too many bans.
    pub(crate) fn insert(
        &self,
        network: Network,
        time: Option<Duration>,
        now: Instant,
    ) -> Result<Ban, BanError> {
        let network = network.normalized();
        let mut state = self.lock();
        let mut proxies = state.trusted_proxies.iter();
        if let Some(proxy) = proxies.find(|proxy| proxy.contains_network(&network)) {
            return Err(BanError::TrustedProxy(*proxy));
        }
        let end = |time| now.checked_add(time).ok_or(BanError::TooLong);
        let end = time.map(end).transpose()?;
        let until = time.map(|time| SystemTime::now().checked_add(time));
        let until = until
            .map(|until| until.ok_or(BanError::TooLong))
            .transpose()?;
        state.remove_ended(now);
        if !state.contains_ban(network) && state.count() >= MAX_BANS {
            return Err(BanError::TooMany);
        }
        let of_prefix = state.ends.entry(network.prefix()).or_default();
        of_prefix.insert(network, end);
        self.count.store(state.count(), Ordering::Release);
        Ok(Ban { network, until })
    }

    /// Ends the ban of a network. Returns whether there was one.
    pub(crate) fn remove(&self, network: Network, now: Instant) -> bool {
        let mut state = self.lock();
        state.remove_ended(now);
        let was_banned = state.remove(network.normalized());
        self.count.store(state.count(), Ordering::Release);
        was_banned
    }

    /// Returns all bans, by the lengths of their prefixes and their addresses.
    pub(crate) fn list(&self, now: Instant) -> Vec<Ban> {
        let mut state = self.lock();
        state.remove_ended(now);
        self.count.store(state.count(), Ordering::Release);
        let wall = SystemTime::now();
        let ban = |(network, end): (&Network, &Option<Instant>)| Ban {
            network: *network,
            until: end.and_then(|end| wall.checked_add(end.saturating_duration_since(now))),
        };
        state.ends.values().flatten().map(ban).collect()
    }

    /// Returns whether a client with this address is banned. The proxies that any listener trusts never are, also where a
    /// larger network is banned, nor are the clients of a Unix socket.
    pub(crate) fn contains(&self, client: ClientAddress) -> bool {
        let ClientAddress::Ip(address) = client else {
            return false;
        };
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let state = self.lock();
        state.is_banned(address, Instant::now()) && !state.is_trusted_proxy(client)
    }

    /// Returns whether an address is that of a proxy that any listener trusts.
    pub(crate) fn is_trusted_proxy(&self, address: ClientAddress) -> bool {
        self.lock().is_trusted_proxy(address)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_trusted_proxy(&self, address: ClientAddress) -> bool {
        let mut proxies = self.trusted_proxies.iter();
        proxies.any(|proxy| address.is_in(proxy))
    }

    fn count(&self) -> usize {
        self.ends.values().map(BTreeMap::len).sum()
    }

    fn contains_ban(&self, network: Network) -> bool {
        let of_prefix = self.ends.get(&network.prefix());
        of_prefix.is_some_and(|ends| ends.contains_key(&network))
    }

    /// Returns whether a network with the address is banned. There are few lengths of prefixes, whatever the number of
    /// networks.
    fn is_banned(&self, address: IpAddr, now: Instant) -> bool {
        self.ends.iter().any(|(prefix, ends)| {
            let end = ends.get(&Network::of(address, *prefix));
            end.is_some_and(|end| end.is_none_or(|end| now < end))
        })
    }

    fn remove(&mut self, network: Network) -> bool {
        let of_prefix = self.ends.get_mut(&network.prefix());
        let was_banned = of_prefix.is_some_and(|ends| ends.remove(&network).is_some());
        self.ends.retain(|_, ends| !ends.is_empty());
        was_banned
    }

    /// Removes the bans whose time is over.
    fn remove_ended(&mut self, now: Instant) {
        for ends in self.ends.values_mut() {
            ends.retain(|_, end| end.is_none_or(|end| now < end));
        }
        self.ends.retain(|_, ends| !ends.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ip::from_text::{client, ip, proxies};

    const MINUTE: Duration = Duration::from_secs(60);

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    /// Bans without end of these networks.
    fn bans(banned: &[&str]) -> Bans {
        let bans = Bans::default();
        for text in banned {
            let network = network(text);
            bans.insert(network, None, Instant::now()).unwrap();
        }
        bans
    }

    #[test]
    fn a_client_is_banned_whose_address_is_in_a_banned_network() {
        let bans = bans(&["192.0.2.7", "198.51.100.9/24", "2001:db8:0:1::5/64"]);
        for (address, expected) in [
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.100.200", true),
            ("198.51.101.9", false),
            ("2001:db8:0:1:ffff::", true),
            ("2001:db8:0:2::5", false),
        ] {
            assert_eq!(bans.contains(client(address)), expected, "{address}");
        }
    }

    #[test]
    fn a_ban_of_every_address_of_a_family_is_none_of_the_other() {
        let v4 = bans(&["0.0.0.0/0"]);
        assert!(v4.contains(client("192.0.2.7")) && !v4.contains(client("2001:db8::1")));
        let v6 = bans(&["::/0"]);
        assert!(!v6.contains(client("192.0.2.7")) && v6.contains(client("2001:db8::1")));
    }

    #[test]
    fn a_ban_ends_by_itself_when_its_time_is_over() {
        let (bans, now) = (Bans::default(), Instant::now());
        let ban = bans
            .insert(network("192.0.2.7"), Some(MINUTE), now)
            .unwrap();
        assert!(ban.until.unwrap() > SystemTime::now());
        assert!(bans.lock().is_banned(ip("192.0.2.7"), now + MINUTE / 2));
        assert!(!bans.lock().is_banned(ip("192.0.2.7"), now + MINUTE));
        assert_eq!(bans.list(now + MINUTE / 2).len(), 1);
        assert_eq!(bans.list(now + MINUTE), []);
        assert_eq!(bans.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_ban_of_the_same_network_replaces_the_first() {
        let (bans, now) = (Bans::default(), Instant::now());
        bans.insert(network("192.0.2.7/24"), Some(MINUTE), now)
            .unwrap();
        bans.insert(network("192.0.2.9/24"), None, now).unwrap();
        let network = network("192.0.2.0/24");
        assert_eq!(
            bans.list(now),
            [Ban {
                network,
                until: None
            }]
        );
    }

    #[test]
    fn a_ban_that_is_ended_lets_the_clients_in_and_there_is_none_to_end_then() {
        let bans = bans(&["192.0.2.7"]);
        assert!(bans.remove(network("192.0.2.7"), Instant::now()));
        assert!(!bans.contains(client("192.0.2.7")));
        assert!(!bans.remove(network("192.0.2.7"), Instant::now()));
    }

    #[test]
    fn a_trusted_proxy_cannot_be_banned_and_is_not_by_a_larger_network() {
        let mut config = Config::built_in();
        config.listeners[0].settings.trusted_proxies = proxies(&["10.0.0.0/16", "unix"]);
        let bans = Bans::default();
        bans.configure(&config);
        for text in ["10.0.0.1", "10.0.7.0/24", "10.0.0.0/16"] {
            let error = bans.insert(network(text), None, Instant::now());
            assert_eq!(
                error,
                Err(BanError::TrustedProxy(network("10.0.0.0/16"))),
                "{text}"
            );
        }
        bans.insert(network("10.0.0.0/8"), None, Instant::now())
            .unwrap();
        assert!(!bans.contains(client("10.0.0.1")));
        assert!(bans.contains(client("10.1.0.1")));
        assert!(!bans.contains(ClientAddress::Unix));
    }

    #[test]
    fn the_bans_are_bounded_and_those_that_have_ended_do_not_count() {
        let (bans, now) = (Bans::default(), Instant::now());
        let network = |n: usize| Network::of(IpAddr::V4(u32::try_from(n).unwrap().into()), 32);
        let ends = (0..MAX_BANS).map(|n| (network(n), Some(now + MINUTE)));
        bans.lock().ends.insert(32, ends.collect());
        let one_more = network(MAX_BANS);
        assert_eq!(bans.insert(one_more, None, now), Err(BanError::TooMany));
        assert!(bans.insert(network(0), Some(MINUTE), now).is_ok());
        assert!(bans.insert(one_more, None, now + MINUTE).is_ok());
        assert_eq!(bans.list(now + MINUTE).len(), 1);
    }

    #[test]
    fn a_time_that_cannot_be_counted_is_an_error() {
        let ban = Bans::default().insert(network("::1"), Some(Duration::MAX), Instant::now());
        assert_eq!(ban, Err(BanError::TooLong));
    }
}
