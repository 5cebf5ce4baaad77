//! The one type of change: everything that alters what Envoys do.

use std::sync::Arc;

use rampart_engine::flag::Percentage;
use rampart_engine::policy::Problem;
use serde::Deserialize;
use serde_json::{Value, json};

use super::key_set::check_source;
use super::missing::suggestion;
use super::{
    Apply, Discovered, Edit, Flag, Key, KeySet, Kind, Module, Naming, OrganisationModule, Provider, Segment,
    Settings, State, keys,
};
use crate::access::key::Hashed;

/// A change, as it is submitted.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Sets a flag, new or not.
    PutFlag(Flag),
    /// Merges members into a flag (RFC 7396).
    PatchFlag {
        /// The flag's key.
        key: String,
        /// The members to set; `null` restores a member's default.
        patch: Value,
    },
    /// Switches a flag off, whatever else it says.
    KillFlag(String),
    /// Takes a kill back: the flag is again what it was.
    RestoreFlag(String),
    /// Kills every flag that is not there for safety, and remembers which.
    DisableAll,
    /// Takes back what [`Change::DisableAll`] has killed, and nobody has restored or killed since.
    RestoreAll,
    /// Removes a flag.
    DeleteFlag(String),
    /// Registers a module, new or not.
    PutModule(Box<Module>),
    /// Removes a module.
    DeleteModule {
        /// Its id.
        id: String,
        /// Whether it goes though others depend on it.
        force: bool,
    },
    /// Makes manifests of a folder true.
    Discover(Discovered),
    /// Sets a provider, new or not.
    PutProvider(Provider),
    /// Removes a provider.
    DeleteProvider(String),
    /// Keeps what was fetched for a provider.
    PutKeySet(KeySet),
    /// Sets a segment, new or not.
    PutSegment(Segment),
    /// Removes a segment.
    DeleteSegment(String),
    /// Sets what is said of an organisation and a module, new or not.
    PutOrganisationModule {
        /// The name under which that is kept.
        name: String,
        /// What is said.
        record: OrganisationModule,
    },
    /// Says nothing more of an organisation and a module.
    DeleteOrganisationModule(String),
    /// Sets the settings.
    PutSettings(Settings),
    /// Names somebody in flags, or no longer.
    Name(Naming),
    /// Sets many resources as one.
    Apply(Apply),
    /// Sets an API key, new or not.
    PutKey(Key),
    /// Gives an API key another secret.
    RotateKey {
        /// The key's name.
        name: String,
        /// The new secret.
        secret: Hashed,
        /// When the secrets so far end (Unix seconds).
        until: u64,
    },
    /// Removes an API key.
    DeleteKey(String),
    /// Goes back to what was true at this revision, but for API keys.
    Revert(u64),
    /// Takes one flag back to what it was at a revision.
    RevertFlag {
        /// The flag's key.
        key: String,
        /// The revision.
        to: u64,
    },
}

/// Why a change cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What is to be changed does not exist.
    #[error("there is no {} `{name}`{}", kind.as_str(), suggestion(near))]
    Missing {
        /// Kind of resource.
        kind: Kind,
        /// Its name.
        name: String,
        /// Names that were perhaps meant, the nearest first.
        near: Vec<String>,
    },
    /// What is sent is malformed.
    #[error("{field}: {problem}")]
    Malformed {
        /// Path of the field within the resource; empty for the whole.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Of what is sent, several things are malformed.
    #[error("what was sent is malformed")]
    Several(Vec<Problem>),
}

