//! An issuer's public keys: from a JSON Web Key Set (RFC 7517, 7518 §6, 8037) to keys that are
//! known to be sound. It knows nothing of tokens.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jwt_simple::prelude::{ES256PublicKey, ES384PublicKey, Ed25519PublicKey, RS256PublicKey};

use crate::policy::wire::{Algorithm, Jwk};

/// A validated public key.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// `kid`, where the set names one.
    pub kid: Option<Box<str>>,
    /// The only algorithm it may be used with, where the set names one.
    pub alg: Option<Algorithm>,
    /// What kind of key it is.
    pub kind: Kind,
    /// RSA and EC: DER SubjectPublicKeyInfo (RFC 5280), as hosts' crypto libraries take it.
    /// Ed25519: the 32 raw bytes.
    pub encoded: Box<[u8]>,
}

/// What stands before the point in a SubjectPublicKeyInfo of P-521 (RFC 5480 §2): jwt-simple, which
/// encodes the other kinds, does not know this curve.
const P521_SPKI: &[u8] =
    b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00";

impl PublicKey {
    /// Whether a `kid` would not tell the two apart. Keys of different kinds may share one
    /// (RFC 7517 §4.5).
    pub(crate) fn shares_kid(&self, other: &Self) -> bool {
        self.kid.is_some() && self.kid == other.kid && self.kind == other.kind
    }

    /// The uncompressed point of a P-521 key.
    pub(crate) fn p521_point(&self) -> Option<&[u8]> {
        self.encoded.strip_prefix(P521_SPKI)
    }
}

/// Kinds of keys that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specifications'")]
pub enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl Algorithm {
    /// The kind of key the algorithm needs; no other kind is ever tried with it (RFC 8725 §3.1).
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => Kind::Rsa,
            Self::ES256 => Kind::P256,
            Self::ES384 => Kind::P384,
            Self::ES512 => Kind::P521,
            Self::EdDSA => Kind::Ed25519,
        }
    }

    /// The algorithm of this JOSE name, if it is supported.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "ES512" => Self::ES512,
            "EdDSA" => Self::EdDSA,
            _ => return None,
        })
    }
}

impl PublicKey {
    /// Whether the key may verify a token with this algorithm and `kid`.
    #[must_use]
    pub fn fits(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        self.kind == algorithm.kind()
            && self.alg.is_none_or(|alg| alg == algorithm)
            && kid.is_none_or(|kid| self.kid.as_deref() == Some(kid))
    }
}

/// Reads one key. `Ok(None)`: a key of a kind or use that is none of ours, which RFC 7517 §5 asks
/// to pass over (sets also carry encryption keys).
///
/// # Errors
/// What is wrong with the key, for people.
pub fn read(jwk: &Jwk) -> Result<Option<PublicKey>, String> {
    if jwk.d.is_some() {
        return Err("this is a private key (it has `d`): publish the public key, and replace this one".into());
    }
    if jwk.k.is_some() || jwk.kty == "oct" {
        return Err("this is a symmetric key: HS* is not supported, since a policy can hold no secret".into());
    }
    let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let alg = jwk.alg.as_deref().map(Algorithm::from_name);
    let (Some(kind), true) = (kind(jwk), for_signatures && alg != Some(None)) else {
        return Ok(None);
    };
    let alg = alg.flatten();
    if let Some(alg) = alg.filter(|alg| alg.kind() != kind) {
        return Err(format!("`alg` {alg:?} does not go with this `kty` and `crv`"));
    }
    let encoded = match kind {
        Kind::Rsa => {
            let (modulus, exponent) = (member("n", jwk.n.as_ref())?, member("e", jwk.e.as_ref())?);
            let key = RS256PublicKey::from_components(&modulus, &exponent);
            key.and_then(|key| key.to_der()).map_err(|_| {
                format!(
                    "not a usable RSA key: {} bits; 2048 to 8192 bits with the exponent 65537 are accepted",
                    modulus.len() * 8
                )
            })?
        }
        Kind::P256 => {
            let point = point(jwk, 32)?;
            let key = ES256PublicKey::from_bytes(&point).and_then(|key| key.to_der());
            key.map_err(|_| String::from("`x` and `y` are not a point of P-256"))?
        }
        Kind::P384 => {
            let point = point(jwk, 48)?;
            let key = ES384PublicKey::from_bytes(&point).and_then(|key| key.to_der());
            key.map_err(|_| String::from("`x` and `y` are not a point of P-384"))?
        }
        Kind::P521 => {
            let point = point(jwk, 66)?;
            let sound = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).is_ok();
            let key = sound.then(|| [P521_SPKI, &point[..]].concat());
            key.ok_or_else(|| String::from("`x` and `y` are not a point of P-521"))?
        }
        Kind::Ed25519 => {
            let raw = sized_member("x", jwk.x.as_ref(), 32)?;
            let key = Ed25519PublicKey::from_bytes(&raw);
            key.map_err(|_| String::from("`x` is not an Ed25519 public key"))?.to_bytes()
        }
    };
    Ok(Some(PublicKey { kid: jwk.kid.as_deref().map(Into::into), alg, kind, encoded: encoded.into() }))
}

fn kind(jwk: &Jwk) -> Option<Kind> {
    match (&*jwk.kty, jwk.crv.as_deref()) {
        ("RSA", _) => Some(Kind::Rsa),
        ("EC", Some("P-256")) => Some(Kind::P256),
        ("EC", Some("P-384")) => Some(Kind::P384),
        ("EC", Some("P-521")) => Some(Kind::P521),
        ("OKP", Some("Ed25519")) => Some(Kind::Ed25519),
        _ => None,
    }
}

/// An uncompressed curve point (SEC 1 §2.3.3).
fn point(jwk: &Jwk, size: usize) -> Result<Vec<u8>, String> {
    let (x, y) = (sized_member("x", jwk.x.as_ref(), size)?, sized_member("y", jwk.y.as_ref(), size)?);
    Ok([&[4], &x[..], &y[..]].concat())
}

fn sized_member(name: &str, value: Option<&String>, size: usize) -> Result<Vec<u8>, String> {
    let bytes = member(name, value)?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(format!("`{name}` has {} bytes where this curve has {size}", bytes.len()))
    }
}

fn member(name: &str, value: Option<&String>) -> Result<Vec<u8>, String> {
    let value = value.ok_or_else(|| format!("`{name}` is missing"))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| format!("`{name}` is not base64url without padding"))
}
