//! What is told of what Envoys report: in the shape that is given, for all of them together.

use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use envoy_types::pb::envoy::service::metrics::v3::stream_metrics_message::Identifier;
use envoy_types::pb::io::prometheus::client::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily,
};
use rampart::tls::Listener;
use rampart::xds;
use rampart::xds::gate::Gate;
use rampart::xds::translate::DataPlane;
use rampart_tests::wait::{SOON, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{Code, Request};

use crate::support::Service;

const METRICS: &str = "/api/v1/module-management/modules/metrics";

/// Where Envoys that this gate lets in report to this service.
async fn listen(service: &Service, gate: Gate) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = Listener::new(listener, None).unwrap();
    let (current, fleet) = (service.writer.current(), Arc::clone(&service.fleet));
    tokio::spawn(xds::serve(listener, current, DataPlane::default(), fleet, gate, std::future::pending()));
    address
}

/// Reports as an Envoy that then goes away, and waits until that was heard.
async fn report(service: &Service, to: SocketAddr, id: &str, envoy_metrics: Vec<MetricFamily>) {
    let node = Some(Node { id: id.to_owned(), ..Node::default() });
    let message = StreamMetricsMessage { identifier: Some(Identifier { node }), envoy_metrics };
    // The policy is taken up by the server in its own time.
    eventually(SOON, "the policy", async || {
        let told = service.get("/api/v1/status").await.ok();
        anyhow::ensure!(told["health"]["analytics_core"].is_object(), "{told}");
        Ok(())
    })
    .await
    .unwrap();
    let mut client = MetricsServiceClient::connect(format!("http://{to}")).await.unwrap();
    client.stream_metrics(tokio_stream::once(message)).await.unwrap();
}

fn family(name: &str, labels: &[(&str, &str)], metric: Metric) -> MetricFamily {
    let label = labels
        .iter()
        .map(|(name, value)| LabelPair { name: Some((*name).to_owned()), value: Some((*value).to_owned()) });
    let metric = vec![Metric { label: label.collect(), ..metric }];
    MetricFamily { name: Some(name.to_owned()), metric, ..MetricFamily::default() }
}

fn counter(name: &str, labels: &[(&str, &str)], value: f64) -> MetricFamily {
    let counter = Some(Counter { value: Some(value), ..Counter::default() });
    family(name, labels, Metric { counter, ..Metric::default() })
}

fn gauge(name: &str, labels: &[(&str, &str)], value: f64) -> MetricFamily {
    let gauge = Some(Gauge { value: Some(value) });
    family(name, labels, Metric { gauge, ..Metric::default() })
}

fn requests(route: &str, arm: &str, code: &str, count: f64) -> MetricFamily {
    let labels = [
        ("module", "analytics_core"),
        ("decision", "module"),
        ("arm", arm),
        ("route", route),
        ("code", code),
    ];
    counter("rampart.requests", &labels, count)
}

fn took(route: &str, milliseconds: f64) -> MetricFamily {
    let labels = [("module", "analytics_core"), ("decision", "module"), ("arm", ""), ("route", route)];
    counter("rampart.duration_us", &labels, milliseconds * 1000.0)
}

fn durations(up_to: [u64; 2], count: u64, sum: f64) -> MetricFamily {
    let bucket = up_to.into_iter().zip([50.0, 100.0]).map(|(up_to, bound)| Bucket {
        cumulative_count: Some(up_to),
        upper_bound: Some(bound),
        ..Bucket::default()
    });
    let histogram = Histogram {
        sample_count: Some(count),
        sample_sum: Some(sum),
        bucket: bucket.collect(),
        ..Histogram::default()
    };
    let labels = [("module", "analytics_core"), ("decision", "module"), ("arm", "")];
    family("rampart.duration", &labels, Metric { histogram: Some(histogram), ..Metric::default() })
}

fn endpoints(healthy: f64, total: f64) -> [MetricFamily; 2] {
    let cluster = [("envoy.cluster_name", "module/analytics_core/v1")];
    let [of_healthy, of_all] = ["cluster.membership_healthy", "cluster.membership_total"];
    [gauge(of_healthy, &cluster, healthy), gauge(of_all, &cluster, total)]
}

/// A service with a module, and where Envoys report to it.
async fn service() -> (Service, SocketAddr) {
    let service = Service::start().await;
    service.flag("canary", 50).await;
    let routes = json!([{"path": "/dashboard/overview"}, {"path": "/reports"}]);
    let effect = json!([{"flag": "canary", "when_on": {"cluster": "module/other/v2"}}]);
    let other = json!({"version": "v2", "namespace": "other"});
    service.module("other", other).await.ok();
    service.module("analytics_core", json!({"routes": routes, "effects": effect})).await.ok();
    let to = listen(&service, Gate::open()).await;
    (service, to)
}

