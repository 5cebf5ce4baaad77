//! A module, as its team describes it and as it is kept.

use rampart_engine::policy::wire::{
    self, Auth, Effect, EnabledFor, Gate, HashBy, Retry, Rewrite, Route, Tenant,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::Refusal;
use super::change::malformed;
use super::upstream::{
    CircuitBreakers, Fallback, Headers, HealthCheck, OutlierDetection, Protocol, RateLimit, Tls,
    TrafficPolicy,
};
use crate::published::{Endpoint, Upstream};

/// Longest text that is for people, in bytes.
const LONGEST: usize = 256;
/// What no module is called: the API has something else there.
const RESERVED: [&str; 4] = ["discover", "metrics", "openapi.json", "registration-history"];

/// A module. Its manifest, as the team writes it, is the same and may leave out what has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Module {
    /// Unique name, such as `analytics_core`.
    pub id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is for. Nothing depends on it.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What sort of module it is, in lower case, such as `analytics`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module_type: String,
    /// How far its team says it is. Whether it serves is another question.
    #[serde(default, skip_serializing_if = "Status::is_default")]
    pub status: Status,
    /// Its own version, such as `1.4.2`; the version of its paths is `version`.
    #[serde(default = "first_release", skip_serializing_if = "is_first_release")]
    pub release: String,
    /// Modules that it calls, by id: each must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// Where to read about it, as a URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub documentation: String,
    /// The version segment of its paths.
    #[serde(default = "first_version")]
    pub version: String,
    /// The namespace segment of its paths. Unset: the id with `-` for `_`, in lower case.
    #[serde(default)]
    pub namespace: String,
    /// Further namespaces, of the same version, that lead to the same routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Where it runs. Empty where `cluster` says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// The cluster that serves it, where that is not the flag service's to push but defined by whoever
    /// configures Envoy. The settings' `clusters` name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What is spoken there.
    #[serde(default, skip_serializing_if = "Protocol::is_default")]
    pub protocol: Protocol,
    /// How connections there are encrypted. Unset: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How long a connection may take to come about. Unset: 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u32>,
    /// How endpoints are asked whether they are well. Unset: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When an endpoint is left out for what it answered. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// How much each Envoy asks of all endpoints at once. Unset: as Envoy has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breakers: Option<CircuitBreakers>,
    /// How many requests it takes. Unset: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Headers that its endpoints see other than they were sent.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub request_headers: Headers,
    /// Headers that its callers see other than it sent them.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub response_headers: Headers,
    /// Who serves while no endpoint can. Unset: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Who may call its routes, unless a route says otherwise.
    #[serde(default)]
    pub auth: Auth,
    /// Where requests name the organisation that they are about, unless a route says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// For whom it is enabled of whom nothing is said.
    #[serde(default, skip_serializing_if = "EnabledFor::is_default")]
    pub enabled_for: EnabledFor,
    /// Whether it is told how it is set up for the caller's organisation, in `x-rampart-module-config`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tell_configuration: bool,
    /// What it sees in place of the public path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// How long it may take to answer, unless a route says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// When requests are tried again, unless a route says otherwise. Unset: never, but for a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Flags that must be on for it to serve.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// What else flags change about its requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// Whether requests are mirrored whose method is not safe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirror_unsafe: bool,
    /// What an endpoint is picked by. Unset: the one with the fewest open requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_by: Option<HashBy>,
    /// Flags it wants to be told of.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Its routes. Empty: everything below its namespace.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// How far along a module is, in its team's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Status {
    #[default]
    Development,
    Testing,
    Staging,
    Production,
    Deprecated,
    Retired,
}

