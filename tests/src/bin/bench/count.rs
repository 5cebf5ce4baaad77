//! Instructions per request: each variant's Envoy under valgrind, which counts what it executes, its
//! own code and what V8 has compiled. Whatever else the machine does, a count is what it is.
//!
//! Variants that verify signatures are left out: valgrind's processor lacks what BoringSSL uses here.

use std::{
    fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rampart_tests::envoy::Launcher;

use crate::{Runner, report, variants::Variant};

/// What is counted, the dearest of each kind last.
pub(crate) const VARIANTS: [Variant; 6] = [
    Variant::Plain,
    Variant::NoOp,
    Variant::NativeCached,
    Variant::NativeChain,
    Variant::NativeChainTelling,
    Variant::Rampart,
];

/// Instructions per request, by variant.
pub(crate) type Counts = Vec<(Variant, f64)>;

/// Requests before counting begins: V8 has compiled, and the caches are full.
const WARM_UP: usize = 300;

/// Starts Envoy under callgrind, which counts nothing until it is told to.
pub(crate) fn launcher(dir: &Path) -> Result<Launcher> {
    let envoy = match Launcher::find()? {
        Launcher::Binary(envoy) | Launcher::FuncE { envoy: Some(envoy), .. } => envoy,
        Launcher::FuncE { envoy: None, .. } => bail!("func-e cannot be counted; set ENVOY_BIN"),
    };
    let script = dir.join("counted-envoy");
    let out = dir.join("counted");
    fs::write(
        &script,
        format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --smc-check=all-non-file --instr-atstart=no \
             --callgrind-out-file={} {} \"$@\"\n",
            out.display(),
            envoy.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(Launcher::Binary(script))
}

impl Runner {
    /// What one request costs. The runner was started by `launcher` in this folder.
    pub(crate) fn count(&mut self, dir: &Path, requests: usize) -> Result<f64> {
        let process = self.envoy.id();
        tell(process, &["instrumentation", "on"])?;
        self.load.burst(Duration::MAX, WARM_UP)?;
        tell(process, &["zero"])?;
        let burst = self.load.burst(Duration::MAX, requests)?;
        tell(process, &["dump"])?;
        let dump = dir.join("counted.1");
        let text = fs::read_to_string(&dump).with_context(|| dump.display().to_string())?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: f64 = total.context("valgrind has told no total")?.trim().parse()?;
        ensure!(total > 0.0, "nothing was counted");
        Ok(total / burst.requests as f64)
    }
}

/// One of callgrind's monitor commands, and that it was carried out.
fn tell(process: u32, command: &[&str]) -> Result<()> {
    let output = Command::new("vgdb").arg(format!("--pid={process}")).args(command).output();
    let output = output.context("vgdb, of Debian's package valgrind")?;
    ensure!(output.status.success(), "vgdb {command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What a cached request may execute, as a multiple of what another variant does. The chain that does as much is
/// the bar; against the one that tells nobody anything, it is how near one comes.
const BARS: [(Variant, f64); 2] = [(Variant::NativeChainTelling, 1.0), (Variant::NativeChain, 1.1)];

/// The table, and the bars.
pub(crate) fn markdown(heading: &str, counts: &Counts) -> String {
    let plain = of(counts, Variant::Plain);
    let mut text =
        format!("{heading}\n\n| variant | instructions per request | over plain |\n|---|---|---|\n");
    for (variant, count) in counts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {count:.0} | {:+.0} |", variant.name(), count - plain);
    }
    text += "\n| bar | whole request: ratio | what the filters add: ratio |\n|---|---|---|\n";
    let own = of(counts, Variant::Rampart);
    for (base, limit) in BARS {
        let base_count = of(counts, base);
        let (whole, added) = (own / base_count, (own - plain) / (base_count - plain));
        let bar = report::bar(Variant::Rampart, limit, base);
        let _ = writeln!(text, "| {bar} | {whole:.2} | {added:.2} |");
    }
    text
}

/// Holds the whole request against the bars.
pub(crate) fn check(counts: &Counts) -> Result<()> {
    let own = of(counts, Variant::Rampart);
    for (base, limit) in BARS {
        let most = of(counts, base) * limit;
        ensure!(
            own <= most,
            "a cached request executes {own:.0} instructions; {most:.0} is the most beside {}",
            base.name()
        );
    }
    Ok(())
}

fn of(counts: &Counts, variant: Variant) -> f64 {
    counts.iter().find(|(other, _)| *other == variant).map_or(f64::NAN, |(_, count)| *count)
}
