//! Who may do what: credentials in, a principal out. It judges, and knows neither HTTP nor gRPC; the
//! time is told to it.

mod failures;
pub mod issuer;
pub mod key;
pub mod local;
pub mod right;

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rampart_engine::decision::Reason;

use crate::jwks::Keeper;
use crate::model::key_set::of_the_api;
use failures::Failures;
pub use issuer::Issuer;
pub use key::Key;
use key::Presented;
pub use local::LocalKey;
pub use right::{Right, Role};

/// Who asks, proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// For the history: `key/{name}`, or `{issuer's name}/{subject}` where it came with a token.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Why nobody is let in. Each says what to do; none tells a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// There is no credential.
    #[error("an API key or a token is asked for: send `Authorization: Bearer …`")]
    Missing,
    /// There is one that cannot be read.
    #[error("`Authorization` must be there once, as `Bearer` and an API key or a token")]
    Unreadable,
    /// What looks like an API key is cut off or mistyped.
    #[error("this is no whole API key: its checksum does not fit, so a part of it is missing or mistyped")]
    Mistyped,
    /// No key has this secret.
    #[error("no API key has this secret: it was revoked or rotated, or belongs to another flag service")]
    Unknown,
    /// The key is past its time.
    #[error("the API key `{0}` has expired: an admin rotates it, or makes another")]
    Expired(String),
    /// The engine does not believe the token.
    #[error("the token is not accepted ({}): the settings' `issuers` say whose tokens are", .0.as_str())]
    Token(Reason),
    /// The token names a key that is not among those that were fetched.
    #[error(
        "the token is not accepted (unknown_key): none of the keys that the issuer `{0}` of the settings publishes fits it"
    )]
    UnknownKey(String),
    /// The same, and whether there is such a key by now cannot be known.
    #[error(
        "the keys of the issuer `{0}` of the settings cannot be fetched, so this token cannot be judged: `rampart status` says why; an API key is taken meanwhile"
    )]
    Unfetched(String),
    /// The token is good, and its bearer has no role here.
    #[error("`{0}` has none of the roles that the settings' `issuers` name: ask an admin")]
    NoRole(String),
    /// Too many wrong credentials came from this address.
    #[error("too many wrong credentials from this address: wait a minute; a right API key is always taken")]
    TooMany,
}

/// What is known besides the newest revision: this process's own key, and who guessed wrong lately.
pub struct Access {
    keeper: Arc<Keeper>,
    local: Option<Key>,
    failures: Mutex<Failures>,
}

impl Access {
    /// Takes the local key, if there is one, and who has issuers' keys fetched.
    #[must_use]
    pub fn new(local: Option<&LocalKey>, keeper: Arc<Keeper>) -> Self {
        Self { keeper, local: local.map(|local| local.key.clone()), failures: Mutex::default() }
    }

    /// Who this is, at `now` (Unix seconds). `credential` is what stands behind `Bearer`.
    ///
    /// # Errors
    ///
    /// Why it is nobody.
    pub async fn judge(
        &self,
        credential: Option<&str>,
        address: Option<IpAddr>,
        now: u64,
    ) -> Result<Principal, Denial> {
        let credential = credential.ok_or(Denial::Missing)?;
        let judged = if credential.starts_with(key::PREFIX) {
            // A look-up costs nothing worth guarding, and whoever has a key must get in while somebody
            // behind the same address is guessing.
            let head = self.keeper.head();
            let known = head.state.keys.values().map(|key| &**key).chain(&self.local);
            find(known, credential, now)
                .map(|key| Principal { name: format!("key/{}", key.name), role: key.role })
        } else if self.failures().exhausted(address, now) {
            Err(Denial::TooMany)
        } else {
            self.judge_token(credential, now).await
        };
        let denial = match judged {
            // Without a role, the signature was good all the same: that is no guess. Nor need it be one while
            // nobody knows.
            Ok(_) | Err(Denial::NoRole(_) | Denial::Unfetched(_)) => return judged,
            Err(denial) => denial,
        };
        match self.failures().count(address, now) {
            Ordering::Less => Err(denial),
            beyond => {
                if beyond == Ordering::Equal {
                    let address = address.map(|address| address.to_string()).unwrap_or_default();
                    tracing::warn!(
                        address,
                        "too many wrong credentials; the last was refused because: {denial}"
                    );
                }
                Err(Denial::TooMany)
            }
        }
    }

    /// Judges a token, and again with newer keys where its own is not known: it may be new.
    async fn judge_token(&self, token: &str, now: u64) -> Result<Principal, Denial> {
        let issuer = match self.keeper.head().issuers.judge(token, now) {
            Err(Denial::UnknownKey(issuer)) => issuer,
            judged => return judged,
        };
        let is_newest = self.keeper.renew(&of_the_api(&issuer)).await;
        match self.keeper.head().issuers.judge(token, now) {
            Err(Denial::UnknownKey(issuer)) if !is_newest => Err(Denial::Unfetched(issuer)),
            judged => judged,
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        // Counts stay counts, whoever panicked.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key that a credential is of.
///
/// # Errors
///
/// When there is none, or it is past its time.
pub fn find<'k>(keys: impl Iterator<Item = &'k Key>, credential: &str, now: u64) -> Result<&'k Key, Denial> {
    let presented = Presented::read(credential).ok_or(Denial::Unknown)?.map_err(|()| Denial::Mistyped)?;
    let key = presented.find(keys, now).ok_or(Denial::Unknown)?;
    match key.expires_at {
        Some(end) if end <= now => Err(Denial::Expired(key.name.clone())),
        _ => Ok(key),
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// The credential among the values of `Authorization` that were sent (RFC 6750 §2.1); none where there are
/// none.
///
/// # Errors
///
/// When there are several, or one that is of another scheme or no text.
pub fn credential<'a>(mut sent: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a str>, Denial> {
    match (sent.next(), sent.next()) {
        (Some(_), Some(_)) => Err(Denial::Unreadable),
        (first, _) => first.map(bearer).transpose(),
    }
}

fn bearer(value: &[u8]) -> Result<&str, Denial> {
    let (scheme, credential) = value.split_at_checked(b"bearer ".len()).ok_or(Denial::Unreadable)?;
    let credential = std::str::from_utf8(credential).ok().map(str::trim_ascii);
    credential
        .filter(|credential| scheme.eq_ignore_ascii_case(b"bearer ") && !credential.is_empty())
        .ok_or(Denial::Unreadable)
}
