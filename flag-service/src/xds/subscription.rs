//! What a client asks for, of one type, on one stream: names and wildcards. It knows no
//! resources and no versions.

use std::collections::BTreeSet;

use super::snapshot::Kind;

const WILDCARD: &str = "*";

/// The names and wildcards one client has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    names: BTreeSet<String>,
    wildcard: bool,
    /// The wildcard was made by an empty list, and no name was sent since.
    legacy: bool,
}

impl Subscription {
    /// The subscription that a stream's first request for a type makes.
    ///
    /// "If the resource_names list is empty [in the first request], that is taken as a wildcard
    /// subscription"; the specification grants this form to Listener and Cluster alone, and an
    /// Envoy without EDS clusters must not be sent everybody's endpoints.
    #[must_use]
    pub(super) fn first(kind: Kind, names: &[String]) -> Self {
        let legacy = names.is_empty() && matches!(kind, Kind::Listener | Kind::Cluster);
        let mut this = Self { names: BTreeSet::new(), wildcard: legacy, legacy };
        this.add(names);
        this
    }

    /// Delta: adds names. A wildcard, legacy or not, stays until `*` is removed. Returns the names
    /// that were asked for, without `*`.
    pub(super) fn add<'a>(&mut self, names: &'a [String]) -> BTreeSet<&'a str> {
        self.wildcard |= names.iter().any(|name| name == WILDCARD);
        let asked: BTreeSet<&str> =
            names.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
        self.names.extend(asked.iter().map(|name| (*name).to_owned()));
        asked
    }

    /// Delta: removes names. Returns those removed, without `*`.
    pub(super) fn remove<'a>(&mut self, names: &'a [String]) -> BTreeSet<&'a str> {
        self.wildcard &= !names.iter().any(|name| name == WILDCARD);
        let gone: BTreeSet<&str> =
            names.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
        self.names.retain(|name| !gone.contains(name.as_str()));
        gone
    }

    /// State of the world: replaces the names. An empty list leaves a wildcard that was made by an
    /// empty list, and means "nothing" once any name was sent.
    pub(super) fn replace(&mut self, names: &[String]) {
        if names.is_empty() && self.legacy {
            return;
        }
        *self = Self { names: BTreeSet::new(), wildcard: false, legacy: false };
        self.add(names);
    }

    /// Whether the resource of that name is wanted.
    #[must_use]
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether everything is wanted.
    #[must_use]
    pub(super) const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether anything is wanted that `before` did not want.
    #[must_use]
    pub(super) fn grew_since(&self, before: &Self) -> bool {
        (self.wildcard && !before.wildcard) || self.names.iter().any(|name| !before.wants(name))
    }

    /// The names asked for one by one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Subscription};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_first_request_is_a_wildcard_for_listeners_and_clusters_only() {
        for (kind, wildcard) in [
            (Kind::Cluster, true),
            (Kind::Listener, true),
            (Kind::Endpoints, false),
            (Kind::Route, false),
            (Kind::Extension, false),
        ] {
            assert_eq!(Subscription::first(kind, &[]).is_wildcard(), wildcard, "{kind:?}");
            assert!(Subscription::first(kind, &names(&["*"])).is_wildcard(), "{kind:?}");
            assert!(!Subscription::first(kind, &names(&["a"])).is_wildcard(), "{kind:?}");
        }
    }

    #[test]
    fn delta_keeps_the_wildcard_until_it_is_removed() {
        let mut subscription = Subscription::first(Kind::Cluster, &[]);
        subscription.add(&names(&["a"]));
        assert!(subscription.wants("b"));
        subscription.remove(&names(&["*"]));
        assert!(subscription.wants("a") && !subscription.wants("b"));
        subscription.remove(&names(&["a"]));
        assert!(!subscription.wants("a"));
    }

    #[test]
    fn state_of_the_world_ends_the_wildcard_with_the_first_name() {
        let mut subscription = Subscription::first(Kind::Cluster, &[]);
        subscription.replace(&[]);
        assert!(subscription.is_wildcard());
        subscription.replace(&names(&["a"]));
        assert!(subscription.wants("a") && !subscription.wants("b"));
        subscription.replace(&[]);
        assert!(!subscription.wants("a") && !subscription.is_wildcard());
    }

    #[test]
    fn an_explicit_wildcard_ends_when_state_of_the_world_leaves_it_out() {
        let mut subscription = Subscription::first(Kind::Cluster, &names(&["*", "a"]));
        subscription.replace(&names(&["*"]));
        assert!(subscription.wants("b"));
        subscription.replace(&[]);
        assert!(!subscription.wants("b"));
    }
}
