//! A child process with its output in a log file, ended with everything it started.

use crate::wait::{self, eventually};
use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// A running process; killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    ///
    /// # Errors
    ///
    /// When the program or the log cannot be opened.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("opening {}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits for something that the process is to bring about, no longer than the process lives.
    ///
    /// # Errors
    ///
    /// With the work's error, or with the end of the log if the process ends first.
    pub async fn while_alive<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let ended = eventually(Duration::MAX, "its end", async || self.ended());
        tokio::select! {
            result = work => result,
            status = ended => bail!("the process ended ({}):\n{}", status?, self.log_tail()),
        }
    }

    fn ended(&mut self) -> Result<ExitStatus> {
        self.child.try_wait()?.context("it lives")
    }

    /// The process that was started, which may be only the launcher of the one that counts.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last process of the chain: what a launcher started, or the process itself.
    ///
    /// # Errors
    ///
    /// Where there is no `/proc`.
    pub fn innermost(&self) -> Result<u32> {
        let mut id = self.child.id();
        while let Some(&child) = children(id)?.first() {
            id = child;
        }
        Ok(id)
    }

    /// Everything the process has said.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| self.log.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Kills the process and what it started, without a chance to tidy up, and waits for the end.
    ///
    /// # Errors
    ///
    /// When it outlives the signal.
    pub fn kill(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        // From the inside out: a launcher that still lives reaps its child, so that nothing is left
        // to whoever adopts orphans.
        if let Ok(inner) = self.innermost()
            && inner != self.child.id()
        {
            signal(inner, Signal::KILL)?;
            if wait::exited(wait::SOON / 4, &mut self.child).is_ok() {
                return Ok(());
            }
        }
        self.child.kill()?;
        wait::exited(wait::SOON, &mut self.child)?;
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("process {} could not be ended: {error:#}", self.child.id());
        }
    }
}

fn signal(id: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("not a process id")?;
    kill_process(pid, signal).with_context(|| format!("signalling process {id}"))
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("no /proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while its neighbours are read.
        if status_field(id, "PPid").is_ok_and(|ppid| ppid == u64::from(parent)) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The resident memory of a process in KiB.
///
/// # Errors
///
/// When it does not run, or there is no `/proc`.
pub fn resident_kib(id: u32) -> Result<u64> {
    status_field(id, "VmRSS")
}

/// Whether a process runs; one that is dead but not yet waited for does not.
#[must_use]
pub fn is_running(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

fn status_field(id: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or_else(|| anyhow!(io::Error::from(io::ErrorKind::NotFound)))?.parse()?)
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Time of its threads, in microseconds.
    pub cpu_us: f64,
    /// Memory that it has now, in KiB.
    pub rss_kib: f64,
}

impl Used {
    /// What this process has used so far.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn by(process: u32) -> Result<Self> {
        let mut cpu_ns = 0_u64;
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            cpu_ns += text.split_whitespace().next().context("schedstat")?.parse::<u64>()?;
        }
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let rss_kib = line.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { cpu_us: cpu_ns as f64 / 1e3, rss_kib })
    }

    /// What was used between.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { cpu_us: self.cpu_us - earlier.cpu_us, rss_kib: self.rss_kib - earlier.rss_kib }
    }
}
