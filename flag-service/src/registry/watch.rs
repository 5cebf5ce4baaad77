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
use super::{Flaw, Outcome, Registry, lock};
use crate::writer::Writer;

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// What was seen of the folder.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether it was ever read.
    pub(super) once: bool,
    pub(super) files: BTreeMap<String, Stamp>,
    /// Modules whose files are gone, and that could not be unregistered yet.
    pub(super) owed: BTreeSet<String>,
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