#[tokio::test]
async fn calls_are_told_in_the_shape_that_is_given() {
    let (service, to) = service().await;
    assert_eq!(service.get(METRICS).await.ok(), json!({}));
    let route = "/dashboard/overview";
    let one =
        vec![requests(route, "", "200", 1000.0), requests(route, "", "503", 12.0), took(route, 100_000.0)];
    report(&service, to, "one", one).await;
    let other = vec![
        requests(route, "module/other/v2", "200", 138.0),
        requests(route, "", "404", 100.0),
        took(route, 25_000.0),
        requests("/reports", "", "200", 3.0),
    ];
    report(&service, to, "other", other).await;
    let told = service.get(METRICS).await.ok();
    let wanted = json!({
        "analytics_core:/dashboard/overview": {
            "call_count": 1250,
            "total_duration_ms": 125_000.0,
            "error_count": 12,
            "avg_duration_ms": 100.0,
            "success_rate": 0.9904
        },
        "analytics_core:/reports": {
            "call_count": 3,
            "total_duration_ms": 0.0,
            "error_count": 0,
            "avg_duration_ms": 0.0,
            "success_rate": 1.0
        }
    });
    assert_eq!(told, wanted);
    assert_eq!(service.get(&format!("{METRICS}?top=1")).await.ok().as_object().unwrap().len(), 1);
    let module = service.get(&format!("{METRICS}?by=module")).await.ok();
    assert_eq!(module["analytics_core"]["call_count"], 1253);
    for wrong in ["top=0", "by=organisation", "first=3"] {
        service.get(&format!("{METRICS}?{wrong}")).await.problem(400);
    }
}

