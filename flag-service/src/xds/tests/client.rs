//! A server on a free port, and a bare client: it sends what it is told and shows what it gets, over
//! a real connection. It knows no rule but how to acknowledge.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::super::fleet::{NodeStatus, TypeStatus};
use super::super::service::SERVICES;
use super::super::snapshot::Kind;
use super::super::testing::snapshot;
use super::super::*;

/// Nothing here takes a tenth of it; a test that waits this long has failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A server on a free port.
pub(super) struct Served {
    pub(super) address: String,
    revision: AtomicU64,
    pub(super) publish: watch::Sender<Option<Arc<Snapshot>>>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    pub(super) async fn start() -> Self {
        Self::with_room_for(STREAMS).await
    }

    pub(super) async fn with_room_for(streams: usize) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        let listener = Listener::new(socket, None).unwrap();
        let (publish, snapshots) = watch::channel(None);
        let (stop, stopped) = oneshot::channel::<()>();
        let fleet = Arc::new(Fleet::default());
        let shutdown = async { drop(stopped.await) };
        let gate = Gate::open();
        let served = serve_streams(streams, listener, snapshots, Arc::clone(&fleet), gate, shutdown);
        let server = tokio::spawn(served);
        Self { address, revision: AtomicU64::default(), publish, fleet, stop, server }
    }

    /// A server that has this to serve.
    pub(super) async fn of(resources: &[(Kind, &str)]) -> Self {
        let served = Self::start().await;
        served.publish(resources);
        served
    }

    /// Publishes resources as the next revision: `(Cluster, "A1 B2")` is A with the content `A1`,
    /// and B with the content `B2`.
    pub(super) fn publish(&self, resources: &[(Kind, &str)]) {
        let split = resources.iter().flat_map(|(kind, contents)| {
            let contents = contents.split_whitespace();
            contents.map(|content| (*kind, content.trim_end_matches(|c: char| c.is_ascii_digit()), content))
        });
        let split: Vec<(Kind, &str, &str)> = split.collect();
        let revision = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        self.publish.send_replace(Some(Arc::new(snapshot(revision, &split))));
    }

    pub(super) async fn until(&self, wanted: impl Fn(&[NodeStatus]) -> bool) {
        let fleet = &self.fleet;
        let met = timeout(DEADLINE, async {
            while !wanted(&fleet.nodes()) {
                tokio::task::yield_now().await;
            }
        });
        assert!(met.await.is_ok(), "{:#?}", fleet.nodes());
    }

    /// Waits until the node `a` has answered what it was sent of a type, at this revision.
    pub(super) async fn until_acked(&self, kind: Kind, revision: u64) {
        self.until(|nodes| status(nodes, kind).acked.is_some_and(|acked| acked.revision == revision)).await;
    }
}

/// What the first node made of a type.
pub(super) fn status(nodes: &[NodeStatus], kind: Kind) -> TypeStatus {
    nodes.first().and_then(|node| node.types.get(kind.name())).cloned().unwrap_or_default()
}

/// A variant of the protocol, as its client sees it.
pub(super) trait Variant {
    type Request: Message + Default + 'static;
    type Response: Message + Default + 'static;
    const METHOD: &str;
    fn node(request: &mut Self::Request) -> &mut Option<Node>;
    fn answer(last: &Last, error: Option<rpc::Status>) -> Self::Request;
    fn read(response: Self::Response) -> (Last, String);
}

pub(super) struct StateOfTheWorld;
pub(super) struct Incremental;

/// The last response of a type.
#[derive(Debug, Clone, Default)]
pub(super) struct Last {
    type_url: String,
    pub(super) version: String,
    pub(super) nonce: String,
    names: Vec<String>,
}

impl Variant for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const METHOD: &str = "Stream";

    fn node(request: &mut DiscoveryRequest) -> &mut Option<Node> {
        &mut request.node
    }

    fn answer(last: &Last, error_detail: Option<rpc::Status>) -> DiscoveryRequest {
        let Last { type_url, version, nonce, names } = last.clone();
        DiscoveryRequest {
            type_url,
            version_info: version,
            response_nonce: nonce,
            resource_names: names,
            error_detail,
            ..DiscoveryRequest::default()
        }
    }

    fn read(response: DiscoveryResponse) -> (Last, String) {
        let DiscoveryResponse { version_info: version, resources, type_url, nonce, .. } = response;
        let contents: String = resources.iter().map(|body| format!(" {}", content(body))).collect();
        (Last { type_url, version, nonce, names: Vec::new() }, contents)
    }
}

impl Variant for Incremental {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const METHOD: &str = "Delta";

    fn node(request: &mut DeltaDiscoveryRequest) -> &mut Option<Node> {
        &mut request.node
    }

    fn answer(last: &Last, error_detail: Option<rpc::Status>) -> DeltaDiscoveryRequest {
        let (type_url, response_nonce) = (last.type_url.clone(), last.nonce.clone());
        DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..DeltaDiscoveryRequest::default() }
    }

    fn read(response: DeltaDiscoveryResponse) -> (Last, String) {
        let DeltaDiscoveryResponse { system_version_info: version, type_url, nonce, .. } = response;
        let mut contents = String::new();
        for resource in &response.resources {
            assert_eq!(resource.ttl, None);
            contents += &format!(" {}", content(resource.resource.as_ref().unwrap()));
        }
        for name in &response.removed_resources {
            contents += &format!(" -{name}");
        }
        (Last { type_url, version, nonce, names: Vec::new() }, contents)
    }
}

