//! In which state every module is: derived, each time, from the newest revision, what Envoys have said, and what
//! came of the folder's files. It changes nothing; what it finds out, it writes down once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Flaw, Outcome, Registry, lock, now_ms};
use crate::blame;
use crate::head::Head;
use crate::model::{Kind, Lifecycle, Module};
use crate::running::{Health, HealthStatus};
use crate::store::Note;
use crate::writer::Writer;
use crate::xds::fleet::{Fleet, NodeStatus};

/// How often states are looked at, to be written down.
const EVERY: Duration = Duration::from_millis(250);
/// By which policies are pushed.
const POLICY: &str = "ecds";

/// In which state a module is.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The state.
    pub state: Lifecycle,
    /// Why, in words.
    pub reason: String,
    /// What is wrong with its manifest.
    pub flaws: Vec<Flaw>,
    /// The file that it is read from, where it is.
    pub file: Option<String>,
    /// What its manifest says, of a module that is not registered, where that reads.
    pub manifest: Option<Module>,
}

/// Writes down when modules become active or are refused by an Envoy, for as long as it is polled.
pub async fn follow(registry: &Registry, writer: &Writer, fleet: &Fleet) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: BTreeSet<(String, u64, Lifecycle)> = BTreeSet::new();
    loop {
        every.tick().await;
        let head = writer.head();
        let nodes = nodes(fleet, writer).await;
        let mut notes = Vec::new();
        let mut now = BTreeSet::new();
        for (id, standing) in registry.standings(&head, &nodes, &fleet.running().health()) {
            if !matches!(standing.state, Lifecycle::Active | Lifecycle::Error) || !standing.flaws.is_empty() {
                continue;
            }
            let since = lock(&registry.since).get(&id).map_or(0, |(_, since)| *since);
            let entered = (id.clone(), since, standing.state);
            if !known.contains(&entered) {
                notes.push(Note {
                    module: id,
                    to: standing.state,
                    at_ms: now_ms(),
                    by: "envoys".to_owned(),
                    reason: standing.reason,
                    cause: format!("envoys {since}"),
                });
            }
            now.insert(entered);
        }
        if notes.is_empty() {
            known = now;
        } else if let Err(error) = writer.store().note(&notes).await {
            // It is tried again.
            tracing::debug!("states of modules are not written down: {error}");
        } else {
            known = now;
        }
    }
}

/// What Envoys have said, and whom it is about.
pub(crate) async fn nodes(fleet: &Fleet, writer: &Writer) -> Vec<NodeStatus> {
    let mut nodes = fleet.nodes();
    if let Err(error) = blame::attribute(&mut nodes, writer.store()).await {
        tracing::debug!("refusals cannot be attributed: {error}");
    }
    nodes
}

impl Registry {
    /// Every module that is registered or has a file, and in which state it is, by what Envoys have
    /// accepted and how they find modules to fare.
    #[must_use]
    pub fn standings(
        &self,
        head: &Head,
        nodes: &[NodeStatus],
        health: &BTreeMap<String, Health>,
    ) -> BTreeMap<String, Standing> {
        let refusals = refusals(nodes);
        let oldest = oldest(nodes);
        let mut since = lock(&self.since);
        since.retain(|id, _| head.state.modules.contains_key(id));
        let mut standings = BTreeMap::new();
        for (id, module) in &head.state.modules {
            let known = since.get(id).filter(|(known, _)| Arc::ptr_eq(known, module) || known == module);
            let from = known.map_or(head.revision, |(_, revision)| *revision);
            since.insert(id.clone(), (Arc::clone(module), from));
            let (state, reason) =
                match (refusals.get(&**id), oldest, health.get(id).map(|health| health.status)) {
                    (Some(words), ..) => (Lifecycle::Error, words.clone()),
                    (None, None, _) => (Lifecycle::Registered, "no Envoy is connected".to_owned()),
                    (None, Some(accepted), _) if accepted < from => {
                        (Lifecycle::Registered, format!("not every Envoy has accepted revision {from} yet"))
                    }
                    (None, _, Some(HealthStatus::Unhealthy)) => {
                        (Lifecycle::Registered, "none of its endpoints is healthy".to_owned())
                    }
                    (None, ..) => (Lifecycle::Active, format!("every Envoy has accepted revision {from}")),
                };
            standings.insert(
                id.clone(),
                Standing { state, reason, flaws: Vec::new(), file: None, manifest: None },
            );
        }
        drop(since);
        self.add_files(head, &mut standings);
        standings
    }

    /// What came of files: it stands beside what is registered, and where that is refused, before it.
    fn add_files(&self, head: &Head, standings: &mut BTreeMap<String, Standing>) {
        for (name, file) in lock(&self.files).iter() {
            let id = file.module.as_ref().map_or(name, |module| &module.id);
            let registered = head.state.modules.contains_key(id);
            let (state, reason, flaws) = match &file.outcome {
                Outcome::Refused(flaws, _) => {
                    let words: Vec<String> = flaws.iter().map(ToString::to_string).collect();
                    let serves = if registered { "; what was registered before goes on serving" } else { "" };
                    (Lifecycle::Error, format!("{name}: {}{serves}", words.join("; ")), flaws.clone())
                }
                // In the revision or not, the revision says.
                _ if registered => {
                    if let Some(standing) = standings.get_mut(id) {
                        standing.file = Some(name.clone());
                    }
                    continue;
                }
                Outcome::Registered => {
                    (Lifecycle::Unregistered, "it was removed since its file was read".to_owned(), Vec::new())
                }
                Outcome::Validated(why) => (Lifecycle::Validated, why.clone(), Vec::new()),
                Outcome::Discovered(why) => (Lifecycle::Discovered, why.clone(), Vec::new()),
            };
            // Of two files that say one module, the one that is refused is not the module's.
            if standings.get(id).is_some_and(|known| known.file.is_some()) {
                continue;
            }
            let manifest = file.module.clone().filter(|_| !registered);
            let standing = Standing { state, reason, flaws, file: Some(name.clone()), manifest };
            standings.insert(id.clone(), standing);
        }
    }
}

/// What Envoys refuse of modules, in their words.
fn refusals(nodes: &[NodeStatus]) -> BTreeMap<&str, String> {
    let mut refusals = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.connected) {
        for refusal in node.types.values().filter_map(|status| status.nacked.as_ref()) {
            for cause in refusal.caused_by.iter().filter(|cause| cause.kind == Kind::Module) {
                let words = format!("Envoy `{}` refuses it: {}", node.id, refusal.error);
                refusals.entry(&*cause.name).or_insert(words);
            }
        }
    }
    refusals
}

/// The oldest revision whose policy a connected Envoy has accepted last; none where none is connected.
fn oldest(nodes: &[NodeStatus]) -> Option<u64> {
    let policies = nodes.iter().filter(|node| node.connected).filter_map(|node| node.types.get(POLICY));
    policies.map(|policy| policy.acked.as_ref().map_or(0, |acked| acked.revision)).min()
}
