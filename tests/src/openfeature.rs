//! Real OpenFeature clients: the SDKs with their providers, as applications run them.

use crate::{paths, service::Service};
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

/// A client: a language's SDK, and the provider that it asks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// Python, by OFREP.
    PythonOfrep,
    /// Python, evaluating flagd's definitions itself.
    PythonFlagd,
    /// Node, by OFREP.
    NodeOfrep,
    /// Node, evaluating flagd's definitions itself.
    NodeFlagd,
    /// A web page, by OFREP with its events.
    Web,
}

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
    /// From the flag's metadata, where the service answers.
    pub revision: Option<u64>,
    /// From the flag's metadata, where the SDK evaluates.
    pub generation: Option<String>,
}

/// A running application, with what it asked.
pub struct Application {
    answers: Lines<BufReader<ChildStdout>>,
    /// While it is open the application runs.
    input: ChildStdin,
    complaints: ChildStderr,
    process: Child,
}

impl Sdk {
    /// The provider, in the scripts' word.
    const fn provider(self) -> &'static str {
        match self {
            Self::PythonOfrep | Self::NodeOfrep => "ofrep",
            Self::PythonFlagd | Self::NodeFlagd => "flagd",
            Self::Web => "web",
        }
    }

    /// Asks through the SDK, one question after another.
    ///
    /// # Errors
    ///
    /// When the client is not installed, or fails other than by an answer; the error shows what it said.
    pub async fn ask(self, service: &Service, questions: &[Question]) -> Result<Vec<Details>> {
        let mut application = self.start(service, questions).await?;
        let answers = application.answers().await?;
        application.stop().await?;
        Ok(answers)
    }

    /// Starts an application that asks these questions, and again whenever its provider tells of a change.
    ///
    /// # Errors
    ///
    /// When the client is not installed or cannot be started.
    pub async fn start(self, service: &Service, questions: &[Question]) -> Result<Application> {
        let mut command = match self {
            Self::PythonOfrep | Self::PythonFlagd => python(include_str!("../openfeature/ask.py"))?,
            Self::NodeOfrep | Self::NodeFlagd | Self::Web => node(include_str!("../openfeature/ask.mjs"))?,
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().context("the client")?;
        let mut input = process.stdin.take().context("its input is a pipe")?;
        let output = process.stdout.take().context("its output is a pipe")?;
        let complaints = process.stderr.take().context("its errors are a pipe")?;
        let server = match self {
            Self::PythonFlagd | Self::NodeFlagd => service.flagd_address(),
            Self::PythonOfrep | Self::NodeOfrep | Self::Web => service.api_address(),
        };
        let asked = json!({
            "provider": self.provider(), "host": server.ip(), "port": server.port(), "key": service.local_key()?,
            "questions": questions,
        });
        // It reads the line before it writes anything.
        input.write_all(format!("{asked}\n").as_bytes()).await?;
        Ok(Application { answers: BufReader::new(output).lines(), input, complaints, process })
    }
}

impl Application {
    /// What the SDK answers: at first, and then after a change.
    ///
    /// # Errors
    ///
    /// When the application ends; the error shows what it said.
    pub async fn answers(&mut self) -> Result<Vec<Details>> {
        let Some(line) = self.answers.next_line().await? else {
            let mut said = String::new();
            self.complaints.read_to_string(&mut said).await?;
            anyhow::bail!("the client ended:\n{said}");
        };
        serde_json::from_str(&line).context("the client's answers")
    }

    /// Ends the application in good order.
    ///
    /// # Errors
    ///
    /// When it ends otherwise.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.input);
        let status = self.process.wait().await?;
        ensure!(status.success(), "the client ended with {status}");
        Ok(())
    }
}

/// A Python program with the clients in reach.
///
/// # Errors
///
/// When they are not installed.
pub fn python(program: &str) -> Result<Command> {
    let clients = paths::repository().join(".tools/openfeature");
    ensure!(clients.is_dir(), "{} does not exist; run `scripts/setup`", clients.display());
    let mut command = Command::new("python3");
    // A proxy from the environment must not stand between a test and what it tests.
    command.args(["-c", program]).env("PYTHONPATH", clients).env("NO_PROXY", "*");
    Ok(command)
}

/// A Node module with the clients in reach.
///
/// # Errors
///
/// When they are not installed.
pub fn node(module: &str) -> Result<Command> {
    let clients = paths::repository().join(".tools/openfeature-node");
    ensure!(clients.is_dir(), "{} does not exist; run `scripts/setup`", clients.display());
    let mut command = Command::new("node");
    // A module that is given as text finds packages from the folder in which it runs.
    command.args(["--input-type=module", "--eval", module]).current_dir(clients).env("NO_PROXY", "*");
    Ok(command)
}
