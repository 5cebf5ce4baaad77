//! One token, taken apart and judged: RFC 7515 (compact JWS), RFC 7519 (claims), RFC 8725 (what
//! goes wrong with both). It knows nothing of headers, caches and authorisation.

use alloc::{string::String, vec::Vec};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::claims::Document;
use crate::decision::{Reason, Refusal};
use crate::identity::Verified;
use crate::json::Json;
use crate::policy::wire::Algorithm;
use crate::policy::{Provider, Providers, SourceId};
use crate::verify::Verifier;

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// Most keys that one token without `kid` is tried with.
const MAX_TRIED: usize = 4;

/// A token in compact serialisation, split and decoded but not believed.
#[derive(Debug)]
pub struct CompactJws<'a> {
    /// What is signed: `header.payload`, as sent.
    pub signing_input: &'a [u8],
    /// The decoded signature.
    pub signature: Vec<u8>,
    /// The algorithm it claims.
    pub algorithm: Algorithm,
    /// The key it claims.
    pub kid: Option<String>,
    /// The decoded payload.
    pub payload: Vec<u8>,
}

/// Verifies a token that came from `source`: form, issuer, algorithm, key, signature, then claims.
///
/// # Errors
/// The reason why the token is not believed.
pub fn verify(
    token: &[u8],
    source: SourceId,
    providers: &Providers,
    verifier: &dyn Verifier,
) -> Result<Verified, Refusal> {
    let jws = CompactJws::parse(token)?;
    let claims = Document::parse(&jws.payload)?;
    let issuer = claims.get("iss").and_then(Json::as_str).ok_or(Reason::UnknownIssuer)?;
    let provider = providers.by_issuer(issuer).ok_or(Reason::UnknownIssuer)?;
    if !provider.sources.contains(&source) {
        return Err(Reason::MisplacedToken.into());
    }
    if !provider.algorithms.contains(&jws.algorithm) {
        return Err(Reason::UnsupportedAlgorithm.into());
    }
    check_signature(&jws, provider, verifier).map_err(|reason| Refusal::by_keys(reason, &provider.name))?;
    if !provider.audiences.is_empty() && !claims.is_for(&provider.audiences)? {
        return Err(Reason::WrongAudience.into());
    }
    if !provider.required_claims.iter().all(|requirement| claims.meets(requirement)) {
        return Err(Reason::MissingClaim.into());
    }
    let verified = claims.verified(provider)?;
    if providers.denies(claims.token_id()?, &verified.identity) {
        Err(Reason::DeniedToken.into())
    } else {
        Ok(verified)
    }
}

/// Tries the keys that the token could have been signed with. With a `kid` that is one; without, the
/// first few: what a stranger can have verified for a token that is made up must not be many times what
/// a good one costs.
fn check_signature(jws: &CompactJws<'_>, provider: &Provider, verifier: &dyn Verifier) -> Result<(), Reason> {
    if provider.keys.is_empty() {
        return Err(Reason::NoKeys);
    }
    let mut known = false;
    let fitting = provider.keys.iter().filter(|key| key.fits(jws.algorithm, jws.kid.as_deref()));
    for key in fitting.take(MAX_TRIED) {
        known = true;
        if verifier.verify(key, jws) {
            return Ok(());
        }
    }
    Err(if known { Reason::BadSignature } else { Reason::UnknownKey })
}

impl<'a> CompactJws<'a> {
    /// Splits and decodes a token. Header parameters that would bring a key along (`jwk`, `jku`,
    /// `x5c`, `x5u`) are not read: keys come from the policy only (RFC 8725 §3.10).
    ///
    /// # Errors
    /// [`Reason::OversizedToken`], [`Reason::MalformedToken`] or [`Reason::UnsupportedAlgorithm`]
    /// (`none` and HS* among them).
    pub fn parse(token: &'a [u8]) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::OversizedToken);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::MalformedToken);
        };
        let signed = header.len() + 1 + payload.len();
        let signing_input = token.get(..signed).ok_or(Reason::MalformedToken)?;
        let header = decode(header)?;
        let header = Document::parse(&header)?;
        // RFC 7515 §4.1.11: `crit` names extensions that must be understood, and none is. RFC 7797:
        // `b64` has a meaning with `crit` only, and is dangerous without.
        if header.get("crit").or(header.get("b64")).is_some() {
            return Err(Reason::MalformedToken);
        }
        let algorithm = header.get("alg").and_then(Json::as_str).ok_or(Reason::MalformedToken)?;
        let algorithm = Algorithm::from_name(algorithm).ok_or(Reason::UnsupportedAlgorithm)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Json::Text(kid)) => Some(String::from(&**kid)),
            Some(_) => return Err(Reason::MalformedToken),
        };
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { signing_input, signature, algorithm, kid, payload })
    }
}

/// Base64url without padding, canonical: one octet sequence has one spelling (RFC 4648 §3.5).
fn decode(part: &[u8]) -> Result<Vec<u8>, Reason> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(Reason::MalformedToken),
    }
}
