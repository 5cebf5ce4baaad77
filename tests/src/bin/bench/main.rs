//! The benchmark: what Envoy pays per request, for Rampart and for what one would use instead.
//! All variants live at once and take turns, so that whatever else the machine does meets all of
//! them alike. `docs/benchmarks.md` says how to read the result.

mod count;
mod cpu;
mod load;
mod report;
mod tokens;
mod variants;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use cpu::{Cores, CpuTime};
use futures::future::try_join_all;
use load::{Heard, Load, Upstream};
use rampart_tests::{
    client::Client,
    envoy::{Envoy, Launcher},
    modules::NO_OP,
    paths,
    ports::Port,
    shipped::StaticVariant,
    workdir::Workdir,
};
use report::{Sample, Samples};
use tokens::{PATH, Pools};
use variants::Variant;

/// Measures Envoy's CPU time per request, with Rampart, without, and with Envoy's own filters.
#[derive(Parser)]
struct Bench {
    /// See only that every variant serves and is measured, in a few seconds; the numbers mean nothing
    #[arg(long, conflicts_with_all = ["count", "write", "rounds", "milliseconds"])]
    quick: bool,
    /// Count instructions under valgrind in place of measuring time, and fail where a bar is missed
    #[arg(long, conflicts_with_all = ["rounds", "milliseconds"])]
    count: bool,
    /// Put the results into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// How often each variant has its turn
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How long a turn is
    #[arg(long, default_value_t = 1_000)]
    milliseconds: u64,
}

/// How many requests are counted: what they cost on average differs between runs in the fourth digit.
const COUNTED: usize = 2_000;

/// How much is done.
struct Extent {
    rounds: usize,
    turn: Duration,
    /// At most so many requests in a turn: in a quick run, every token of the cold pools is then new.
    requests: usize,
    /// A pool's size in a thousandth parts.
    pools: usize,
}

impl Bench {
    fn extent(&self) -> Extent {
        if self.quick {
            Extent { rounds: 2, turn: Duration::from_millis(200), requests: 100, pools: 20 }
        } else {
            let turn = Duration::from_millis(self.milliseconds);
            Extent { rounds: self.rounds.max(1), turn, requests: usize::MAX, pools: 1_000 }
        }
    }
}

/// A variant at work.
struct Runner {
    variant: Variant,
    envoy: Envoy,
    listener: Port,
    load: Load,
    /// What the module was sent, by whichever variant came last.
    heard: Heard,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Bench::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(bench: &Bench) -> Result<()> {
    if bench.count {
        return count(bench.write).await;
    }
    let extent = bench.extent();
    let machine = cpu::machine()?;
    eprintln!("bench: {machine}");
    let workdir = Workdir::create("bench")?;
    let pools = Pools::mint(extent.pools)?;
    pools.check_against_the_cache()?;
    let cores = Cores::find()?;
    let mut runners = start(workdir.path(), &pools, cores).await?;
    for runner in &mut runners {
        runner.keeps_its_word(&pools).await.with_context(|| runner.variant.name())?;
        runner.warm_up(&extent)?;
    }

    let mut samples = Samples::new(Variant::ALL);
    for round in 0..extent.rounds {
        // Whoever comes after a dear variant finds other things in the core's caches: take turns.
        for turn in 0..runners.len() {
            let at = (round + turn) % runners.len();
            let runner = &mut runners[at];
            let sample = runner.measure(&extent).with_context(|| runner.variant.name())?;
            samples.add(runner.variant, sample);
        }
    }
    runners.iter().try_for_each(Runner::was_cold_if_it_should_be)?;
    if bench.quick {
        let requests: usize = runners.iter().map(|runner| runner.load.sent()).sum();
        println!("{} variants served {requests} requests, all with 2xx, and were measured", runners.len());
        return Ok(());
    }
    let results = samples.markdown(&format!(
        "{machine}; afterwards {}. {} rounds of {} ms, {} connections.",
        cpu::load()?,
        extent.rounds,
        extent.turn.as_millis(),
        load::CONNECTIONS
    ));
    println!("{results}");
    if bench.write {
        report::write(&document(), "results", &results)?;
    }
    Ok(())
}

/// One variant after the other: a count does not depend on what else runs.
async fn count(write: bool) -> Result<()> {
    let machine = cpu::machine()?;
    let workdir = Workdir::create("bench")?;
    let (pools, parts) = (Pools::mint(1)?, Parts::make(workdir.path())?);
    let mut counts = count::Counts::new();
    for variant in count::VARIANTS {
        let dir = workdir.path().join(format!("{variant:?}"));
        std::fs::create_dir_all(&dir)?;
        let launcher = count::launcher(&dir)?;
        let counted = async {
            let mut runner = parts.start(variant, &dir, &pools, &launcher).await?;
            runner.keeps_its_word(&pools).await?;
            runner.count(&dir, COUNTED)
        };
        let instructions = counted.await.with_context(|| variant.name())?;
        eprintln!("bench: {}: {instructions:.0} instructions", variant.name());
        counts.push((variant, instructions));
    }
    let heading = format!("{machine}. {COUNTED} requests each, {} connections.", load::CONNECTIONS);
    let results = count::markdown(&heading, &counts);
    println!("{results}");
    if write {
        report::write(&document(), "counts", &results)?;
    }
    count::check(&counts)
}

fn document() -> PathBuf {
    paths::repository().join("docs/benchmarks.md")
}

/// What all variants share.
struct Parts {
    module: Upstream,
    legacy: Upstream,
    filter: PathBuf,
    no_op: PathBuf,
}

impl Parts {
    fn make(dir: &Path) -> Result<Self> {
        let (module, legacy) = (Upstream::start("module")?, Upstream::start("legacy")?);
        Ok(Self { module, legacy, filter: paths::filter()?, no_op: NO_OP.write_to(dir)? })
    }

