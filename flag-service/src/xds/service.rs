//! The gRPC side: opens streams, bounds their number and ends them on shutdown. It knows nothing
//! of resources.

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures::Stream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::delta::Delta;
use super::fleet::Fleet;
use super::protocol::Protocol;
use super::sotw::Sotw;
use super::stream::{self, Snapshots};

/// Streams taken; one per Envoy. Envoy meets the refusal beyond it with its ordinary back-off.
const STREAMS: usize = 10_000;

/// Responses that may wait for one client to read: about one round of all types.
const QUEUE: usize = 8;

/// The aggregated discovery service.
pub(super) struct Ads {
    snapshots: Snapshots,
    fleet: Arc<Fleet>,
    /// Turns true, or closes, when the server stops.
    stopping: watch::Receiver<bool>,
    free: Arc<Semaphore>,
}

impl Ads {
    pub(super) fn new(snapshots: Snapshots, fleet: Arc<Fleet>, stopping: watch::Receiver<bool>) -> Self {
        Self { snapshots, fleet, stopping, free: Arc::new(Semaphore::new(STREAMS)) }
    }

    fn open<P: Protocol>(&self, requests: Streaming<P::Request>) -> Result<Answers<P::Response>, Status> {
        let permit = Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted(format!("this server already has {STREAMS} streams")))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (snapshots, fleet, mut stopping) =
            (self.snapshots.clone(), Arc::clone(&self.fleet), self.stopping.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stream::run::<P>(requests, sender, snapshots, fleet) => {}
                // An error means that the server is gone, which is the same.
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
            drop(permit);
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

type Answers<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<Sotw>(request.into_inner()).map(Response::new)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<Delta>(request.into_inner()).map(Response::new)
    }
}