impl Status {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Module {
    /// What is wrong with what nothing but people and the registry look at.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let refuse = |field: &str, problem: &str| Err(malformed(field, problem));
        if RESERVED.contains(&&*self.id) {
            return refuse(
                "id",
                "this is the name of something else below `/api/v1/module-management/modules/`",
            );
        }
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if self.module_type.len() > 64 || !self.module_type.chars().all(lower) {
            return refuse("module_type", "a type is up to 64 lower-case letters, digits, `_` and `-`");
        }
        if !is_release(&self.release) {
            return refuse(
                "release",
                "a module's own version is three numbers and perhaps more, such as 1.4.2-rc.1",
            );
        }
        for (field, text) in
            [("name", &self.name), ("author", &self.author), ("documentation", &self.documentation)]
        {
            if text.len() > LONGEST || text.contains(char::is_control) {
                return refuse(field, "at most 256 bytes, on one line");
            }
        }
        let link = &self.documentation;
        if !(link.is_empty() || link.starts_with("https://") || link.starts_with("http://")) {
            return refuse("documentation", "a link begins with https:// or http://");
        }
        for (index, id) in self.dependencies.iter().enumerate() {
            let twice = self.dependencies.iter().take(index).any(|known| known == id);
            if *id == self.id || twice {
                return refuse(&format!("dependencies[{index}]"), "another module's id, once");
            }
        }
        Ok(())
    }

    /// What people call it: its name, or else its id.
    #[must_use]
    pub fn title(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }

    /// The cluster's name: made from what the module is, so that it never passes to another, or the one
    /// that somebody else defines.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.cluster.clone().unwrap_or_else(|| format!("module/{}/{}", self.id, self.version))
    }

    /// The module's id and version, when the cluster is a module's, or that of its own endpoints alone.
    #[must_use]
    pub fn of_cluster(cluster: &str) -> Option<(&str, &str)> {
        let (id, version) = cluster.strip_prefix("module/")?.split_once('/')?;
        Some((id, version.strip_suffix(Upstream::ENDPOINTS).unwrap_or(version)))
    }

    /// Its cluster, and what the manifest says of it.
    pub(super) fn upstream(&self) -> Upstream {
        Upstream {
            cluster: self.cluster(),
            endpoints: self.endpoints.clone(),
            hashed: self.hash_by.is_some(),
            fallback: self.fallback.map(|fallback| fallback.cluster().to_owned()),
            traffic: TrafficPolicy {
                connect_timeout_ms: self.connect_timeout_ms,
                protocol: self.protocol,
                tls: Tls::of(self),
                health_check: self.health_check.clone(),
                outlier_detection: self.outlier_detection.clone(),
                circuit_breakers: self.circuit_breakers.clone(),
                request_headers: self.request_headers.clone(),
                response_headers: self.response_headers.clone(),
            },
        }
    }

    /// The module as filters know it, with what is said of its organisations.
    pub(super) fn to_wire(&self, organisations: Vec<wire::Organisation>) -> wire::Module {
        wire::Module {
            id: self.id.clone(),
            version: self.version.clone(),
            namespace: self.namespace.clone(),
            aliases: self.aliases.clone(),
            cluster: self.cluster(),
            auth: self.auth.clone(),
            tenant: self.tenant.clone(),
            enabled_for: self.enabled_for,
            organisations,
            rewrite: self.rewrite.clone(),
            timeout_ms: self.timeout_ms,
            retry: self.retry.clone().or_else(|| self.fallback.map(Fallback::retry)),
            gates: self.gates.clone(),
            effects: self.effects.clone(),
            mirror_unsafe: self.mirror_unsafe,
            hash_by: self.hash_by,
            flags: self.flags.clone(),
            routes: self.routes.clone(),
        }
    }
}

// What is unset is filled in once, when a manifest is read: `remote` derives the reading and writing of
// the fields, and these two are around it.
impl<'de> Deserialize<'de> for Module {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut module = Self::deserialize(deserializer)?;
        if module.namespace.is_empty() {
            module.namespace = module.id.to_ascii_lowercase().replace('_', "-");
        }
        Ok(module)
    }
}

impl Serialize for Module {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

fn first_version() -> String {
    "v1".to_owned()
}

fn first_release() -> String {
    "1.0.0".to_owned()
}

fn is_first_release(release: &str) -> bool {
    release == "1.0.0"
}

/// Semantic Versioning 2.0: three numbers, then perhaps `-` and `+` with identifiers.
fn is_release(release: &str) -> bool {
    let (core, rest) = release.split_at(release.find(['-', '+']).unwrap_or(release.len()));
    let numbers: Vec<&str> = core.split('.').collect();
    let number =
        |text: &&str| (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let further = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    numbers.len() == 3 && numbers.iter().all(number) && rest.len() <= 64 && rest.chars().all(further)
}
