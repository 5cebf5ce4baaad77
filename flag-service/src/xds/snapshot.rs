//! One revision as xDS resources: immutable, shared by every stream, versioned by content. It
//! knows neither who asks for it nor how it was made.

use std::collections::BTreeMap;
use std::hash::Hasher;

use envoy_types::pb::google::protobuf::Any;
use siphasher::sip128::{Hasher128, SipHasher13};

/// The resource types served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
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
    pub const PUSH_ORDER: [Self; 5] =
        [Self::Cluster, Self::Endpoints, Self::Listener, Self::Route, Self::Extension];

    /// Whether it is of use only once all clusters have their endpoints.
    #[must_use]
    pub const fn needs_endpoints(self) -> bool {
        matches!(self, Self::Listener | Self::Route | Self::Extension)
    }

    /// The type URL as Envoy writes it in a request.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
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

    /// Short name for people: `cds`, `eds`, `lds`, `rds`, `ecds`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoints => "eds",
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
    /// The message.
    pub body: Any,
}

impl Resource {
    /// A resource versioned by its bytes.
    #[must_use]
    pub fn new(body: Any) -> Self {
        let mut hash = Hash::default();
        hash.add(&body.type_url);
        hash.add(&body.value);
        Self { version: hash.finish(), body }
    }
}

/// All resources of one revision.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    revision: u64,
    resources: BTreeMap<Kind, BTreeMap<String, Resource>>,
    versions: BTreeMap<Kind, String>,
}

impl Snapshot {
    /// The snapshot of `revision`, from resources by type and name.
    #[must_use]
    pub fn new(revision: u64, resources: BTreeMap<Kind, BTreeMap<String, Resource>>) -> Self {
        let version = |kind| version_of(resources.get(&kind).into_iter().flatten());
        let versions = Kind::PUSH_ORDER.into_iter().map(|kind| (kind, version(kind))).collect();
        Self { revision, resources, versions }
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

    /// This snapshot, together with the clusters and endpoints that only `before` has: what a
    /// client may hold while its old policy still names clusters that the new one does not.
    /// `None` when there are none.
    #[must_use]
    pub fn with_clusters_of(&self, before: &Self) -> Option<Self> {
        let mut resources = self.resources.clone();
        let mut kept = false;
        for kind in [Kind::Cluster, Kind::Endpoints] {
            for (name, resource) in before.all(kind).filter(|(name, _)| self.get(kind, name).is_none()) {
                resources.entry(kind).or_default().insert(name.clone(), resource.clone());
                kept = true;
            }
        }
        kept.then(|| Self::new(self.revision, resources))
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
    fn clusters_are_kept_for_the_old_policy_and_nothing_else_is() {
        let before =
            snapshot(1, &[(Kind::Cluster, "a", "1"), (Kind::Endpoints, "a", "1"), (Kind::Route, "r", "1")]);
        let after = snapshot(2, &[(Kind::Cluster, "b", "1")]);
        let both = after.with_clusters_of(&before).unwrap();
        assert_eq!(both.revision(), 2);
        assert!(both.get(Kind::Cluster, "a").is_some() && both.get(Kind::Endpoints, "a").is_some());
        assert!(both.get(Kind::Cluster, "b").is_some() && both.get(Kind::Route, "r").is_none());
        assert_eq!(after.with_clusters_of(&after), None);
    }
}
