//! A folder per test for configurations, databases and logs: removed when the test passes, kept and
//! named when it fails.

use crate::paths;
use anyhow::{Context as _, Result};
use std::{fs, mem, path::Path, thread};
use tempfile::TempDir;
use tokio::runtime;

/// Runs one system test, named after its thread, in a folder of its own.
///
/// # Panics
///
/// When the test fails; the message names the folder with the logs.
#[track_caller]
pub fn system_test(test: impl AsyncFnOnce(&Path) -> Result<()>) {
    let name = thread::current().name().unwrap_or("test").replace("::", "-");
    let workdir = Workdir::create(&name).expect("a folder for the test");
    // Two threads: the harness's own servers must answer while a test computes.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.expect("a runtime").block_on(test(workdir.path()));
    if let Err(error) = outcome {
        // The folder's own drop says where the logs are.
        panic!("{error:?}");
    }
}

/// A folder that outlives a panic.
#[derive(Debug)]
pub struct Workdir {
    folder: Option<TempDir>,
}

impl Workdir {
    /// Creates a folder below the target folder.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn create(name: &str) -> Result<Self> {
        let parent = paths::target_folder()?.join("system-tests");
        fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&parent)?;
        Ok(Self { folder: Some(folder) })
    }

    /// Where it is.
    ///
    /// # Panics
    ///
    /// Never: only drop takes the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.as_ref().expect("taken on drop only").path()
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if let Some(folder) = mem::take(&mut self.folder)
            && thread::panicking()
        {
            eprintln!("logs are kept in {}", folder.keep().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{panic, path::PathBuf};

    #[test]
    fn a_failed_tests_folder_is_kept_and_a_passed_ones_removed() {
        let (mut passed, mut failed) = (PathBuf::new(), PathBuf::new());
        system_test(async |dir| {
            passed = dir.to_owned();
            Ok(())
        });
        assert!(!passed.exists());

        let run = panic::AssertUnwindSafe(|| {
            system_test(async |dir| {
                failed = dir.to_owned();
                anyhow::bail!("on purpose: the folder must be kept");
            });
        });
        panic::catch_unwind(run).unwrap_err();
        assert!(failed.is_dir());
        fs::remove_dir(failed).unwrap();
    }
}
