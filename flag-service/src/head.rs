//! What is true at one revision, and what is odd about it.

use std::collections::HashSet;
use std::sync::Arc;

use rampart_engine::flag::Percentage;
use rampart_engine::policy::{Policy, Problem, wire};

use crate::access::issuer::Issuers;
use crate::model::{Flag, Kind, State, tag};
use crate::published::Published;

/// The flag that, while it is on for everybody, has a change refused for what would be a warning.
pub const STRICT: &str = "FLAG_VALIDATION_ENABLED";
/// The flag that, where it is there and off, keeps modules as they are.
pub const REGISTRY: &str = "module_registry_enabled";

/// What is true at one revision.
#[derive(Debug)]
pub struct Head {
    /// The revision.
    pub revision: u64,
    /// What operators set up.
    pub state: State,
    /// The same, as filters decide by it.
    pub policy: Policy,
    /// The same, as it is sent.
    pub published: Arc<Published>,
    /// What is named and not there: clusters that nobody provides, segments. No change may add one; a
    /// database written before that was asked may hold some.
    pub unprovided: Vec<Problem>,
    /// Whose tokens the API takes.
    pub issuers: Issuers,
    /// Modules that others depend on, and that are not there. A change adds one only where it is forced.
    pub unmet: Vec<Problem>,
}

impl Head {
    /// Compiles a state. Of two resources that collide, the engine blames the later; the `suspects`,
    /// those being written, are the ones to blame.
    ///
    /// # Errors
    ///
    /// Everything that the engine refuses.
    pub fn new(revision: u64, state: State, suspects: &[(Kind, &str)]) -> Result<Self, Vec<Problem>> {
        let published = Arc::new(state.published(revision));
        let policy = Policy::compile(&published.policy)
            .map_err(|problems| blame(published.policy.clone(), suspects).unwrap_or(problems))?;
        let issuers = Issuers::compile(&state)?;
        let mut unprovided = state.unprovided(&published);
        unprovided.extend(state.missing_fallbacks());
        unprovided.extend(state.unknown_segments());
        let unmet = state.unmet();
        Ok(Self { revision, state, policy, published, unprovided, unmet, issuers })
    }

    /// What a change makes of this: judged for what it adds.
    ///
    /// # Errors
    ///
    /// Everything that the engine refuses; or else every cluster that effects name, nobody provides,
    /// and was not named before, every module that is newly missed, unless the change is `forced`, and,
    /// where [`STRICT`] is on, every new warning.
    pub fn followed_by(
        &self,
        revision: u64,
        state: State,
        suspects: &[(Kind, &str)],
        forced: bool,
    ) -> Result<Self, Vec<Problem>> {
        let next = Self::new(revision, state, suspects)?;
        let added = next.unprovided.iter().filter(|problem| !self.unprovided.contains(problem));
        let missed = next.unmet.iter().filter(|problem| !forced && !self.unmet.contains(problem));
        let mut added: Vec<Problem> = added.chain(missed).cloned().collect();
        if next.is_strict() {
            let known: HashSet<&Problem> = self.policy.warnings().iter().collect();
            let new = next.policy.warnings().iter().filter(|warning| !known.contains(warning));
            added.extend(new.map(|Problem { field, problem }| Problem {
                field: field.clone(),
                problem: format!("{problem} (refused, since `{STRICT}` is on)"),
            }));
        }
        if added.is_empty() { Ok(next) } else { Err(added) }
    }

    /// The entity tag of a resource, or else of the policy as a whole: its revision.
    #[must_use]
    pub fn tag(&self, subject: Option<(Kind, &str)>) -> String {
        subject.map_or_else(|| self.revision.to_string(), |(kind, name)| tag(&self.state.value(kind, name)))
    }

    /// Whether what may not be meant is refused.
    fn is_strict(&self) -> bool {
        let on = |flag: &Flag| flag.enabled && !flag.killed && flag.percentage == Percentage::FULL;
        self.published.policy.flags.iter().any(|flag| flag.key == STRICT && on(flag))
    }

    /// Whether modules are not to be registered or removed, since [`REGISTRY`] is there and off.
    #[must_use]
    pub fn is_registry_off(&self) -> bool {
        let off = |flag: &Arc<Flag>| !flag.enabled || flag.killed || flag.percentage == Percentage::ZERO;
        self.state.flags.get(REGISTRY).is_some_and(off)
    }

    /// What holds, and yet may not be what was meant.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.policy.warnings().iter().chain(&self.unprovided).chain(&self.unmet)
    }

    /// The warnings that were not there before.
    #[must_use]
    pub fn warnings_since(&self, before: &Self) -> Vec<Problem> {
        let known: HashSet<&Problem> = before.warnings().collect();
        let new = self.warnings().filter(|warning| !known.contains(warning));
        new.cloned().collect()
    }
}

/// The problems as the engine tells them when it reads the suspects last.
fn blame(mut policy: wire::Policy, suspects: &[(Kind, &str)]) -> Option<Vec<Problem>> {
    let suspects: HashSet<&(Kind, &str)> = suspects.iter().collect();
    if suspects.is_empty() {
        return None;
    }
    policy.flags.sort_by_key(|flag| suspects.contains(&(Kind::Flag, &*flag.key)));
    policy.modules.sort_by_key(|module| suspects.contains(&(Kind::Module, &*module.id)));
    policy.providers.sort_by_key(|provider| suspects.contains(&(Kind::Provider, &*provider.name)));
    Policy::compile(&policy).err()
}
