//! The demo: the main job on real processes. `--check` tells the whole story and judges it;
//! without, everything is left running for people to try.

mod story;

use std::{fs, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use rampart_tests::{
    paths,
    seed::{EARLY, FLAG, LATE, ROUTE},
    stack::{Ports, Stack},
    workdir::Workdir,
};
use tokio::signal::unix::{SignalKind, signal};

/// Runs Rampart with a real Envoy and sample modules.
#[derive(Parser)]
struct Demo {
    /// Drive the whole story, print what is seen at each step, stop everything; exit 0 or 1
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let told = if Demo::parse().check { check().await } else { run().await };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn check() -> Result<()> {
    let started = Instant::now();
    let workdir = Workdir::create("demo")?;
    story::tell(workdir.path()).await?;
    println!("\neverything held, in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

async fn run() -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let dir = paths::target_folder()?.join("demo");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir_all(&dir)?;
    let stack = tokio::select! {
        stack = Stack::for_people(&dir, Ports::Documented) => stack?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    println!("{}", introduction(&stack, &dir.display().to_string()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Dropped here: Envoy, the service and the modules are stopped.
    drop(stack);
    Ok(())
}

fn introduction(stack: &Stack, dir: &str) -> String {
    let listener = stack.service.listener_address();
    format!(
        "Running: Envoy on {listener} (admin {}), the flag service on {}, four sample modules.
Logs and the database are in {dir}. Ctrl-C stops everything.

Try, in another terminal:

  export PATH=$PWD/target/debug:$PATH
  rampart status
  rampart flag list

  # `{EARLY}` is within the 25 % of {FLAG}, `{LATE}` is not:
  token() {{ rampart token issue --key {dir}/private-key.pem --issuer https://development.example \\
      --organisation $1 --permission read_analytics --permission view_dashboard; }}
  curl -s -H \"Authorization: Bearer $(token {EARLY})\" http://{listener}{ROUTE}
  curl -s -H \"Authorization: Bearer $(token {LATE})\" http://{listener}{ROUTE}
  curl -s http://{listener}{ROUTE}

  rampart flag explain {FLAG} --organisation {LATE}
  rampart flag set {FLAG} --percentage 100
  rampart flag kill {FLAG} --reason 'just to see'
  rampart history",
        stack.envoy.admin_address(),
        stack.service.api_address(),
    )
}
