//! What a bare client reports: what is kept of it, what is not, and in what bounds.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use envoy_types::pb::envoy::service::metrics::v3::stream_metrics_message::Identifier;
use envoy_types::pb::io::prometheus::client::{Counter, Gauge, LabelPair, Metric, MetricFamily};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::client::{Client, DEADLINE, Incremental, Served};
use crate::model::State;
use crate::running::{Sums, WorkerState};
use crate::xds::snapshot::Kind::Extension;

/// A client that reports; the server answers only when it ends.
struct Reporter {
    messages: mpsc::Sender<StreamMetricsMessage>,
    end: JoinHandle<Result<(), Status>>,
    /// Its time, which each report brings on by a second.
    time: i64,
}

impl Reporter {
    async fn open(served: &Served, id: &str) -> Self {
        let mut client = MetricsServiceClient::connect(served.address.clone()).await.unwrap();
        let (messages, receiver) = mpsc::channel(4);
        let end =
            tokio::spawn(async move { client.stream_metrics(ReceiverStream::new(receiver)).await.map(drop) });
        let mut reporter = Self { messages, end, time: 1_000_000 };
        let node = Node { id: id.to_owned(), ..Node::default() };
        reporter.send(Some(Identifier { node: Some(node) }), Vec::new()).await;
        reporter
    }

    async fn send(&mut self, identifier: Option<Identifier>, mut envoy_metrics: Vec<MetricFamily>) {
        self.time += 1000;
        for metric in envoy_metrics.iter_mut().flat_map(|family| &mut family.metric) {
            metric.timestamp_ms = Some(self.time);
        }
        // An error means that the server has ended the stream, which the test finds out.
        let _ = self.messages.send(StreamMetricsMessage { identifier, envoy_metrics }).await;
    }

    async fn report(&mut self, families: Vec<MetricFamily>) {
        self.send(None, families).await;
    }

    async fn end(self) -> Result<(), Status> {
        drop(self.messages);
        timeout(DEADLINE, self.end).await.expect("the stream's end").unwrap()
    }
}

fn family(name: &str, labels: &[(&str, &str)], value: f64, counts: bool) -> MetricFamily {
    let label = labels
        .iter()
        .map(|(name, value)| LabelPair { name: Some((*name).to_owned()), value: Some((*value).to_owned()) });
    let metric = Metric {
        label: label.collect(),
        counter: counts.then(|| Counter { value: Some(value), ..Counter::default() }),
        gauge: (!counts).then_some(Gauge { value: Some(value) }),
        ..Metric::default()
    };
    MetricFamily { name: Some(name.to_owned()), metric: vec![metric], ..MetricFamily::default() }
}

fn requests(module: &str, route: &str, code: &str, count: f64) -> MetricFamily {
    let labels = [("module", module), ("decision", "module"), ("arm", ""), ("route", route), ("code", code)];
    family("rampart.requests", &labels, count, true)
}

fn gauge(name: &str, value: f64) -> MetricFamily {
    family(name, &[], value, false)
}

/// A server whose policy has one module with one route, and one provider.
async fn served() -> Served {
    let served = Served::start().await;
    follow(&served, &["m"]);
    served
}

fn follow(served: &Served, modules: &[&str]) {
    let mut state = State::default();
    for id in modules {
        let module = json!({"id": id, "endpoints": ["127.0.0.1:1"], "auth": {"level": "none"}, "routes": [{"path": "/r"}]});
        state.modules.insert((*id).to_owned(), Arc::new(serde_json::from_value(module).unwrap()));
    }
    let provider = json!({"name": "p", "issuer": "https://p", "algorithms": ["RS256"], "jwks": {"keys": []}});
    state.providers.insert("p".to_owned(), Arc::new(serde_json::from_value(provider).unwrap()));
    served.fleet.running().follow(&Arc::new(state.published(1)));
}

/// Waits until so many messages have been heard.
async fn heard(served: &Served, messages: u64) -> Sums {
    let running = served.fleet.running();
    let met = timeout(DEADLINE, async {
        while running.sums().messages < messages {
            tokio::task::yield_now().await;
        }
    });
    assert!(met.await.is_ok(), "{:?}", running.sums());
    running.sums()
}

fn calls(served: &Served) -> Vec<(String, u64)> {
    let by_route = served.fleet.running().by_route().into_iter();
    by_route.map(|((module, route), calls)| (format!("{module}:{route}"), calls.count)).collect()
}

