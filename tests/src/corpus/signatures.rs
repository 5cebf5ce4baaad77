//! Changes to signatures, and headers that name another algorithm or key than the signature's.

use super::{
    Case, Corpus, PAYLOAD, bearer, good_header, good_payload,
    keys::{ALGORITHMS, Signer, hmac},
    members,
};
use crate::issuer::base64url;
use anyhow::Result;

/// The order of P-256 (SEC 2 §2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

impl Corpus<'_> {
    /// A good token with another signature.
    pub(super) fn signatures(&self, signer: &Signer, cases: &mut Vec<Case>) -> Result<()> {
        let token = self.good(signer)?;
        let (input, _) = token.rsplit_once('.').unwrap_or_default();
        let good = signer.sign(input.as_bytes())?;
        let other = signer.sign(b"something else")?;
        let mut changed = vec![
            ("as it should be", good.clone()),
            ("one byte", vec![0]),
            ("all zeros", vec![0; good.len()]),
            ("all ones", vec![0xff; good.len()]),
            ("a byte less", good[..good.len() - 1].to_vec()),
            ("the first byte missing", good[1..].to_vec()),
            ("half", good[..good.len() / 2].to_vec()),
            ("a zero more", [&good[..], &[0]].concat()),
            ("a zero before", [&[0], &good[..]].concat()),
            ("doubled", [&good[..], &good[..]].concat()),
            ("of something else", other),
            ("backwards", good.iter().rev().copied().collect()),
            (
                "of the payload alone",
                signer.sign(input.split('.').next_back().unwrap_or_default().as_bytes())?,
            ),
            ("as base64 in base64", base64url(&good).into_bytes()),
            ("1,000 bytes", vec![1; 1_000]),
        ];
        for (name, at) in [("first byte", 0), ("middle byte", good.len() / 2), ("last byte", good.len() - 1)]
        {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            changed.push((name, bytes));
        }
        if signer.is_ecdsa() {
            for (name, half) in [("r", 0), ("s", 1)] {
                let token = self.token_with_short(half, signer)?;
                cases.push(bearer(format!("signature: {name} begins with zeros"), signer, &token));
            }
            let (r, s) = good.split_at(good.len() / 2);
            let zero = vec![0; r.len()];
            let one = [&zero[1..], &[1]].concat();
            changed.extend([
                ("r is zero", [&zero, s].concat()),
                ("s is zero", [r, &zero].concat()),
                ("r and s are one", [&one[..], &one].concat()),
                ("r and s swapped", [s, r].concat()),
                ("in DER", der(r, s)),
            ]);
            if r.len() == ORDER.len() {
                changed.extend([
                    ("the other s", [r, &minus(&ORDER, s)].concat()),
                    ("r is the order", [&ORDER, s].concat()),
                    ("s is the order", [r, &ORDER].concat()),
                ]);
            }
        }
        for (name, signature) in changed {
            let token = format!("{input}.{}", base64url(&signature));
            cases.push(bearer(format!("signature: {name}"), signer, &token));
        }
        // The same bytes, written so that only a lax decoder reads them.
        let text = base64url(&good);
        for (name, text) in [
            ("unused bits set", unused_bits_set(&text)),
            ("standard alphabet", text.replace('-', "+").replace('_', "/")),
            ("padded", format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))),
            ("empty", String::new()),
        ] {
            // Some signatures have no such spelling of their own.
            if let Some(text) = Some(text).filter(|text| *text != base64url(&good)) {
                cases.push(bearer(format!("signature: {name}"), signer, &format!("{input}.{text}")));
            }
        }
        Ok(())
    }

    /// A good token in whose signature r (0) or s (1) begins with so many zeros that in DER it is shorter
    /// than others.
    fn token_with_short(&self, half: usize, signer: &Signer) -> Result<String> {
        let mut number = 0;
        loop {
            number += 1;
            let payload = format!("{{{},\"x\":{number}}}", members(&PAYLOAD, None));
            let (input, signature) = self.signed(&good_header(signer), &payload, signer)?;
            // P-521's numbers have one bit in their first byte: every other begins with a zero.
            let zeros = if signature.len() == 132 { 2 } else { 1 };
            if signature[half * signature.len() / 2..].iter().take(zeros).all(|byte| *byte == 0) {
                return Ok(format!("{input}.{}", base64url(&signature)));
            }
        }
    }

    /// Every other algorithm's name over this one's signature.
    pub(super) fn algorithms(&self, signer: &Signer, cases: &mut Vec<Case>) -> Result<()> {
        for name in ALGORITHMS.iter().filter(|name| **name != signer.algorithm) {
            for (with, kid) in [
                ("its own kid", format!(",\"kid\":\"{}\"", self.kid(name))),
                ("the signer's kid", format!(",\"kid\":\"{}\"", self.kid(signer.algorithm))),
                ("no kid", String::new()),
            ] {
                let token = self.token(&format!("{{\"alg\":\"{name}\"{kid}}}"), &good_payload(), signer)?;
                cases.push(bearer(format!("algorithm: {name} with {with}"), signer, &token));
            }
        }
        Ok(())
    }

    /// Secrets made of public keys, and keys that are not published, or not for this.
    pub(super) fn keys(&self, cases: &mut Vec<Case>) -> Result<()> {
        let rs256 = self.keys.honest("RS256");
        for (what, secret) in &self.keys.confused {
            for algorithm in ["HS256", "HS384", "HS512"] {
                for kid in ["rsa", "p256", "ed25519"] {
                    let header = format!("{{\"alg\":\"{algorithm}\",\"kid\":\"{kid}\"}}");
                    let token = self.token(&header, &good_payload(), rs256)?;
                    let (input, _) = token.rsplit_once('.').unwrap_or_default();
                    let token = format!("{input}.{}", base64url(&hmac(algorithm, secret, input.as_bytes())));
                    cases.push(bearer(format!("secret: {what}, {algorithm}, {kid}"), rs256, &token));
                }
            }
        }
        for stranger in &self.keys.foreign {
            let (alg, kid) = (stranger.algorithm, stranger.kid.unwrap_or_default());
            for (name, header) in [
                ("a published kid", format!("{{\"alg\":\"{alg}\",\"kid\":\"{kid}\"}}")),
                ("no kid", format!("{{\"alg\":\"{alg}\"}}")),
                ("an unknown kid", format!("{{\"alg\":\"{alg}\",\"kid\":\"mine\"}}")),
                ("its key along", format!("{{\"alg\":\"{alg}\",\"kid\":\"mine\",\"jwk\":$jwk}}")),
                ("its key along and no kid", format!("{{\"alg\":\"{alg}\",\"jwk\":$jwk}}")),
                (
                    "its key along and a published kid",
                    format!("{{\"alg\":\"{alg}\",\"kid\":\"{kid}\",\"jwk\":$jwk}}"),
                ),
                ("none", "{\"alg\":\"none\"}".to_owned()),
            ] {
                let token = self.token(&header, &good_payload(), stranger)?;
                cases.push(bearer(format!("stranger's key: {name}"), stranger, &token));
            }
        }
        for (name, signer, kid) in [
            ("published without kid, no kid named", &self.keys.nameless, None),
            ("published without kid, another's named", &self.keys.nameless, Some("p256")),
            ("published without kid, an unknown one named", &self.keys.nameless, Some("gone")),
            ("published without kid, an empty one named", &self.keys.nameless, Some("")),
            ("published for RS256, used for PS256", &self.keys.pinned, Some("pinned")),
            ("published for RS256, used for PS256 without kid", &self.keys.pinned, None),
        ] {
            let kid = kid.map(|kid| format!(",\"kid\":\"{kid}\"")).unwrap_or_default();
            let token = self.token(&format!("{{\"alg\":\"$alg\"{kid}}}"), &good_payload(), signer)?;
            cases.push(bearer(format!("key: {name}"), signer, &token));
        }
        Ok(())
    }

    fn kid(&self, algorithm: &str) -> &'static str {
        self.keys.honest(algorithm).kid.unwrap_or_default()
    }
}

