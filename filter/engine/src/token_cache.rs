//! Verified tokens, so that a token's signature is checked once and not on every request.
//!
//! Bounded by entries and by bytes. The key is a keyed 128-bit digest of the key generation and the whole token:
//! no token is kept, and a change of keys makes every older entry unreachable at once, where
//! Envoy's own jwt_authn goes on accepting tokens of a removed key. Two generations of entries
//! stand for recency: what is asked for again moves from the old to the young one, and when the
//! young one is full the old one is dropped. That costs no list and no clock.

use alloc::rc::Rc;
use core::hash::Hasher as _;
use core::mem;
use hashbrown::HashMap;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::identity::{Identity, Verified};
use crate::policy::SourceId;

/// Longest time a verification is believed without being repeated, in seconds.
pub const TIME_TO_LIVE: u64 = 300;

/// Entries of each half. A working set of this size always stays cached; memory never exceeds
/// twice as many entries.
const HALF: usize = 10_240;

/// Most bytes that an entry of a full half takes on average. Usual tokens take a quarter of it; a
/// few with very long lists of permissions make a half full before it has all its entries.
const ENTRY: usize = 1_024;

/// The digest of a token under a key generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u128);

/// A bounded cache of verified tokens. One per WebAssembly VM.
#[derive(Debug)]
pub struct TokenCache {
    seed: [u8; 16],
    half: usize,
    /// Bytes of the young half.
    bytes: usize,
    young: HashMap<Digest, Entry>,
    old: HashMap<Digest, Entry>,
}

#[derive(Debug)]
struct Entry {
    token: Rc<Verified>,
    /// First second at which the signature is checked again.
    stale_at: u64,
}

impl Entry {
    /// What it takes in memory, but for the allocator's own overhead.
    fn bytes(&self) -> usize {
        let Identity { organisation, subject, roles, permissions } = &self.token.identity;
        let names = [organisation, subject].into_iter().flatten().map(|name| name.len());
        let lists = [roles, permissions].map(|list| list.as_str().len());
        let places = size_of::<(Digest, Self)>() + size_of::<Verified>();
        names.chain(lists).sum::<usize>() + places
    }
}

impl TokenCache {
    /// An empty cache. `seed` must be secret and random: SipHash is a pseudo-random function, so
    /// nobody who does not know the seed can find two tokens with one digest.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self { seed, half: HALF, bytes: 0, young: HashMap::new(), old: HashMap::new() }
    }

    /// The digest of a token that came from `source`, under the policy's `key_generation`.
    #[must_use]
    pub fn digest(&self, key_generation: u64, source: SourceId, token: &[u8]) -> Digest {
        let mut hasher = SipHasher24::new_with_key(&self.seed);
        hasher.write_u64(key_generation);
        hasher.write_usize(source);
        hasher.write(token);
        Digest(hasher.finish128().as_u128())
    }

    /// The verified token with this digest, if it was verified recently. Its time claims are the
    /// caller's to check, on every hit.
    pub fn get(&mut self, digest: Digest, now: u64) -> Option<Rc<Verified>> {
        if let Some(entry) = self.young.get(&digest) {
            return (now < entry.stale_at).then(|| Rc::clone(&entry.token));
        }
        let entry = self.old.remove(&digest).filter(|entry| now < entry.stale_at)?;
        let token = Rc::clone(&entry.token);
        self.store(digest, entry);
        Some(token)
    }

    /// Keeps a token that was just verified.
    pub fn insert(&mut self, digest: Digest, token: &Rc<Verified>, now: u64) {
        let stale_at = token.valid_until.min(now.saturating_add(TIME_TO_LIVE));
        self.store(digest, Entry { token: Rc::clone(token), stale_at });
    }

    /// How many tokens are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn store(&mut self, digest: Digest, entry: Entry) {
        let bytes = entry.bytes();
        if self.young.len() >= self.half || self.bytes + bytes > self.half * ENTRY {
            self.old = mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.young.insert(digest, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn token(valid_until: u64) -> Rc<Verified> {
        Rc::new(Verified { valid_until, ..Verified::default() })
    }

    fn small() -> TokenCache {
        TokenCache { half: 4, ..TokenCache::new([7; 16]) }
    }

    #[test]
    fn a_hit_lasts_as_long_as_the_token_and_no_longer_than_the_limit() {
        let mut cache = small();
        let (short, long) = (cache.digest(1, 0, b"short"), cache.digest(1, 0, b"long"));
        cache.insert(short, &token(1_010), 1_000);
        cache.insert(long, &token(9_999), 1_000);
        assert!(cache.get(short, 1_009).is_some());
        assert!(cache.get(short, 1_010).is_none());
        assert!(cache.get(long, 1_299).is_some());
        assert!(cache.get(long, 1_300).is_none());
    }

    #[test]
    fn another_key_generation_finds_nothing() {
        let mut cache = small();
        let before = cache.digest(1, 0, b"token");
        cache.insert(before, &token(9_999), 0);
        let after = cache.digest(2, 0, b"token");
        assert_ne!(before, after);
        assert!(cache.get(after, 0).is_none());
    }

    #[test]
    fn what_is_in_use_survives_any_number_of_strangers() {
        let mut cache = small();
        let used = cache.digest(1, 0, b"used");
        cache.insert(used, &token(9_999), 0);
        for stranger in 0..1_000 {
            let digest = cache.digest(1, 0, stranger.to_string().as_bytes());
            cache.insert(digest, &token(9_999), 0);
            assert!(cache.get(used, 0).is_some(), "{stranger}");
            assert!(cache.len() <= 8);
        }
    }

    #[test]
    fn long_tokens_make_a_half_full_before_it_has_all_its_entries() {
        let mut cache = small();
        let long = |length: usize| {
            let subject = Some("x".repeat(length).into());
            Rc::new(Verified {
                valid_until: 9_999,
                identity: Identity { subject, ..Identity::default() },
                ..Verified::default()
            })
        };
        for number in 0..100 {
            let digest = cache.digest(1, 0, number.to_string().as_bytes());
            cache.insert(digest, &long(1_500), 0);
            // Four entries of one KiB have room for two such.
            assert!(cache.bytes <= 4 * ENTRY && cache.young.len() <= 2, "{number}");
        }
        assert_eq!(cache.len(), 4);
        // What alone is more than a half may hold is kept until the next comes.
        let huge = cache.digest(1, 0, b"huge");
        cache.insert(huge, &long(9_000), 0);
        assert!(cache.get(huge, 0).is_some());
        assert!(cache.len() <= 3);
    }

    #[test]
    fn a_working_set_of_half_the_bound_stays() {
        let mut cache = small();
        let set: [Digest; 4] = core::array::from_fn(|n| cache.digest(1, 0, n.to_string().as_bytes()));
        for digest in set {
            cache.insert(digest, &token(9_999), 0);
        }
        for round in 0..100 {
            for digest in set {
                assert!(cache.get(digest, 0).is_some(), "{round}");
            }
        }
    }
}
