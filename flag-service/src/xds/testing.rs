//! Small resources for the tests of this module. They know no Envoy message: the protocol treats
//! bodies as bytes.

use std::collections::BTreeMap;

use envoy_types::pb::google::protobuf::Any;

use super::snapshot::{Kind, Resource, Snapshot};

/// A resource whose content is `content`.
pub(super) fn resource(content: &str) -> Resource {
    Resource::new(&Any { type_url: "test".into(), value: content.as_bytes().to_vec() })
}

/// A snapshot of (type, name, content).
pub(super) fn snapshot(revision: u64, resources: &[(Kind, &str, &str)]) -> Snapshot {
    let mut by_kind: BTreeMap<Kind, BTreeMap<String, Resource>> = BTreeMap::new();
    for (kind, name, content) in resources {
        by_kind.entry(*kind).or_default().insert((*name).to_owned(), resource(content));
    }
    Snapshot::new(revision, by_kind)
}

/// Owned names.
pub(super) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
