//! One token, taken apart and judged: RFC 7515 (compact JWS), RFC 7519 (claims), RFC 8725 (what
//! goes wrong with both). It knows nothing of headers, caches and authorisation.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::decision::Reason;
use crate::policy::wire::{Algorithm, ClaimNames};
use crate::policy::{Provider, Providers};
use crate::verify::Verifier;

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A token in compact serialisation, split and decoded but not believed.
#[derive(Debug)]
pub struct CompactJws<'a> {
    /// The whole token.
    pub text: &'a str,
    /// What is signed: `header.payload`, as sent.
    pub signing_input: &'a [u8],
    /// The decoded signature.
    pub signature: Vec<u8>,
    /// The algorithm it claims.
    pub algorithm: Algorithm,
    /// The key it claims.
    pub kid: Option<String>,
    payload: Vec<u8>,
}

/// Who a verified token speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The organisation, where the token names one.
    pub organisation: Option<Box<str>>,
    /// The subject, where the token names one.
    pub subject: Option<Box<str>>,
    /// Roles, joined by commas as the upstream is told.
    pub roles: List,
    /// Permissions, joined by commas as the upstream is told.
    pub permissions: List,
}

/// Short names joined by commas: compact to keep, ready to be a header value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(Box<str>);

/// A verified token: who, and when it counts.
#[derive(Debug)]
pub struct Verified {
    /// Who it speaks of.
    pub identity: Identity,
    /// First second at which it counts, leeway included.
    pub valid_from: u64,
    /// First second at which it no longer counts, leeway included.
    pub valid_until: u64,
}

impl Verified {
    /// Whether the token counts at `now` (Unix seconds).
    ///
    /// # Errors
    /// Why it does not.
    pub fn check_time(&self, now: u64) -> Result<(), Reason> {
        if now < self.valid_from {
            Err(Reason::TokenNotYetValid)
        } else if now >= self.valid_until {
            Err(Reason::ExpiredToken)
        } else {
            Ok(())
        }
    }
}

impl List {
    /// The names joined by commas.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is listed.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.split(',').any(|listed| listed == name) && !name.is_empty()
    }

    /// A name that could not be told apart in a header (empty, with a comma or a control character)
    /// is left out: the caller loses it, and can gain nothing by it.
    fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let clear = |name: &&str| !name.is_empty() && !name.contains(',') && is_header_safe(name);
        let names: Vec<&str> = names.filter(clear).collect();
        Self(names.join(",").into())
    }
}

/// Verifies a token: form, algorithm, issuer, key, signature, then claims.
///
/// # Errors
/// The reason why the token is not believed.
pub fn verify(token: &str, providers: &Providers, verifier: &dyn Verifier) -> Result<Verified, Reason> {
    let jws = CompactJws::parse(token)?;
    let claims = Claims::parse(&jws.payload)?;
    let issuer = claims.text("iss").ok_or(Reason::UnknownIssuer)?;
    let provider = providers.by_issuer(issuer).ok_or(Reason::UnknownIssuer)?;
    if !provider.algorithms.contains(&jws.algorithm) {
        return Err(Reason::UnsupportedAlgorithm);
    }
    check_signature(&jws, provider, verifier)?;
    if !provider.audiences.is_empty()
        && !claims.names("aud").any(|aud| provider.audiences.iter().any(|a| **a == *aud))
    {
        return Err(Reason::WrongAudience);
    }
    claims.verified(provider)
}

/// Tries each key that the token could have been signed with; with a `kid`, that is usually one.
fn check_signature(jws: &CompactJws<'_>, provider: &Provider, verifier: &dyn Verifier) -> Result<(), Reason> {
    if provider.keys.is_empty() {
        return Err(Reason::NoKeys);
    }
    let mut known = false;
    for key in provider.keys.iter().filter(|key| key.fits(jws.algorithm, jws.kid.as_deref())) {
        known = true;
        if verifier.verify(key, jws) {
            return Ok(());
        }
    }
    Err(if known { Reason::BadSignature } else { Reason::UnknownKey })
}

