//! Keys that were fetched for a provider. They are kept like what operators set up, so that they survive
//! a restart, reach every replica and stand in the history; but they follow from what the issuer says:
//! no document sets them, and going back to an earlier revision does not bring them back.

use std::sync::Arc;

use rampart_engine::policy::Problem;
use rampart_engine::policy::wire::{BadKey, Jwk, Jwks, JwksFrom};
use serde::{Deserialize, Serialize};

use super::change::malformed;
use super::{Kind, Provider, Refusal, State};

/// What stands before the name of an issuer of the API: no provider's name has a slash.
const OF_THE_API: &str = "issuers/";
/// The longest time between two fetches that can be asked for, in seconds: a day.
const SLOWEST: u32 = 86_400;

/// An issuer's keys, as they were fetched last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    /// The provider's name; that of an issuer of the API after `issuers/`.
    pub name: String,
    /// Whose keys they are. For a provider that has since been given another issuer, they do not count.
    pub issuer: String,
    /// Where they were looked for; none: where the issuer's discovery document says. Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The keys, in one order whatever the issuer's is.
    pub keys: Vec<FetchedKey>,
}

/// A key, and how long it has been known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchedKey {
    /// When it was first fetched, in seconds since the Unix epoch.
    pub since: u64,
    /// The key.
    pub key: Jwk,
}

impl KeySet {
    /// What was fetched for a provider of this name at a time.
    #[must_use]
    pub fn new(name: &str, provider: &Provider, from: &JwksFrom, keys: Vec<Jwk>, now: u64) -> Self {
        let keys = keys.into_iter().map(|key| FetchedKey { since: now, key }).collect();
        Self { name: name.to_owned(), issuer: provider.issuer.clone(), uri: from.uri.clone(), keys }
    }

    /// Whether these are keys that the provider asks for.
    #[must_use]
    pub fn is_for(&self, provider: &Provider) -> bool {
        let from = provider.jwks_from.as_ref();
        from.is_some_and(|from| from.uri == self.uri) && provider.issuer == self.issuer
    }
}

/// How the keys of an issuer of the API are called: it may have the name of one of the policy's.
#[must_use]
pub(crate) fn of_the_api(name: &str) -> String {
    format!("{OF_THE_API}{name}")
}

impl State {
    /// Everybody whose keys are fetched, by the name of their key set: the policy's providers, and the
    /// issuers of the API.
    pub fn fetched(&self) -> impl Iterator<Item = (String, &Provider)> {
        let providers = self.providers.values().map(|provider| (provider.name.clone(), &**provider));
        let issuers = self.settings.issuers.iter().map(|issuer| &issuer.provider);
        let issuers = issuers.map(|provider| (of_the_api(&provider.name), provider));
        providers.chain(issuers).filter(|(_, provider)| provider.jwks_from.is_some())
    }

    /// Whose keys are called so, wherever they are from.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Provider> {
        match name.strip_prefix(OF_THE_API) {
            None => self.providers.get(name).map(|provider| &**provider),
            Some(name) => {
                let mut issuers = self.settings.issuers.iter().map(|issuer| &issuer.provider);
                issuers.find(|provider| provider.name == name)
            }
        }
    }

    /// Sets what was fetched. A key that was known is known for as long as before.
    pub(super) fn put_key_set(&mut self, mut set: KeySet) -> Result<(), Refusal> {
        let Some(provider) = self.issuer(&set.name) else {
            return Err(self.missing(Kind::Provider, &set.name));
        };
        if !set.is_for(provider) {
            return Err(malformed("", "the provider's keys are looked for elsewhere by now"));
        }
        let before = self.key_sets.get(&set.name).filter(|before| before.is_for(provider));
        let known = before.map(|before| before.keys.as_slice()).unwrap_or_default();
        for fetched in &mut set.keys {
            if let Some(before) = known.iter().find(|before| before.key == fetched.key) {
                fetched.since = before.since;
            }
        }
        self.key_sets.insert(set.name.clone(), Arc::new(set));
        Ok(())
    }

    /// Forgets keys that no provider asks for: what was fetched for one issuer must not come back for
    /// another.
    pub(super) fn prune_key_sets(&mut self) {
        let mut key_sets = std::mem::take(&mut self.key_sets);
        key_sets.retain(|name, set| self.issuer(name).is_some_and(|provider| set.is_for(provider)));
        self.key_sets = key_sets;
    }

    /// A provider as tokens are judged by it: with its keys, wherever they are from. `name` is what these
    /// are called.
    pub(crate) fn with_keys(&self, name: &str, provider: &Provider) -> Provider {
        if provider.jwks_from.is_none() {
            return provider.clone();
        }
        let set = self.key_sets.get(name).filter(|set| set.is_for(provider));
        let keys = set.map(|set| set.keys.iter().map(|fetched| fetched.key.clone()).collect());
        Provider {
            jwks: Some(Jwks { keys: keys.unwrap_or_default() }),
            jwks_from: None,
            // A key that the engine of another version refuses must not hold up every other change.
            on_bad_key: BadKey::Skip,
            ..provider.clone()
        }
    }
}

