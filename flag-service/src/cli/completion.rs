//! `rampart completion`: the shell asks the command itself, which asks the service for names.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser as _, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;
use serde_json::json;

use super::Cli;
use super::client::{Client, Failure};
use super::output::{Output, items, text};

/// The variable by which a shell asks.
const ASKED: &str = "COMPLETE";
/// How long somebody who has pressed a key waits for names.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let name = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let mut script = Vec::new();
        if let Some(shell) = Shells::builtins().completer(name) {
            let written = shell.write_registration(ASKED, "rampart", "rampart", "rampart", &mut script);
            written.map_err(anyhow::Error::from)?;
        }
        let script = String::from_utf8_lossy(&script);
        output.show(&json!({"shell": name, "script": script}), |_| script.trim().to_owned())
    }
}

/// Answers a shell that asks, and ends the process then. To be called before there are threads.
pub fn complete() {
    CompleteEnv::with_factory(Cli::command).var(ASKED).complete();
}

/// The flags there are.
pub(super) fn flags() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names(&["flags"], "flags", "key"))
}

/// The modules there are.
pub(super) fn modules() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names(&["module-management", "modules"], "modules", "id"))
}

/// The segments there are.
pub(super) fn segments() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names(&["segments"], "segments", "name"))
}

/// The providers there are.
pub(super) fn providers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names(&["providers"], "providers", "name"))
}

/// Names that the service knows; none where it is away or slow.
fn names(path: &[&str], list: &str, member: &str) -> Vec<CompletionCandidate> {
    // Where the service is, as any command finds it.
    let Ok(Cli { global, .. }) = Cli::try_parse_from([OsString::from("rampart"), OsString::from("status")])
    else {
        return Vec::new();
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let client = Client::new(&global);
    let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, client.list(path, list)).await });
    let Ok(Ok(answer)) = asked else { return Vec::new() };
    let named = items(&answer, list).iter().map(|resource| {
        let help = text(&resource["description"]);
        CompletionCandidate::new(text(&resource[member])).help((!help.is_empty()).then(|| help.into()))
    });
    named.collect()
}
