//! What operators and module teams have set up: flags, modules, providers, settings and API keys, and how
//! a policy follows from them. It knows neither where this is stored nor how it is sent.

mod apply;
pub(crate) mod change;
mod clusters;
mod discovered;
mod edit;
pub(crate) mod key_set;
mod keys;
mod lifecycle;
pub(crate) mod manifest;
mod missing;
mod module;
mod naming;
mod organisation_module;
mod segment;
mod tag;
pub mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rampart_engine::policy::wire;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use apply::{Apply, Set};
pub use change::{Change, Refusal};
pub use discovered::{Discovered, Found, Manifest};
pub use edit::{Edit, Kind};
pub use key_set::{FetchedKey, KeySet};
pub use lifecycle::Lifecycle;
pub use module::{Module, Status};
pub use naming::{Naming, Whom, Word};
pub use organisation_module::OrganisationModule;
pub use segment::Segment;
pub use tag::tag;
/// A flag is stored as it is sent.
pub use wire::Flag;
/// A provider is stored as it is sent.
pub use wire::Provider;

/// An API key is stored with the hashes of its secrets.
pub use crate::access::Key;
use crate::access::{Issuer, Role};
use crate::published::{Endpoint, Published, Upstream};
use upstream::TrafficPolicy;

/// The cluster of the application that modules replace.
pub(crate) const LEGACY: &str = "legacy";

/// Everything, at one revision. Cheap to clone: resources are shared until they change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// By key.
    pub flags: BTreeMap<String, Arc<Flag>>,
    /// By id.
    pub modules: BTreeMap<String, Arc<Module>>,
    /// By name.
    pub providers: BTreeMap<String, Arc<Provider>>,
    /// By name.
    pub keys: BTreeMap<String, Arc<Key>>,
    /// What there is one of.
    pub settings: Arc<Settings>,
    /// By module and organisation: see [`OrganisationModule::name`].
    pub organisation_modules: BTreeMap<String, Arc<OrganisationModule>>,
    /// By name.
    pub segments: BTreeMap<String, Arc<Segment>>,
    /// What was applied under which name. No filter knows of it.
    pub sets: BTreeMap<String, Arc<Set>>,
    /// What was fetched, by whose it is: see [`State::issuer`].
    pub key_sets: BTreeMap<String, Arc<KeySet>>,
    /// From which file a module was read, by the module's id. No filter knows of it.
    pub manifests: BTreeMap<String, Arc<Manifest>>,
}

/// What there is one of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What happens to paths outside the modules'.
    pub default: wire::Outside,
    /// Roles, any of which satisfies the auth level `admin`.
    pub admin_roles: Vec<String>,
    /// Where the application runs that serves what modules do not. Empty: there is none.
    pub legacy: Vec<Endpoint>,
    /// Clusters that Envoy has from elsewhere, so that modules and effects may name them: nobody else can
    /// know. `legacy` among them serves what modules do not, where `legacy` names no place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Who is refused though their token is good.
    #[serde(skip_serializing_if = "wire::Denied::is_empty")]
    pub denied: wire::Denied,
    /// Flags that were killed because everything was disabled, for when it is restored. It is kept by the
    /// service: what a document says of it does not count.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub disabled: BTreeSet<String>,
    /// Whose tokens the API takes, besides API keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<Issuer>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default: wire::Outside::Pass,
            admin_roles: vec!["admin".to_owned()],
            legacy: Vec::new(),
            clusters: Vec::new(),
            denied: wire::Denied::default(),
            disabled: BTreeSet::new(),
            issuers: Vec::new(),
        }
    }
}

impl State {
    /// The policy and the clusters that follow from this state.
    #[must_use]
    pub fn published(&self, revision: u64) -> Published {
        let pushed = !self.settings.legacy.is_empty();
        let legacy = pushed || self.settings.clusters.iter().any(|cluster| cluster == LEGACY);
        let legacy = legacy.then(|| LEGACY.to_owned());
        let policy = wire::Policy {
            schema: wire::SCHEMA,
            revision,
            default: self.settings.default,
            legacy_cluster: legacy.clone(),
            admin_roles: self.settings.admin_roles.clone(),
            providers: (self.providers.iter())
                .map(|(name, provider)| self.with_keys(name, provider))
                .collect(),
            denied: self.settings.denied.clone(),
            // What a flag is for is of no use to a filter, and every worker would keep it.
            flags: self
                .flags
                .values()
                .map(|flag| Flag {
                    description: String::new(),
                    safety: false,
                    organisations: self.resolved(&flag.organisations),
                    ..Flag::clone(flag)
                })
                .collect(),
            modules: self.modules.values().map(|module| module.to_wire(self.enablements(module))).collect(),
        };
        let modules = self.modules.values().filter(|module| module.cluster.is_none());
        let modules = modules.map(|module| module.upstream());
        let legacy = legacy.filter(|_| pushed).map(|cluster| Upstream {
            cluster,
            endpoints: self.settings.legacy.clone(),
            hashed: false,
            fallback: None,
            traffic: TrafficPolicy::default(),
        });
        let mut upstreams: Vec<Upstream> = modules.chain(legacy).collect();
        upstreams.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        let limited = self.modules.values();
        let limits = limited.filter_map(|module| Some((module.id.clone(), module.rate_limit.clone()?)));
        let limits = limits.collect();
        let keys = self.keys.values().filter(|key| key.role == Role::Envoy).cloned().collect();
        Published { revision, policy, upstreams, limits, keys }
    }
}
