//! `/metrics`: counts of requests by route, and of everything else that counts itself, as OpenMetrics.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Api;
use crate::counts::seconds;
use crate::running::Reported;

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
    revision: Gauge,
    connected: Gauge,
    refusing: Gauge,
    key_sets: KeySets,
    process: Process,
    /// What is looked at when it is asked for is told by one at a time.
    turn: Mutex<()>,
}

/// Issuers' keys that are fetched.
#[derive(Debug, Default)]
struct KeySets {
    keys: Family<Of, Gauge>,
    failures: Family<Of, Gauge>,
    fetched: Family<Of, Gauge<f64, AtomicU64>>,
    newest: Family<Of, Gauge<f64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    provider: String,
}

/// A request by its route, which is one of the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    status: u16,
}

/// The process, by the names that Prometheus' own libraries use.
#[derive(Debug, Default)]
struct Process {
    cpu: Counter<f64, AtomicU64>,
    memory: Gauge,
    files: Gauge,
    started: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub(super) fn new(api: &Api) -> Self {
        let mut registry = Registry::default();
        let (requests, revision, connected, refusing) =
            (Family::default(), Gauge::<i64, AtomicI64>::default(), Gauge::default(), Gauge::default());
        let durations = Family::new_with_constructor(seconds as fn() -> Histogram);
        let process = Process::default();
        let own = registry.sub_registry_with_prefix("rampart");
        own.register("api_requests", "Requests to the API", Family::clone(&requests));
        let help = "How long the API takes to answer";
        own.register_with_unit("api_request_duration", help, Unit::Seconds, Family::clone(&durations));
        own.register("revision", "The newest revision", revision.clone());
        own.register("envoys_connected", "Envoys that are connected to this process", connected.clone());
        own.register(
            "envoys_refusing",
            "Connected Envoys that refuse what they were sent last",
            refusing.clone(),
        );
        let key_sets = KeySets::default();
        key_sets.register(own);
        api.keeper.counts().register(own);
        api.writer.counts().register(own);
        api.fleet.answers().register(own);
        registry.register_collector(Box::new(Reported(Arc::clone(&api.fleet))));
        let of_process = registry.sub_registry_with_prefix("process");
        of_process.register_with_unit("cpu", "Time on processors", Unit::Seconds, process.cpu.clone());
        of_process.register_with_unit(
            "resident_memory",
            "Memory in use",
            Unit::Bytes,
            process.memory.clone(),
        );
        of_process.register("open_fds", "Open files and connections", process.files.clone());
        let help = "When the process started, since the Unix epoch";
        of_process.register_with_unit("start_time", help, Unit::Seconds, process.started.clone());
        Self {
            registry,
            requests,
            durations,
            revision,
            connected,
            refusing,
            key_sets,
            process,
            turn: Mutex::default(),
        }
    }

    fn look(&self, api: &Api) {
        self.revision.set(api.writer.head().revision.cast_signed());
        let nodes = api.fleet.nodes();
        let connected = || nodes.iter().filter(|node| node.connected);
        let refusing = connected().filter(|node| node.types.values().any(|kind| kind.nacked.is_some()));
        self.connected.set(i64::try_from(connected().count()).unwrap_or(i64::MAX));
        self.refusing.set(i64::try_from(refusing.count()).unwrap_or(i64::MAX));
        self.key_sets.look(api);
        self.process.look();
    }
}

impl KeySets {
    fn register(&self, registry: &mut Registry) {
        let Self { keys, failures, fetched, newest } = self;
        registry.register("jwks_keys", "Keys of an issuer that are fetched", keys.clone());
        let help = "How many fetches of an issuer's keys have failed since one succeeded";
        registry.register("jwks_failures", help, failures.clone());
        let help = "When an issuer's keys were last fetched, since the Unix epoch";
        registry.register_with_unit("jwks_fetched", help, Unit::Seconds, fetched.clone());
        let help = "When the newest key of an issuer was first fetched, since the Unix epoch";
        registry.register_with_unit("jwks_newest_key", help, Unit::Seconds, newest.clone());
    }

    fn look(&self, api: &Api) {
        self.keys.clear();
        self.failures.clear();
        self.fetched.clear();
        self.newest.clear();
        let head = api.writer.head();
        for (name, _) in head.state.fetched() {
            let keeping = api.keeper.keeping(&name).unwrap_or_default();
            let keys = head.state.key_sets.get(&name).map(|set| set.keys.as_slice()).unwrap_or_default();
            let of = Of { provider: name };
            self.keys.get_or_create(&of).set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
            self.failures.get_or_create(&of).set(keeping.failures.into());
            if let Some(at) = keeping.fetched_at_ms {
                self.fetched.get_or_create(&of).set(at as f64 / 1000.0);
            }
            if let Some(newest) = keys.iter().map(|key| key.since).max() {
                self.newest.get_or_create(&of).set(newest as f64);
            }
        }
    }
}

impl Process {
    /// Reads what the kernel says (proc(5)); where there is no such thing, it stays at zero.
    fn look(&self) {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the command, in parentheses, and may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number =
            |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let cpu = (number(14) + number(15)) as f64 / ticks;
        self.cpu.inner().store(cpu.to_bits(), std::sync::atomic::Ordering::Relaxed);
        let resident = number(24).saturating_mul(rustix::param::page_size() as u64);
        self.memory.set(i64::try_from(resident).unwrap_or(i64::MAX));
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.files.set(i64::try_from(files).unwrap_or(i64::MAX));
        let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
        self.started.set(boot.unwrap_or(0.0) + number(22) as f64 / ticks);
    }
}

/// Counts a request once it is answered.
pub(super) async fn count(
    Extension(metrics): Extension<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let asked = Asked { method, route: route.clone() };
    metrics.durations.get_or_create(&asked).observe(started.elapsed().as_secs_f64());
    metrics.requests.get_or_create(&Answered { method, route, status: response.status().as_u16() }).inc();
    response
}

/// Anyone can make up a method.
fn known(method: &Method) -> &'static str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let names = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    known.iter().zip(names).find_map(|(one, name)| (one == method).then_some(name)).unwrap_or("other")
}

/// What the service counts of itself; docs/monitoring.md describes it.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(api): State<Api>, Extension(metrics): Extension<Arc<Metrics>>) -> Response {
    let _turn = metrics.turn.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.look(&api);
    let mut told = String::new();
    // Writing to a text cannot fail.
    let _ = text::encode(&mut told, &metrics.registry);
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], told).into_response()
}
