//! What the filter decides by: [`wire`] is what was sent, [`Policy`] is what it means.
//!
//! A [`Policy`] is valid by construction: every name in it leads somewhere, every key is sound, no
//! route is claimed twice. Compiling is pure, and collects every problem it finds.

pub(crate) mod compile;
mod compile_modules;
mod compile_providers;
mod effects;
mod upstream;
pub mod wire;

use alloc::{boxed::Box, string::String, string::ToString, vec::Vec};
use core::fmt;
use hashbrown::{HashMap, HashSet};

use crate::decision::Place;
use crate::enablement::Enablement;
use crate::flag::{FlagId, Flags};
use crate::identity::Identity;
use crate::jwks::PublicKey;
use crate::route::{RouteId, RouteTable};
use crate::tenant::Tenant;
use wire::{Algorithm, Auth, Claims, Outside, Requirement, TokenSource, WhenOff};

pub use compile_providers::MAX_KEYS;
pub use effects::Effect;
pub(crate) use upstream::IDEMPOTENT;

/// A compiled policy.
#[derive(Debug)]
pub struct Policy {
    /// The revision it was made from.
    pub revision: u64,
    /// The issuers whose tokens are believed.
    pub providers: Providers,
    pub(crate) outside: Outside,
    pub(crate) legacy_cluster: Option<Box<str>>,
    pub(crate) admin_roles: Vec<String>,
    /// The flags.
    pub flags: Flags,
    warnings: Vec<Problem>,
    modules: Vec<Module>,
    route_list: Vec<Route>,
    pub(crate) routes: RouteTable,
}

/// Index of a token source in [`Providers::sources`].
pub type SourceId = usize;

/// The issuers whose tokens are believed, by issuer, and whose tokens are not believed any more.
#[derive(Debug, Default)]
pub struct Providers {
    by_issuer: HashMap<Box<str>, Provider>,
    sources: Vec<TokenSource>,
    denied: Denied,
    key_generation: u64,
}

#[derive(Debug, Default)]
struct Denied {
    tokens: HashSet<Box<str>>,
    subjects: HashSet<Box<str>>,
    organisations: HashSet<Box<str>>,
}

/// One issuer.
#[derive(Debug)]
pub struct Provider {
    /// Unique name.
    pub name: Box<str>,
    /// Accepted audiences; none means any.
    pub audiences: Vec<Box<str>>,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Tolerated clock difference in seconds.
    pub leeway_seconds: u32,
    /// Where identities stand in the claims.
    pub claims: Claims,
    /// What else must stand in the token.
    pub required_claims: Vec<Requirement>,
    /// Where its tokens are taken from.
    pub sources: Vec<SourceId>,
    /// Whether the upstream gets to see its tokens.
    pub forward: bool,
    /// Keys, in the order of the set.
    pub keys: Vec<PublicKey>,
}

/// A module.
#[derive(Debug)]
pub struct Module {
    /// Unique name.
    pub id: Box<str>,
    /// The cluster that serves it.
    pub cluster: Box<str>,
    /// Which organisations it serves.
    pub enablement: Enablement,
    /// What it sees in place of everything up to the namespace, without a trailing slash.
    pub rewrite: Option<Box<str>>,
    /// What flags change about its requests.
    pub effects: Vec<Effect>,
    /// Whether requests may be mirrored whose method is not safe.
    pub mirror_unsafe: bool,
    /// What Envoy's load balancer is told to hash.
    pub hash_by: Option<wire::HashBy>,
}

/// A route of a module.
#[derive(Debug)]
pub struct Route {
    /// Index of the module.
    module: usize,
    /// The pattern, as written.
    pub pattern: Box<str>,
    /// Who may call: the route's own, or else the module's.
    pub auth: Auth,
    /// Where a request names the organisation that it is about.
    pub tenant: Option<Tenant>,
    /// Headers by which Envoy's router is told of timeouts and retries, where the module serves.
    pub headers: Vec<(&'static str, Box<str>)>,
    /// When requests are tried again whose method may be carried out twice, where that differs.
    pub retry_idempotent: Option<Box<str>>,
    /// The flags to ask, each once: the module's gates, the route's gates, what the module is told,
    /// and those of the effects.
    pub flags: Vec<Asked>,
    /// What flags change here, after the module's effects.
    pub effects: Vec<Effect>,
}

/// A flag that a route asks.
#[derive(Debug)]
pub struct Asked {
    /// The flag.
    pub flag: FlagId,
    /// What happens while it is off; none where it is no gate.
    pub when_off: Option<WhenOff>,
}

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The place, such as `flags[new-checkout].percentage`.
    pub field: String,
    /// What is wrong and what would be right, for people.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl Policy {
    /// Compiles a policy from JSON.
    ///
    /// # Errors
    /// The first thing that does not fit the format, or everything that does not make sense.
    pub fn from_json(json: &[u8]) -> Result<Self, Vec<Problem>> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let sent: wire::Policy = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| Problem::at(&error.path().to_string(), &error.into_inner().to_string()))?;
        deserializer.end().map_err(|error| Problem::at("", &error.to_string()))?;
        Self::compile(&sent)
    }

    /// Compiles a policy.
    ///
    /// # Errors
    /// Everything that does not make sense.
    pub fn compile(sent: &wire::Policy) -> Result<Self, Vec<Problem>> {
        compile::compile(sent)
    }

    /// What makes sense, and yet may not be what was meant.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    pub(crate) fn place(&self, id: RouteId) -> Option<Place<'_>> {
        let route = self.route_list.get(usize::try_from(id).ok()?)?;
        Some(Place { module: self.modules.get(route.module)?, route })
    }
}

impl Providers {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_issuer.is_empty()
    }

    /// Every place where some provider's tokens are taken from.
    #[must_use]
    pub fn sources(&self) -> &[TokenSource] {
        &self.sources
    }

    /// Whether a good token is refused all the same.
    #[must_use]
    pub fn denies(&self, token_id: Option<&str>, identity: &Identity) -> bool {
        let listed =
            |list: &HashSet<Box<str>>, name: Option<&str>| name.is_some_and(|name| list.contains(name));
        listed(&self.denied.tokens, token_id)
            || listed(&self.denied.subjects, identity.subject.as_deref())
            || listed(&self.denied.organisations, identity.organisation.as_deref())
    }

    /// The provider of this exact issuer.
    #[must_use]
    pub fn by_issuer(&self, issuer: &str) -> Option<&Provider> {
        self.by_issuer.get(issuer)
    }

    /// Differs whenever anything about providers or denials differs, and only then: what was verified
    /// under one generation says nothing about another.
    #[must_use]
    pub const fn key_generation(&self) -> u64 {
        self.key_generation
    }
}

impl Problem {
    fn at(field: &str, problem: &str) -> Vec<Self> {
        alloc::vec![Self { field: field.into(), problem: problem.into() }]
    }
}
