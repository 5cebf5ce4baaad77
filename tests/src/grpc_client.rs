//! gRPC clients that find their backends by xDS, none of them ours: C-core through Python, grpc-js, and
//! tonic-xds. Each is a process that makes a call for every line it reads, on a channel that it keeps.

use crate::{
    paths,
    xds_server::{METHOD, SERVICE},
};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a call may take; the first waits for everything that xDS has to bring.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client; ended on drop.
#[derive(Debug)]
pub struct GrpcClient {
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl GrpcClient {
    /// gRPC's C-core, through Python.
    ///
    /// # Errors
    ///
    /// When it is not installed.
    pub fn python(server: SocketAddr) -> Result<Self> {
        let mut command = Command::new("python3");
        command.arg(paths::repository().join("tests/grpc/ask.py"));
        command.env("PYTHONPATH", installed("grpc")?);
        Self::start(command, &server.to_string())
    }

    /// grpc-js with grpc-js-xds.
    ///
    /// # Errors
    ///
    /// When it is not installed.
    pub fn node(server: SocketAddr) -> Result<Self> {
        let mut command = Command::new("node");
        command.arg(paths::repository().join("tests/grpc/ask.cjs"));
        command.env("NODE_PATH", installed("grpc-node")?.join("node_modules"));
        Self::start(command, &server.to_string())
    }

    /// tonic-xds.
    ///
    /// # Errors
    ///
    /// When it is not built.
    pub fn tonic(server: SocketAddr) -> Result<Self> {
        let command = Command::new(installed("grpc-tonic")?.join("debug/ask"));
        Self::start(command, &format!("http://{server}"))
    }

    fn start(mut command: Command, server: &str) -> Result<Self> {
        let bootstrap = json!({
            "xds_servers": [{
                "server_uri": server,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            // grpc-js asks for a locality, and says something else when it misses it.
            "node": {"id": "client", "cluster": "clients", "locality": {}},
            "authorities": {},
        });
        command.args([SERVICE, METHOD]).env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string());
        // A proxy from the environment must not stand between a test and what it tests.
        command.env("no_proxy", "*").env_remove("GRPC_XDS_BOOTSTRAP");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("{command:?}"))?;
        let questions = process.stdin.take().context("its input is a pipe")?;
        let answers = process.stdout.take().context("its output is a pipe")?;
        Ok(Self { _process: process, questions, answers: BufReader::new(answers).lines() })
    }

    /// Asks who serves it.
    ///
    /// # Errors
    ///
    /// When the call fails or takes too long.
    pub async fn ask(&mut self) -> Result<String> {
        self.questions.write_all(b"\n").await?;
        let answer = timeout(PATIENCE, self.answers.next_line()).await.context("a call took too long")?;
        let answer = answer?.context("the client has ended")?;
        ensure!(!answer.starts_with("error"), "{answer}");
        Ok(answer)
    }
}

fn installed(folder: &str) -> Result<PathBuf> {
    let folder = paths::repository().join(".tools").join(folder);
    ensure!(folder.is_dir(), "{} does not exist; run `scripts/setup`", folder.display());
    Ok(folder)
}