fn content(body: &Any) -> String {
    String::from_utf8(body.value.clone()).unwrap()
}

/// One stream, seen from its other end.
pub(super) struct Client<V: Variant> {
    requests: mpsc::Sender<V::Request>,
    responses: Streaming<V::Response>,
    node: Option<Node>,
    newest: Option<Kind>,
    last: BTreeMap<Kind, Last>,
    nonces: Vec<String>,
}

impl<V: Variant> Client<V> {
    /// Opens a stream of the node `a`; `None` is the aggregated service.
    pub(super) async fn open(served: &Served, service: Option<Kind>) -> Self {
        Self::try_open(served, service, "a").await.unwrap()
    }

    /// The same of any node, or the server's refusal.
    pub(super) async fn try_open(served: &Served, service: Option<Kind>, id: &str) -> Result<Self, Status> {
        let channel = Channel::from_shared(served.address.clone()).unwrap().connect().await.unwrap();
        let (_, name, method) = SERVICES.into_iter().find(|(kind, ..)| *kind == service).unwrap();
        let path: PathAndQuery = format!("/{name}/{}{method}", V::METHOD).parse().unwrap();
        let (requests, receiver) = mpsc::channel(64);
        let codec = ProstCodec::<V::Request, V::Response>::new();
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.unwrap();
        let opened = grpc.streaming(Request::new(ReceiverStream::new(receiver)), path, codec).await?;
        let node = Node { id: id.to_owned(), ..Node::default() };
        Ok(Self {
            requests,
            responses: opened.into_inner(),
            node: Some(node),
            newest: None,
            last: BTreeMap::new(),
            nonces: Vec::new(),
        })
    }

    /// The next request says that it comes from this node.
    pub(super) fn come_from(&mut self, node: Option<Node>) {
        self.node = node;
    }

    /// Sends a request; the first one says who it is from.
    pub(super) async fn send(&mut self, mut request: V::Request) {
        *V::node(&mut request) = self.node.take();
        self.requests.send(request).await.unwrap();
    }

    /// The next response: its type, what it brings and, after `-`, what it says is not there.
    pub(super) async fn next(&mut self) -> String {
        let response = timeout(DEADLINE, self.responses.message()).await.expect("a response");
        let (mut last, contents) = V::read(response.unwrap().expect("an open stream"));
        let kind = Kind::from_type_url(&last.type_url).unwrap();
        assert!(!self.nonces.contains(&last.nonce), "a nonce was used twice");
        self.nonces.push(last.nonce.clone());
        last.names = self.last.remove(&kind).unwrap_or_default().names;
        self.last.insert(kind, last);
        self.newest = Some(kind);
        format!("{}{contents}", kind.name())
    }

    /// The next response, accepted.
    pub(super) async fn got(&mut self) -> String {
        let next = self.next().await;
        self.ack().await;
        next
    }

    /// Accepts the response that came last.
    pub(super) async fn ack(&mut self) {
        self.send(V::answer(self.newest(), None)).await;
    }

    /// Refuses it.
    pub(super) async fn nack(&mut self, words: &str) {
        let error = rpc::Status { message: words.to_owned(), ..rpc::Status::default() };
        self.send(V::answer(self.newest(), Some(error))).await;
    }

    /// The response that came last.
    pub(super) fn newest(&self) -> &Last {
        &self.last[&self.newest.expect("a response")]
    }

    /// The stream's end, as the server tells it.
    pub(super) async fn end(&mut self) -> Code {
        match timeout(DEADLINE, self.responses.message()).await.expect("the stream's end") {
            Ok(None) => Code::Ok,
            Ok(Some(response)) => panic!("{}", V::read(response).1),
            Err(status) => status.code(),
        }
    }

    /// Whether nothing has come for a moment: for what must wait for something that never happens.
    pub(super) async fn is_idle(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.responses.message()).await.is_err()
    }
}

impl Client<StateOfTheWorld> {
    /// Asks for these names of a type, from now on.
    pub(super) async fn want(&mut self, kind: Kind, names: &str) {
        let last = self.last.entry(kind).or_default();
        kind.type_url().clone_into(&mut last.type_url);
        last.names = owned(names);
        let request = StateOfTheWorld::answer(last, None);
        self.send(request).await;
    }

    /// Accepts an older response, and asks for these names with it.
    pub(super) async fn accept(&mut self, response: &Last, names: &str) {
        let names = owned(names);
        self.send(StateOfTheWorld::answer(&Last { names, ..response.clone() }, None)).await;
    }
}

impl Client<Incremental> {
    /// Asks for these names of a type, too.
    pub(super) async fn subscribe(&mut self, kind: Kind, names: &str) {
        self.send(subscribe(kind, names)).await;
    }

    /// Asks for these names no longer.
    pub(super) async fn unsubscribe(&mut self, kind: Kind, names: &str) {
        let resource_names_unsubscribe = owned(names);
        self.send(DeltaDiscoveryRequest { resource_names_unsubscribe, ..subscribe(kind, "") }).await;
    }

    /// Nothing else has been sent: the answer to a question that always has one comes next.
    pub(super) async fn nothing_more(&mut self) {
        self.subscribe(Kind::Secret, "none").await;
        assert_eq!(self.got().await, "sds -none");
    }
}

pub(super) fn subscribe(kind: Kind, names: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: owned(names),
        ..DeltaDiscoveryRequest::default()
    }
}

fn owned(names: &str) -> Vec<String> {
    names.split_whitespace().map(str::to_owned).collect()
}
