//! What a token's payload says, read strictly: RFC 7519.

use alloc::{boxed::Box, vec::Vec};

use crate::decision::Reason;
use crate::identity::{Identity, List, Verified, is_header_safe};
use crate::json::Json;
use crate::policy::Provider;
use crate::policy::wire::{ClaimPath, Requirement};

/// The last date that is one, in seconds: 2^53.
const MAX_DATE: f64 = 9_007_199_254_740_992.0;

/// A claims set, or a JOSE header: a JSON object.
pub(crate) struct Document<'a>(Json<'a>);

impl<'a> Document<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Reason> {
        Json::object(text).map(Self).ok_or(Reason::MalformedToken)
    }

    /// A top-level member.
    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.get(name)
    }

    /// The claim at a path.
    fn at(&self, path: &ClaimPath) -> Option<&Json<'a>> {
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
            Some(Json::Text(name)) => Ok(wanted(name)),
            Some(Json::Array(names)) if names.iter().all(|name| name.as_str().is_some()) => {
                Ok(names.iter().filter_map(Json::as_str).any(wanted))
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
            Some(Json::Text(id)) => Ok(Some(id)),
            Some(_) => Err(Reason::MalformedToken),
        }
    }

    /// Whether a required claim is there, with one of the values asked for.
    pub(crate) fn meets(&self, requirement: &Requirement) -> bool {
        let asked = |value: &Json<'_>| requirement.any_of.iter().any(|wanted| value == wanted);
        match self.at(&requirement.claim) {
            None | Some(Json::Null) => false,
            Some(_) if requirement.any_of.is_empty() => true,
            Some(Json::Array(values)) => values.iter().any(asked),
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
            Some(Json::Text(text)) => text.split(' ').collect(),
            Some(Json::Array(values)) => values.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// An identifier that will be a header value: absent, or a string fit to be one.
    fn identifier(&self, path: &ClaimPath) -> Result<Option<Box<str>>, Reason> {
        match self.at(path) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Text(text)) if text.is_empty() => Ok(None),
            Some(Json::Text(text)) if is_header_safe(text) => Ok(Some((&**text).into())),
            Some(_) => Err(Reason::MalformedToken),
        }
    }

    /// NumericDate (RFC 7519 §2), rounded towards the past; absent, or a number from 0 to 2^53, beyond
    /// which JSON numbers are not exact and no date is meant.
    fn date(&self, name: &str) -> Result<Option<u64>, Reason> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Json::Number(number)) => number,
            Some(_) => return Err(Reason::MalformedToken),
        };
        let seconds = number.as_f64().filter(|seconds| (0.0..=MAX_DATE).contains(seconds));
        seconds.map(|seconds| Some(seconds as u64)).ok_or(Reason::MalformedToken)
    }
}
