//! Naming one organisation or subject in many flags at once, or no longer: one change, whatever else the
//! flags say.

use std::collections::BTreeMap;
use std::sync::Arc;

use rampart_engine::policy::wire::{Flag, Named, Overrides, Term};

use super::{Kind, Refusal, State};

/// Who is named, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Naming {
    /// What the name is of.
    pub of: Whom,
    /// The name.
    pub name: String,
    /// By flag: named so, or no longer named.
    pub flags: BTreeMap<String, Option<Word>>,
}

/// What names are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Organisations.
    Organisation,
    /// Subjects.
    Subject,
}

/// How somebody is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// On or off.
    pub value: bool,
    /// The first second, since the Unix epoch, at which it no longer counts; none: it stands for good.
    pub until: Option<u64>,
}

impl Naming {
    pub(super) fn apply(&self, state: &mut State) -> Result<(), Refusal> {
        for (key, word) in &self.flags {
            let Some(flag) = state.flags.get_mut(key) else { return Err(state.missing(Kind::Flag, key)) };
            let names = self.of.names_mut(Arc::make_mut(flag));
            names.on.retain(|named| named.name() != self.name);
            names.off.retain(|named| named.name() != self.name);
            if let Some(Word { value, until }) = word {
                let name = self.name.clone();
                let list = if *value { &mut names.on } else { &mut names.off };
                list.push(match until {
                    Some(until) => Named::Until(Term { name, until: *until }),
                    None => Named::Always(name),
                });
            }
        }
        Ok(())
    }
}

impl Whom {
    /// The flag's names of this kind.
    #[must_use]
    pub const fn names(self, flag: &Flag) -> &Overrides {
        match self {
            Self::Organisation => &flag.organisations,
            Self::Subject => &flag.subjects,
        }
    }

    const fn names_mut(self, flag: &mut Flag) -> &mut Overrides {
        match self {
            Self::Organisation => &mut flag.organisations,
            Self::Subject => &mut flag.subjects,
        }
    }
}
