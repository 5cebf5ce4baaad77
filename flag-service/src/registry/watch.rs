//! Follows the folder: what is new or changed is submitted as one change, without what is refused; what is
//! taken away is unregistered.
//!
//! The folder is polled. Notifications are lost on network file systems and where a mounted folder is swapped
//! for another, and whoever must be told in any case would have to poll beside them. A file counts once it
//! was found the same twice, so that one that is being written is not taken for whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;

use super::discover::{self, Stamp};
use super::{File, Flaw, Outcome, Registry, lock, now_ms};
use crate::access::Role;
use crate::conflict::Basis;
use crate::model::{Change, Discovered, Found, Lifecycle, Manifest, Module, Refusal};
use crate::store::Note;
use crate::writer::{Submission, WriteError, Writer};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Who changes what a folder says.
const ACTOR: &str = "folder";
/// Most files that a change's reason names.
const TOLD: usize = 10;

/// What was seen of the folder.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether it was ever read.
    once: bool,
    files: BTreeMap<String, Stamp>,
    /// Modules whose files are gone, and that could not be unregistered yet.
    owed: BTreeSet<String>,
    /// The revision at which files were last judged.
    revision: u64,
}

/// What came of a look at the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Discovery {
    /// Every manifest in the folder.
    pub found: Vec<String>,
    /// Modules whose manifest the engine accepts, and that are not registered: for want of
    /// `module_registry_enabled`, or since they were removed otherwise.
    pub validated: Vec<String>,
    /// Modules that are registered as their manifest says, or were and have been changed since.
    pub registered: Vec<String>,
    /// Modules that were unregistered by this look, since their file is gone.
    pub unregistered: BTreeSet<String>,
    /// Manifests that are refused.
    pub errors: Vec<Refused>,
}

/// A manifest that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refused {
    /// The file's name.
    pub file: String,
    /// The module's id, where that reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// What is wrong.
    #[serde(flatten)]
    pub flaw: Flaw,
}

/// Follows the folder for as long as it is polled.
pub async fn watch(registry: &Registry, writer: &Arc<Writer>) {
    if registry.folder.is_none() {
        return std::future::pending().await;
    }
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        // What is wrong is told where it is found, and kept for whoever asks.
        let _ = registry.look(writer, false).await;
    }
}

