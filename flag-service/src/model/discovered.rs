//! Manifests of a folder, made true as one change. It does not know how the folder is read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use rampart_engine::policy::Problem;

use super::change::put_module;
use super::{Module, Refusal, State};

/// What a folder asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovered {
    /// Manifests that were found.
    pub found: Vec<Found>,
    /// Modules whose files were taken away.
    pub gone: Vec<String>,
    /// Whether what was removed otherwise is registered again, though its file is as it was.
    pub again: bool,
}

/// A manifest that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it says.
    pub module: Module,
    /// Where.
    pub manifest: Manifest,
}

/// The file that a module was last read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name within the folder.
    pub file: String,
    /// A hash over its content.
    pub hash: String,
}

impl Discovered {
    /// A file counts once: what somebody has changed since it was read stays, until the file is another.
    pub(super) fn apply(&self, state: &mut State) -> Result<(), Refusal> {
        let mut problems = Vec::new();
        for Found { module, manifest } in &self.found {
            let known = state.manifests.get(&module.id).is_some_and(|known| known.hash == manifest.hash);
            let gone = !state.modules.contains_key(&module.id);
            if (!known || (gone && self.again))
                && let Err(refusal) = put_module(state, module.clone())
            {
                problems.push(placed(&module.id, refusal));
            }
            if state.manifests.get(&module.id).is_none_or(|known| **known != *manifest) {
                state.manifests.insert(module.id.clone(), Arc::new(manifest.clone()));
            }
        }
        for id in &self.gone {
            if state.manifests.remove(id).is_some() {
                state.modules.remove(id);
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Refusal::Several(problems)) }
    }
}

/// The problem, placed as the engine places its own.
fn placed(id: &str, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Malformed { field, problem } => Problem { field: format!("modules[{id}].{field}"), problem },
        other => Problem { field: format!("modules[{id}]"), problem: other.to_string() },
    }
}

impl State {
    /// Modules that others depend on, and that are not there, each with its place.
    #[must_use]
    pub fn unmet(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for module in self.modules.values() {
            for (index, id) in module.dependencies.iter().enumerate() {
                if !self.modules.contains_key(id) {
                    let field = format!("modules[{}].dependencies[{index}]", module.id);
                    let problem =
                        format!("module `{}` depends on module `{id}`, which is not there", module.id);
                    problems.push(Problem { field, problem });
                }
            }
        }
        problems
    }
}
