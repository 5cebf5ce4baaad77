//! A real OpenFeature client: the Python SDK with its OFREP provider, as an application runs it.

use crate::paths;
use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{net::SocketAddr, process::Stdio};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What is asked of a flag.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Key.
    pub flag: String,
    /// What the application falls back on; its type is the one that is asked for.
    pub default: Value,
    /// The evaluation context, with `targetingKey`.
    pub context: Value,
}

/// What the SDK told the application.
#[derive(Debug, Clone, Deserialize)]
pub struct Details {
    /// The value, or the application's default.
    pub value: Value,
    /// Which variant it is.
    pub variant: Option<String>,
    /// Why, in OpenFeature's words.
    pub reason: String,
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// From the flag's metadata.
    pub revision: Option<u64>,
}

/// Asks a flag service through the SDK, one question after another.
///
/// # Errors
///
/// When the client is not installed, or fails other than by an answer; the error shows what it said.
pub async fn ask(service: SocketAddr, questions: &[Question]) -> Result<Vec<Details>> {
    let client = paths::repository().join(".tools/openfeature");
    ensure!(client.is_dir(), "{} does not exist; run `scripts/setup`", client.display());
    let mut command = Command::new("python3");
    command.arg(paths::repository().join("tests/openfeature/ask.py")).env("PYTHONPATH", client);
    // A proxy from the environment must not stand between a test and what it tests.
    command.env("NO_PROXY", "*").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.kill_on_drop(true).spawn().context("python3")?;
    let sent = json!({"url": format!("http://{service}"), "questions": questions}).to_string();
    // It reads everything before it writes anything, and ends the reading when this is dropped.
    process.stdin.take().context("its input is a pipe")?.write_all(sent.as_bytes()).await?;
    let output = process.wait_with_output().await?;
    if !output.status.success() {
        bail!("the client ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the client's answers")
}
