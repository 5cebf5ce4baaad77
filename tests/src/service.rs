//! The flag service as a process, and the `rampart` command as an operator uses it.

use crate::{
    client::Client,
    paths,
    ports::Port,
    process::Process,
    wait::{SOON, eventually},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// A flag service with its ports and its database; they outlive the process, so that it can be
/// killed and started again.
#[derive(Debug)]
pub struct Service {
    dir: PathBuf,
    ports: ServicePorts,
    /// The user's folder for state, in which the local key lies; none for the real user's.
    state: Option<PathBuf>,
    options: BTreeMap<&'static str, String>,
    process: Option<Process>,
}

/// Where a flag service listens, and where it tells Envoys to listen.
#[derive(Debug)]
pub struct ServicePorts {
    /// The API, the page and the metrics.
    pub api: Port,
    /// Envoys connect here.
    pub xds: Port,
    /// Applications connect here that evaluate flags themselves.
    pub flagd: Port,
    /// The data plane.
    pub listener: Port,
}

impl ServicePorts {
    /// Free ports, as every test should use.
    ///
    /// # Errors
    ///
    /// When none is left.
    pub fn free() -> Result<Self> {
        let [api, xds, flagd, listener] = [(); 4].map(|()| Port::claim());
        Ok(Self { api: api?, xds: xds?, flagd: flagd?, listener: listener? })
    }

    /// The ports that documents name.
    ///
    /// # Errors
    ///
    /// When one is taken.
    pub fn documented() -> Result<Self> {
        let [api, xds, flagd, listener] = [8080, 8081, 8015, 10_000].map(Port::exactly);
        Ok(Self { api: api?, xds: xds?, flagd: flagd?, listener: listener? })
    }
}

impl Service {
    /// A service with its files in `dir`; starts nothing yet, so that an Envoy can be pointed at it
    /// first.
    #[must_use]
    pub fn new(dir: &Path, ports: ServicePorts) -> Self {
        let state = Some(dir.to_owned());
        Self { dir: dir.to_owned(), ports, state, options: BTreeMap::new(), process: None }
    }

    /// Puts the local key where the commands of whoever runs this find it.
    pub fn share_local_key(&mut self) {
        self.state = None;
    }

    /// The local key.
    ///
    /// # Errors
    ///
    /// When it is shared, or the service has not been started.
    pub fn local_key(&self) -> Result<String> {
        let state = self.state.as_ref().context("the local key is where the user's commands find it")?;
        let file = state.join(format!("rampart/local-{}.key", self.api_address().port()));
        let key = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(key.trim().to_owned())
    }

    /// Sets an option of `rampart serve`, from its next start on.
    pub fn set(&mut self, option: &'static str, value: &str) {
        self.options.insert(option, value.to_owned());
    }

    /// Leaves an option of `rampart serve` away, from its next start on.
    pub fn unset(&mut self, option: &'static str) {
        self.options.remove(option);
    }

    /// Starts the service, for the first time or again, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it runs already, has not been built, or ends; the error shows its log's end.
    pub async fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the service runs already");
        let mut command = Command::new(paths::rampart()?);
        let mut options = BTreeMap::from([
            ("--database", self.database().display().to_string()),
            ("--http", self.api_address().to_string()),
            ("--xds", self.xds_address().to_string()),
            ("--flagd", self.flagd_address().to_string()),
            ("--listen", self.listener_address().to_string()),
            ("--filter", paths::filter()?.display().to_string()),
        ]);
        options.extend(self.options.iter().map(|(option, value)| (*option, value.clone())));
        if let Some(state) = &self.state {
            command.env("XDG_STATE_HOME", state);
        }
        command.arg("serve").args(options.iter().flat_map(|(option, value)| [*option, value]));
        let process = self.process.insert(Process::start(&mut command, &self.dir.join("service.log"))?);
        let client = Client::new(self.ports.api.address())?;
        let ready = eventually(SOON, "the service's readiness", async || {
            let reply = client.get("/ready", None).await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text().trim());
            Ok(())
        });
        process.while_alive(ready).await
    }

    /// Kills the service without a chance to tidy up, as a crash would.
    ///
    /// # Errors
    ///
    /// When it outlives the signal.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the service does not run")?.kill()
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir.join("rampart.db")
    }

    /// Where the API, the page and the metrics are.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.ports.api.address()
    }

    /// Where Envoys connect.
    #[must_use]
    pub fn xds_address(&self) -> SocketAddr {
        self.ports.xds.address()
    }

    /// Where applications connect that evaluate flags themselves.
    #[must_use]
    pub fn flagd_address(&self) -> SocketAddr {
        self.ports.flagd.address()
    }

    /// Where Envoys are told to listen for traffic.
    #[must_use]
    pub fn listener_address(&self) -> SocketAddr {
        self.ports.listener.address()
    }

    /// Everything it has logged since it was started last.
    ///
    /// # Errors
    ///
    /// When it does not run, or the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.as_ref().context("the service does not run")?.log()
    }

    /// The process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// A client of the API, with the local key.
    ///
    /// # Errors
    ///
    /// When the HTTP library cannot be set up, or there is no local key.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.api_address())?.with_token(self.local_key()?))
    }

    /// Runs `rampart` with these arguments against this service.
    ///
    /// # Errors
    ///
    /// When the command cannot be run; that it fails is an answer.
    pub async fn cli(&self, arguments: &[&str]) -> Result<CliOutput> {
        let mut command = tokio::process::Command::new(paths::rampart()?);
        command.args(arguments).env("RAMPART_API", format!("http://{}", self.api_address()));
        if let Some(state) = &self.state {
            command.env("XDG_STATE_HOME", state);
        }
        let output = command.kill_on_drop(true).output().await.context("running rampart")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(CliOutput {
            command: format!("rampart {}", arguments.join(" ")),
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        })
    }
}

/// What a command answered.
#[derive(Debug, Clone)]
pub struct CliOutput {
    /// The command line.
    pub command: String,
    /// The exit code, if it ended by itself.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl CliOutput {
    /// What a command that succeeded printed.
    ///
    /// # Errors
    ///
    /// When it failed.
    pub fn ok(self) -> Result<String> {
        match self.code {
            Some(0) => Ok(self.stdout),
            code => bail!("`{}` ended with {code:?}: {}{}", self.command, self.stdout, self.stderr),
        }
    }

    /// The same as JSON, for commands run with `--output json`.
    ///
    /// # Errors
    ///
    /// When it failed or printed something else.
    pub fn json(self) -> Result<Value> {
        let command = self.command.clone();
        let text = self.ok()?;
        serde_json::from_str(&text).with_context(|| format!("`{command}` printed {text}"))
    }

    /// What a command that was refused complained about.
    ///
    /// # Errors
    ///
    /// When it succeeded, or was killed.
    pub fn refused(self) -> Result<String> {
        match self.code {
            Some(0) | None => bail!("`{}` was not refused: {}", self.command, self.stdout),
            Some(_) => Ok(self.stderr),
        }
    }
}