/// JOSE header. Parameters that would bring a key along (`jwk`, `jku`, `x5c`, `x5u`) are not read:
/// keys come from the policy only (RFC 8725 §3.10).
#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// RFC 7515 §4.1.11: an extension that must be understood. None is.
    #[serde(default)]
    crit: Option<IgnoredAny>,
    /// RFC 7797: an unencoded payload. Only meaningful with `crit`, dangerous without.
    #[serde(default)]
    b64: Option<IgnoredAny>,
}

impl<'a> CompactJws<'a> {
    /// Splits and decodes a token.
    ///
    /// # Errors
    /// [`Reason::MalformedToken`] or [`Reason::UnsupportedAlgorithm`] (`none` and HS* among them).
    pub fn parse(text: &'a str) -> Result<Self, Reason> {
        if text.len() > MAX_TOKEN {
            return Err(Reason::OversizedToken);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::MalformedToken);
        };
        let signing_input =
            text.as_bytes().get(..header.len() + 1 + payload.len()).ok_or(Reason::MalformedToken)?;
        let parsed: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Reason::MalformedToken)?;
        if parsed.crit.is_some() || parsed.b64.is_some() {
            return Err(Reason::MalformedToken);
        }
        let algorithm = Algorithm::from_name(&parsed.alg).ok_or(Reason::UnsupportedAlgorithm)?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { text, signing_input, signature, algorithm, kid: parsed.kid, payload })
    }
}

/// Base64url without padding, canonical: one octet sequence has one spelling (RFC 4648 §3.5).
fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    match Base64UrlSafeNoPadding::decode_to_vec(part, None) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(Reason::MalformedToken),
    }
}

/// The claims set. A name given twice is refused, since parsers differ on which counts
/// (RFC 7519 §4 permits either).
struct Claims(BTreeMap<String, Value>);

impl Claims {
    fn parse(payload: &[u8]) -> Result<Self, Reason> {
        serde_json::from_slice(payload).map_err(|_| Reason::MalformedToken)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The strings of an array, or one string as a list of one.
    fn names<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let value = self.0.get(name);
        let many = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        many.iter().filter_map(Value::as_str).chain(value.and_then(Value::as_str))
    }

    /// A list of names: an array of strings, or one string separated by spaces (RFC 8693 §4.2).
    fn list(&self, name: &str) -> List {
        match self.0.get(name) {
            Some(Value::String(text)) => List::from_names(text.split(' ')),
            Some(Value::Array(_)) => List::from_names(self.names(name)),
            _ => List::default(),
        }
    }

    /// An identifier that will be a header value: absent, or a string fit to be one.
    fn identifier(&self, name: &str) -> Result<Option<Box<str>>, Reason> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if is_header_safe(text) => Ok(Some(text.as_str().into())),
            Some(_) => Err(Reason::MalformedToken),
        }
    }

    /// NumericDate (RFC 7519 §2), rounded towards the past; absent, or a non-negative number.
    fn date(&self, name: &str) -> Result<Option<u64>, Reason> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(seconds) => Ok(Some(seconds)),
                // `as` saturates, so dates beyond the end of time stay there.
                None => number
                    .as_f64()
                    .filter(|seconds| *seconds >= 0.0)
                    .map(|seconds| Some(seconds as u64))
                    .ok_or(Reason::MalformedToken),
            },
            Some(_) => Err(Reason::MalformedToken),
        }
    }

    fn verified(&self, provider: &Provider) -> Result<Verified, Reason> {
        let ClaimNames { organisation, subject, roles, permissions } = &provider.claims;
        // A token that never expires could never be withdrawn: `exp` is required.
        let expires = self.date("exp")?.ok_or(Reason::MissingExpiry)?;
        let not_before = self.date("nbf")?.unwrap_or(0);
        let leeway = u64::from(provider.leeway_seconds);
        Ok(Verified {
            identity: Identity {
                organisation: self.identifier(organisation)?,
                subject: self.identifier(subject)?,
                roles: self.list(roles),
                permissions: self.list(permissions),
            },
            valid_from: not_before.saturating_sub(leeway),
            valid_until: expires.saturating_add(leeway),
        })
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Claims;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("a claims object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim is given twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// No control characters: nothing that could end a header line or a log line.
fn is_header_safe(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