#[tokio::test]
async fn reports_add_up_whoever_starts_anew() {
    let served = served().await;
    let mut one = Reporter::open(&served, "one").await;
    let mut other = Reporter::open(&served, "other").await;
    one.report(vec![requests("m", "/r", "200", 3.0), requests("m", "/r", "503", 1.0)]).await;
    other.report(vec![requests("m", "/r", "200", 5.0)]).await;
    heard(&served, 4).await;
    // Envoy starts anew, and counts from nothing.
    one.end().await.unwrap();
    let mut one = Reporter::open(&served, "one").await;
    one.report(vec![requests("m", "/r", "200", 1.0)]).await;
    heard(&served, 6).await;
    let running = served.fleet.running();
    assert_eq!(calls(&served), [("m:/r".to_owned(), 10)]);
    let module = &running.by_module()["m"];
    assert_eq!((module.failed, module.recent), (1, (10, 1)));
    assert_eq!(module.arms["module"], [(200, 9), (503, 1)].into());
    let first = running.read();
    one.report(vec![requests("m", "/r", "200", 2.0)]).await;
    heard(&served, 7).await;
    let second = running.read();
    assert!(second.at > first.at);
    let sum =
        |reading: &crate::running::Reading| reading.requests.iter().map(|(_, count)| count).sum::<u64>();
    assert_eq!((sum(&first), sum(&second)), (10, 12));
    assert_eq!(running.sums().reporting, 2);
}

#[tokio::test]
async fn what_no_envoy_would_say_is_dropped_and_counted() {
    let served = served().await;
    let mut envoy = Reporter::open(&served, "one").await;
    let hostile = vec![
        requests("m", "/invented", "200", 1.0),
        requests("invented", "/r", "200", 1.0),
        family(
            "rampart.requests",
            &[("module", "m"), ("decision", "x"), ("route", "/r"), ("code", "200")],
            1.0,
            true,
        ),
        family("wasmcustom.rampart.unknown_key.invented", &[], 1.0, true),
        family("wasmcustom.rampart.refused.No Word", &[], 1.0, true),
    ];
    let unknown = hostile.len() as u64;
    envoy.report(hostile).await;
    let malformed = vec![
        requests("m", "/r", "200", f64::NAN),
        requests("m", "/r", "200", -1.0),
        requests("m", "/r", "200", f64::INFINITY),
        requests("m", "/r", "2000", 1.0),
        requests("m", "/r", "", 1.0),
        family("rampart.requests", &[("module", "m")], 1.0, true),
        gauge("wasmcustom.rampart.worker_revision.x", 1.0),
        gauge("cluster.membership_total", 1.0),
    ];
    let unreadable = malformed.len() as u64;
    envoy.report(malformed).await;
    // Of what is none of ours, nothing is said.
    envoy.report(vec![family("http.downstream_rq", &[], 7.0, true), MetricFamily::default()]).await;
    envoy.report(vec![gauge("wasmcustom.rampart.worker_revision.256", 1.0)]).await;
    let sums = heard(&served, 5).await;
    let wanted = [("full", 1), ("malformed", unreadable), ("unknown", unknown)];
    assert_eq!(sums.dropped, wanted.map(|(why, count)| (why.to_owned(), count)).into());
    assert_eq!(calls(&served), []);
}

