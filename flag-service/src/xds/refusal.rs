//! What a client's words of refusal are about: the resources that they name. It knows no client's
//! grammar; Envoy's names clusters and listeners, and of a filter says only that it is none.

use super::snapshot::{Kind, Snapshot};

/// The resources of that type which the words name.
pub(super) fn named(words: &str, kind: Kind, snapshot: &Snapshot) -> Vec<String> {
    let names = snapshot.all(kind).map(|(name, _)| name);
    names.filter(|name| has_word(words, name)).cloned().collect()
}

/// Whether a name stands there whole: `module/a/v1` is not meant where it says `module/a/v10`.
fn has_word(words: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "/_-".contains(c);
    words.match_indices(name).any(|(start, _)| {
        let (before, rest) = words.split_at(start);
        !before.ends_with(inside) && !rest.split_at(name.len()).1.starts_with(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::snapshot;
    use super::{Kind, named};

    #[test]
    fn names_are_found_whole() {
        let names = ["module/a/v1", "module/a/v10", "module/é", "a"];
        let resources: Vec<_> = names.iter().map(|name| (Kind::Cluster, *name, "1")).collect();
        let snapshot = snapshot(1, &resources);
        let of = |words| named(words, Kind::Cluster, &snapshot).join(", ");
        assert_eq!(of("Error adding/updating cluster(s) module/a/v10: no such thing"), "module/a/v10");
        assert_eq!(of("module/a/v1, module/é: both"), "module/a/v1, module/é");
        assert_eq!(of("cluster 'a'"), "a");
        assert_eq!(of("Unable to create Wasm plugin rampart"), "");
        assert_eq!(named("module/a/v1", Kind::Route, &snapshot), [""; 0]);
    }
}
