//! Signatures verified by Envoy's own cryptography (BoringSSL), through the foreign function
//! `verify_signature`: 26 to 39 µs for RS256, where pure Rust in WebAssembly takes over 1 ms. What
//! it cannot do (PS*, EdDSA), and hosts without it, fall to pure Rust.

use std::borrow::Cow;

use rampart_engine::jwks::PublicKey;
use rampart_engine::jwt::CompactJws;
use rampart_engine::policy::wire::Algorithm;
use rampart_engine::verify::{PureRust, Verifier};

use crate::host;

const FUNCTION: &str = "verify_signature";

/// Asks the host where it can, the engine's own code where it cannot.
pub(crate) struct HostVerifier {
    host_verifies: bool,
}

impl HostVerifier {
    /// Finds out, with a signature known to be good and one known to be bad, whether the host
    /// verifies as expected.
    pub(crate) fn probe() -> Self {
        let asks = |text: &[u8]| host_verify("sha256", probe::KEY, &der_signature(probe::SIGNATURE), text);
        let good = asks(probe::TEXT) == Some(true);
        Self { host_verifies: good && asks(b"another text") == Some(false) }
    }

    /// Who verifies, for the log.
    pub(crate) const fn who(&self) -> &'static str {
        if self.host_verifies { "the host" } else { "the filter" }
    }
}

impl Verifier for HostVerifier {
    fn verify(&self, key: &PublicKey, jws: &CompactJws<'_>) -> bool {
        let (hash, signature_size) = match jws.algorithm {
            Algorithm::RS256 => ("sha256", None),
            Algorithm::RS384 => ("sha384", None),
            Algorithm::RS512 => ("sha512", None),
            Algorithm::ES256 => ("sha256", Some(64)),
            Algorithm::ES384 => ("sha384", Some(96)),
            Algorithm::ES512 => ("sha512", Some(132)),
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 | Algorithm::EdDSA => {
                return PureRust.verify(key, jws);
            }
        };
        if !self.host_verifies {
            return PureRust.verify(key, jws);
        }
        // RFC 7518 §3.4: an ECDSA signature is r and s, each as long as the curve's order.
        let signature = match signature_size {
            None => Cow::Borrowed(&*jws.signature),
            Some(size) if jws.signature.len() == size => Cow::Owned(der_signature(&jws.signature)),
            Some(_) => return false,
        };
        host_verify(hash, &key.encoded, &signature, jws.signing_input).unwrap_or(false)
    }
}

/// Calls the host with `VerifySignatureArguments` (hash 1, DER key 2, signature 3, text 4) and
/// reads `VerifySignatureResult` (result 1); none where the host has no such function.
fn host_verify(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Option<bool> {
    let argument = host::message(&[hash.as_bytes(), key, signature, text]);
    let result = host::call_foreign_function(FUNCTION, &argument)?;
    Some(result.starts_with(&[0x08, 0x01]))
}

/// `r ‖ s` as the ASN.1 SEQUENCE of two INTEGERs that BoringSSL takes (RFC 3279 §2.2.3).
fn der_signature(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    let mut integers = Vec::with_capacity(raw.len() + 8);
    for integer in [r, s] {
        let zeros = integer.iter().take_while(|byte| **byte == 0).count();
        let digits = integer.get(zeros..).unwrap_or_default();
        let pad = digits.first().is_none_or(|first| *first >= 0x80);
        integers.extend([0x02, (digits.len() + usize::from(pad)) as u8]);
        integers.extend(pad.then_some(0));
        integers.extend(digits);
    }
    // At most 2 × (2 + 66) bytes, for P-521, whose length takes the long form of one byte.
    let mut sequence = vec![0x30];
    sequence.extend((integers.len() > 0x7f).then_some(0x81));
    sequence.push(integers.len() as u8);
    sequence.append(&mut integers);
    sequence
}

/// The ES256 example of RFC 7515, appendix A.3.
mod probe {
    /// SubjectPublicKeyInfo.
    pub(super) const KEY: &[u8] =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\
        \x42\x00\x04\x7f\xcd\xce\x27\x70\xf6\xc4\x5d\x41\x83\xcb\xee\x6f\xdb\x4b\x7b\x58\x07\x33\x35\x7b\
        \xe9\xef\x13\xba\xcf\x6e\x3c\x7b\xd1\x54\x45\xc7\xf1\x44\xcd\x1b\xbd\x9b\x7e\x87\x2c\xdf\xed\xb9\
        \xee\xb9\xf4\xb3\x69\x5d\x6e\xa9\x0b\x24\xad\x8a\x46\x23\x28\x85\x88\xe5\xad";
    /// `r ‖ s`
    pub(super) const SIGNATURE: &[u8] =
        b"\x0e\xd1\x21\x53\x79\x63\x6c\x48\x3c\x2f\x7f\x15\x58\x07\xd4\x02\xa3\xb2\x28\x03\x3a\xf9\x7c\x7e\
        \x17\x81\x9a\xc3\x16\x9e\xa6\x65\xc5\x0a\x07\xd3\x8c\x3c\x70\xe5\xd8\xf1\x2d\xaf\x08\x4a\x54\x80\
        \xa6\x65\x90\xc5\xf2\x93\x50\x9a\x8f\x3f\x7f\x8a\x83\xa3\x54\xd5";
    pub(super) const TEXT: &[u8] = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTk\
        zODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
}
