//! CPU time as the kernel counts it, and which core runs what.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{envoy, paths};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use std::{collections::BTreeMap, fs, process::Command};

/// One core for the Envoys, one for load and upstreams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    envoy: usize,
    load: usize,
}

impl Cores {
    /// The first two cores that this process may use; where there is one only, they share it.
    pub(crate) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let envoy = cores.next().context("no core at all")?;
        Ok(Self { envoy, load: cores.next().unwrap_or(envoy) })
    }

    /// Binds this process to its core, and what it starts from now on.
    pub(crate) fn bind_load(self) -> Result<()> {
        bind(std::process::id(), self.load)
    }

    /// Binds an Envoy to its core.
    pub(crate) fn bind_envoy(self, process: u32) -> Result<()> {
        bind(process, self.envoy)
    }
}

fn bind(process: u32, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    for thread in threads(process)? {
        // One that has ended meanwhile needs no core.
        let _ = sched_setaffinity(Pid::from_raw(thread), &set);
    }
    let bound = sched_getaffinity(Pid::from_raw(i32::try_from(process)?))?;
    ensure!(bound.count() == 1 && bound.is_set(core), "process {process} does not stay on core {core}");
    Ok(())
}

fn threads(process: u32) -> Result<Vec<i32>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).context(folder)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// What the threads of a process have used so far, in nanoseconds.
#[derive(Debug)]
pub(crate) struct CpuTime(BTreeMap<i32, u64>);

impl CpuTime {
    /// All threads count, Envoy's main thread and V8's helpers too: they run because of the variant.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let used = |thread: i32| {
            let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")).ok()?;
            Some((thread, text.split_whitespace().next()?.parse().ok()?))
        };
        let times: BTreeMap<i32, u64> = threads(process)?.into_iter().filter_map(used).collect();
        ensure!(!times.is_empty(), "process {process} has no schedstat");
        Ok(Self(times))
    }

    /// What has been used since an earlier look, in microseconds.
    pub(crate) fn microseconds_since(&self, earlier: &Self) -> f64 {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or_default();
        let used: u64 = self.0.iter().map(|(thread, now)| now.saturating_sub(before(thread))).sum();
        used as f64 / 1e3
    }
}

/// What the numbers depend on, on one line.
pub(crate) fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let information = fs::read_to_string("/proc/cpuinfo")?;
    let model = information.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown CPU", |(_, model)| model);
    let said = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).current_dir(paths::repository()).output();
        let output = output.with_context(|| program.to_owned())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = said("git", &["describe", "--always", "--dirty", "--exclude=*"])?;
    let date = said("date", &["-u", "+%Y-%m-%d"])?;
    let version = envoy::pinned_version()?;
    Ok(format!("{date}, commit {commit}, Envoy {version}, {cores} cores of {model}, load {}", load()?))
}

/// The load averages.
pub(crate) fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}
