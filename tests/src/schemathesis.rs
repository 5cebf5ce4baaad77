//! Schemathesis: makes requests from the API's own OpenAPI document, good and bad ones, and holds the
//! answers against it.

use crate::paths;
use anyhow::{Context as _, Result, ensure};
use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// Requests of each kind for each operation. The seed makes them the same each time.
const EXAMPLES: &str = "10";
const SEED: &str = "20261125";

/// How long it may take on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(240);

/// Tests the service at this address, as whoever has this key; `dir` is for what the tool leaves behind.
///
/// # Errors
///
/// When an answer is not as documented, with the tool's report; or when it is not installed.
pub async fn test(service: SocketAddr, key: &str, dir: &Path) -> Result<()> {
    let tool = paths::repository().join(".tools/schemathesis");
    ensure!(tool.is_dir(), "{} does not exist; run `scripts/setup`", tool.display());
    let mut command = Command::new("python3");
    command.args(["-m", "schemathesis.cli", "--config-file"]);
    command.arg(paths::repository().join("tests/schemathesis/schemathesis.toml"));
    command.args(["run", "--no-color", "--warnings", "off", "--seed", SEED, "--max-examples", EXAMPLES]);
    command.arg(format!("http://{service}/openapi.json"));
    command.env("RAMPART_API_KEY", key);
    // A proxy from the environment must not stand between a test and what it tests.
    command.env("PYTHONPATH", tool).env("NO_PROXY", "*").current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(DEADLINE, command.output()).await.context("it is not done in time")??;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "it found something:\n{said}{complained}");
    Ok(())
}
