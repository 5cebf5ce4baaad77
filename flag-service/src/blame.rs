//! What an Envoy's refusal is about: from what it refused to the flags, modules and providers behind
//! it, and to who changed them. It reads the history, and knows nothing of how anything is sent.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{Kind, Module};
use crate::store::{Entry, Store, StoreError};
use crate::xds::fleet::{NodeStatus, Refusal};

/// Most changes that are looked at for one refusal: an Envoy that long behind has a trouble of its own.
const CHANGES: u32 = 20;

/// What a refusal may be about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Cause {
    /// What kind of resource it is.
    pub kind: Kind,
    /// Its key, id or name; empty for the settings.
    pub name: String,
    /// The newest change of it that the Envoy has not accepted.
    pub revision: Option<u64>,
    /// Who made that change; empty where it is not known.
    pub actor: String,
}

/// Adds to each refusal what it is about: what the Envoy's words name; and where they name nothing, as of
/// a filter, everything that was changed since the revision that it accepted.
///
/// # Errors
///
/// When the history cannot be read.
pub async fn attribute(nodes: &mut [NodeStatus], store: &Store) -> Result<(), StoreError> {
    // Thousands may have refused the same for the same reason.
    let mut histories: BTreeMap<(u64, u64), Vec<Cause>> = BTreeMap::new();
    for status in nodes.iter_mut().flat_map(|node| node.types.values_mut()) {
        let Some(refusal) = &mut status.nacked else { continue };
        // An Envoy that has accepted nothing from this process may refuse anything: the filter's module,
        // or what was changed long ago.
        let accepted = status.acked.as_ref().map_or(u64::MAX, |acked| acked.revision);
        let span = (accepted, refusal.revision);
        let changed = match histories.entry(span) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(slot) => {
                let changes = store.history(refusal.revision.saturating_add(1), CHANGES).await?;
                slot.insert(changed(&changes, accepted))
            }
        };
        refusal.caused_by = causes(refusal, changed);
    }
    Ok(())
}

/// What was changed after `accepted`, each once, with its newest change.
fn changed(newest_first: &[Entry], accepted: u64) -> Vec<Cause> {
    let mut seen = BTreeSet::new();
    let mut causes = Vec::new();
    for entry in newest_first.iter().filter(|entry| entry.revision > accepted) {
        for edit in &entry.edits {
            if seen.insert((edit.kind, &edit.name)) {
                causes.push(Cause {
                    kind: edit.kind,
                    name: edit.name.clone(),
                    revision: Some(entry.revision),
                    actor: entry.actor.clone(),
                });
            }
        }
    }
    causes
}

fn causes(refusal: &Refusal, changed: &[Cause]) -> Vec<Cause> {
    // A listener or filter is named after Rampart: then the name tells nothing.
    let named: Vec<Cause> = refusal
        .resources
        .iter()
        .filter_map(|cluster| match Module::of_cluster(cluster) {
            Some((id, _)) => Some((Kind::Module, id)),
            None => (cluster == crate::model::LEGACY).then_some((Kind::Settings, "")),
        })
        .map(|(kind, name)| {
            let known = changed.iter().find(|cause| cause.kind == kind && cause.name == name);
            let unknown = || Cause { kind, name: name.to_owned(), revision: None, actor: String::new() };
            known.cloned().unwrap_or_else(unknown)
        })
        .collect();
    if named.is_empty() { changed.to_vec() } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Edit;

    fn entry(revision: u64, actor: &str, edits: &[(Kind, &str)]) -> Entry {
        let edit = |(kind, name): &(Kind, &str)| Edit {
            kind: *kind,
            name: (*name).to_owned(),
            before: None,
            after: None,
        };
        Entry {
            revision,
            at_ms: 0,
            actor: actor.to_owned(),
            source: String::new(),
            address: String::new(),
            reason: String::new(),
            summary: String::new(),
            edits: edits.iter().map(edit).collect(),
        }
    }

    /// `flag beta 9 alice`, one for each cause.
    fn blamed(resources: &[&str], accepted: u64) -> Vec<String> {
        let history = [
            entry(9, "alice", &[(Kind::Flag, "beta"), (Kind::Module, "pricing")]),
            entry(8, "bob", &[(Kind::Flag, "beta"), (Kind::Settings, "")]),
            entry(7, "carol", &[(Kind::Provider, "corporate")]),
        ];
        let refusal = Refusal {
            version: String::new(),
            revision: 9,
            error: String::new(),
            resources: resources.iter().map(ToString::to_string).collect(),
            caused_by: Vec::new(),
        };
        let causes = causes(&refusal, &changed(&history, accepted));
        let text = |Cause { kind, name, revision, actor }: &Cause| {
            format!("{} {name} {} {actor}", kind.as_str(), revision.unwrap_or_default())
        };
        causes.iter().map(text).collect()
    }

    #[test]
    fn what_the_words_name_is_blamed() {
        assert_eq!(
            blamed(&["module/pricing/v1", "legacy"], 7),
            ["module pricing 9 alice", "settings  8 bob"]
        );
        assert_eq!(blamed(&["module/other/v2"], 7), ["module other 0 "], "not changed of late");
    }

    #[test]
    fn or_else_everything_that_changed_since_it_last_accepted() {
        let all = ["flag beta 9 alice", "module pricing 9 alice", "settings  8 bob"];
        assert_eq!(blamed(&[], 7), all);
        assert_eq!(blamed(&["rampart"], 8), all[..2], "every listener is called that");
        assert!(blamed(&[], 9).is_empty());
    }
}