impl Change {
    /// The revision that the change goes back to.
    #[must_use]
    pub const fn back_to(&self) -> Option<u64> {
        match self {
            Self::Revert(to) | Self::RevertFlag { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// The resource that the change is about, for which field paths may be shortened; none where it is
    /// about all of them.
    #[must_use]
    pub fn subject(&self) -> Option<(Kind, &str)> {
        match self {
            Self::PutFlag(flag) => Some((Kind::Flag, &flag.key)),
            Self::PatchFlag { key, .. }
            | Self::KillFlag(key)
            | Self::RestoreFlag(key)
            | Self::DeleteFlag(key)
            | Self::RevertFlag { key, .. } => Some((Kind::Flag, key)),
            Self::PutModule(module) => Some((Kind::Module, &module.id)),
            Self::DeleteModule { id, .. } => Some((Kind::Module, id)),
            Self::PutProvider(provider) => Some((Kind::Provider, &provider.name)),
            Self::DeleteProvider(name) => Some((Kind::Provider, name)),
            Self::PutKeySet(set) => Some((Kind::KeySet, &set.name)),
            Self::PutSegment(segment) => Some((Kind::Segment, &segment.name)),
            Self::DeleteSegment(name) => Some((Kind::Segment, name)),
            Self::PutOrganisationModule { name, .. } | Self::DeleteOrganisationModule(name) => {
                Some((Kind::OrganisationModule, name))
            }
            Self::PutSettings(_) => Some((Kind::Settings, "")),
            Self::PutKey(key) => Some((Kind::Key, &key.name)),
            Self::RotateKey { name, .. } | Self::DeleteKey(name) => Some((Kind::Key, name)),
            Self::DisableAll
            | Self::RestoreAll
            | Self::Name(_)
            | Self::Apply(_)
            | Self::Discover(_)
            | Self::Revert(_) => None,
        }
    }

    /// The resources that are to blame where they collide with others.
    #[must_use]
    pub fn suspects(&self) -> Vec<(Kind, &str)> {
        match self {
            Self::Discover(Discovered { found, .. }) => {
                found.iter().map(|found| (Kind::Module, &*found.module.id)).collect()
            }
            _ => self.subject().into_iter().collect(),
        }
    }

    /// Whether it may leave modules without what they depend on.
    #[must_use]
    pub const fn is_forced(&self) -> bool {
        matches!(self, Self::DeleteModule { force: true, .. })
    }

    /// Whether it makes what is not there.
    #[must_use]
    pub const fn makes(&self) -> bool {
        matches!(
            self,
            Self::PutFlag(_)
                | Self::PutModule(_)
                | Self::PutProvider(_)
                | Self::PutSegment(_)
                | Self::PutOrganisationModule { .. }
                | Self::PutKey(_)
        )
    }

    /// Whether it does nothing but switch off: nothing may stand in its way.
    #[must_use]
    pub const fn is_kill(&self) -> bool {
        matches!(self, Self::KillFlag(_) | Self::DisableAll)
    }

    /// The state after the change. Whether it makes sense is the engine's to say. `since` is what
    /// was edited after the revision that the change goes [back to](Self::back_to), newest first; no
    /// other change looks at it.
    ///
    /// # Errors
    ///
    /// When there is nothing to change, or what is sent is malformed, or it would move
    /// organisations between buckets.
    pub fn apply(&self, state: &State, since: &[Edit]) -> Result<State, Refusal> {
        let mut next = state.clone();
        match self {
            Self::PutFlag(flag) => put_flag(&mut next, flag.clone())?,
            Self::PatchFlag { key, patch } => {
                // A mistyped key must not become a flag.
                let before = state.flags.get(key).ok_or_else(|| state.missing(Kind::Flag, key))?;
                let flag = patched(before, key, patch)?;
                keeps_buckets(Some(before), &flag)?;
                next.flags.insert(key.clone(), Arc::new(flag));
            }
            // Whoever kills or restores one flag by name means it: what is true of all does not touch it.
            Self::KillFlag(key) => {
                with_flag(&mut next, key, |flag| flag.killed = true)?;
                forget(&mut next, key);
            }
            Self::RestoreFlag(key) => {
                with_flag(&mut next, key, |flag| flag.killed = false)?;
                forget(&mut next, key);
            }
            Self::DisableAll => {
                let live = next.flags.values_mut().filter(|flag| !(flag.killed || flag.safety));
                let settings = Arc::make_mut(&mut next.settings);
                for flag in live {
                    Arc::make_mut(flag).killed = true;
                    settings.disabled.insert(flag.key.clone());
                }
            }
            Self::RestoreAll => {
                let disabled = std::mem::take(&mut Arc::make_mut(&mut next.settings).disabled);
                for key in &disabled {
                    if let Some(flag) = next.flags.get_mut(key) {
                        Arc::make_mut(flag).killed = false;
                    }
                }
            }
            Self::DeleteFlag(key) => {
                drop(next.flags.remove(key).ok_or_else(|| state.missing(Kind::Flag, key))?);
                forget(&mut next, key);
            }
            Self::PutModule(module) => put_module(&mut next, Module::clone(module))?,
            Self::DeleteModule { id, .. } => {
                drop(next.modules.remove(id).ok_or_else(|| state.missing(Kind::Module, id))?);
            }
            Self::PutProvider(provider) => put_provider(&mut next, provider.clone())?,
            Self::DeleteProvider(name) => {
                drop(next.providers.remove(name).ok_or_else(|| state.missing(Kind::Provider, name))?);
            }
            Self::PutKeySet(set) => next.put_key_set(set.clone())?,
            Self::PutSegment(segment) => {
                next.segments.insert(segment.name.clone(), Arc::new(segment.clone()));
            }
            Self::DeleteSegment(name) => {
                drop(next.segments.remove(name).ok_or_else(|| state.missing(Kind::Segment, name))?);
            }
            Self::PutOrganisationModule { record, .. } => {
                next.known_module(&record.module)?;
                next.put_organisation_module(record.clone())?;
            }
            Self::DeleteOrganisationModule(name) => {
                let gone = next.organisation_modules.remove(name);
                drop(gone.ok_or_else(|| state.missing(Kind::OrganisationModule, name))?);
            }
            Self::PutSettings(settings) => put_settings(&mut next, settings.clone()),
            Self::Name(naming) => naming.apply(&mut next)?,
            Self::Apply(apply) => next = apply.to(state)?,
            Self::Discover(discovered) => discovered.apply(&mut next)?,
            Self::PutKey(key) => keys::put(&mut next, key)?,
            Self::RotateKey { name, secret, until } => keys::rotate(&mut next, name, secret, *until)?,
            Self::DeleteKey(name) => {
                drop(next.keys.remove(name).ok_or_else(|| state.missing(Kind::Key, name))?);
            }
            // Keys that were revoked here, or withdrawn by their issuer, must not come back in passing. What was
            // read from a folder was read: taken back, it would be read again, and win.
            Self::Revert(_) => {
                let stays = |kind| matches!(kind, Kind::Key | Kind::KeySet | Kind::Manifest);
                take_back(&mut next, since.iter().filter(|edit| !stays(edit.kind)))?;
            }
            Self::RevertFlag { key, .. } => {
                let its = |edit: &&Edit| edit.kind == Kind::Flag && edit.name == *key;
                let edits: Vec<&Edit> = since.iter().filter(its).collect();
                if edits.is_empty() && !state.flags.contains_key(key) {
                    return Err(state.missing(Kind::Flag, key));
                }
                take_back(&mut next, edits)?;
                if next.flags.get(key).is_none_or(|flag| !flag.killed) {
                    forget(&mut next, key);
                }
            }
        }
        next.prune_key_sets();
        Ok(next)
    }
}

/// Leaves a flag out of what was disabled together.
pub(super) fn forget(state: &mut State, key: &str) {
    if state.settings.disabled.contains(key) {
        Arc::make_mut(&mut state.settings).disabled.remove(key);
    }
}

/// Sets the settings, but for what was disabled together: that is the service's to keep.
pub(super) fn put_settings(state: &mut State, settings: Settings) {
    let disabled = state.settings.disabled.clone();
    state.settings = Arc::new(Settings { disabled, ..settings });
}

/// Sets a flag, new or not.
pub(super) fn put_flag(state: &mut State, mut flag: Flag) -> Result<(), Refusal> {
    let before = state.flags.get(&flag.key);
    // A document written before the kill must not take it back in passing.
    flag.killed |= before.is_some_and(|before| before.killed);
    keeps_buckets(before, &flag)?;
    state.flags.insert(flag.key.clone(), Arc::new(flag));
    Ok(())
}

/// Registers a module, new or not.
pub(super) fn put_module(state: &mut State, module: Module) -> Result<(), Refusal> {
    module.check()?;
    super::upstream::check(&module)?;
    state.modules.insert(module.id.clone(), Arc::new(module));
    Ok(())
}

/// Sets a provider, new or not.
pub(super) fn put_provider(state: &mut State, provider: Provider) -> Result<(), Refusal> {
    check_source(&provider).map_err(|wrong| malformed(&wrong.field, &wrong.problem))?;
    state.providers.insert(provider.name.clone(), Arc::new(provider));
    Ok(())
}

/// Undoes edits, newest first.
fn take_back<'a>(state: &mut State, edits: impl IntoIterator<Item = &'a Edit>) -> Result<(), Refusal> {
    for edit in edits {
        state
            .set(edit.kind, &edit.name, edit.before.as_ref())
            .map_err(|error| malformed(&edit.name, &error.to_string()))?;
    }
    Ok(())
}

pub(super) fn malformed(field: &str, problem: &str) -> Refusal {
    Refusal::Malformed { field: field.to_owned(), problem: problem.to_owned() }
}

fn with_flag(state: &mut State, key: &str, edit: impl FnOnce(&mut Flag)) -> Result<(), Refusal> {
    let Some(flag) = state.flags.get_mut(key) else { return Err(state.missing(Kind::Flag, key)) };
    edit(Arc::make_mut(flag));
    Ok(())
}

/// Hashed otherwise, the same percentage would enrol other organisations: some would lose what they
/// have. At 0 and at 100 there is nobody to move.
fn keeps_buckets(before: Option<&Arc<Flag>>, after: &Flag) -> Result<(), Refusal> {
    let Some(before) =
        before.filter(|before| ![Percentage::ZERO, Percentage::FULL].contains(&before.percentage))
    else {
        return Ok(());
    };
    let part = |flag: &Flag| flag.exclusive_group.as_ref().map(|part| (part.name.clone(), part.from));
    let field = if before.bucketing != after.bucketing {
        "bucketing"
    } else if before.rollout_group != after.rollout_group {
        "rollout_group"
    } else if before.by != after.by {
        "by"
    } else if part(before) != part(after) {
        "exclusive_group"
    } else {
        return Ok(());
    };
    let problem = format!(
        "it decides which organisations are on, and the flag is at {} %: set it to 0 or 100 first",
        before.percentage
    );
    Err(malformed(field, &problem))
}

fn patched(flag: &Flag, key: &str, patch: &Value) -> Result<Flag, Refusal> {
    let unwritable = |error: serde_json::Error| malformed("", &error.to_string());
    let mut document = serde_json::to_value(flag).map_err(unwritable)?;
    if !patch.is_object() {
        return Err(malformed("", "a patch is an object of members to set"));
    }
    merge(&mut document, patch);
    let named = document.get("key").is_none_or(|named| named == key);
    if !named {
        return Err(malformed("key", "a flag's key cannot be changed"));
    }
    document["key"] = json!(key);
    read(document)
}

/// JSON Merge Patch, RFC 7396 §2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    if let Value::Object(target) = target {
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name).or_insert(Value::Null), value);
            }
        }
    }
}

/// Reads a resource from JSON whose name is in the path of the request.
///
/// # Errors
///
/// [`Refusal::Malformed`], with the field's path; also where the body names another resource.
pub(crate) fn named<T: for<'de> Deserialize<'de>>(
    mut body: Value,
    member: &str,
    name: &str,
) -> Result<T, Refusal> {
    let Value::Object(members) = &mut body else {
        return Err(malformed("", "an object is expected"));
    };
    if members.get(member).is_some_and(|given| given != name) {
        return Err(malformed(member, &format!("the path says `{name}`")));
    }
    members.insert(member.to_owned(), json!(name));
    read(body)
}

/// Reads a resource from JSON.
///
/// # Errors
///
/// [`Refusal::Malformed`], with the field's path.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let field = error.path().to_string();
        malformed(if field == "." { "" } else { &field }, &error.into_inner().to_string())
    })
}
