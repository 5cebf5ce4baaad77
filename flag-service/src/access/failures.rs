//! How often each address came with a wrong credential lately. Bounded: whoever has many addresses
//! shares one count with all others of that kind.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Seconds after which everything is forgotten.
const WINDOW: u64 = 60;
/// Wrong credentials that an address may come with in that time.
const MOST: u32 = 20;
/// Addresses that are told apart in that time.
const ADDRESSES: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Failures {
    began: u64,
    counts: HashMap<IpAddr, u32>,
    /// Of all addresses beyond [`ADDRESSES`], together.
    others: u32,
}

impl Failures {
    /// Whether this address has had its share.
    pub(super) fn exhausted(&mut self, address: Option<IpAddr>, now: u64) -> bool {
        self.forget(now);
        let Some(address) = address.map(network) else { return false };
        let full = self.counts.len() >= ADDRESSES;
        let count = self.counts.get(&address).copied().unwrap_or(if full { self.others } else { 0 });
        count >= MOST
    }

    /// Counts one, and compares with what is the first beyond its share.
    pub(super) fn count(&mut self, address: Option<IpAddr>, now: u64) -> Ordering {
        self.forget(now);
        let Some(address) = address.map(network) else { return Ordering::Less };
        let full = self.counts.len() >= ADDRESSES;
        let count = match self.counts.get_mut(&address) {
            Some(count) => count,
            None if full => &mut self.others,
            None => self.counts.entry(address).or_default(),
        };
        *count = count.saturating_add(1);
        (*count).cmp(&(MOST + 1))
    }

    fn forget(&mut self, now: u64) {
        // A clock that was set back must not make the window endless.
        if now < self.began || now - self.began >= WINDOW {
            *self = Self { began: now, ..Self::default() };
        }
    }
}

/// Whoever has one IPv6 address has 2^64 of them (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::net::{IpAddr, Ipv4Addr};

    use super::{ADDRESSES, Failures, MOST, WINDOW};

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_share_and_again_after_a_while() {
        let mut failures = Failures::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert!((0..MOST).all(|_| failures.count(one, 1_000) == Ordering::Less));
        assert!(failures.exhausted(one, 1_000));
        assert_eq!(failures.count(one, 1_000), Ordering::Equal);
        assert_eq!(failures.count(one, 1_000), Ordering::Greater);
        assert!(!failures.exhausted(other, 1_000));
        assert_eq!(failures.count(other, 1_000), Ordering::Less);
        assert!(!failures.exhausted(one, 1_000 + WINDOW));
        // Set back by an hour.
        assert_eq!(failures.count(one, 1), Ordering::Less);
    }

    #[test]
    fn one_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4() {
        let mut failures = Failures::default();
        for number in 0..=MOST {
            failures.count(address(&format!("2001:db8::{number:x}")), 0);
            failures.count(address("::ffff:192.0.2.1"), 0);
        }
        assert!(failures.exhausted(address("2001:db8::ffff"), 0));
        assert!(failures.exhausted(address("192.0.2.1"), 0));
        assert!(!failures.exhausted(address("2001:db8:0:1::1"), 0));
    }

    #[test]
    fn any_number_of_addresses_take_bounded_memory() {
        let mut failures = Failures::default();
        for number in 0..2 * u32::try_from(ADDRESSES).unwrap() {
            failures.count(Some(Ipv4Addr::from_bits(number).into()), 0);
        }
        assert_eq!(failures.counts.len(), ADDRESSES);
        assert!(failures.exhausted(address("203.0.113.9"), 0), "strangers share one count");
        assert!(!failures.exhausted(address("0.0.0.1"), 0), "who was here before has its own");
    }
}
