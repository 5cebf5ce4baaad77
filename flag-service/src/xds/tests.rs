//! The server over a real connection: what only the network and several streams together show.
//! The rules of one stream are tested with its state machine.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
};
use envoy_types::pb::google::rpc::Status;
use rampart_engine::policy::wire::Policy;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::fleet::{NodeStatus, TypeStatus};
use super::snapshot::Kind;
use super::*;
use crate::published::{Published, Upstream};

/// Nothing here takes a tenth of it; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server on a free port.
struct Served {
    address: String,
    publish: watch::Sender<Option<Arc<Published>>>,
    fleet: Arc<Fleet>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (publish, current) = watch::channel(None);
        let (stop, stopped) = oneshot::channel::<()>();
        let fleet = Arc::new(Fleet::default());
        let shutdown = async { drop(stopped.await) };
        let server =
            tokio::spawn(serve(listener, current, DataPlane::default(), Arc::clone(&fleet), shutdown));
        Self { address, publish, fleet, stop, server }
    }

    fn publish(&self, revision: u64, clusters: &[&str]) {
        self.publish_at("127.0.0.1:1", revision, clusters);
    }

    fn publish_at(&self, endpoint: &str, revision: u64, clusters: &[&str]) {
        let policy: Policy =
            serde_json::from_str(&format!(r#"{{"schema":1,"revision":{revision}}}"#)).unwrap();
        let upstream = |cluster: &&str| Upstream {
            cluster: (*cluster).to_owned(),
            endpoints: vec![endpoint.parse().unwrap()],
            hashed: false,
        };
        let upstreams = clusters.iter().map(upstream).collect();
        self.publish.send_replace(Some(Arc::new(Published { revision, policy, upstreams })));
    }

    async fn client(&self) -> AggregatedDiscoveryServiceClient<Channel> {
        AggregatedDiscoveryServiceClient::connect(self.address.clone()).await.unwrap()
    }

    async fn open(&self, node: &str) -> Envoy {
        let (requests, receiver) = mpsc::channel(64);
        let node = Some(Node { id: node.to_owned(), ..Node::default() });
        requests.send(DeltaDiscoveryRequest { node, ..ask(Kind::Cluster, &[]) }).await.unwrap();
        let stream = self.client().await.delta_aggregated_resources(ReceiverStream::new(receiver)).await;
        Envoy { requests, responses: stream.unwrap().into_inner() }
    }

    async fn until(&self, wanted: impl Fn(&[NodeStatus]) -> bool) {
        let fleet = &self.fleet;
        let met = timeout(DEADLINE, async {
            while !wanted(&fleet.nodes()) {
                tokio::task::yield_now().await;
            }
        });
        assert!(met.await.is_ok(), "{:#?}", fleet.nodes());
    }
}

/// One delta stream, seen from its other end.
struct Envoy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Envoy {
    async fn ask(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn ack(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let error_detail = error.map(|text| Status { message: text.into(), ..Status::default() });
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.ask(DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() })
            .await;
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        timeout(DEADLINE, self.responses.message())
            .await
            .expect("a response")
            .unwrap()
            .expect("an open stream")
    }
}

fn ask(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: testing::names(names),
        ..DeltaDiscoveryRequest::default()
    }
}

