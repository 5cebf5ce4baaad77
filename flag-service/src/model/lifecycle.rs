//! The states of a module's life, in the order in which it goes through them. It does not know who finds
//! out in which state a module is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a module is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Its manifest was found.
    Discovered,
    /// Its manifest is accepted, and not registered yet.
    Validated,
    /// It is in the newest revision.
    Registered,
    /// Every connected Envoy has accepted a policy that has it.
    Active,
    /// Its manifest is refused: by the engine, or by an Envoy.
    Error,
    /// It was registered, and is no more.
    Unregistered,
}

impl Lifecycle {
    /// The word in the store and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Validated => "validated",
            Self::Registered => "registered",
            Self::Active => "active",
            Self::Error => "error",
            Self::Unregistered => "unregistered",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        use Lifecycle::{Active, Discovered, Error, Registered, Unregistered, Validated};
        let all = [Discovered, Validated, Registered, Active, Error, Unregistered];
        all.into_iter().find(|state| state.as_str() == word)
    }
}