impl Registry {
    /// Looks at the folder, and makes true what it says. Whoever asks for it (`asked`) does not wait for files to
    /// settle, and has what was removed otherwise registered again.
    ///
    /// # Errors
    ///
    /// Why the folder cannot be read; then nothing is changed.
    pub async fn look(&self, writer: &Arc<Writer>, asked: bool) -> Result<Discovery, String> {
        let Some(folder) = self.folder.clone() else { return Ok(Discovery::default()) };
        let mut seen = self.seen.lock().await;
        let before = seen.files.clone();
        let scanned = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || discover::scan(&folder, &before)
        });
        let scanned = match scanned.await {
            Ok(Ok(scanned)) => scanned,
            Ok(Err(error)) => return Err(self.troubled(&folder, &error.to_string())),
            Err(error) => return Err(self.troubled(&folder, &error.to_string())),
        };
        if lock(&self.trouble).take().is_some() {
            tracing::info!(folder = %folder.display(), "manifests are read again");
        }
        let now = asked || !seen.once;
        let changed = self.changed(&folder, &scanned, &seen, now);
        let files = lock(&self.files).len();
        let went = self.gone(writer, &scanned, &seen, now);
        // What was in the way of a file may be gone: another revision, or another file.
        let fewer = lock(&self.files).len() < files;
        let other_revision = asked || fewer || writer.head().revision != seen.revision;
        let again = self.unsettled(other_revision, asked, writer);
        let mut gone = self.owed(&seen, writer);
        let owed = other_revision && !gone.is_empty();
        gone.extend(went);
        seen.once = true;
        seen.files = scanned;
        let mut unregistered = BTreeSet::new();
        let news = gone.len() > seen.owed.len() || owed;
        if !(changed.is_empty() && again.is_empty()) || news {
            self.discovered(writer, &changed).await;
            let names: BTreeSet<String> = changed.into_iter().chain(again).collect();
            unregistered = self.submit(writer, &folder, &names, gone.clone(), asked).await;
            seen.revision = writer.head().revision;
            gone.retain(|id| !unregistered.contains(id));
        }
        seen.owed = gone;
        Ok(self.discovery(writer, unregistered))
    }

    /// Tells of a trouble once, and keeps it.
    fn troubled(&self, folder: &Path, error: &str) -> String {
        let trouble = format!("the folder {} cannot be read: {error}", folder.display());
        if lock(&self.trouble).replace(trouble.clone()).as_ref() != Some(&trouble) {
            tracing::error!("{trouble}; what is registered stays");
        }
        trouble
    }

    /// Reads files that are other than they were; their names.
    fn changed(
        &self,
        folder: &Path,
        scanned: &BTreeMap<String, Stamp>,
        seen: &Seen,
        now: bool,
    ) -> BTreeSet<String> {
        let mut files = lock(&self.files);
        let mut changed = BTreeSet::new();
        for (name, stamp) in scanned {
            let settled = now || seen.files.get(name).is_some_and(|before| before.hash == stamp.hash);
            if !settled || files.get(name).is_some_and(|file| file.hash == stamp.hash) {
                continue;
            }
            let read = discover::text(folder, name).and_then(|text| discover::read(&text));
            let id = files.get(name).and_then(|file| file.module.clone());
            let file = match read {
                Ok(module) => File {
                    hash: stamp.hash.clone(),
                    module: Some(module),
                    outcome: Outcome::Discovered("it was found just now".to_owned()),
                },
                // It is still that module's file.
                Err(flaw) => {
                    tracing::error!(file = name, "a manifest is refused: {flaw}");
                    File {
                        hash: stamp.hash.clone(),
                        module: id,
                        outcome: Outcome::Refused(vec![flaw], false),
                    }
                }
            };
            files.insert(name.clone(), file);
            changed.insert(name.clone());
        }
        changed
    }

    /// Forgets files that are gone; the modules that were read from them, unless another file has them. A folder
    /// without any manifest tells nothing: it may not be mounted.
    fn gone(
        &self,
        writer: &Writer,
        scanned: &BTreeMap<String, Stamp>,
        seen: &Seen,
        now: bool,
    ) -> BTreeSet<String> {
        if scanned.is_empty() {
            return BTreeSet::new();
        }
        let mut files = lock(&self.files);
        let went = |name: &String| !scanned.contains_key(name) && (now || !seen.files.contains_key(name));
        let mut gone: BTreeSet<String> = files.keys().filter(|name| went(name)).cloned().collect();
        files.retain(|name, _| !gone.contains(name));
        let head = writer.head();
        let manifests = &head.state.manifests;
        if !seen.once {
            // Of what was there before this process was.
            gone.extend(manifests.values().map(|known| known.file.clone()).filter(|name| went(name)));
        }
        let here = ids(&files);
        let of_gone =
            manifests.iter().filter(|(id, known)| gone.contains(&known.file) && !here.contains(&***id));
        of_gone.map(|(id, _)| id.clone()).collect()
    }

    /// Modules that are still to be unregistered.
    fn owed(&self, seen: &Seen, writer: &Writer) -> BTreeSet<String> {
        let head = writer.head();
        let files = lock(&self.files);
        let here = ids(&files);
        let owed =
            seen.owed.iter().filter(|id| head.state.manifests.contains_key(*id) && !here.contains(&***id));
        owed.cloned().collect()
    }

    /// Files that are to be tried again: those that a store kept waiting; where there is another revision, those that
    /// it may take; and for whoever asks, those of modules that were removed otherwise.
    fn unsettled(&self, other_revision: bool, asked: bool, writer: &Writer) -> BTreeSet<String> {
        let head = writer.head();
        let files = lock(&self.files);
        let again = files.iter().filter(|(_, file)| match &file.outcome {
            Outcome::Discovered(_) => true,
            Outcome::Validated(_) => other_revision || asked,
            Outcome::Refused(_, maybe) => *maybe && (other_revision || asked),
            Outcome::Registered => {
                let module = file.module.as_ref();
                asked && module.is_some_and(|module| !head.state.modules.contains_key(&module.id))
            }
        });
        again.map(|(name, _)| name.clone()).collect()
    }

    /// Writes down what was found.
    async fn discovered(&self, writer: &Writer, changed: &BTreeSet<String>) {
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
    async fn submit(
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

    fn discovery(&self, writer: &Writer, unregistered: BTreeSet<String>) -> Discovery {
        let head = writer.head();
        let mut discovery = Discovery { unregistered, ..Discovery::default() };
        for (name, file) in lock(&self.files).iter() {
            discovery.found.push(name.clone());
            let id = file.module.as_ref().map(|module| module.id.clone());
            match (&file.outcome, id) {
                (Outcome::Refused(flaws, _), module) => {
                    let refused = |flaw: &Flaw| Refused {
                        file: name.clone(),
                        module: module.clone(),
                        flaw: flaw.clone(),
                    };
                    discovery.errors.extend(flaws.iter().map(refused));
                }
                (Outcome::Registered, Some(id)) if head.state.modules.contains_key(&id) => {
                    discovery.registered.push(id);
                }
                (Outcome::Registered | Outcome::Validated(_), Some(id)) => discovery.validated.push(id),
                _ => {}
            }
        }
        discovery
    }
}

/// The modules that files say.
fn ids(files: &BTreeMap<String, File>) -> BTreeSet<&str> {
    files.values().filter_map(|file| Some(file.module.as_ref()?.id.as_str())).collect()
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
