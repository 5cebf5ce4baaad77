//! Where things are: the repository, and what its builds put into the target folder.

use anyhow::{Context as _, Result, ensure};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The repository's root.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the repository")
}

/// The `rampart` command: `$RAMPART_BIN`, or what this build's profile produced.
///
/// # Errors
///
/// When it has not been built.
pub fn rampart() -> Result<PathBuf> {
    found("RAMPART_BIN", &profile_folder()?.join("rampart"), "cargo build -p rampart-flag-service")
}

/// The filter: `$RAMPART_WASM`, or what the wasm build produced.
///
/// # Errors
///
/// When it has not been built.
pub fn filter() -> Result<PathBuf> {
    found(
        "RAMPART_WASM",
        &target_folder()?.join("wasm32-wasip1/wasm/rampart_filter.wasm"),
        "cargo build -p rampart-filter --target wasm32-wasip1 --profile wasm",
    )
}

/// The folder that all builds of this checkout go to, wherever `CARGO_TARGET_DIR` put it.
///
/// # Errors
///
/// When this program does not run from a target folder.
pub fn target_folder() -> Result<PathBuf> {
    let profile = profile_folder()?;
    Ok(profile.parent().context("the profile's folder has a parent")?.to_owned())
}

/// `target/debug`: a test runs from its `deps`, the demo from the folder itself.
fn profile_folder() -> Result<PathBuf> {
    let executable = env::current_exe().context("where this program lies")?;
    let folder = executable.parent().context("a program lies in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    Ok(folder.context("deps lies in a profile's folder")?.to_owned())
}

fn found(variable: &str, default: &Path, build: &str) -> Result<PathBuf> {
    let path = env::var_os(variable).map_or_else(|| default.to_owned(), PathBuf::from);
    ensure!(path.is_file(), "{} does not exist; run `{build}`, or set {variable}", path.display());
    Ok(path)
}
