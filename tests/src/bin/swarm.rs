//! A thousand Envoys that are none: how long a change takes until the last has it, what a stream costs
//! the flag service, and what becomes of it when all come back at once. Method and results are in
//! `docs/benchmarks.md`.

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use futures::future::try_join_all;
use prost::Message as _;
use rampart::xds::snapshot::Kind;
use rampart_tests::{
    client::Client,
    service::{Service, ServicePorts},
    wait::eventually,
    workdir::Workdir,
};
use reqwest::Method;
use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
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
    let opened = (0..streams).map(|number| Stream::open(service.xds_address(), number, HashMap::new()));
    let opened = try_join_all(opened).await?;
    let (ready, full) = (began.elapsed(), Used::by(process)?);
    let sent = full.since(&idle);
    println!("| {streams} streams ready in | {:.2} s |", ready.as_secs_f64());
    println!("| memory per stream | {:.0} KiB |", sent.rss_kib / streams as f64);
    println!("| CPU per stream, with its five responses | {:.0} µs |", sent.cpu_us / streams as f64);

    let followers: Vec<_> =
        opened.into_iter().map(|stream| tokio::spawn(stream.follow(receipts.clone()))).collect();
    report("all read", &push(&api, process, &mut received, streams, pushes).await?);
    let stopped = Stream::open(service.xds_address(), streams, HashMap::new()).await?;
    report("one has stopped reading", &push(&api, process, &mut received, streams, pushes).await?);
    drop(stopped);

    // What all of them hold by now.
    let held = Stream::open(service.xds_address(), streams, HashMap::new()).await?.held;
    for follower in &followers {
        follower.abort();
    }
    let before = Used::by(process)?;
    let began = Instant::now();
    // As an Envoy does, each tries again when its connection is not taken.
    let back = async |number| {
        let open = async || Stream::open(service.xds_address(), number, held.clone()).await;
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
        let reply = api.send(Method::PATCH, FLAG, &[], body.into_bytes()).await?;
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

/// What a process has used.
struct Used {
    cpu_us: f64,
    rss_kib: f64,
}

impl Used {
    fn by(process: u32) -> Result<Self> {
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

    fn since(&self, earlier: &Self) -> Self {
        Self { cpu_us: self.cpu_us - earlier.cpu_us, rss_kib: self.rss_kib - earlier.rss_kib }
    }
}

/// What a client holds: by type, names and versions.
type Held = HashMap<Kind, HashMap<String, String>>;

/// One delta stream on a connection of its own.
struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    held: Held,
    /// Of resources received.
    bytes: usize,
    _channel: Channel,
}

impl Stream {
    /// Opens a stream and asks for everything, as an Envoy that holds this; returns when it has it.
    async fn open(server: SocketAddr, number: usize, held: Held) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{server}"))?.connect().await?;
        let (requests, receiver) = mpsc::channel(64);
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await?;
        let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::new();
        let asked = Request::new(ReceiverStream::new(receiver));
        let node = Node { id: format!("swarm-{number}"), ..Node::default() };
        requests.send(DeltaDiscoveryRequest { node: Some(node), ..first(Kind::Cluster, &held, &[]) }).await?;
        let responses = grpc.streaming(asked, METHOD.parse()?, codec).await?.into_inner();
        let mut this = Self { requests, responses, held, bytes: 0, _channel: channel };
        let resumes = !this.held.is_empty();
        if !resumes {
            this.next().await?;
        }
        let clusters: Vec<String> =
            this.held.get(&Kind::Cluster).into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let filter = ["rampart".to_owned()];
        for (kind, names) in [
            (Kind::Endpoints, clusters.as_slice()),
            (Kind::Listener, &[][..]),
            (Kind::Route, &filter[..]),
            (Kind::Extension, &filter[..]),
        ] {
            this.requests.send(first(kind, &this.held, names)).await?;
            if !resumes {
                this.next().await?;
            }
        }
        // What is not there is answered at once, and after everything else.
        this.requests.send(first(Kind::Secret, &this.held, &["none".to_owned()])).await?;
        while this.next().await? != Kind::Secret {}
        Ok(this)
    }

    /// The next response, acknowledged.
    async fn next(&mut self) -> Result<Kind> {
        let response = timeout(PATIENCE, self.responses.message()).await.context("a response")??;
        let DeltaDiscoveryResponse { type_url, nonce, resources, .. } = response.context("an open stream")?;
        let kind = Kind::from_type_url(&type_url).context(type_url.clone())?;
        for resource in resources {
            self.bytes += resource.encoded_len();
            self.held.entry(kind).or_default().insert(resource.name, resource.version);
        }
        let ack =
            DeltaDiscoveryRequest { type_url, response_nonce: nonce, ..DeltaDiscoveryRequest::default() };
        self.requests.send(ack).await?;
        Ok(kind)
    }

    /// Tells of every policy that comes.
    async fn follow(mut self, receipts: mpsc::UnboundedSender<Instant>) -> Result<()> {
        loop {
            if self.next().await? == Kind::Extension {
                receipts.send(Instant::now())?;
            }
        }
    }
}

fn first(kind: Kind, held: &Held, names: &[String]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: names.to_vec(),
        initial_resource_versions: held.get(&kind).cloned().unwrap_or_default(),
        ..DeltaDiscoveryRequest::default()
    }
}
