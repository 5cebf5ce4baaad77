//! What a token's payload says, read strictly: RFC 7519. A member given twice is refused wherever it
//! stands, since parsers differ on which one counts.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::decision::Reason;
use crate::identity::{Identity, List, Verified, is_header_safe};
use crate::policy::Provider;
use crate::policy::wire::{ClaimPath, Requirement};

/// The last date that is one, in seconds: 2^53.
const MAX_DATE: f64 = 9_007_199_254_740_992.0;

/// A claims set, or a JOSE header: a JSON object whose members have names of their own.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Reason> {
        match serde_json::from_slice(json) {
            Ok(Unique(value @ Value::Object(_))) => Ok(Self(value)),
            _ => Err(Reason::MalformedToken),
        }
    }

    /// A top-level member.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The claim at a path.
    fn at(&self, path: &ClaimPath) -> Option<&Value> {
        match path {
            ClaimPath::Name(name) => self.0.get(name),
            ClaimPath::Nested(names) => names.iter().try_fold(&self.0, |value, name| value.get(name)),
        }
    }

    /// Whether the token is for one of `audiences` (RFC 7519 §4.1.3).
    ///
    /// # Errors
    /// Where `aud` is there and neither a string nor an array of strings.
    pub(crate) fn is_for(&self, audiences: &[Box<str>]) -> Result<bool, Reason> {
        let wanted = |name: &str| audiences.iter().any(|audience| **audience == *name);
        match self.get("aud") {
            None => Ok(false),
            Some(Value::String(name)) => Ok(wanted(name)),
            Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
                Ok(names.iter().filter_map(Value::as_str).any(wanted))
            }
            Some(_) => Err(Reason::MalformedToken),
        }
    }

    /// `jti`, where there is one (RFC 7519 §4.1.7).
    ///
    /// # Errors
    /// Where it is no string.
    pub(crate) fn token_id(&self) -> Result<Option<&str>, Reason> {
        match self.get("jti") {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(id)),
            Some(_) => Err(Reason::MalformedToken),
        }
    }

    /// Whether a required claim is there, with one of the values asked for.
    pub(crate) fn meets(&self, requirement: &Requirement) -> bool {
        let asked = |value: &Value| requirement.any_of.contains(value);
        match self.at(&requirement.claim) {
            None | Some(Value::Null) => false,
            Some(_) if requirement.any_of.is_empty() => true,
            Some(Value::Array(values)) => values.iter().any(asked),
            Some(value) => asked(value),
        }
    }

    /// What the token says of its bearer, by the provider's mapping.
    pub(crate) fn verified(&self, provider: &Provider) -> Result<Verified, Reason> {
        let claims = &provider.claims;
        // A token that never expires could never be withdrawn: `exp` is required.
        let expires = self.date("exp")?.ok_or(Reason::MissingExpiry)?;
        let not_before = self.date("nbf")?.unwrap_or(0);
        // Not needed; but who writes it wrongly is not to be trusted with the others.
        self.date("iat")?;
        let leeway = u64::from(provider.leeway_seconds);
        let permissions = self.names(&claims.permissions);
        let scopes = claims.scopes.as_ref().map(|path| self.names(path)).unwrap_or_default();
        Ok(Verified {
            identity: Identity {
                organisation: self.identifier(&claims.organisation)?,
                subject: self.identifier(&claims.subject)?,
                roles: List::from_names(self.names(&claims.roles).into_iter()),
                permissions: List::from_names(permissions.into_iter().chain(scopes)),
            },
            valid_from: not_before.saturating_sub(leeway),
            valid_until: expires.saturating_add(leeway),
            forward: provider.forward,
        })
    }

    /// A list of names: an array of strings, or one string separated by spaces.
    fn names(&self, path: &ClaimPath) -> Vec<&str> {
        match self.at(path) {
            Some(Value::String(text)) => text.split(' ').collect(),
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// An identifier that will be a header value: absent, or a string fit to be one.
    fn identifier(&self, path: &ClaimPath) -> Result<Option<Box<str>>, Reason> {
        match self.at(path) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if is_header_safe(text) => Ok(Some(text.as_str().into())),
            Some(_) => Err(Reason::MalformedToken),
        }
    }

    /// NumericDate (RFC 7519 §2), rounded towards the past; absent, or a number from 0 to 2^53, beyond
    /// which JSON numbers are not exact and no date is meant.
    fn date(&self, name: &str) -> Result<Option<u64>, Reason> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number,
            Some(_) => return Err(Reason::MalformedToken),
        };
        let seconds = number.as_f64().filter(|seconds| (0.0..=MAX_DATE).contains(seconds));
        seconds.map(|seconds| Some(seconds as u64)).ok_or(Reason::MalformedToken)
    }
}

/// A JSON value in which no object names a member twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unique(value))) = map.next_entry::<String, Unique>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is given twice"));
            }
        }
        Ok(Unique(Value::Object(members)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Unique, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Unique(Value::Array(values)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Unique, E> {
        Ok(Unique(Value::String(text.into())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Unique, E> {
        Ok(Unique(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Unique, E> {
        Ok(Unique(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Unique, E> {
        Ok(Unique(Number::from_f64(number).map_or(Value::Null, Value::Number)))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Unique, E> {
        Ok(Unique(Value::Bool(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<Unique, E> {
        Ok(Unique(Value::Null))
    }
}
