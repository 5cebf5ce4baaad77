//! The gRPC side: one implementation of all discovery services, each with both variants. It opens
//! streams, bounds their number and ends them on shutdown. It knows nothing of resources.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::{MethodRouter, post};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, StreamingService};
use tonic::service::Routes;
use tonic::{Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::delta::Delta;
use super::fleet::Fleet;
use super::gate::Gate;
use super::protocol::Protocol;
use super::role::Role;
use super::snapshot::Kind;
use super::sotw::Sotw;
use super::stream;

/// Streams taken; one per Envoy, unless it asks for each type apart. Envoy meets the refusal beyond
/// it with its ordinary back-off.
pub(super) const STREAMS: usize = 10_000;

/// Responses that may wait for one client to read: about one round of all types. Their resources
/// are everybody's, so each costs little more than its names.
const QUEUE: usize = 8;

/// The services: the type each is for (the aggregated one is for all), its name and the end of its
/// methods' names, which begin with `Stream` and `Delta`.
pub(super) const SERVICES: [(Option<Kind>, &str, &str); 8] = [
    (None, "envoy.service.discovery.v3.AggregatedDiscoveryService", "AggregatedResources"),
    (Some(Kind::Secret), "envoy.service.secret.v3.SecretDiscoveryService", "Secrets"),
    (Some(Kind::Cluster), "envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters"),
    (Some(Kind::Endpoints), "envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints"),
    (Some(Kind::Runtime), "envoy.service.runtime.v3.RuntimeDiscoveryService", "Runtime"),
    (Some(Kind::Listener), "envoy.service.listener.v3.ListenerDiscoveryService", "Listeners"),
    (Some(Kind::Route), "envoy.service.route.v3.RouteDiscoveryService", "Routes"),
    (Some(Kind::Extension), "envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
];

/// Whatever the service and the variant: what opens a stream.
#[derive(Debug)]
pub(super) struct Discovery {
    role: Arc<Role>,
    fleet: Arc<Fleet>,
    gate: Gate,
    /// Turns true, or closes, when the server stops.
    stopping: watch::Receiver<bool>,
    free: Arc<Semaphore>,
}

impl Discovery {
    pub(super) fn new(
        role: Arc<Role>,
        fleet: Arc<Fleet>,
        gate: Gate,
        stopping: watch::Receiver<bool>,
        streams: usize,
    ) -> Self {
        Self { role, fleet, gate, stopping, free: Arc::new(Semaphore::new(streams)) }
    }

    /// Every method of every service. They differ in the type that a request is about when it does
    /// not say so, and in nothing else; generated code would be eight copies of this.
    pub(super) fn routes(self) -> Routes {
        let this = Arc::new(self);
        let mut routes = Routes::default();
        for (only, service, method) in SERVICES {
            let router = std::mem::take(routes.axum_router_mut());
            *routes.axum_router_mut() = router
                .route(&format!("/{service}/Stream{method}"), this.method::<Sotw>(only))
                .route(&format!("/{service}/Delta{method}"), this.method::<Delta>(only));
        }
        routes
    }

    fn method<P: Protocol>(self: &Arc<Self>, only: Option<Kind>) -> MethodRouter {
        let discovery = Arc::clone(self);
        post(move |request: Request| {
            let method = Method::<P> { discovery: Arc::clone(&discovery), only, variant: PhantomData };
            let mut grpc = Grpc::new(ProstCodec::<P::Response, P::Request>::new());
            async move { grpc.streaming(method, request).await.map(Body::new) }
        })
    }

    fn open<P: Protocol>(
        &self,
        only: Option<Kind>,
        request: tonic::Request<Streaming<P::Request>>,
    ) -> Result<Answers<P::Response>, Status> {
        let entry = self.gate.entry(request.metadata(), request.extensions());
        entry.greet()?;
        let permit = Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("this server has as many streams as it takes"))?;
        let requests = request.into_inner().map(move |request| implied::<P>(only, request?));
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (role, fleet, mut stopping) =
            (Arc::clone(&self.role), Arc::clone(&self.fleet), self.stopping.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stream::run::<P>(requests, sender, role, fleet, entry) => {}
                // An error means that the server is gone, which is the same.
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
            drop(permit);
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// A request to the service of one type need not name it, and may name no other.
fn implied<P: Protocol>(only: Option<Kind>, mut request: P::Request) -> Result<P::Request, Status> {
    if let Some(kind) = only {
        let named = P::type_url(&mut request);
        if !named.is_empty() && named != kind.type_url() {
            return Err(Status::invalid_argument(format!(
                "this service is for {} alone; ask the aggregated one for `{named}`",
                kind.type_url()
            )));
        }
        kind.type_url().clone_into(named);
    }
    Ok(request)
}

type Answers<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

/// One method of one service.
struct Method<P> {
    discovery: Arc<Discovery>,
    only: Option<Kind>,
    variant: PhantomData<P>,
}

impl<P: Protocol> StreamingService<P::Request> for Method<P> {
    type Response = P::Response;
    type ResponseStream = Answers<P::Response>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<P::Request>>) -> Self::Future {
        let opened = self.discovery.open::<P>(self.only, request).map(Response::new);
        futures::future::ready(opened).boxed()
    }
}
