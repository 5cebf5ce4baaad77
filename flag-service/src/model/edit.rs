//! The difference between two states, resource by resource: what is written to the store and the
//! history, and what is undone by a revert.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Settings, State};

/// Longest text that is told, in bytes.
const SHORT: usize = 40;
/// Most names of one list that are told.
const NAMED: usize = 5;

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the model's own words")]
pub enum Kind {
    Flag,
    Module,
    Provider,
    Settings,
    Segment,
    OrganisationModule,
    Set,
    KeySet,
    Key,
    Manifest,
}

/// One resource, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
            Self::Segment => "segment",
            Self::OrganisationModule => "organisation_module",
            Self::Set => "set",
            Self::KeySet => "key_set",
            Self::Key => "key",
            Self::Manifest => "manifest",
        }
    }

    /// Whether documents may say it, and an export has it. A document lies about for all to read, so no key
    /// is in one; and what was applied, or fetched, or read from a folder, the service says itself.
    #[must_use]
    pub const fn is_applied(self) -> bool {
        match self {
            Self::Flag
            | Self::Module
            | Self::Provider
            | Self::Settings
            | Self::Segment
            | Self::OrganisationModule => true,
            Self::Set | Self::KeySet | Self::Key | Self::Manifest => false,
        }
    }

    /// The members by which one is told from another; empty where there is only one. Joined by `/`, they are
    /// its name.
    #[must_use]
    pub const fn name_members(self) -> &'static [&'static str] {
        match self {
            Self::Flag => &["key"],
            Self::Module | Self::Manifest => &["id"],
            Self::OrganisationModule => &["module", "organisation"],
            Self::Provider | Self::Segment | Self::Set | Self::KeySet | Self::Key => &["name"],
            Self::Settings => &[],
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Flag,
            Self::Module,
            Self::Provider,
            Self::Settings,
            Self::Segment,
            Self::OrganisationModule,
            Self::Set,
            Self::KeySet,
            Self::Key,
            Self::Manifest,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == word)
    }
}

impl State {
    /// Whether there is such a resource.
    #[must_use]
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Flag => self.flags.contains_key(name),
            Kind::Module => self.modules.contains_key(name),
            Kind::Provider => self.providers.contains_key(name),
            Kind::Segment => self.segments.contains_key(name),
            Kind::OrganisationModule => self.organisation_modules.contains_key(name),
            Kind::Settings => name.is_empty(),
            Kind::Set => self.sets.contains_key(name),
            Kind::KeySet => self.key_sets.contains_key(name),
            Kind::Key => self.keys.contains_key(name),
            Kind::Manifest => self.manifests.contains_key(name),
        }
    }

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
            Kind::Segment => set!(self.segments),
            Kind::OrganisationModule => set!(self.organisation_modules),
            Kind::Key => set!(self.keys),
            Kind::Settings => {
                self.settings = Arc::new(value.map(Settings::deserialize).transpose()?.unwrap_or_default());
            }
            Kind::Set => set!(self.sets),
            Kind::KeySet => set!(self.key_sets),
            Kind::Manifest => set!(self.manifests),
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
        compare!(Kind::Segment, segments);
        compare!(Kind::OrganisationModule, organisation_modules);
        compare!(Kind::Key, keys);
        edits.extend(edit(Kind::Settings, "", Some(&self.settings), Some(&next.settings))?);
        compare!(Kind::Set, sets);
        compare!(Kind::KeySet, key_sets);
        compare!(Kind::Manifest, manifests);
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

impl Edit {
    /// Whether it changes nothing but this member.
    #[must_use]
    pub fn leaves_all_but(&self, member: &str) -> bool {
        let (Some(Value::Object(before)), Some(Value::Object(after))) = (&self.before, &self.after) else {
            return false;
        };
        let others = |(name, _): &(&String, &Value)| name.as_str() != member;
        before.iter().filter(others).eq(after.iter().filter(others))
    }
}