#[tokio::test]
async fn whatever_is_reported_no_more_is_kept_than_the_policy_names() {
    let served = served().await;
    let mut envoy = Reporter::open(&served, "one").await;
    for round in 0..20_u64 {
        let invented = |n: u64| format!("{round}-{n}");
        let families = (0..500).map(|n| match n % 4 {
            0 => requests("m", &invented(n), "200", 1.0),
            1 => family(&format!("wasmcustom.rampart.refused.{}", "a".repeat(n as usize)), &[], 1.0, true),
            2 => gauge(&format!("wasmcustom.rampart.worker_decided.{}", round * 500 + n), 1.0),
            _ => family("cluster.membership_total", &[("envoy.cluster_name", &invented(n))], 1.0, false),
        });
        envoy.report(families.collect()).await;
    }
    let sums = heard(&served, 21).await;
    assert_eq!(calls(&served), []);
    assert!(sums.refused.len() <= 64, "{}", sums.refused.len());
    let running = served.fleet.running();
    assert!(running.envoys()["one"].workers.len() <= 256);
    assert_eq!(running.health().keys().collect::<Vec<_>>(), ["m"]);
    // Codes that there are not, of a route that there is.
    let codes: Vec<String> = (0..2_000).map(|code| code.to_string()).collect();
    for part in codes.chunks(500) {
        envoy.report(part.iter().map(|code| requests("m", "/r", code, 1.0)).collect()).await;
    }
    heard(&served, 25).await;
    assert_eq!(calls(&served), [("m:/r".to_owned(), 901)]);
    // What the policy no longer names is forgotten.
    follow(&served, &["other"]);
    assert_eq!(calls(&served), []);
    assert_eq!(running.health().keys().collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn a_stream_names_its_node_first_and_sends_no_more_than_is_taken() {
    let served = Served::with_room_for(1).await;
    let nameless = Reporter::open(&served, "").await.end().await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument);
    assert!(nameless.message().contains("set node.id"), "{nameless}");
    let mut only = Reporter::open(&served, "one").await;
    heard(&served, 1).await;
    let refused = Reporter::open(&served, "other").await.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    only.report(vec![gauge(&"a".repeat(3 << 20), 1.0)]).await;
    assert_eq!(only.end().await.unwrap_err().code(), Code::OutOfRange);
    let next = Reporter::open(&served, "other").await;
    next.end().await.unwrap();
}

#[tokio::test]
async fn the_servers_end_ends_reports_too() {
    let served = Served::start().await;
    let envoy = Reporter::open(&served, "one").await;
    heard(&served, 1).await;
    served.stop.send(()).unwrap();
    timeout(DEADLINE, served.server).await.expect("the server ends").unwrap().unwrap();
    assert!(timeout(DEADLINE, envoy.end).await.expect("the stream's end").unwrap().is_err());
}

#[tokio::test]
async fn an_unknown_key_is_told_to_whoever_waits_and_nothing_new_is_no_news() {
    let served = served().await;
    let (sender, mut told) = mpsc::channel(8);
    let fleet = Arc::clone(&served.fleet);
    tokio::spawn(async move {
        let tell = |provider: &str| sender.try_send(provider.to_owned()).unwrap();
        fleet.running().unknown_keys(tell).await;
    });
    let mut envoy = Reporter::open(&served, "one").await;
    let unknown = |provider: &str, count: f64| {
        vec![family(&format!("wasmcustom.rampart.unknown_key.{provider}"), &[], count, true)]
    };
    envoy.report(unknown("p", 0.0)).await;
    envoy.report(unknown("q", 1.0)).await;
    heard(&served, 3).await;
    for _ in 0..10 {
        // Whoever waits has been woken, were there news.
        tokio::task::yield_now().await;
    }
    assert!(told.is_empty());
    envoy.report(unknown("p", 2.0)).await;
    assert_eq!(timeout(DEADLINE, told.recv()).await.expect("to be told").unwrap(), "p");
    let sums = heard(&served, 4).await;
    assert_eq!(sums.unknown_keys, [("p".to_owned(), 2)].into());
    envoy.report(vec![family("wasmcustom.rampart.unknown_key", &[("provider", "p")], 1.0, true)]).await;
    assert_eq!(timeout(DEADLINE, told.recv()).await.expect("to be told again").unwrap(), "p");
    assert!(told.is_empty());
}

#[tokio::test]
async fn a_worker_that_decides_by_an_older_policy_than_its_envoy_accepted_is_told() {
    let served = Served::of(&[(Extension, "F1")]).await;
    let mut xds = Client::<Incremental>::try_open(&served, None, "a").await.unwrap();
    xds.subscribe(Extension, "F").await;
    xds.got().await;
    served.publish(&[(Extension, "F2")]);
    xds.got().await;
    served.until_acked(Extension, 2).await;
    let mut envoy = Reporter::open(&served, "a").await;
    let running = served.fleet.running();
    let workers = |second: f64| {
        let told = [("revision.0", 2.0), ("revision.1", 1.0), ("decided.0", second), ("decided.1", second)];
        let told = told.map(|(name, value)| gauge(&format!("wasmcustom.rampart.worker_{name}"), value));
        told.to_vec()
    };
    // Workers are given a second to follow; until then nobody is accused.
    let behind = timeout(DEADLINE, async {
        for second in 0.. {
            envoy.report(workers(f64::from(second))).await;
            heard(&served, u64::try_from(second).unwrap() + 2).await;
            let workers = running.envoys()["a"].workers.clone();
            if workers.iter().any(|worker| worker.state == WorkerState::Behind) {
                return workers;
            }
            tokio::task::yield_now().await;
        }
        unreachable!()
    });
    let behind = behind.await.expect("somebody to be behind");
    let told: Vec<_> = behind.iter().map(|worker| (worker.worker, worker.revision, worker.state)).collect();
    assert_eq!(told, [(0, 2, WorkerState::Current), (1, 1, WorkerState::Behind)]);
    assert_eq!(running.sums().behind, 1);
}