/// ASN.1 `SEQUENCE { INTEGER r, INTEGER s }`, as everything but JOSE writes ECDSA signatures.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
        let mut digits = number[start..].to_vec();
        if digits[0] >= 0x80 {
            digits.insert(0, 0);
        }
        [&[2, digits.len() as u8], &digits[..]].concat()
    };
    let body = [integer(r), integer(s)].concat();
    // X.690 §8.1.3: above 127 bytes, which P-521 alone has, the length follows the number of its bytes.
    let long = (body.len() > 0x7f).then_some(0x81);
    [0x30].into_iter().chain(long).chain([body.len() as u8]).chain(body).collect()
}

/// `a - b`, for `b` below `a`, both big-endian and of one length.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut result = vec![0; a.len()];
    let mut borrow = 0;
    for at in (0..a.len()).rev() {
        let difference = i16::from(a[at]) - i16::from(b[at]) - borrow;
        borrow = i16::from(difference < 0);
        result[at] = difference.rem_euclid(256) as u8;
    }
    result
}

/// Base64 whose last character has bits that stand for nothing, with one of them set.
fn unused_bits_set(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = text.as_bytes().to_vec();
    if let (2 | 3, Some(last)) = (bytes.len() % 4, bytes.last_mut()) {
        let value = ALPHABET.iter().position(|letter| letter == last).unwrap_or_default();
        *last = ALPHABET[value ^ 1];
    }
    String::from_utf8(bytes).unwrap_or_default()
}