/// Checks where a provider's keys are from: the engine never sees it.
///
/// # Errors
///
/// What is wrong, with its place in the provider.
pub(crate) fn check_source(provider: &Provider) -> Result<(), Problem> {
    let wrong = |field: &str, problem: &str| Problem { field: field.to_owned(), problem: problem.to_owned() };
    let Some(from) = &provider.jwks_from else { return Ok(()) };
    if provider.jwks.is_some() {
        return Err(wrong("jwks_from", "keys are given (`jwks`) or fetched (`jwks_from`), not both"));
    }
    if !(1..=SLOWEST).contains(&from.refresh_seconds) {
        return Err(wrong("jwks_from.refresh_seconds", "it is 1 to 86400 seconds"));
    }
    let (field, url) = match &from.uri {
        Some(uri) => ("jwks_from.uri", uri),
        None => ("issuer", &provider.issuer),
    };
    source(url).map(drop).map_err(|problem| wrong(field, &problem))
}

/// A URL that keys may be fetched from. Whoever could change them on their way could sign tokens: they
/// come encrypted, or from this machine.
///
/// # Errors
///
/// Why none may be fetched from it.
pub(crate) fn source(url: &str) -> Result<reqwest::Url, String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| format!("`{url}` is no URL: {error}"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("a URL that holds a password would stand in logs and in the history".to_owned());
    }
    let local = match parsed.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    match parsed.scheme() {
        "https" => Ok(parsed),
        "http" if local => Ok(parsed),
        _ => Err(format!("keys are fetched by https, or by http from this machine; this is `{url}`")),
    }
}

#[cfg(test)]
mod tests {
    use rampart_engine::policy::wire::{Jwk, Provider};
    use serde_json::json;

    use super::{KeySet, source};
    use crate::model::{Change, State};

    #[test]
    fn a_key_that_stays_is_as_old_as_it_was() {
        let from = json!({"name": "main", "issuer": "https://id.example", "jwks_from": {}});
        let provider: Provider = serde_json::from_value(from).unwrap();
        let set = |kids: &[&str], now| {
            let key = |kid: &&str| Jwk { kid: Some((*kid).to_owned()), ..Jwk::default() };
            let from = provider.jwks_from.as_ref().unwrap();
            Change::PutKeySet(KeySet::new("main", &provider, from, kids.iter().map(key).collect(), now))
        };
        let mut state = Change::PutProvider(provider.clone()).apply(&State::default(), &[]).unwrap();
        for change in [set(&["a"], 1), set(&["a", "b"], 2), set(&["b", "c"], 3)] {
            state = change.apply(&state, &[]).unwrap();
        }
        let since: Vec<u64> = state.key_sets["main"].keys.iter().map(|key| key.since).collect();
        assert_eq!(since, [2, 3]);
        let other = Provider { issuer: "https://else.example".to_owned(), ..provider.clone() };
        let elsewhere = Change::PutProvider(other).apply(&state, &[]).unwrap();
        assert!(elsewhere.key_sets.is_empty(), "the keys of one issuer are not another's");
        assert!(set(&["a"], 4).apply(&elsewhere, &[]).is_err(), "a fetch that was under way");
    }

    #[test]
    fn keys_are_fetched_from_where_nobody_else_can_change_them() {
        for url in [
            "https://id.example/jwks.json",
            "http://127.0.0.1:9000/jwks",
            "http://[::1]/jwks",
            "http://localhost",
        ] {
            assert!(source(url).is_ok(), "{url}");
        }
        for (url, problem) in [
            ("id.example/jwks", "is no URL"),
            ("http://id.example/jwks", "by https"),
            ("http://127.0.0.1.example/jwks", "by https"),
            ("http://10.0.0.1/jwks", "by https"),
            ("file:///etc/passwd", "by https"),
            ("https://user:secret@id.example/", "password"),
        ] {
            let refused = source(url).unwrap_err();
            assert!(refused.contains(problem) && !refused.contains("secret"), "{url}: {refused}");
        }
    }
}
