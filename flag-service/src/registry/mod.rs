//! The module registry: reads manifests from a folder, and knows in which state every module is. It makes
//! changes as everybody does, by the one write path, and judges no manifest itself.

mod compare;
mod discover;
mod index;
mod lifecycle;
mod overlaps;
mod submit;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Module;
pub use index::index;
pub(crate) use lifecycle::nodes;
pub use lifecycle::{Standing, follow};
pub use overlaps::{Overlap, overlaps};
pub use watch::{Discovery, watch};

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Flaw {
    /// The line of its file, from 1, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The field, by its path; empty for the whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.problem)
    }
}

/// The registry of one process.
pub struct Registry {
    folder: Option<PathBuf>,
    /// What was seen of the folder. Whoever reads it waits for whoever reads it already.
    seen: tokio::sync::Mutex<watch::Seen>,
    /// By file name: what came of it.
    files: Mutex<BTreeMap<String, File>>,
    /// Why the folder cannot be read now.
    trouble: Mutex<Option<String>>,
    /// By module: what it is, and the revision from which on it is so.
    since: Mutex<BTreeMap<String, (Arc<Module>, u64)>>,
}

/// A file, and what came of it.
#[derive(Debug, Clone)]
struct File {
    hash: String,
    /// What it says, where it reads; else what it said last.
    module: Option<Module>,
    outcome: Outcome,
}

/// What came of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is registered, or was, and somebody has changed or removed it since.
    Registered,
    /// It is accepted, and why it is not registered yet.
    Validated(String),
    /// Nobody could judge it yet, and why.
    Discovered(String),
    /// It is refused; whether another revision may take it.
    Refused(Vec<Flaw>, bool),
}

impl Registry {
    /// A registry of the manifests in this folder; of those that come through the API only, without one.
    #[must_use]
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            seen: tokio::sync::Mutex::default(),
            files: Mutex::default(),
            trouble: Mutex::default(),
            since: Mutex::default(),
        }
    }

    /// The folder, where there is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Why the folder cannot be read, if it cannot.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Files that are refused, each with what is wrong.
    #[must_use]
    pub fn refused(&self) -> Vec<(String, Vec<Flaw>)> {
        let files = lock(&self.files);
        let flaws = |(name, file): (&String, &File)| match &file.outcome {
            Outcome::Refused(flaws, _) => Some((name.clone(), flaws.clone())),
            _ => None,
        };
        files.iter().filter_map(flaws).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What is kept is valid after every single assignment, whoever panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
