//! Envoys' reports over gRPC (`metrics_service`): who reports, in what bounds. What it means is known elsewhere.

use std::sync::Arc;

use envoy_types::pb::envoy::service::metrics::v3::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use envoy_types::pb::envoy::service::metrics::v3::{StreamMetricsMessage, StreamMetricsResponse};
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status, Streaming};

use super::fleet::Fleet;
use super::gate::{Entry, Gate};

/// Largest message, in bytes. Envoy sends what it has in parts of as many metrics as its configuration says;
/// 500, as in ours, are some 60 kB, and the first message carries a node of 60 kB.
const LARGEST: usize = 2 << 20;

/// Hears what Envoys report.
#[derive(Debug)]
pub(super) struct Reports {
    fleet: Arc<Fleet>,
    gate: Gate,
    /// Turns true, or closes, when the server stops.
    stopping: watch::Receiver<bool>,
    free: Semaphore,
}

/// The service, for so many streams.
pub(super) fn service(
    fleet: Arc<Fleet>,
    gate: Gate,
    stopping: watch::Receiver<bool>,
    streams: usize,
) -> MetricsServiceServer<Reports> {
    let reports = Reports { fleet, gate, stopping, free: Semaphore::new(streams) };
    MetricsServiceServer::new(reports).max_decoding_message_size(LARGEST)
}

#[tonic::async_trait]
impl MetricsService for Reports {
    async fn stream_metrics(
        &self,
        request: Request<Streaming<StreamMetricsMessage>>,
    ) -> Result<Response<StreamMetricsResponse>, Status> {
        let _permit = self
            .free
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("this server has as many streams as it takes"))?;
        let entry = self.gate.entry(request.metadata(), request.extensions());
        entry.greet()?;
        let mut stopping = self.stopping.clone();
        tokio::select! {
            heard = self.hear(entry, request.into_inner()) => heard.map(|()| Response::new(StreamMetricsResponse {})),
            // An error means that the server is gone, which is the same.
            _ = stopping.wait_for(|stopping| *stopping) => Err(Status::unavailable("this server stops")),
        }
    }
}

impl Reports {
    /// Hears a stream to its end, or for as long as the node would be let in.
    async fn hear(
        &self,
        mut entry: Entry,
        mut messages: Streaming<StreamMetricsMessage>,
    ) -> Result<(), Status> {
        let Some(first) = messages.message().await? else { return Ok(()) };
        let node = first.identifier.as_ref().and_then(|identifier| identifier.node.as_ref());
        let Some(node) = node.filter(|node| !node.id.is_empty()) else {
            return Err(Status::invalid_argument(
                "the first message of a stream must name its node: set node.id",
            ));
        };
        entry.admit(&node.id).await?;
        let closes = entry.closes(&node.id);
        let stream = self.fleet.reports(&node.id);
        stream.hear(&first.envoy_metrics);
        let rest = async {
            while let Some(message) = messages.message().await? {
                stream.hear(&message.envoy_metrics);
            }
            Ok(())
        };
        tokio::select! {
            heard = rest => heard,
            status = closes => Err(status),
        }
    }
}
