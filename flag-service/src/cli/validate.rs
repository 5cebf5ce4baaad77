//! `rampart validate`: the engine's opinion of a policy, without an Envoy.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use rampart_engine::policy::Policy;
use serde_json::json;

use super::client::Failure;
use super::output::Output;

#[derive(Debug, Args)]
pub(super) struct Validate {
    /// The policy, JSON
    file: PathBuf,
}

impl Validate {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let text = std::fs::read(&self.file).with_context(|| self.file.display().to_string())?;
        match Policy::from_json(&text) {
            Ok(policy) => {
                let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
                output.show(&json!({"valid": true, "warnings": warnings}), |_| {
                    let taken = format!("{}: a filter takes this policy", self.file.display());
                    let warnings = warnings.iter().map(|warning| format!("\nwarning: {warning}"));
                    warnings.fold(taken, |text, warning| text + &warning)
                })
            }
            Err(problems) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Err(Failure::Refused(format!("{}: {}", self.file.display(), lines.join("\n       "))))
            }
        }
    }
}
