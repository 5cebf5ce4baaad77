//! What size costs: the flag service and an Envoy with a thousand modules, a thousand flags and a hundred
//! thousand named organisations, beside the same with ten. Method and results are in `docs/benchmarks.md`.

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rampart::xds::snapshot::Kind;
use rampart_tests::{
    client::Client,
    delta::Stream,
    process::Used,
    seed::{EARLY, FLAG, ROUTE},
    stack::{Options, Stack},
    wait::eventually,
    workdir::Workdir,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Routes of a module, and organisations that a flag names.
const ROUTES: usize = 10;
const NAMES: usize = 100;

/// Measures one flag service and one Envoy at several sizes.
#[derive(Parser)]
struct Arguments {
    /// Modules; and as many flags
    #[arg(long, value_delimiter = ',', default_value = "10,1000")]
    modules: Vec<usize>,
    /// Changes that are timed
    #[arg(long, default_value_t = 11)]
    edits: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { modules, edits } = Arguments::parse();
    let mut table: Vec<(&str, Vec<String>)> = Vec::new();
    for size in &modules {
        for (index, (what, value)) in measure(*size, edits).await?.into_iter().enumerate() {
            match table.get_mut(index) {
                Some((_, values)) => values.push(value),
                None => table.push((what, vec![value])),
            }
        }
    }
    let mut text = String::from("| |");
    for size in &modules {
        write!(text, " {size} modules, {size} flags, {} names |", size * NAMES)?;
    }
    writeln!(text, "\n|---|{}", "---|".repeat(modules.len()))?;
    for (what, values) in table {
        writeln!(text, "| {what} | {} |", values.join(" | "))?;
    }
    print!("{text}");
    println!("\nload {}", fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// Each thing that is measured, and how it came out.
async fn measure(size: usize, edits: usize) -> Result<Vec<(&'static str, String)>> {
    let dir = Workdir::create("scale")?;
    let mut stack = Stack::start(dir.path(), Options::default()).await?;
    stack.seed(dir.path()).await?;
    let api = stack.service.client()?;
    let mut told = Vec::new();

    let began = Instant::now();
    apply(&api, (0..size).map(flag)).await?;
    apply(&api, (0..size).map(module)).await?;
    told.push(("all of it applied, as two changes", ms(began.elapsed())));

    stack.service.kill()?;
    let began = Instant::now();
    stack.service.start().await?;
    let opened = Stream::open(stack.service.xds_address(), "scale", HashMap::new());
    let mut stream = opened.await?;
    told.push(("flag service started → a new Envoy's worth is sent", ms(began.elapsed())));
    told.push(("bytes of that", stream.bytes.to_string()));
    let process = stack.service.id().context("the service runs")?;
    told.push(("memory of the flag service then", mib(Used::by(process)?)));

    let api = stack.service.client()?;
    let token = stack.token(EARLY)?;
    let client = stack.client()?;
    let (mut answered, mut decided, mut bytes) = (Vec::new(), Vec::new(), 0);
    for edit in 0..edits {
        let (percentage, server) = if edit % 2 == 0 { (100, "analytics-core v1") } else { (0, "legacy") };
        let before = stream.bytes;
        let began = Instant::now();
        let body = json!({ "percentage": percentage }).to_string().into_bytes();
        let edited =
            api.send(Method::PATCH, &format!("/api/v1/flags/{FLAG}"), &[("if-match", "*")], body).await?;
        ensure!(edited.status == 200, "{}", edited.text());
        answered.push(began.elapsed());
        eventually(PATIENCE, "the edit", async || {
            let served = client.get(ROUTE, Some(&token)).await?.served_by();
            ensure!(served == server, "{served}");
            Ok(())
        })
        .await?;
        decided.push(began.elapsed());
        while stream.next().await? != Kind::Extension {}
        bytes = stream.bytes - before;
    }
    told.push(("edit of a flag → answered", ms(median(&mut answered))));
    told.push(("edit of a flag → first request decided by it", ms(median(&mut decided))));
    told.push(("bytes pushed to each Envoy by it", bytes.to_string()));
    told.push(("memory of the flag service after the edits", mib(Used::by(process)?)));

    let explain = format!("/api/v1/flags/{FLAG}/explain?organisation={EARLY}");
    let preview = (format!("/api/v1/flags/{FLAG}/preview"), json!({"patch": {"percentage": 50}}).to_string());
    let (mut explained, mut previewed) = (Vec::new(), Vec::new());
    for _ in 0..edits {
        let began = Instant::now();
        let reply = api.get(&explain, None).await?;
        ensure!(reply.status == 200, "{}", reply.text());
        explained.push(began.elapsed());
        let began = Instant::now();
        let reply = api.send(Method::POST, &preview.0, &[], preview.1.clone().into_bytes()).await?;
        ensure!(reply.status == 200, "{}", reply.text());
        previewed.push(began.elapsed());
    }
    told.push(("`explain` of one organisation", ms(median(&mut explained))));
    told.push(("`preview` of all that flags name", ms(median(&mut previewed))));
    told.push(("memory of Envoy", mib(Used::by(stack.envoy.id())?)));
    Ok(told)
}

/// Applies these resources as one change.
async fn apply(api: &Client, resources: impl Iterator<Item = Value>) -> Result<()> {
    let body = json!({"resources": resources.collect::<Vec<_>>()}).to_string().into_bytes();
    let reply = api.send(Method::POST, "/api/v1/apply", &[("if-match", "*")], body).await?;
    ensure!(reply.status == 200, "{}", reply.text());
    Ok(())
}

fn flag(number: usize) -> Value {
    let names: Vec<String> = (0..NAMES).map(|name| format!("organisation-{number:04}-{name:02}")).collect();
    json!({"kind": "flag", "key": format!("scale_{number:04}"), "percentage": 25, "organisations": {"on": names}})
}

fn module(number: usize) -> Value {
    let routes: Vec<Value> = (0..ROUTES)
        .map(|route| json!({"path": format!("/things/{{id}}/part-{route}"), "methods": ["GET"]}))
        .collect();
    json!({
        "kind": "module", "id": format!("scale_{number:04}"), "version": "v1", "namespace": format!("scale-{number:04}"),
        "flags": [format!("scale_{number:04}")], "routes": routes, "endpoints": ["127.0.0.1:9"],
    })
}

fn median(durations: &mut [Duration]) -> Duration {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn mib(used: Used) -> String {
    format!("{:.0} MiB", used.rss_kib / 1024.0)
}
