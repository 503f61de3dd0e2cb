//! What clients are remembered by: where they come from, or what an application's cookie says.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::affinities::{Affinities, Key, Span};
use crate::config::{IpPersistence, Millis, Name};
use crate::turns::timers::Time;

/// Bits of an IPv4 address in the IPv6 address that stands for it.
const V4_OFFSET: u8 = 96;

/// Which servers the clients of a frontend were given, by where they come from.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) affinities: Arc<Affinities>,
    settings: IpPersistence,
}

impl Sources {
    /// With what is remembered already. Addresses have to be known by as many bits as those there.
    pub(crate) fn new(affinities: Arc<Affinities>, settings: IpPersistence) -> Self {
        Self { affinities, settings }
    }

    /// What clients from this address that want this group of servers are known by.
    pub(crate) fn key_of(&self, client: IpAddr, group: Option<&Name>) -> Key {
        Key { bits: self.network_of(client), scope: scope(group) }
    }

    fn network_of(&self, client: IpAddr) -> u128 {
        match client.to_canonical() {
            IpAddr::V4(addr) => first_bits(addr.to_ipv6_mapped().into(), V4_OFFSET + self.settings.prefix_v4()),
            IpAddr::V6(addr) => first_bits(addr.into(), self.settings.prefix_v6()),
        }
    }

    /// The key that a client is known by here of which another frontend's settings made this one; `None` if they tell
    /// less of it.
    pub(crate) fn rename(&self, key: Key, settings: IpPersistence) -> Option<Key> {
        let (addr, other) = (address_of(&key), settings);
        let is_known = match addr {
            IpAddr::V4(_) => other.prefix_v4() >= self.settings.prefix_v4(),
            IpAddr::V6(_) => other.prefix_v6() >= self.settings.prefix_v6(),
        };
        is_known.then(|| Key { bits: self.network_of(addr), ..key })
    }

    /// The server of a client, if it is remembered.
    pub(crate) fn get(&self, key: &Key, now: Time) -> Option<u64> {
        self.affinities.get(key, span(now, self.settings.ttl()))
    }

    /// Gives a client this server, unless it has another one that is not `over`. Gives the one that it has then.
    pub(crate) fn set(&self, key: &Key, over: Option<u64>, server: u64, now: Time) -> u64 {
        self.affinities.set(key, over, server, span(now, self.settings.ttl()))
    }

    pub(crate) fn settings(&self) -> IpPersistence {
        self.settings
    }
}

/// The address that a key was made of, without the bits that it is not known by.
pub(crate) fn address_of(key: &Key) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(key.bits)).to_canonical()
}

/// Which servers gave which values of their own cookie.
#[derive(Clone)]
pub(crate) struct Learned {
    pub(crate) affinities: Arc<Affinities>,
    pub(crate) ttl: Millis,
    /// Keyed, so that no value can be made that counts as another one.
    hashing: [RandomState; 2],
}

impl Learned {
    pub(crate) fn new(affinities: Arc<Affinities>, ttl: Millis) -> Self {
        Self { affinities, ttl, hashing: [RandomState::new(), RandomState::new()] }
    }

    /// The same, with values remembered for another time.
    pub(crate) fn with_ttl(&self, ttl: Millis) -> Self {
        Self { ttl, ..self.clone() }
    }

    /// The server that gave this value, if it is remembered.
    pub(crate) fn get(&self, value: &[u8], now: Time) -> Option<u64> {
        self.affinities.get(&self.key_of(value), span(now, self.ttl))
    }

    /// Remembers that a server gave this value. If two give the same one, the later counts.
    pub(crate) fn learn(&self, value: &[u8], server: u64, now: Time) {
        let (key, span) = (self.key_of(value), span(now, self.ttl));
        let before = self.affinities.get(&key, span);
        self.affinities.set(&key, before, server, span);
    }

    fn key_of(&self, value: &[u8]) -> Key {
        let [high, low] = [0, 1].map(|half| u128::from(self.hashing[half].hash_one(value)));
        Key { bits: high << 64 | low, scope: 0 }
    }
}

