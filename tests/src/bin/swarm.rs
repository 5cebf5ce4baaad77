//! A thousand Envoys that are none: how long a change takes until the last has it, what a stream costs
//! the flag service, and what becomes of it when all come back at once. Method and results are in
//! `docs/benchmarks.md`.

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use futures::future::try_join_all;
use rampart::xds::snapshot::Kind;
use rampart_tests::{
    client::Client,
    delta::{Held, Stream},
    process::Used,
    service::{Service, ServicePorts},
    wait::eventually,
    workdir::Workdir,
};
use reqwest::Method;
use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

const FLAG: &str = "/api/v1/flags/swarm";
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures `rampart serve` with many delta streams, one connection each.
#[derive(Parser)]
struct Options {
    /// Streams
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Changes that are timed, of each kind
    #[arg(long, default_value_t = 20)]
    pushes: usize,
    /// Modules that are served, each with a cluster and endpoints
    #[arg(long, default_value_t = 50)]
    modules: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Options { streams, pushes, modules } = Options::parse();
    let dir = Workdir::create("swarm")?;
    let mut service = Service::new(dir.path(), ServicePorts::free()?);
    service.start().await?;
    let process = service.id().context("the service runs")?;
    let api = service.client()?;
    seed(&api, modules).await?;

    let idle = Used::by(process)?;
    let (receipts, mut received) = mpsc::unbounded_channel();
    let began = Instant::now();
    let opened = (0..streams).map(|number| open(&service, number, HashMap::new()));
    let opened = try_join_all(opened).await?;
    let (ready, full) = (began.elapsed(), Used::by(process)?);
    let sent = full.since(&idle);
    println!("| {streams} streams ready in | {:.2} s |", ready.as_secs_f64());
    println!("| memory per stream | {:.0} KiB |", sent.rss_kib / streams as f64);
    println!("| CPU per stream, with its five responses | {:.0} µs |", sent.cpu_us / streams as f64);

    let followers: Vec<_> =
        opened.into_iter().map(|stream| tokio::spawn(follow(stream, receipts.clone()))).collect();
    report("all read", &push(&api, process, &mut received, streams, pushes).await?);
    let stopped = open(&service, streams, HashMap::new()).await?;
    report("one has stopped reading", &push(&api, process, &mut received, streams, pushes).await?);
    drop(stopped);

    // What all of them hold by now.
    let held = open(&service, streams, HashMap::new()).await?.held;
    for follower in &followers {
        follower.abort();
    }
    let before = Used::by(process)?;
    let began = Instant::now();
    // As an Envoy does, each tries again when its connection is not taken.
    let back = async |number| {
        let open = async || open(&service, number, held.clone()).await;
        eventually(PATIENCE, "a stream", open).await
    };
    let again = try_join_all((0..streams).map(back)).await?;
    let used = Used::by(process)?;
    let bytes: usize = again.iter().map(|stream| stream.bytes).sum();
    println!("| all back at once, ready in | {:.2} s |", began.elapsed().as_secs_f64());
    println!("| bytes of resources sent to them again | {bytes} |");
    println!("| memory then, of before | {:.2} |", used.rss_kib / before.rss_kib);
    println!("| load | {} |", fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

async fn open(service: &Service, number: usize, held: Held) -> Result<Stream> {
    Stream::open(service.xds_address(), &format!("swarm-{number}"), held).await
}

/// Modules and a flag that makes the policy some 10 KB.
async fn seed(api: &Client, modules: usize) -> Result<()> {
    for number in 0..modules {
        let module = serde_json::json!({"id": format!("m{number}"), "endpoints": ["127.0.0.1:9"]});
        put(api, &format!("/api/v1/module-management/modules/m{number}"), &module).await?;
    }
    let names: Vec<String> = (0..300).map(|number| format!("organisation-{number:04}")).collect();
    let flag = serde_json::json!({"percentage": 1, "organisations": {"on": names}});
    put(api, FLAG, &flag).await
}

async fn put(api: &Client, path: &str, body: &serde_json::Value) -> Result<()> {
    let reply = api.send(Method::PUT, path, &[], body.to_string().into_bytes()).await?;
    ensure!((200..300).contains(&reply.status), "{path}: {} {}", reply.status, reply.text());
    Ok(())
}

/// What changes took.
struct Pushes {
    /// From the moment a change is submitted until a stream has it, for every change and stream.
    each: Vec<Duration>,
    /// The same until the last stream has it.
    last: Vec<Duration>,
    cpu_us_per_response: f64,
}

/// Submits one change after another; each is waited for on every stream.
async fn push(
    api: &Client,
    process: u32,
    received: &mut mpsc::UnboundedReceiver<Instant>,
    streams: usize,
    pushes: usize,
) -> Result<Pushes> {
    let before = Used::by(process)?;
    let (mut each, mut last) = (Vec::new(), Vec::new());
    for number in 0..pushes {
        let began = Instant::now();
        let body = format!("{{\"percentage\": {}}}", 10 + number % 50);
        let reply = api.send(Method::PATCH, FLAG, &[("if-match", "*")], body.into_bytes()).await?;
        ensure!(reply.status == 200, "{}", reply.text());
        for _ in 0..streams {
            let at = timeout(PATIENCE, received.recv()).await.context("a receipt")?.context("the streams")?;
            each.push(at - began);
        }
        last.push(began.elapsed());
    }
    let used = Used::by(process)?.since(&before);
    Ok(Pushes { each, last, cpu_us_per_response: used.cpu_us / (streams * pushes) as f64 })
}

fn report(what: &str, pushes: &Pushes) {
    let ms = |durations: &[Duration], part: f64| {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        sorted[((sorted.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3
    };
    let (each, last) = (&pushes.each, &pushes.last);
    println!(
        "| {what}: change → receipt, p50 / p99 / max | {:.0} / {:.0} / {:.0} ms |",
        ms(each, 0.5),
        ms(each, 0.99),
        ms(each, 1.0)
    );
    println!("| {what}: change → last receipt, p50 / max | {:.0} / {:.0} ms |", ms(last, 0.5), ms(last, 1.0));
    println!("| {what}: CPU per response, with the change itself | {:.0} µs |", pushes.cpu_us_per_response);
}

/// Tells of every policy that comes.
async fn follow(mut stream: Stream, receipts: mpsc::UnboundedSender<Instant>) -> Result<()> {
    loop {
        if stream.next().await? == Kind::Extension {
            receipts.send(Instant::now())?;
        }
    }
}
