//! What a look at the folder found, held against what was read from it before: which files count anew, and
//! which modules have lost theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::discover::{self, Stamp};
use super::watch::Seen;
use super::{File, Outcome, Registry, lock};
use crate::model::Module;
use crate::writer::Writer;

impl Registry {
    /// Reads files that are other than they were; their names.
    pub(super) fn changed(
        &self,
        folder: &Path,
        scanned: &BTreeMap<String, Stamp>,
        seen: &Seen,
        now: bool,
    ) -> BTreeSet<String> {
        let known = lock(&self.files);
        let anew = scanned.iter().filter(|(name, stamp)| {
            let settled = now || seen.files.get(*name).is_some_and(|before| before.hash == stamp.hash);
            settled && known.get(*name).is_none_or(|file| file.hash != stamp.hash)
        });
        let anew =
            anew.map(|(name, stamp)| (name, stamp, known.get(name).and_then(|file| file.module.clone())));
        let anew: Vec<(&String, &Stamp, Option<Module>)> = anew.collect();
        // A file system may let one wait, and whoever asks for states must not.
        drop(known);
        let mut changed = BTreeSet::new();
        for (name, stamp, before) in anew {
            let read = discover::text(folder, name).and_then(|text| discover::read(&text));
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
                        module: before,
                        outcome: Outcome::Refused(vec![flaw], false),
                    }
                }
            };
            lock(&self.files).insert(name.clone(), file);
            changed.insert(name.clone());
        }
        changed
    }

    /// Forgets files that are gone; the modules that were read from them, unless another file has them. A folder
    /// without any manifest tells nothing: it may not be mounted.
    pub(super) fn gone(
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
    pub(super) fn owed(&self, seen: &Seen, writer: &Writer) -> BTreeSet<String> {
        let head = writer.head();
        let files = lock(&self.files);
        let here = ids(&files);
        let owed =
            seen.owed.iter().filter(|id| head.state.manifests.contains_key(*id) && !here.contains(&***id));
        owed.cloned().collect()
    }

    /// Files that are to be tried again: those that a store kept waiting; where there is another revision, those that
    /// it may take; and for whoever asks, those of modules that were removed otherwise.
    pub(super) fn unsettled(&self, other_revision: bool, asked: bool, writer: &Writer) -> BTreeSet<String> {
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
}

/// The modules that files say.
fn ids(files: &BTreeMap<String, File>) -> BTreeSet<&str> {
    files.values().filter_map(|file| Some(file.module.as_ref()?.id.as_str())).collect()
}