/// The time up to now after which what was not used has expired.
pub(crate) fn span(now: Time, ttl: Millis) -> Span {
    Span { now, since: now.saturating_sub(ttl.as_millis().into()) }
}

/// Tells groups of servers apart. That two of a frontend get the same is unlikely, and means only that clients who use both
/// are balanced anew when they change.
fn scope(group: Option<&Name>) -> u16 {
    group.map_or(0, |name| xxh3_64(name.as_str().as_bytes()) as u16 | 1)
}

fn first_bits(bits: u128, count: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(count)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(v4: u32, v6: u32) -> Sources {
        let settings = IpPersistence::default().with_prefixes(v4, v6).unwrap();
        Sources::new(Arc::new(Affinities::new(100).unwrap()), settings)
    }

    fn key(sources: &Sources, addr: &str) -> Key {
        sources.key_of(addr.parse().unwrap(), None)
    }

    #[test]
    fn clients_are_known_by_the_first_bits_of_their_address() {
        let whole = sources(32, 128);
        assert_ne!(key(&whole, "10.0.0.1"), key(&whole, "10.0.0.2"));
        assert_eq!(key(&whole, "10.0.0.1"), key(&whole, "::ffff:10.0.0.1"));
        assert_ne!(key(&whole, "2001:db8::1"), key(&whole, "2001:db8::2"));
        let networks = sources(24, 64);
        assert_eq!(key(&networks, "10.0.0.1"), key(&networks, "10.0.0.255"));
        assert_ne!(key(&networks, "10.0.0.1"), key(&networks, "10.0.1.1"));
        assert_eq!(key(&networks, "2001:db8::1"), key(&networks, "2001:db8::ffff:0:0:1"));
        assert_ne!(key(&networks, "2001:db8::1"), key(&networks, "2001:db8:0:1::1"));
        let few = sources(1, 1);
        assert_eq!(key(&few, "1.2.3.4"), key(&few, "127.0.0.1"));
        assert_ne!(key(&few, "1.2.3.4"), key(&few, "128.0.0.1"));
        assert_ne!(key(&few, "1.2.3.4"), key(&few, "1::"), "an IPv6 network is never an IPv4 one");
    }

    #[test]
    fn an_address_is_told_by_its_key_as_far_as_it_is_known() {
        let networks = sources(24, 64);
        assert_eq!(address_of(&key(&networks, "10.0.0.7")).to_string(), "10.0.0.0");
        assert_eq!(address_of(&key(&networks, "2001:db8::7")).to_string(), "2001:db8::");
    }

    #[test]
    fn clients_of_other_groups_are_others() {
        let sources = sources(32, 64);
        let [one, other] = ["a", "b"].map(|group| Name::new(group).unwrap());
        let key = |group| sources.key_of([10, 0, 0, 1].into(), group);
        assert_ne!(key(Some(&one)), key(Some(&other)));
        assert_ne!(key(Some(&one)), key(None));
    }

    #[test]
    fn keys_survive_other_prefixes_as_far_as_they_can() {
        let (narrow, wide) = (sources(32, 128), sources(24, 64));
        let (client, other) = (key(&narrow, "10.0.0.7"), key(&wide, "10.0.0.7"));
        assert_eq!(wide.rename(client, narrow.settings()), Some(other));
        assert_eq!(narrow.rename(other, wide.settings()), None, "which client of the network was it?");
        assert_eq!(wide.rename(other, wide.settings()), Some(other));
    }

    #[test]
    fn a_value_is_known_by_the_server_that_gave_it_last() {
        let learned = Learned::new(
            Arc::new(Affinities::new(100).unwrap()),
            Millis::from_duration_clamped(std::time::Duration::from_secs(1)),
        );
        learned.learn(b"one", 1, 5);
        learned.learn(b"two", 2, 5);
        assert_eq!(
            (learned.get(b"one", 6), learned.get(b"two", 6), learned.get(b"three", 6)),
            (Some(1), Some(2), None)
        );
        learned.learn(b"one", 3, 7);
        assert_eq!(learned.get(b"one", 8), Some(3));
        assert_eq!(learned.get(b"one", 5_000), None);
    }
}
