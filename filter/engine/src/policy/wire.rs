//! The policy as it is sent: JSON in the plugin configuration, YAML or JSON in a file.
//!
//! Shapes only. What they mean, and what is refused, is decided when [`Policy`](super::Policy)
//! is compiled. Unknown fields are refused everywhere (a misspelt `percentge` must not become
//! 0 %), except inside a JWK, where RFC 7517 §4 requires that they be ignored.

mod effect;
mod flag;
mod organisation;
mod provider;
mod route;

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

pub use effect::{Effect, Mirror, WhenOn};
pub use flag::{By, Exclusive, Flag, Named, Overrides, Prerequisite, Term, Variant};
pub use organisation::{EnabledFor, Organisation};
pub use provider::{
    Algorithm, BadKey, ClaimPath, Claims, Jwk, Jwks, JwksFrom, Provider, Requirement, TokenSource,
};
pub use route::{Retry, Rewrite, Tenant};

/// The format this engine reads; the `schema` field of every policy.
pub const SCHEMA: u32 = 1;

/// Everything the filter needs to decide, in one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Format of this document: 1.
    pub schema: u32,
    /// The flag service's revision, reported back by every request decided under it. 0 for a
    /// policy written by hand.
    #[serde(default)]
    pub revision: u64,
    /// What happens to paths outside `/api/v1/modules/`.
    #[serde(default)]
    pub default: Outside,
    /// Cluster that serves a request whose gate says `when_off: legacy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_cluster: Option<String>,
    /// Roles, any of which satisfies the level `admin`.
    #[serde(default = "default_admin_roles")]
    pub admin_roles: Vec<String>,
    /// Token issuers, at most one per `issuer`.
    #[serde(default)]
    pub providers: Vec<Provider>,
    /// Who is refused though their token is good.
    #[serde(default, skip_serializing_if = "Denied::is_empty")]
    pub denied: Denied,
    /// Feature flags, unique by `key`.
    #[serde(default)]
    pub flags: Vec<Flag>,
    /// Modules, unique by `id`.
    #[serde(default)]
    pub modules: Vec<Module>,
}

/// What happens to a path outside `/api/v1/modules/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// It passes untouched.
    #[default]
    Pass,
    /// It is refused with 404.
    Deny,
}

/// Tokens, subjects and organisations that are refused though their tokens are good.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Denied {
    /// By `jti`.
    pub tokens: Vec<String>,
    /// By subject.
    pub subjects: Vec<String>,
    /// By organisation.
    pub organisations: Vec<String>,
}

impl Denied {
    /// Whether nobody is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.subjects.is_empty() && self.organisations.is_empty()
    }
}

/// A module: who owns which routes of `/api/v1/modules/{version}/{namespace}/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = PolicyModule))]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Unique name, for people and metrics.
    pub id: String,
    /// First path segment after the prefix: `v1`, `v2`, …
    pub version: String,
    /// Second path segment after the prefix.
    pub namespace: String,
    /// Further namespaces, of the same version, that lead to the same routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Envoy cluster that serves the module.
    pub cluster: String,
    /// Who may call the module's routes, unless a route says otherwise.
    #[serde(default)]
    pub auth: Auth,
    /// Where requests name the organisation that they are about, unless a route says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// For whom it is enabled of whom `organisations` says nothing. A route of the level `none` knows of no
    /// organisation, and serves everyone.
    #[serde(default, skip_serializing_if = "EnabledFor::is_default")]
    pub enabled_for: EnabledFor,
    /// What is said of single organisations, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organisations: Vec<Organisation>,
    /// What the module sees in place of the public path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// How long the module may take to answer, unless a route says otherwise. 0: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// When requests are tried again, unless a route says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Flags that must be on for the module to serve; the first that is off decides.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// What else flags change about the module's requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// Whether requests are mirrored whose method is not safe: they may then be carried out twice.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mirror_unsafe: bool,
    /// What Envoy's load balancer may pick an endpoint by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_by: Option<HashBy>,
    /// Flags whose names are told to the module when they are on.
    #[serde(default)]
    pub flags: Vec<String>,
    /// The routes. Empty: everything below the namespace.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// What a load balancer that hashes (ring hash, Maglev) picks an endpoint by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HashBy {
    /// The organisation: its requests go to one endpoint, as long as that is healthy.
    Organisation,
}

/// One route of a module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Methods served. Empty: every method.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Path below the namespace: literal segments, `{name}` for one segment, `{*name}` last for
    /// the rest. The most specific pattern wins, segment by segment: literal, `{name}`, `{*name}`.
    pub path: String,
    /// Replaces the module's `auth` for this route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Replaces the module's `tenant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Replaces the module's `timeout_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Replaces the module's `retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Gates of this route, asked after the module's.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Effects on this route, after the module's: where both say something, these do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
}

/// Who may call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// What is asked of the caller.
    pub level: Level,
    /// All of these are required, at every level but `none`.
    pub permissions: Vec<String>,
    /// Any of these is required, at the level `role`.
    pub roles: Vec<String>,
}

/// What a caller must show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing; a token that is sent is not looked at.
    None,
    /// A valid token.
    #[default]
    Basic,
    /// A valid token with all listed permissions.
    Permission,
    /// A valid token with any listed role.
    Role,
    /// A valid token with any of the policy's `admin_roles`.
    Admin,
}

/// A flag in front of a module or route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Key of the flag that must be on.
    pub flag: String,
    /// What a request gets while it is off.
    pub when_off: WhenOff,
}

/// What a request gets at a gate whose flag is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WhenOff {
    /// It is served by the policy's `legacy_cluster`.
    Legacy,
    /// 404, as if the route did not exist.
    NotFound,
    /// 403.
    Forbidden,
}

fn default_admin_roles() -> Vec<String> {
    alloc::vec!["admin".into()]
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}
