//! Providers, from what was sent to what it means.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::hash::Hasher as _;
use hashbrown::{HashMap, HashSet};
use siphasher::sip::SipHasher24;

use super::compile::{NAME, NAME_RULE, Problems, is_name};
use super::wire::{self, BadKey, ClaimPath, TokenSource};
use super::{Denied, Provider, Providers, SourceId};
use crate::jwks::{self, PublicKey};
use crate::token_source;

/// Most keys of one provider.
pub const MAX_KEYS: usize = 32;

/// Most names on the way to a nested claim.
const MAX_DEPTH: usize = 8;

pub(super) fn compile_providers(
    sent: &[wire::Provider],
    denied: &wire::Denied,
    problems: &mut Problems,
) -> Providers {
    let set = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect::<HashSet<Box<str>>>();
    let mut providers = Providers {
        by_issuer: HashMap::new(),
        sources: Vec::new(),
        denied: Denied {
            tokens: set(&denied.tokens),
            subjects: set(&denied.subjects),
            organisations: set(&denied.organisations),
        },
        key_generation: generation(sent, denied),
    };
    let mut names = HashSet::new();
    for provider in sent {
        let at = format!("providers[{}]", provider.name);
        problems.check(&format!("{at}.name"), is_name(&provider.name, NAME), NAME_RULE);
        problems.check(&format!("{at}.name"), names.insert(&provider.name), "another provider has this name");
        problems.check(&format!("{at}.issuer"), !provider.issuer.is_empty(), "an issuer is required");
        let algorithms = !provider.algorithms.is_empty();
        problems.check(&format!("{at}.algorithms"), algorithms, "at least one algorithm is required");
        check_claims(provider, &at, problems);
        let compiled = Provider {
            name: provider.name.as_str().into(),
            audiences: provider.audiences.iter().map(|audience| audience.as_str().into()).collect(),
            algorithms: provider.algorithms.clone(),
            leeway_seconds: provider.leeway_seconds,
            claims: provider.claims.clone(),
            required_claims: provider.required_claims.clone(),
            sources: sources(provider, &mut providers.sources, &at, problems),
            forward: provider.forward,
            keys: keys(provider, &at, problems),
        };
        let unique = providers.by_issuer.insert(provider.issuer.as_str().into(), compiled).is_none();
        problems.check(&format!("{at}.issuer"), unique, "another provider has this issuer");
    }
    providers
}

fn check_claims(provider: &wire::Provider, at: &str, problems: &mut Problems) {
    let claims = &provider.claims;
    let mapped = [
        ("claims.organisation", Some(&claims.organisation)),
        ("claims.subject", Some(&claims.subject)),
        ("claims.roles", Some(&claims.roles)),
        ("claims.permissions", Some(&claims.permissions)),
        ("claims.scopes", claims.scopes.as_ref()),
    ];
    let mapped = mapped.into_iter().filter_map(|(field, path)| Some((String::from(field), path?)));
    let required = provider.required_claims.iter().enumerate();
    let required =
        required.map(|(index, required)| (format!("required_claims[{index}].claim"), &required.claim));
    for (field, path) in mapped.chain(required) {
        let sound = match path {
            ClaimPath::Name(name) => !name.is_empty(),
            ClaimPath::Nested(names) => {
                (1..=MAX_DEPTH).contains(&names.len()) && names.iter().all(|name| !name.is_empty())
            }
        };
        problems.check(&format!("{at}.{field}"), sound, "a claim is a name, or a list of 1 to 8 names");
    }
}

/// The provider's sources, as indexes into all sources.
fn sources(
    provider: &wire::Provider,
    all: &mut Vec<TokenSource>,
    at: &str,
    problems: &mut Problems,
) -> Vec<SourceId> {
    let at = format!("{at}.token_from");
    problems.check(&at, !provider.token_from.is_empty(), "a token must come from somewhere");
    let mut ids = Vec::new();
    for (index, source) in provider.token_from.iter().enumerate() {
        match token_source::normalised(source) {
            Ok(source) => {
                let known = all.iter().position(|known| *known == source);
                ids.push(known.unwrap_or(all.len()));
                if known.is_none() {
                    all.push(source);
                }
            }
            Err(problem) => problems.add(&format!("{at}[{index}]"), problem.into()),
        }
    }
    ids
}

fn keys(provider: &wire::Provider, at: &str, problems: &mut Problems) -> Vec<PublicKey> {
    let fetched = provider.jwks_from.is_some();
    problems.check(&format!("{at}.jwks_from"), !fetched, "only the flag service fetches keys: give `jwks`");
    let Some(jwks) = &provider.jwks else {
        problems.check(&format!("{at}.jwks"), fetched, "the issuer's keys are required");
        return Vec::new();
    };
    let few = jwks.keys.len() <= MAX_KEYS;
    problems.check(&format!("{at}.jwks.keys"), few, "a provider has at most 32 keys");
    let mut keys: Vec<PublicKey> = Vec::new();
    for (index, jwk) in jwks.keys.iter().enumerate() {
        let at = match &jwk.kid {
            Some(kid) => format!("{at}.jwks.keys[{kid}]"),
            None => format!("{at}.jwks.keys[{index}]"),
        };
        let problem = match jwks::read(jwk) {
            Ok(None) => continue,
            Ok(Some(key)) if keys.iter().any(|known| known.shares_kid(&key)) => {
                String::from("another key has this `kid`")
            }
            Ok(Some(key))
                if keys.iter().any(|known| known.encoded == key.encoded && known.alg == key.alg) =>
            {
                String::from("this key is listed twice")
            }
            Ok(Some(key)) => {
                keys.push(key);
                continue;
            }
            Err(problem) => problem,
        };
        match provider.on_bad_key {
            BadKey::Refuse => problems.add(&at, problem),
            BadKey::Skip => problems.warn(&at, format!("left out: {problem}")),
        }
    }
    keys
}

/// A digest of everything said about providers and denials. It need not be secret: policies are not
/// written by adversaries.
fn generation(sent: &[wire::Provider], denied: &wire::Denied) -> u64 {
    let mut hasher = SipHasher24::new();
    // Serialising these types to memory cannot fail; a constant would merely be less precise.
    hasher.write(&serde_json::to_vec(&(sent, denied)).unwrap_or_default());
    hasher.finish()
}
