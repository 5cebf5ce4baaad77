//! Which bucket an organisation falls into: flagd's `fractional`, with the explicit bucketing
//! expression `flagKey + ":" + organisation`.
//!
//! The function is frozen by `tests/vectors/bucketing-*.json`: the same flag, served to
//! applications as a flagd definition, must enrol the same organisations there. It knows nothing
//! of flags beyond their hash key.

use alloc::{boxed::Box, vec::Vec};
use core::mem;
use serde::{Deserialize, Serialize};

/// Which of flagd's incompatible generations hashes the expression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Generation {
    /// murmur3 over the UTF-8 bytes of the expression (flagd, spring 2026).
    #[serde(rename = "flagd-v2")]
    FlagdV2,
    /// murmur3 over the canonical CBOR text string of the expression (flagd, October 2026).
    #[default]
    #[serde(rename = "flagd-v3")]
    FlagdV3,
}

/// A hash key (a flag's key or its rollout group), prepared once per policy.
#[derive(Debug, Clone)]
pub struct Bucketing {
    generation: Generation,
    /// `key + ":"`
    prefix: Box<[u8]>,
}

impl Bucketing {
    /// Prepares the hash of `key`, the flag's key or its rollout group.
    #[must_use]
    pub fn new(key: &str, generation: Generation) -> Self {
        let mut prefix = Vec::with_capacity(key.len() + 1);
        prefix.extend_from_slice(key.as_bytes());
        prefix.push(b':');
        Self { generation, prefix: prefix.into() }
    }

    /// The organisation's position on the whole 32-bit circle.
    #[must_use]
    pub fn hash(&self, organisation: &str) -> u32 {
        let mut hash = Murmur3::default();
        if self.generation == Generation::FlagdV3 {
            let length = self.prefix.len() + organisation.len();
            let (head, used) = cbor_text_head(length);
            hash.write(head.get(..used).unwrap_or_default());
        }
        hash.write(&self.prefix);
        hash.write(organisation.as_bytes());
        hash.finish()
    }

    /// The organisation's bucket among `total`: `(hash × total) >> 32`, integers only, as flagd
    /// computes it. Which side of a threshold an organisation falls does not depend on `total`.
    #[must_use]
    pub fn bucket(&self, organisation: &str, total: u32) -> u32 {
        // The product of two 32-bit numbers, shifted right by 32, fits 32 bits again.
        ((u64::from(self.hash(organisation)) * u64::from(total)) >> 32) as u32
    }
}

/// The shortest CBOR head of a text string of this length (RFC 8949 §3, §4.2.1): the bytes, and
/// how many of them count.
fn cbor_text_head(length: usize) -> ([u8; 5], usize) {
    const TEXT: u8 = 0x60;
    // Lengths beyond u32 cannot reach us: a header is at most a few hundred KiB.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    match length {
        0..=23 => ([TEXT + d, 0, 0, 0, 0], 1),
        24..=0xff => ([TEXT + 24, d, 0, 0, 0], 2),
        0x100..=0xffff => ([TEXT + 25, c, d, 0, 0], 3),
        _ => ([TEXT + 26, a, b, c, d], 5),
    }
}

/// murmur3 x86 32-bit with seed 0, fed in pieces so that nothing is concatenated per request.
#[derive(Default)]
struct Murmur3 {
    hash: u32,
    /// Bytes not yet mixed, little-endian, and how many there are (0 to 3).
    pending: u32,
    pending_len: u32,
    length: u32,
}

impl Murmur3 {
    fn write(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u32);
        // What was left over comes first; from then on whole words are left.
        while self.pending_len > 0 {
            let Some((byte, rest)) = bytes.split_first() else { return };
            self.push(*byte);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u32::from_le_bytes(*word));
        }
        for byte in rest {
            self.push(*byte);
        }
    }

    fn push(&mut self, byte: u8) {
        self.pending |= u32::from(byte) << (8 * self.pending_len);
        self.pending_len += 1;
        if self.pending_len == 4 {
            let word = mem::take(&mut self.pending);
            self.pending_len = 0;
            self.mix(word);
        }
    }

    fn mix(&mut self, word: u32) {
        self.hash ^= scramble(word);
        self.hash = self.hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }

    fn finish(mut self) -> u32 {
        if self.pending_len > 0 {
            self.hash ^= scramble(self.pending);
        }
        let mut hash = self.hash ^ self.length;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

const fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const EXPLICIT: &str = include_str!("../../../tests/vectors/bucketing-vectors-explicit.json");
    const SHORTHAND: &str = include_str!("../../../tests/vectors/bucketing-vectors.json");

    fn rows(file: &str) -> Vec<Value> {
        let mut file: Value = serde_json::from_str(file).unwrap();
        let Value::Array(rows) = file["rows"].take() else { panic!("no rows") };
        assert!(rows.len() >= 100, "the vectors are frozen: none may go");
        rows
    }

    fn text<'a>(row: &'a Value, member: &str) -> &'a str {
        row[member].as_str().unwrap()
    }

    #[test]
    fn the_hash_is_flagds_over_every_vector_of_both_files() {
        for row in rows(EXPLICIT).iter().chain(&rows(SHORTHAND)) {
            for generation in ["v2", "v3"] {
                let vector = &row[generation];
                let hex = text(vector, "bytesHex").as_bytes();
                let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
                let bytes: Vec<u8> = hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
                for split in 0..=bytes.len() {
                    let mut hash = Murmur3::default();
                    hash.write(&bytes[..split]);
                    hash.write(&bytes[split..]);
                    assert_eq!(Some(u64::from(hash.finish())), vector["murmur3"].as_u64(), "{row}");
                }
            }
        }
    }

    #[test]
    fn the_bucket_is_flagds_for_the_explicit_expression() {
        for row in rows(EXPLICIT) {
            for (name, generation) in [("v2", Generation::FlagdV2), ("v3", Generation::FlagdV3)] {
                let bucketing = Bucketing::new(text(&row, "flagKey"), generation);
                let organisation = text(&row, "organizationId");
                let vector = &row[name];
                assert_eq!(
                    Some(u64::from(bucketing.hash(organisation))),
                    vector["murmur3"].as_u64(),
                    "{row}"
                );
                let bucket = bucketing.bucket(organisation, 1_000_000);
                assert_eq!(Some(u64::from(bucket)), vector["bucketOf1e6"].as_u64(), "{row}");
            }
        }
    }

    #[test]
    fn long_keys_take_the_longer_cbor_heads() {
        // RFC 8949 §3: one, two or four length bytes after the initial byte.
        for (length, head) in [
            (23, &[0x77][..]),
            (24, &[0x78, 24]),
            (255, &[0x78, 255]),
            (256, &[0x79, 1, 0]),
            (65_535, &[0x79, 255, 255]),
            (65_536, &[0x7a, 0, 1, 0, 0]),
        ] {
            let (bytes, used) = cbor_text_head(length);
            assert_eq!(&bytes[..used], head, "{length}");
        }
    }
}
