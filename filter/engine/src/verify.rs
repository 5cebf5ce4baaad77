//! Signature verification: what the engine asks for, and a pure-Rust answer. The filter asks
//! Envoy's own cryptography first, which is about forty times faster than WebAssembly.

use ed25519_compact::Signature as Ed25519Signature;
use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike as _, ECDSAP384PublicKeyLike as _, ES256PublicKey, ES384PublicKey,
    Ed25519PublicKey, EdDSAPublicKeyLike as _, RS256PublicKey, RSAPublicKeyLike as _,
};
use p256::ecdsa::signature::Verifier as _;
use superboring::hash::MessageDigest;
use superboring::pkey::PKey;
use superboring::rsa::Padding;
use superboring::sign::Verifier as RsaVerifier;

use crate::jwks::{Kind, PublicKey};
use crate::jwt::CompactJws;
use crate::policy::wire::Algorithm;

/// Verifies signatures.
pub trait Verifier {
    /// Whether `jws` was signed with the private half of `key`, under the algorithm it claims. The
    /// caller has checked that the algorithm is allowed and that the key is of its kind.
    fn verify(&self, key: &PublicKey, jws: &CompactJws<'_>) -> bool;
}

/// Pure-Rust verification, in WebAssembly and natively, by jwt-simple's own parts: its token
/// functions also judge headers and claims, in their own way, and that is the engine's to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct PureRust;

impl Verifier for PureRust {
    fn verify(&self, key: &PublicKey, jws: &CompactJws<'_>) -> bool {
        match key.kind {
            Kind::Rsa => rsa(key, jws),
            Kind::P256 => p256(key, jws),
            Kind::P384 => p384(key, jws),
            Kind::P521 => p521(key, jws),
            Kind::Ed25519 => ed25519(key, jws),
        }
        .unwrap_or(false)
    }
}

fn rsa(key: &PublicKey, jws: &CompactJws<'_>) -> Option<bool> {
    let (digest, padding) = match jws.algorithm {
        Algorithm::RS256 => (MessageDigest::sha256(), Padding::PKCS1),
        Algorithm::RS384 => (MessageDigest::sha384(), Padding::PKCS1),
        Algorithm::RS512 => (MessageDigest::sha512(), Padding::PKCS1),
        Algorithm::PS256 => (MessageDigest::sha256(), Padding::PKCS1_PSS),
        Algorithm::PS384 => (MessageDigest::sha384(), Padding::PKCS1_PSS),
        Algorithm::PS512 => (MessageDigest::sha512(), Padding::PKCS1_PSS),
        _ => return None,
    };
    let key = RS256PublicKey::from_der(&key.encoded).ok()?;
    let key = PKey::from_rsa(key.public_key().as_ref().clone()).ok()?;
    let mut verifier = RsaVerifier::new(digest, &key).ok()?;
    verifier.set_rsa_padding(padding).ok()?;
    verifier.update(jws.signing_input).ok()?;
    verifier.verify(&jws.signature).ok()
}

fn p256(key: &PublicKey, jws: &CompactJws<'_>) -> Option<bool> {
    let key = ES256PublicKey::from_der(&key.encoded).ok()?;
    let signature = p256::ecdsa::Signature::from_slice(&jws.signature).ok()?;
    Some(key.public_key().as_ref().verify(jws.signing_input, &signature).is_ok())
}

fn p384(key: &PublicKey, jws: &CompactJws<'_>) -> Option<bool> {
    let key = ES384PublicKey::from_der(&key.encoded).ok()?;
    let signature = p384::ecdsa::Signature::from_slice(&jws.signature).ok()?;
    Some(key.public_key().as_ref().verify(jws.signing_input, &signature).is_ok())
}

fn p521(key: &PublicKey, jws: &CompactJws<'_>) -> Option<bool> {
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(key.p521_point()?).ok()?;
    let signature = p521::ecdsa::Signature::from_slice(&jws.signature).ok()?;
    Some(key.verify(jws.signing_input, &signature).is_ok())
}

fn ed25519(key: &PublicKey, jws: &CompactJws<'_>) -> Option<bool> {
    let key = Ed25519PublicKey::from_bytes(&key.encoded).ok()?;
    let signature = Ed25519Signature::from_slice(&jws.signature).ok()?;
    Some(key.public_key().as_ref().verify(jws.signing_input, &signature).is_ok())
}
