//! A real Envoy: found where set-up put it, started on a configuration, observed through its admin
//! interface, ended on drop.

use crate::{
    client::Client,
    paths,
    process::{self, Process},
    wait::{SOON, eventually},
};
use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use tokio::net::TcpStream;

/// How Envoy is started on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// The binary itself.
    Binary(PathBuf),
    /// func-e, which runs the binary given, or one it downloads.
    FuncE {
        /// The `func-e` command.
        command: PathBuf,
        /// The Envoy it is told to run.
        envoy: Option<PathBuf>,
    },
}

impl Launcher {
    /// Finds Envoy: `$ENVOY_BIN`, then func-e with `$ENVOY_PATH` or the pinned wheel's binary, then
    /// that binary alone.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn find() -> Result<Self> {
        if let Some(binary) = env::var_os("ENVOY_BIN").filter(|value| !value.is_empty()) {
            let binary = PathBuf::from(binary);
            ensure!(binary.is_file(), "ENVOY_BIN={} is not a file", binary.display());
            return Ok(Self::Binary(binary));
        }
        let envoy = match env::var_os("ENVOY_PATH").filter(|value| !value.is_empty()) {
            Some(path) => Some(PathBuf::from(path)),
            None => Some(wheel()?).filter(|wheel| wheel.is_file()),
        };
        if let Some(command) = func_e() {
            return Ok(Self::FuncE { command, envoy });
        }
        envoy.map(Self::Binary).context("no Envoy found; run scripts/setup, or set ENVOY_BIN")
    }

    fn command(&self, dir: &Path) -> Result<Command> {
        match self {
            Self::Binary(binary) => Ok(Command::new(binary)),
            Self::FuncE { command, envoy } => {
                let mut command = Command::new(command);
                // Its own logs belong to the test; what it may download is worth keeping.
                command.env("FUNC_E_DATA_HOME", paths::repository().join(".tools/func-e"));
                command.env("FUNC_E_CONFIG_HOME", dir.join("func-e"));
                command.env("FUNC_E_STATE_HOME", dir.join("func-e"));
                command.env("FUNC_E_RUNTIME_DIR", dir.join("func-e/run"));
                match envoy {
                    Some(path) => command.env("ENVOY_PATH", path),
                    None => command.env("ENVOY_VERSION", pinned_version()?),
                };
                command.arg("run");
                Ok(command)
            }
        }
    }
}

/// The one version that this repository is tested with.
///
/// # Errors
///
/// When the file that pins it cannot be read.
pub fn pinned_version() -> Result<String> {
    let file = paths::repository().join("envoy/version");
    Ok(fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().to_owned())
}

fn wheel() -> Result<PathBuf> {
    Ok(paths::repository().join(format!(".tools/envoy-{}/envoy/_bin/envoy", pinned_version()?)))
}

fn func_e() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [paths::repository().join(".tools/bin")].into_iter().chain(env::split_paths(&path));
    folders.map(|folder| folder.join("func-e")).find(|candidate| candidate.is_file())
}

/// A running Envoy; killed on drop, with func-e where that started it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    client: Client,
    id: u32,
}

impl Envoy {
    /// Starts Envoy on a configuration whose admin port should be 0, with its files in `dir`, and
    /// waits until the admin interface answers. Listeners may still wait for their configuration:
    /// see `ready` and `accepts`.
    ///
    /// # Errors
    ///
    /// When there is no Envoy, or it refuses the configuration; the error shows its log's end.
    pub async fn start(dir: &Path, config: &str, concurrency: u32) -> Result<Self> {
        Self::start_by(&Launcher::find()?, dir, config, concurrency).await
    }

    /// The same, by a launcher of one's choice.
    ///
    /// # Errors
    ///
    /// When Envoy refuses the configuration; the error shows its log's end.
    pub async fn start_by(launcher: &Launcher, dir: &Path, config: &str, concurrency: u32) -> Result<Self> {
        let dir = dir.join("envoy");
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let (config_path, address_path) = (dir.join("envoy.yaml"), dir.join("admin-address"));
        fs::write(&config_path, config)?;
        // Left over from an Envoy that ran here before, it would send us to a closed port.
        if address_path.exists() {
            fs::remove_file(&address_path)?;
        }
        let mut command = launcher.command(&dir)?;
        command.arg("-c").arg(&config_path).arg("--admin-address-path").arg(&address_path);
        command.args(["--concurrency", &concurrency.to_string()]);
        // Hot restart would make parallel Envoys meet in shared memory.
        command.args(["--disable-hot-restart", "--log-level", "info", "--component-log-level", "wasm:debug"]);
        // The access log is written at once and not every ten seconds: tests wait for its lines.
        command.args(["--file-flush-interval-msec", "100"]);
        let mut process = Process::start(&mut command, &dir.join("envoy.log"))?;

        let answers = eventually(SOON, "Envoy's admin interface", async || {
            let text = fs::read_to_string(&address_path).context("no admin address yet")?;
            let admin: SocketAddr = text.parse().context("half an admin address")?;
            let client = Client::new(admin)?;
            client.get("/server_info", None).await?;
            Ok((admin, client))
        });
        let (admin, client) = process.while_alive(answers).await?;
        let id = process.innermost()?;
        Ok(Self { process, admin, client, id })
    }

    /// Waits until Envoy says that it is initialised: with xDS, after its first configuration.
    ///
    /// # Errors
    ///
    /// When it does not become so in time.
    pub async fn ready(&mut self) -> Result<()> {
        let ready = eventually(SOON, "Envoy's readiness", async || {
            let reply = self.client.get("/ready", None).await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text().trim());
            Ok(())
        });
        self.process.while_alive(ready).await
    }

    /// Waits until something accepts connections at a listener's address.
    ///
    /// # Errors
    ///
    /// When nothing does in time.
    pub async fn accepts(&mut self, listener: SocketAddr) -> Result<()> {
        let accepts = eventually(SOON, "Envoy's listener", async || {
            TcpStream::connect(listener).await.map(drop).with_context(|| listener.to_string())
        });
        self.process.while_alive(accepts).await
    }

    /// The admin interface's address.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What the admin interface answers at a path.
    ///
    /// # Errors
    ///
    /// When it answers with an error.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let reply = self.client.get(path, None).await?;
        ensure!(reply.status == 200, "{path}: {} {}", reply.status, reply.text());
        Ok(reply.text())
    }

    /// All counters and gauges.
    ///
    /// # Errors
    ///
    /// When the admin interface does not answer.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.admin("/stats").await?;
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        // Histograms and text readouts are not numbers.
        Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// One counter or gauge.
    ///
    /// # Errors
    ///
    /// When Envoy has none of that name.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        self.stats().await?.get(name).copied().ok_or_else(|| anyhow!("no counter or gauge {name}"))
    }

    /// The configuration it runs, endpoints included.
    ///
    /// # Errors
    ///
    /// When the admin interface does not answer.
    pub async fn config_dump(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin("/config_dump?include_eds").await?)?)
    }

    /// Envoy's own process, not func-e's.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The process that was started: Envoy's, or func-e's.
    #[must_use]
    pub fn launcher_id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    ///
    /// When Envoy has ended.
    pub fn resident_kib(&self) -> Result<u64> {
        process::resident_kib(self.id)
    }

    /// Everything it has logged.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    ///
    /// When it outlives the signal.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
}
