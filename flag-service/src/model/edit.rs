//! The difference between two states, resource by resource: what is written to the store and the
//! history, and what is undone by a revert.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Settings, State};

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the model's own words")]
pub enum Kind {
    Flag,
    Module,
    Provider,
    Settings,
}

/// One resource, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// What kind of resource it is.
    pub kind: Kind,
    /// Its key, id or name; empty for the settings.
    pub name: String,
    /// What it was; none where it is new.
    pub before: Option<Value>,
    /// What it is; none where it is gone.
    pub after: Option<Value>,
}

impl Kind {
    /// The word in the store and in sentences.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Module => "module",
            Self::Provider => "provider",
            Self::Settings => "settings",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Flag, Self::Module, Self::Provider, Self::Settings]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

impl State {
    /// Sets or removes one resource.
    ///
    /// # Errors
    ///
    /// When the value does not fit its kind.
    pub fn set(&mut self, kind: Kind, name: &str, value: Option<&Value>) -> Result<(), serde_json::Error> {
        macro_rules! set {
            ($map:expr) => {
                match value {
                    Some(value) => {
                        drop($map.insert(name.to_owned(), Arc::new(Deserialize::deserialize(value)?)))
                    }
                    None => drop($map.remove(name)),
                }
            };
        }
        match kind {
            Kind::Flag => set!(self.flags),
            Kind::Module => set!(self.modules),
            Kind::Provider => set!(self.providers),
            Kind::Settings => {
                self.settings = Arc::new(value.map(Settings::deserialize).transpose()?.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// What must be edited to get from here to `next`.
    ///
    /// # Errors
    ///
    /// When a resource cannot be written as JSON, which none can be.
    pub fn edits(&self, next: &Self) -> Result<Vec<Edit>, serde_json::Error> {
        let mut edits = Vec::new();
        macro_rules! compare {
            ($kind:expr, $map:ident) => {
                let names: BTreeSet<&String> = self.$map.keys().chain(next.$map.keys()).collect();
                for name in names {
                    edits.extend(edit($kind, name, self.$map.get(name), next.$map.get(name))?);
                }
            };
        }
        compare!(Kind::Flag, flags);
        compare!(Kind::Module, modules);
        compare!(Kind::Provider, providers);
        edits.extend(edit(Kind::Settings, "", Some(&self.settings), Some(&next.settings))?);
        Ok(edits)
    }
}

fn edit<T: PartialEq + Serialize>(
    kind: Kind,
    name: &str,
    before: Option<&Arc<T>>,
    after: Option<&Arc<T>>,
) -> Result<Option<Edit>, serde_json::Error> {
    let same = match (before, after) {
        (Some(before), Some(after)) => Arc::ptr_eq(before, after) || before == after,
        _ => false,
    };
    if same {
        return Ok(None);
    }
    let json = |value: Option<&Arc<T>>| value.map(|value| serde_json::to_value(&**value)).transpose();
    Ok(Some(Edit { kind, name: name.to_owned(), before: json(before)?, after: json(after)? }))
}

/// In words: `flag new-checkout: percentage 25 → 50`.
impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        let (Some(Value::Object(before)), Some(Value::Object(after))) = (&self.before, &self.after) else {
            return f.write_str(if self.after.is_some() { " added" } else { " removed" });
        };
        let members: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = members.into_iter().filter(|member| before.get(*member) != after.get(*member));
        for (index, member) in changed.enumerate() {
            f.write_str(if index == 0 { ": " } else { ", " })?;
            let (before, after) = (before.get(member), after.get(member));
            match (before.filter(|value| is_short(value)), after.filter(|value| is_short(value))) {
                (Some(before), Some(after)) => write!(f, "{member} {before} → {after}")?,
                _ => write!(f, "{member} changed")?,
            }
        }
        Ok(())
    }
}

fn is_short(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => false,
        Value::String(text) => text.len() <= 40,
        _ => true,
    }
}
