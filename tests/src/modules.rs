//! Hand-written proxy-wasm modules (ABI 0.2.1): a floor to measure against, and filters broken in
//! the ways that matter.

use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A module in WebAssembly text.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    name: &'static str,
    source: &'static str,
}

/// Does nothing at all: what a filter costs at least.
pub const NO_OP: Module = Module { name: "no_op", source: include_str!("modules/no_op.wat") };

/// Attests every request as the filter does, in the filter state `wasm.rampart.decision`, and does
/// nothing else.
pub const ATTESTING: Module = Module { name: "attesting", source: include_str!("modules/attesting.wat") };

/// Traps on every request.
pub const TRAPPING: Module = Module { name: "trapping", source: include_str!("modules/trapping.wat") };

/// Refuses its configuration everywhere.
pub const REFUSING: Module = Module { name: "refusing", source: include_str!("modules/refusing.wat") };

/// Accepts its configuration on the main thread, where Envoy tries it, and refuses it on workers:
/// Envoy then runs without the filter. It would attest requests if it ran.
pub const WORKER_REFUSING: Module =
    Module { name: "worker_refusing", source: include_str!("modules/worker_refusing.wat") };

/// Accepts its configuration and attests every request; but the configuration `bad` it refuses on
/// workers, as [`WORKER_REFUSING`] refuses every one.
pub const WORKER_REFUSING_BAD: Module =
    Module { name: "worker_refusing_bad", source: include_str!("modules/worker_refusing_bad.wat") };

impl Module {
    /// Compiles the module into `dir`.
    ///
    /// # Errors
    ///
    /// When its text is wrong or `dir` cannot be written.
    pub fn write_to(self, dir: &Path) -> Result<PathBuf> {
        let bytes = wat::parse_str(self.source).with_context(|| self.name)?;
        let path = dir.join(format!("{}.wasm", self.name));
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
