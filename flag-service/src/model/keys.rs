//! API keys, as changes see them: what a good one is, and what becomes of its secrets.

use std::sync::Arc;

use super::change::malformed;
use super::{Key, Kind, Refusal, State};
use crate::access::key::Hashed;
use crate::access::{Role, local};

/// Most keys: each request's is looked for among all.
const KEYS: usize = 1_000;
/// Most secrets of one key: the new one, and those that still count.
const SECRETS: usize = 4;
/// The last second of the year 9999: what is later cannot be written as a date (RFC 3339).
const LATEST: u64 = 253_402_300_799;
/// Longest name, in bytes.
const NAME: usize = 64;

pub(super) fn put(state: &mut State, key: &Key) -> Result<(), Refusal> {
    let name_like = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.name.is_empty() || key.name.len() > NAME || !key.name.bytes().all(name_like) {
        return Err(malformed("name", "a key's name is 1 to 64 letters, digits, `-`, `_` and `.`"));
    }
    if key.name == local::NAME {
        return Err(malformed("name", "`local` is the key that the flag service makes when it starts"));
    }
    match (&key.node, key.role) {
        (None, Role::Envoy) => {
            let problem =
                "an Envoy's key names the node that comes with it: its id, such as `edge-1`, or `edge-*`";
            return Err(malformed("node", problem));
        }
        (Some(node), Role::Envoy) if node.is_empty() || node.len() > 256 || node == "*" => {
            return Err(malformed("node", "a node's id, or what ids begin with and then `*`"));
        }
        (Some(_), role) if role != Role::Envoy => {
            return Err(malformed("node", "only a key of role `envoy` names a node"));
        }
        _ => {}
    }
    if key.expires_at.is_some_and(|end| end > LATEST) {
        return Err(malformed("expires_at", "Unix seconds, up to the end of the year 9999"));
    }
    if state.keys.len() >= KEYS && !state.keys.contains_key(&key.name) {
        return Err(malformed("name", "there are 1,000 keys already: revoke those that are not used"));
    }
    for secret in &key.secrets {
        is_new(state, secret)?;
    }
    state.keys.insert(key.name.clone(), Arc::new(key.clone()));
    Ok(())
}

pub(super) fn rotate(state: &mut State, name: &str, secret: &Hashed, until: u64) -> Result<(), Refusal> {
    is_new(state, secret)?;
    let Some(key) = state.keys.get_mut(name) else { return Err(state.missing(Kind::Key, name)) };
    let key = Arc::make_mut(key);
    for replaced in &mut key.secrets {
        replaced.until = Some(replaced.until.map_or(until, |earlier| earlier.min(until)));
    }
    key.secrets.insert(0, secret.clone());
    key.secrets.truncate(SECRETS);
    Ok(())
}

/// Ids are random and short: two may be alike, and then one would hide the other.
fn is_new(state: &State, secret: &Hashed) -> Result<(), Refusal> {
    let mut known = state.keys.values().flat_map(|key| &key.secrets);
    if known.any(|known| known.id == secret.id) {
        return Err(malformed("secrets", "its id is taken by chance: try again"));
    }
    Ok(())
}