#[tokio::test]
async fn details_tell_the_arms_the_last_minute_and_the_health() {
    let (service, to) = service().await;
    let mut one =
        vec![requests("/reports", "", "200", 8.0), requests("/reports", "module/other/v2", "500", 2.0)];
    one.push(durations([5, 10], 10, 400.0));
    one.extend(endpoints(1.0, 2.0));
    report(&service, to, "one", one).await;
    let told = service.get(&format!("{METRICS}?by=module&detail=true")).await.ok();
    let told = &told["analytics_core"];
    assert_eq!(told["arms"], json!({"module": {"200": 8}, "module/other/v2": {"500": 2}}));
    assert_eq!((&told["calls_last_minute"], &told["errors_last_minute"]), (&json!(10), &json!(2)));
    assert_eq!(told["latency"], json!({"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}));
    assert!(told["last_access"].as_str().unwrap().ends_with('Z'), "{told}");
    let health = &told["health"];
    assert_eq!((&health["status"], &health["endpoints"]), (&json!("degraded"), &json!(2)));
    let status = service.get("/api/v1/status").await.ok();
    assert_eq!(status["health"]["analytics_core"], *health);
    assert_eq!(status["health"]["other"]["status"], "unknown");
}

#[tokio::test]
async fn metrics_have_what_envoys_report_by_module_arm_and_class() {
    let (service, to) = service().await;
    let mut one = vec![
        requests("/reports", "", "200", 8.0),
        requests("/dashboard/overview", "", "204", 1.0),
        requests("/reports", "module/other/v2", "500", 2.0),
        durations([5, 9], 10, 400.0),
        counter("wasmcustom.rampart.refused", &[("reason", "expired_token")], 4.0),
        counter("http.rbac.attestation.denied", &[], 1.0),
        requests("/invented", "", "200", 1.0),
    ];
    one.extend(endpoints(0.0, 2.0));
    report(&service, to, "one", one).await;
    let text = service.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        r#"rampart_requests_total{module="analytics_core",arm="module",code="2xx"} 9"#,
        r#"rampart_requests_total{module="analytics_core",arm="module/other/v2",code="5xx"} 2"#,
        r#"rampart_request_duration_seconds_sum{module="analytics_core",arm="module"} 0.4"#,
        r#"rampart_request_duration_seconds_bucket{le="0.05",module="analytics_core",arm="module"} 5"#,
        r#"rampart_request_duration_seconds_bucket{le="0.1",module="analytics_core",arm="module"} 9"#,
        r#"rampart_request_duration_seconds_bucket{le="+Inf",module="analytics_core",arm="module"} 10"#,
        r#"rampart_refusals_total{reason="expired_token"} 4"#,
        r#"rampart_reports_dropped_total{reason="unknown"} 1"#,
        r#"rampart_module_up{module="analytics_core"} 0"#,
        "rampart_unjudged_requests_total 1",
        "rampart_reports_total 1",
    ] {
        assert!(text.lines().any(|other| other == line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("/invented") && !text.contains(r#"rampart_module_up{module="other"}"#), "{text}");
}

#[tokio::test]
async fn an_envoy_that_reports_nothing_is_told_so() {
    let (service, to) = service().await;
    let envoys = service.get("/api/v1/envoys").await.ok();
    assert_eq!(envoys["envoys"], json!([]));
    report(&service, to, "one", vec![gauge("server.concurrency", &[], 2.0)]).await;
    let envoys = service.get("/api/v1/envoys").await.ok();
    let told = &envoys["envoys"][0];
    assert_eq!((&told["id"], &told["connected"], &told["lag"]), (&json!("one"), &json!(false), &Value::Null));
    assert_eq!((&told["running"]["workers"], &told["running"]["unjudged"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn an_envoy_reports_as_the_node_that_it_proves_to_be() {
    let service = Service::start().await;
    let to = listen(&service, Gate::guarded(service.writer.current())).await;
    let key = service.key("edge", "envoy").await;
    let reported = async |node: &str, key: Option<&str>| {
        let node = Some(Node { id: node.to_owned(), ..Node::default() });
        let identifier = Some(Identifier { node });
        let message = StreamMetricsMessage { identifier, ..StreamMetricsMessage::default() };
        let mut request = Request::new(tokio_stream::once(message));
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        let mut client = MetricsServiceClient::connect(format!("http://{to}")).await.unwrap();
        client.stream_metrics(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(reported("edge-1", None).await, Code::Unauthenticated);
    assert_eq!(reported("edge-2", Some(&key)).await, Code::PermissionDenied);
    let told = service.get("/api/v1/envoys").await.ok();
    assert_eq!(told["envoys"], json!([]), "{told}");
    assert_eq!(reported("edge-1", Some(&key)).await, Code::Ok);
}

const ORGANISATIONS: &str = "/api/v1/module-management/modules/analytics_core/organisations";

/// A service with a module and something said of two organisations, and where Envoys report to it.
async fn recorded() -> (Service, SocketAddr) {
    let service = Service::start().await;
    service.module("analytics_core", json!({})).await.ok();
    for organisation in ["acme", "a%2Fb"] {
        service.send("PUT", &format!("{ORGANISATIONS}/{organisation}"), &json!({})).await.ok();
    }
    let to = listen(&service, Gate::open()).await;
    (service, to)
}

#[tokio::test]
async fn how_often_organisations_used_a_module_is_kept() {
    let (service, to) = recorded().await;
    let used = |pair: &str, count| counter(&format!("wasmcustom.rampart.usage.{pair}"), &[], count);
    let tagged = [("module", "analytics_core"), ("organisation", "a/b")];
    let told = async |organisation: &str| {
        let told = service.get(&format!("{ORGANISATIONS}/{organisation}")).await.ok();
        (told["access_count"].as_u64().unwrap(), told["last_accessed_at"].as_str().map(str::to_owned))
    };
    let reported = vec![
        used("analytics_core/acme", 3.0),
        counter("wasmcustom.rampart.usage", &tagged, 2.0),
        // Nobody has said anything of these, and this does not read.
        used("analytics_core/unknown", 7.0),
        used("other/acme", 7.0),
        used("acme", 7.0),
    ];
    report(&service, to, "one", reported).await;
    let (count, last) = told("acme").await;
    assert_eq!((count, told("a%2Fb").await.0), (3, 2));
    assert!(last.is_some_and(|last| last.ends_with('Z')));
    let dropped = service.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "rampart_reports_dropped_total{reason=\"unknown\"} 2",
        "rampart_reports_dropped_total{reason=\"malformed\"} 1",
    ] {
        assert!(dropped.contains(line), "{dropped}");
    }
    // Written down, it is what it was; and what comes next is added, but for what was counted before.
    let (store, running) = (service.writer.store(), service.fleet.running());
    running.write_down(store).await.unwrap();
    assert!(running.usages().is_empty());
    assert_eq!(told("acme").await.0, 3);
    report(&service, to, "one", vec![used("analytics_core/acme", 0.0)]).await;
    assert!(running.usages().is_empty());
    report(&service, to, "two", vec![used("analytics_core/acme", 4.0)]).await;
    assert_eq!(told("acme").await.0, 7);
    running.write_down(store).await.unwrap();
    assert_eq!(told("acme").await.0, 7);
    // A copy has it too.
    let file = service.dir.path().join("copy");
    rampart::store::backup(&crate::support::database(service.dir.path()), &file).await.unwrap();
    let copy = rampart::store::Store::open(&rampart::store::Database::File(file)).await.unwrap();
    let copied = copy.usage_of_organisation("acme").await.unwrap();
    assert_eq!(copied.values().map(|usage| usage.requests).collect::<Vec<_>>(), [7]);
}

#[tokio::test]
async fn what_cannot_be_written_down_is_kept() {
    let (service, to) = recorded().await;
    report(&service, to, "one", vec![counter("wasmcustom.rampart.usage.analytics_core/acme", &[], 3.0)])
        .await;
    let (store, running) = (service.writer.store(), service.fleet.running());
    let pool = crate::support::pool(service.dir.path()).await;
    crate::support::execute(&pool, "ALTER TABLE module_usage RENAME TO elsewhere").await;
    running.write_down(store).await.unwrap_err();
    assert_eq!(running.usages().values().map(|usage| usage.requests).sum::<u64>(), 3);
    crate::support::execute(&pool, "ALTER TABLE elsewhere RENAME TO module_usage").await;
    running.write_down(store).await.unwrap();
    assert_eq!(service.get(&format!("{ORGANISATIONS}/acme")).await.ok()["access_count"], 3);
}
