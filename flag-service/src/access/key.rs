//! API keys: how a secret is made, written, recognised and kept. Only its hash is kept.
//!
//! A secret is `rampart_{id}_{256 random bits}{checksum}`, in lower-case hexadecimal: a scanner finds it
//! anywhere (`rampart_[0-9a-f]{8}_[0-9a-f]{72}`), and one that was cut off is told from one that was
//! revoked. The hash is plain SHA-256: a slow one, such as Argon2, makes up for secrets that people
//! choose, and 256 random bits cannot be guessed at any speed.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Role;

/// What every secret begins with.
pub const PREFIX: &str = "rampart_";
/// Digits of the id, by which a secret can be spoken of.
const ID: usize = 8;
/// Digits of the random part.
const RANDOM: usize = 64;
/// Digits of the checksum: of SHA-256 over everything before it.
const CHECKSUM: usize = 8;

/// A key, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Unique name: who the bearer is, in the history.
    pub name: String,
    /// What the bearer may do.
    pub role: Role,
    /// Of role `envoy`: the node's id, or what ids begin with and then `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// First Unix second at which it no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Its secrets, the newest first; two while one is being replaced.
    pub secrets: Vec<Hashed>,
}

/// What is kept of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hashed {
    /// Its id.
    pub id: String,
    /// SHA-256 of the whole text, hexadecimal.
    pub sha256: String,
    /// First Unix second at which it no longer counts, where it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Key {
    /// Whether an Envoy of this id may come with it.
    #[must_use]
    pub fn is_for_node(&self, id: &str) -> bool {
        match self.node.as_deref().map(|node| (node, node.strip_suffix('*'))) {
            Some((_, Some(prefix))) => id.starts_with(prefix),
            Some((node, None)) => id == node,
            None => false,
        }
    }
}

/// A secret that was made just now: the only time its text is there.
pub struct Secret(String);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; (ID + RANDOM) / 2];
        getrandom::fill(&mut bytes)?;
        let (id, random) = bytes.split_at(ID / 2);
        let text = format!("{PREFIX}{}_{}", hex(id), hex(random));
        let checksum = checksum(&text);
        Ok(Self(text + &checksum))
    }

    /// The text, for whoever asked for it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn hashed(&self) -> Hashed {
        let id = self.0.get(PREFIX.len()..PREFIX.len() + ID).unwrap_or_default().to_owned();
        Hashed { id, sha256: sha256(&self.0), until: None }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What somebody came with, and is well-formed.
pub(super) struct Presented<'a> {
    id: &'a str,
    sha256: String,
}

impl<'a> Presented<'a> {
    /// None where it is no API key at all; an error where it is not a whole one.
    pub(super) fn read(text: &'a str) -> Option<Result<Self, ()>> {
        let digits = text.strip_prefix(PREFIX)?;
        let whole = || {
            let signed = text.get(..text.len().checked_sub(CHECKSUM)?)?;
            let (id, rest) = digits.split_once('_')?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let well_formed = id.len() == ID && rest.len() == RANDOM + CHECKSUM;
            let whole = well_formed
                && id.bytes().chain(rest.bytes()).all(is_hex)
                && text.ends_with(&checksum(signed));
            whole.then(|| Self { id, sha256: sha256(text) })
        };
        Some(whole().ok_or(()))
    }

    /// The key whose secret this is.
    pub(super) fn find<'k>(&self, mut keys: impl Iterator<Item = &'k Key>, now: u64) -> Option<&'k Key> {
        let fits = |hashed: &Hashed| {
            hashed.id == self.id
                && hashed.until.is_none_or(|until| now < until)
                && bool::from(hashed.sha256.as_bytes().ct_eq(self.sha256.as_bytes()))
        };
        keys.find(|key| key.secrets.iter().any(fits))
    }
}

fn checksum(text: &str) -> String {
    let mut digits = sha256(text);
    digits.truncate(CHECKSUM);
    digits
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Key, Presented, Role, Secret};

    fn key(name: &str, secrets: &[&Secret]) -> Key {
        let secrets = secrets.iter().map(|secret| secret.hashed()).collect();
        Key { name: name.to_owned(), role: Role::Viewer, node: None, expires_at: None, secrets }
    }

    fn found<'k>(text: &str, keys: &'k [Key], now: u64) -> Option<&'k str> {
        Presented::read(text)?.ok()?.find(keys.iter(), now).map(|key| key.name.as_str())
    }

    #[test]
    fn a_secret_opens_its_own_key_and_no_other() {
        let secrets: Vec<Secret> = (0..3).map(|_| Secret::generate().unwrap()).collect();
        let keys = [key("a", &[&secrets[0]]), key("b", &[&secrets[1]])];
        assert_eq!(found(secrets[0].text(), &keys, 0), Some("a"));
        assert_eq!(found(secrets[1].text(), &keys, 0), Some("b"));
        assert_eq!(found(secrets[2].text(), &keys, 0), None);
        // What is stored opens nothing.
        let stored = serde_json::to_value(&keys[0]).unwrap()["secrets"][0].clone();
        for kept in [&stored["sha256"], &stored["id"]] {
            assert_eq!(found(kept.as_str().unwrap(), &keys, 0), None);
        }
        assert!(!format!("{:?}", secrets[0]).contains(&secrets[0].text()[8..]));
    }

    #[test]
    fn the_id_alone_opens_nothing() {
        let (mine, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let mut keys = [key("a", &[&mine])];
        keys[0].secrets[0].id = other.hashed().id;
        assert_eq!(found(other.text(), &keys, 0), None);
    }

    #[test]
    fn a_secret_that_was_replaced_ends_when_it_was_said() {
        let secret = Secret::generate().unwrap();
        let mut keys = [key("a", &[&secret])];
        keys[0].secrets[0].until = Some(100);
        assert_eq!(found(secret.text(), &keys, 99), Some("a"));
        assert_eq!(found(secret.text(), &keys, 100), None);
    }

    #[test]
    fn what_is_cut_off_or_mistyped_is_told_from_what_is_unknown() {
        let secret = Secret::generate().unwrap();
        let text = secret.text();
        assert!(text.is_ascii() && text.len() == 8 + 8 + 1 + 72, "{}", text.len());
        assert!(Presented::read(text).unwrap().is_ok());
        for at in 8..text.len() {
            let mut other = text.to_owned();
            other.replace_range(at..=at, if &text[at..=at] == "0" { "1" } else { "0" });
            assert!(Presented::read(&other).unwrap().is_err(), "{at}");
            assert!(Presented::read(&text[..at]).unwrap().is_err(), "{at}");
        }
        assert!(Presented::read(&text.to_uppercase()).is_none());
        assert!(Presented::read("eyJhbGciOiJSUzI1NiJ9.e30.AA").is_none());
    }

    #[test]
    fn a_key_is_for_one_node_or_for_those_that_begin_so() {
        let mut key = key("edge", &[]);
        assert!(!key.is_for_node("edge-1"), "a key without a node is for none");
        key.node = Some("edge-1".to_owned());
        assert!(key.is_for_node("edge-1") && !key.is_for_node("edge-12") && !key.is_for_node("edge-"));
        key.node = Some("edge-*".to_owned());
        assert!(key.is_for_node("edge-1") && key.is_for_node("edge-") && !key.is_for_node("edge"));
    }
}
