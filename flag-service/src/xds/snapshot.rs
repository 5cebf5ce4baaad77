//! One revision as xDS resources: immutable, shared by every stream, versioned by content. It
//! knows neither who asks for it nor how it was made.

use std::collections::BTreeMap;
use std::hash::Hasher;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use siphasher::sip128::{Hasher128, SipHasher13};

/// The resource types served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// SDS.
    Secret,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// RTDS.
    Runtime,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// ECDS.
    Extension,
}

impl Kind {
    /// Every type, in the order in which a change is pushed: what is referred to goes before what
    /// refers to it, and the policy, which names clusters, goes last.
    pub const PUSH_ORDER: [Self; 7] = [
        Self::Secret,
        Self::Cluster,
        Self::Endpoints,
        Self::Runtime,
        Self::Listener,
        Self::Route,
        Self::Extension,
    ];

    /// The types that name clusters: of use only once those have their endpoints, and the reason
    /// why a cluster may not go at once.
    pub const NAMES_CLUSTERS: [Self; 3] = [Self::Listener, Self::Route, Self::Extension];

    /// Whether it is of use only once all clusters have their endpoints.
    #[must_use]
    pub fn needs_endpoints(self) -> bool {
        Self::NAMES_CLUSTERS.contains(&self)
    }

    /// The type URL as Envoy writes it in a request.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        }
    }

    /// The type with this URL, when it is served here.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::PUSH_ORDER.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Short name for people: `sds`, `cds`, `eds`, `rtds`, `lds`, `rds`, `ecds`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "sds",
            Self::Cluster => "cds",
            Self::Endpoints => "eds",
            Self::Runtime => "rtds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::Extension => "ecds",
        }
    }
}

/// A named resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Hash of the body, hexadecimal: equal in every process that builds the same bytes, so a
    /// client that reconnects to another process is sent nothing it has.
    pub version: String,
    /// The message, packed in an `Any` and encoded: once, for all streams.
    pub body: Bytes,
}

impl Resource {
    /// A resource versioned by its bytes.
    #[must_use]
    pub fn new(body: &Any) -> Self {
        let mut hash = Hash::default();
        hash.add(&body.type_url);
        hash.add(&body.value);
        Self { version: hash.finish(), body: body.encode_to_vec().into() }
    }
}

/// All resources of one revision.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    revision: u64,
    resources: BTreeMap<Kind, BTreeMap<String, Resource>>,
    versions: BTreeMap<Kind, String>,
    told_as: Option<String>,
}

impl Snapshot {
    /// The snapshot of `revision`, from resources by type and name.
    #[must_use]
    pub fn new(revision: u64, resources: BTreeMap<Kind, BTreeMap<String, Resource>>) -> Self {
        let version = |kind| version_of(resources.get(&kind).into_iter().flatten());
        let versions = Kind::PUSH_ORDER.into_iter().map(|kind| (kind, version(kind))).collect();
        Self { revision, resources, versions, told_as: None }
    }

    /// The same, told under a version that somebody else chose, as a conformance suite does. What a
    /// client lacks is still found out by content.
    #[must_use]
    pub fn told_as(self, version: &str) -> Self {
        Self { told_as: Some(version.to_owned()), ..self }
    }

    /// What clients are told in place of that version.
    pub(super) fn told<'a>(&'a self, version: &'a str) -> &'a str {
        self.told_as.as_deref().unwrap_or(version)
    }

    /// The store's revision.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Hash over all resources of a type.
    #[must_use]
    pub fn version(&self, kind: Kind) -> &str {
        self.versions.get(&kind).map_or("", String::as_str)
    }

    /// The resource of that name.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Resource> {
        self.resources.get(&kind)?.get(name)
    }

    /// All resources of a type, by name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = (&String, &Resource)> {
        self.resources.get(&kind).into_iter().flatten()
    }

    /// This snapshot, together with more resources; one that it has itself stays as it is.
    #[must_use]
    pub fn with<'a>(&self, more: impl IntoIterator<Item = (Kind, &'a str, &'a Resource)>) -> Self {
        let mut resources = self.resources.clone();
        for (kind, name, resource) in more {
            let of_kind = resources.entry(kind).or_default();
            of_kind.entry(name.to_owned()).or_insert_with(|| resource.clone());
        }
        Self { told_as: self.told_as.clone(), ..Self::new(self.revision, resources) }
    }
}

/// Hash over names and versions: the version of a set of resources, whatever the process.
pub fn version_of<'a>(resources: impl IntoIterator<Item = (&'a String, &'a Resource)>) -> String {
    let mut hash = Hash::default();
    for (name, resource) in resources {
        hash.add(name);
        hash.add(&resource.version);
    }
    hash.finish()
}

/// SipHash with a fixed key: stable across processes and releases. Nobody gains by a collision;
/// what is hashed comes from operators.
#[derive(Default)]
struct Hash(SipHasher13);

impl Hash {
    /// Adds one part, with its length, so that neighbouring parts cannot run into each other.
    fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.write(&(part.len() as u64).to_le_bytes());
        self.0.write(part);
    }

    fn finish(&self) -> String {
        format!("{:032x}", self.0.finish128().as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{resource, snapshot};
    use super::{Kind, Resource};

    #[test]
    fn versions_depend_on_content_alone() {
        let one = snapshot(1, &[(Kind::Cluster, "a", "x"), (Kind::Cluster, "b", "y")]);
        let same = snapshot(2, &[(Kind::Cluster, "b", "y"), (Kind::Cluster, "a", "x")]);
        let other = snapshot(2, &[(Kind::Cluster, "a", "x"), (Kind::Cluster, "b", "z")]);
        assert_eq!(one.version(Kind::Cluster), same.version(Kind::Cluster));
        assert_ne!(one.version(Kind::Cluster), other.version(Kind::Cluster));
        assert_ne!(
            snapshot(1, &[(Kind::Cluster, "ab", "")]).version(Kind::Cluster),
            snapshot(1, &[(Kind::Cluster, "a", "b")]).version(Kind::Cluster),
        );
    }

    /// The value itself is pinned: were it to change with a release, an upgrade of the flag
    /// service would resend everything to every Envoy.
    #[test]
    fn versions_are_the_same_in_every_process() {
        let resource: Resource = resource("x");
        assert_eq!(resource.version, "6051aaa5eab093aad99ba038f213646f");
    }

    #[test]
    fn what_is_added_replaces_nothing() {
        let now = snapshot(2, &[(Kind::Cluster, "a", "new")]);
        let (old, gone) = (resource("old"), resource("gone"));
        let both = now.with([(Kind::Cluster, "a", &old), (Kind::Endpoints, "b", &gone)]);
        assert_eq!((both.revision(), both.get(Kind::Endpoints, "b")), (2, Some(&gone)));
        assert_eq!(both.get(Kind::Cluster, "a"), Some(&resource("new")));
        assert_ne!(both.version(Kind::Endpoints), now.version(Kind::Endpoints));
    }
}
