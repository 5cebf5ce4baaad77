//! What the folder says, submitted as one change: without what is refused, until nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::{Flaw, Outcome, Registry, discover, lock, now_ms};
use crate::access::Role;
use crate::conflict::Basis;
use crate::model::{Change, Discovered, Found, Lifecycle, Manifest, Module, Refusal};
use crate::store::Note;
use crate::writer::{Submission, WriteError, Writer};

/// Who changes what a folder says.
const ACTOR: &str = "folder";
/// Most files that a change's reason names.
const TOLD: usize = 10;

impl Registry {
    /// Writes down what was found.
    pub(super) async fn discovered(&self, writer: &Writer, changed: &BTreeSet<String>) {
        let mut notes = Vec::new();
        for (name, file) in lock(&self.files).iter().filter(|(name, _)| changed.contains(*name)) {
            let id = file.module.as_ref().map_or(name, |module| &module.id);
            let cause = format!("file {name} {}", file.hash);
            notes.push(note(id, Lifecycle::Discovered, format!("found in {name}"), cause.clone()));
            if let Outcome::Refused(flaws, _) = &file.outcome {
                notes.push(note(id, Lifecycle::Error, refusal(name, flaws), cause));
            }
        }
        keep(writer, &notes).await;
    }

    /// Submits what these files say, without what is refused; modules that were unregistered.
    pub(super) async fn submit(
        &self,
        writer: &Arc<Writer>,
        folder: &Path,
        names: &BTreeSet<String>,
        mut gone: BTreeSet<String>,
        again: bool,
    ) -> BTreeSet<String> {
        let mut found = self.candidates(names);
        while !(found.is_empty() && gone.is_empty()) {
            let change = Change::Discover(Discovered {
                found: found.iter().map(|(_, found)| found.clone()).collect(),
                gone: gone.iter().cloned().collect(),
                again,
            });
            let tried = writer.submit(submission(change.clone(), &found, true)).await;
            let refused = match tried {
                Ok(_) => {
                    self.validated(writer, &found).await;
                    if writer.head().is_registry_off() {
                        let off = "`module_registry_enabled` is off".to_owned();
                        self.settle(&found, |_| Outcome::Validated(off.clone()));
                        return BTreeSet::new();
                    }
                    match writer.submit(submission(change, &found, false)).await {
                        Ok(_) => {
                            self.settle(&found, |_| Outcome::Registered);
                            return gone;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let (WriteError::Senseless(problems) | WriteError::Refused(Refusal::Several(problems))) = refused
            else {
                tracing::error!("manifests wait: {refused}");
                self.settle(&found, |_| Outcome::Discovered(refused.to_string()));
                return BTreeSet::new();
            };
            let flaws = |module: &Module| -> Vec<(String, String)> {
                let at = format!("modules[{}]", module.id);
                let its = problems.iter().filter_map(|problem| {
                    let field = problem.field.strip_prefix(&at)?;
                    Some((field.trim_start_matches('.').to_owned(), problem.problem.clone()))
                });
                its.collect()
            };
            let mut refused: Vec<(String, Found, Vec<Flaw>)> = Vec::new();
            found.retain(|(name, candidate)| {
                let flaws = flaws(&candidate.module);
                let text = discover::text(folder, name).unwrap_or_default();
                let flaws: Vec<Flaw> = flaws
                    .into_iter()
                    .map(|(field, problem)| discover::placed(&text, field, problem))
                    .collect();
                let sound = flaws.is_empty();
                if !sound {
                    refused.push((name.clone(), candidate.clone(), flaws));
                }
                sound
            });
            if refused.is_empty() {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let words = words.join("; ");
                if gone.is_empty() {
                    let flaw = Flaw { line: None, field: String::new(), problem: words };
                    refused.extend(found.drain(..).map(|(name, found)| (name, found, vec![flaw.clone()])));
                } else {
                    // What is left depends on what went: it stays, and so does the reason.
                    let modules = gone.iter().map(|id| &**id).collect::<Vec<_>>().join(", ");
                    tracing::error!(modules, "modules whose file is gone stay: {words}");
                    gone.clear();
                }
            }
            self.refuse(writer, refused).await;
        }
        BTreeSet::new()
    }

    /// What these files say that read, each module once.
    fn candidates(&self, names: &BTreeSet<String>) -> Vec<(String, Found)> {
        let mut files = lock(&self.files);
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        let mut found = Vec::new();
        for (name, file) in files.iter_mut() {
            let unread = matches!(file.outcome, Outcome::Refused(_, false));
            let Some(module) = file.module.as_ref().filter(|_| !unread) else { continue };
            if let Some(owner) = owners.get(&module.id) {
                let problem = format!("module `{}` is in {owner} already: keep one of the two", module.id);
                tracing::error!(file = name, "a manifest is refused: {problem}");
                let flaw = Flaw { line: None, field: "id".to_owned(), problem };
                file.outcome = Outcome::Refused(vec![flaw], true);
                continue;
            }
            owners.insert(module.id.clone(), name.clone());
            if names.contains(name) {
                let manifest = Manifest { file: name.clone(), hash: file.hash.clone() };
                found.push((name.clone(), Found { module: module.clone(), manifest }));
            }
        }
        found
    }

    async fn validated(&self, writer: &Writer, found: &[(String, Found)]) {
        let notes: Vec<Note> = found
            .iter()
            .map(|(name, found)| {
                let cause = format!("file {name} {}", found.manifest.hash);
                note(&found.module.id, Lifecycle::Validated, "the engine accepts it".to_owned(), cause)
            })
            .collect();
        keep(writer, &notes).await;
    }

    async fn refuse(&self, writer: &Writer, refused: Vec<(String, Found, Vec<Flaw>)>) {
        let mut notes = Vec::new();
        for (name, found, flaws) in refused {
            let words = refusal(&name, &flaws);
            let mut files = lock(&self.files);
            let Some(file) = files.get_mut(&name) else { continue };
            let outcome = Outcome::Refused(flaws, true);
            if file.outcome != outcome {
                tracing::error!(file = name, "a manifest is refused: {words}");
            }
            file.outcome = outcome;
            let cause = format!("file {name} {} {}", found.manifest.hash, discover::hash(words.as_bytes()));
            notes.push(note(&found.module.id, Lifecycle::Error, words, cause));
        }
        keep(writer, &notes).await;
    }

    fn settle(&self, found: &[(String, Found)], outcome: impl Fn(&str) -> Outcome) {
        let mut files = lock(&self.files);
        for (name, _) in found {
            if let Some(file) = files.get_mut(name) {
                file.outcome = outcome(name);
            }
        }
    }
}

fn submission(change: Change, found: &[(String, Found)], dry_run: bool) -> Submission {
    let mut reason: Vec<&str> = found.iter().take(TOLD).map(|(name, _)| &**name).collect();
    if found.len() > TOLD {
        reason.push("…");
    }
    Submission {
        change,
        // What the folder says is compared with what was read from it before.
        based_on: Basis::Existing,
        only_new: false,
        actor: ACTOR.to_owned(),
        // Whoever can write to the folder may do what its manifests ask for.
        role: Role::Admin,
        source: "folder",
        address: None,
        reason: reason.join(", "),
        dry_run,
        key: None,
    }
}

fn refusal(name: &str, flaws: &[Flaw]) -> String {
    let flaws: Vec<String> = flaws.iter().map(ToString::to_string).collect();
    format!("{name}: {}", flaws.join("; "))
}

fn note(module: &str, to: Lifecycle, reason: String, cause: String) -> Note {
    Note { module: module.to_owned(), to, at_ms: now_ms(), by: ACTOR.to_owned(), reason, cause }
}

/// That a state was entered is worth telling, and no reason to do without it.
async fn keep(writer: &Writer, notes: &[Note]) {
    if let Err(error) = writer.store().note(notes).await {
        tracing::warn!("states of modules are not written down: {error}");
    }
}