    async fn start(
        &self,
        variant: Variant,
        dir: &Path,
        pools: &Pools,
        launcher: &Launcher,
    ) -> Result<Runner> {
        let listener = Port::claim()?;
        let config = StaticVariant {
            listener: listener.address(),
            analytics: self.module.address,
            legacy: self.legacy.address,
            module: if variant == Variant::NoOp { &self.no_op } else { &self.filter },
            policy: pools.policy(),
        };
        let mut envoy = Envoy::start_by(launcher, dir, &variant.render(&config)?, 1).await?;
        envoy.ready().await?;
        envoy.accepts(listener.address()).await?;
        let requests: Arc<[Vec<u8>]> = pools.requests(variant.tokens());
        let load = Load::open(listener.address(), requests)?;
        Ok(Runner { variant, envoy, listener, load, heard: self.module.heard() })
    }
}

async fn start(dir: &Path, pools: &Pools, cores: Cores) -> Result<Vec<Runner>> {
    let (parts, launcher) = (&Parts::make(dir)?, &Launcher::find()?);
    let launch = async |variant: Variant| {
        let dir = dir.join(format!("{variant:?}"));
        parts.start(variant, &dir, pools, launcher).await.with_context(|| variant.name())
    };
    let runners = try_join_all(Variant::ALL.map(launch)).await?;
    cores.bind_load()?;
    runners.iter().try_for_each(|runner| cores.bind_envoy(runner.envoy.id()))?;
    Ok(runners)
}

impl Runner {
    /// A variant that does not do its job would be fast: it is held against what it claims.
    async fn keeps_its_word(&self, pools: &Pools) -> Result<()> {
        let client = Client::new(self.listener.address())?;
        let [poor, outside] = pools.strangers();
        let (authenticates, whole) = (self.variant.authenticates(), self.variant.does_the_job());
        for (who, token, status, served_by) in [
            ("nobody", None, if authenticates { 401 } else { 200 }, "module"),
            ("who lacks the permission", Some(poor), if whole { 403 } else { 200 }, "module"),
            ("who is not enrolled", Some(outside), 200, if whole { "legacy" } else { "module" }),
        ] {
            let reply = client.get(PATH, token.map(String::as_str)).await?;
            ensure!(reply.status == status, "{who}: {} {}", reply.status, reply.text());
            ensure!(status != 200 || reply.text().starts_with(served_by), "{who}: {}", reply.text());
        }
        if self.variant.is_cold() {
            // It would not be new any more; the same filters show their work with tokens that need not be.
            return Ok(());
        }
        let reply = client.get(PATH, Some(pools.good())).await?;
        ensure!(
            reply.status == 200 && reply.text().starts_with("module"),
            "who is enrolled: {}",
            reply.text()
        );
        let heard = self.heard.text();
        for name in ["module", "organisation", "subject", "permissions", "flags"] {
            let told = heard.contains(&format!("\r\nx-rampart-{name}: "));
            ensure!(told == self.variant.tells(), "x-rampart-{name}: told is {told}");
        }
        Ok(())
    }

    /// Until every token of a warm pool is known, and V8 has compiled what it runs often.
    fn warm_up(&mut self, extent: &Extent) -> Result<()> {
        let known = if self.variant.is_cold() { 0 } else { self.load.distinct() };
        let requests = known.max(2 * extent.pools);
        self.load.burst(Duration::MAX, requests).with_context(|| self.variant.name())?;
        Ok(())
    }

    fn measure(&mut self, extent: &Extent) -> Result<Sample> {
        let process = self.envoy.id();
        let before = CpuTime::of(process)?;
        let burst = self.load.burst(extent.turn, extent.requests)?;
        let used = CpuTime::of(process)?.microseconds_since(&before);
        ensure!(used > 0.0, "no CPU time was measured for {} requests", burst.requests);
        let (requests, seconds) = (burst.requests as f64, burst.elapsed.as_secs_f64());
        Ok(Sample { cpu: used / requests, rate: requests / seconds, busy: used / 1e6 / seconds })
    }

    /// Either no token was sent twice, or the pool is larger than the cache.
    fn was_cold_if_it_should_be(&self) -> Result<()> {
        let new = self.load.sent() <= self.load.distinct() || self.load.distinct() >= tokens::COLD;
        ensure!(!self.variant.is_cold() || new, "{}: tokens came back too soon", self.variant.name());
        Ok(())
    }
}