/// In words: `flag new-checkout: percentage 25 → 50, organisations.on + acme`.
impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        let (Some(before @ Value::Object(_)), Some(after @ Value::Object(_))) = (&self.before, &self.after)
        else {
            return f.write_str(if self.after.is_some() { " added" } else { " removed" });
        };
        let mut words = Vec::new();
        describe("", before, after, &mut words);
        for (index, change) in words.iter().enumerate() {
            write!(f, "{} {change}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

/// Says what is different at this path. A list or object that is left out is an empty one.
fn describe(path: &str, before: &Value, after: &Value, words: &mut Vec<String>) {
    let empty = match if before.is_null() { after } else { before } {
        Value::Array(_) => json!([]),
        Value::Object(_) => json!({}),
        _ => Value::Null,
    };
    let [before, after] = [before, after].map(|value| if value.is_null() { &empty } else { value });
    if before == after {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        for member in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let path = if path.is_empty() { member.clone() } else { format!("{path}.{member}") };
            let [old, new] = [old, new].map(|members| members.get(member).unwrap_or(&Value::Null));
            describe(&path, old, new, words);
        }
    } else if let (Some(old), Some(new)) = (names(before), names(after)) {
        words.push(format!("{path} {}", difference(&old, &new)));
    } else if is_short(before) && is_short(after) {
        let [old, new] = [before, after].map(|value| match value {
            Value::Null => "none".to_owned(),
            value => value.to_string(),
        });
        words.push(format!("{path} {old} → {new}"));
    } else {
        words.push(format!("{path} changed"));
    }
}

/// The difference between two lists of names: `+ acme + wayne - stark`.
fn difference(before: &BTreeSet<&str>, after: &BTreeSet<&str>) -> String {
    let added = after.difference(before).map(|name| format!("+ {name}"));
    let removed = before.difference(after).map(|name| format!("- {name}"));
    let mut all: Vec<String> = added.chain(removed).collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    // The same names, in another order or another number of times.
    if all.is_empty() { "changed".to_owned() } else { all.join(" ") }
}

/// A list of short texts, as what it names.
fn names(value: &Value) -> Option<BTreeSet<&str>> {
    value.as_array()?.iter().map(|item| item.as_str().filter(|text| text.len() <= SHORT)).collect()
}

fn is_short(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => false,
        Value::String(text) => text.len() <= SHORT,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Edit, Kind};

    #[test]
    fn words_say_what_is_different() {
        let many: Vec<String> = (10..20).map(|number| format!("org-{number}")).collect();
        for (before, after, words) in [
            (json!({"percentage": 25}), json!({"percentage": 50}), "percentage 25 → 50"),
            (json!({}), json!({"organisations": {"on": ["acme"]}}), "organisations.on + acme"),
            (json!({"a": ["x", "y"], "b": 1}), json!({"a": ["y", "z"], "b": 2}), "a + z - x, b 1 → 2"),
            (json!({"a": ["x", "y"]}), json!({"a": ["y", "x"]}), "a changed"),
            (json!({"a": many}), json!({}), "a - org-10 - org-11 - org-12 - org-13 - org-14 and 5 more"),
            (json!({"by": "x"}), json!({}), "by \"x\" → none"),
            (json!({"text": "x".repeat(41)}), json!({"text": ""}), "text changed"),
            (json!({"jwks": {"keys": []}}), json!({"jwks": {"keys": [{"kid": "1"}]}}), "jwks.keys changed"),
        ] {
            let edit =
                Edit { kind: Kind::Flag, name: "f".to_owned(), before: Some(before), after: Some(after) };
            assert_eq!(edit.to_string(), format!("flag f: {words}"));
        }
        let edit =
            |before: Option<Value>, after| Edit { kind: Kind::Flag, name: "f".to_owned(), before, after };
        assert_eq!(edit(None, Some(json!({}))).to_string(), "flag f added");
        assert_eq!(edit(Some(json!({})), None).to_string(), "flag f removed");
    }
}
