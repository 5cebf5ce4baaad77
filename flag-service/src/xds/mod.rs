//! The xDS server: turns each published revision into Envoy configuration and pushes it to every
//! Envoy that is connected. It never changes a revision, and never blocks the one who publishes.

mod delta;
pub mod fleet;
mod ledger;
mod protocol;
mod service;
pub mod snapshot;
mod sotw;
mod stream;
mod subscription;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod translate;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::published::Current;
use fleet::Fleet;
use snapshot::Snapshot;
use translate::DataPlane;

/// A client that does not answer a ping in time is gone: its stream ends and it is listed so.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the aggregated discovery service on `listener` until `shutdown` completes, then ends
/// every stream; Envoy goes on with what it has. Nothing is sent while `current` holds nothing.
///
/// # Errors
///
/// When the server itself fails; never because of a client.
pub async fn serve(
    listener: TcpListener,
    mut current: Current,
    data_plane: DataPlane,
    fleet: Arc<Fleet>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let (publish, snapshots) = watch::channel(None);
    let (stop, stopping) = watch::channel(false);
    let ads = service::Ads::new(snapshots, fleet, stopping);
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(AggregatedDiscoveryServiceServer::new(ads))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async {
            shutdown.await;
            // An open stream would hold the server, which waits for all of them.
            let _ = stop.send(true);
        });
    // Translated once, whoever is connected; a revision that is overtaken is skipped.
    let translate = async {
        loop {
            let published = current.borrow_and_update().clone();
            if let Some(published) = published {
                let snapshot: Snapshot = translate::translate(&published, &data_plane);
                publish.send_replace(Some(Arc::new(snapshot)));
            }
            if current.changed().await.is_err() {
                // Nobody will publish again; what is there is still served.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        served = server => served,
        () = translate => Ok(()),
    }
}