fn sent(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

fn status(nodes: &[NodeStatus], kind: Kind) -> TypeStatus {
    nodes.first().and_then(|node| node.types.get(kind.name())).cloned().unwrap_or_default()
}

#[tokio::test]
async fn nothing_is_sent_before_there_is_a_revision() {
    let served = Served::start().await;
    let mut envoy = served.open("a").await;
    served.until(|nodes| nodes.len() == 1 && nodes[0].connected).await;
    let early = timeout(Duration::from_millis(100), envoy.responses.message()).await;
    assert!(early.is_err(), "an empty list of clusters would delete them: {early:?}");
    served.publish(1, &["a"]);
    assert_eq!(sent(&envoy.next().await), ["a"]);
}

#[tokio::test]
async fn a_stream_without_a_node_is_refused() {
    let served = Served::start().await;
    served.publish(1, &["a"]);
    let requests = tokio_stream::once(ask(Kind::Cluster, &[]));
    let mut stream = served.client().await.delta_aggregated_resources(requests).await.unwrap().into_inner();
    let refused = timeout(DEADLINE, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let node = Some(Node::default());
    let requests = tokio_stream::once(DiscoveryRequest { node, ..DiscoveryRequest::default() });
    let mut stream = served.client().await.stream_aggregated_resources(requests).await.unwrap().into_inner();
    let refused = timeout(DEADLINE, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(served.fleet.nodes().is_empty());
}

#[tokio::test]
async fn the_fleet_knows_what_was_accepted_and_what_was_refused() {
    let served = Served::start().await;
    served.publish(1, &["a"]);
    let mut envoy = served.open("a").await;
    let response = envoy.next().await;
    envoy.ack(&response, None).await;
    served.until(|nodes| status(nodes, Kind::Cluster).acked.is_some_and(|acked| acked.revision == 1)).await;
    served.publish(2, &["b"]);
    let response = envoy.next().await;
    envoy.ack(&response, Some("no such cluster")).await;
    served.until(|nodes| status(nodes, Kind::Cluster).nacked.is_some()).await;
    let status = status(&served.fleet.nodes(), Kind::Cluster);
    assert_eq!(status.nacked.unwrap().error, "no such cluster");
    assert_eq!((status.pushed.unwrap().revision, status.acked.unwrap().revision), (2, 1));
    drop(envoy);
    served.until(|nodes| nodes.len() == 1 && !nodes[0].connected).await;
}

#[tokio::test]
async fn clusters_go_only_after_the_policy_that_named_them() {
    let served = Served::start().await;
    served.publish(1, &["old"]);
    let mut envoy = served.open("a").await;
    envoy.next().await;
    envoy.ask(ask(Kind::Endpoints, &["old"])).await;
    envoy.next().await;
    envoy.ask(ask(Kind::Extension, &["rampart"])).await;
    let policy = envoy.next().await;
    envoy.ack(&policy, None).await;
    served.until(|nodes| status(nodes, Kind::Extension).acked.is_some()).await;

    served.publish(2, &["new"]);
    let clusters = envoy.next().await;
    assert_eq!((sent(&clusters), clusters.removed_resources.len()), (vec!["new"], 0));
    envoy.ask(ask(Kind::Endpoints, &["new"])).await;
    assert_eq!(sent(&envoy.next().await), ["new"]);
    let policy = envoy.next().await;
    assert_eq!(sent(&policy), ["rampart"]);
    envoy.ack(&policy, Some("cannot")).await;
    served.publish(3, &["newer"]);
    let clusters = envoy.next().await;
    assert_eq!((sent(&clusters), clusters.removed_resources.len()), (vec!["newer"], 0), "refused");
    // It asks for no endpoints this time, and is given the policy all the same.
    let policy = envoy.next().await;
    envoy.ack(&policy, None).await;
    assert_eq!(envoy.next().await.removed_resources, ["new", "old"]);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_gets_the_newest() {
    let served = Served::start().await;
    // Each revision renames a thousand clusters, more than the windows of the connection hold, so
    // that sending to a client that does not read has to wait. They have names for endpoints, so
    // that nothing waits for EDS.
    let publish = |revision: usize| {
        let names: Vec<String> = (0..1000).map(|number| format!("{revision}-{number:0>400}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        served.publish_at("localhost:1", revision as u64, &names);
        version(&served)
    };
    publish(0);
    let mut stuck = served.open("stuck").await;
    let mut brisk = served.open("brisk").await;
    let revisions = 40;
    let mut newest = String::new();
    for revision in 1..=revisions {
        newest = publish(revision);
        while brisk.next().await.system_version_info != newest {}
    }
    let mut responses = 1;
    while stuck.next().await.system_version_info != newest {
        responses += 1;
    }
    assert!(responses < revisions, "{responses} responses for {revisions} revisions");
}

/// The version of the clusters of the revision that is published now.
fn version(served: &Served) -> String {
    let published = served.publish.borrow().clone().unwrap();
    translate::translate(&published, &DataPlane::default()).version(Kind::Cluster).to_owned()
}

#[tokio::test]
async fn shutdown_ends_every_stream() {
    let served = Served::start().await;
    served.publish(1, &["a"]);
    let mut envoy = served.open("a").await;
    envoy.next().await;
    served.stop.send(()).unwrap();
    timeout(DEADLINE, served.server).await.expect("the server ends").unwrap().unwrap();
    let end = timeout(DEADLINE, envoy.responses.message()).await.expect("the stream ends");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}
