//! The xDS server: turns each published revision into Envoy configuration and pushes it to every
//! Envoy that is connected. It never changes a revision, and never blocks the one who publishes.

mod delta;
pub mod fleet;
pub mod gate;
mod ledger;
mod protocol;
mod refusal;
mod reports;
mod role;
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
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Server;

use crate::published::Current;
use crate::tls::Listener;
use fleet::Fleet;
use gate::Gate;
use role::Role;
use service::{Discovery, STREAMS};
use snapshot::Snapshot;
use translate::DataPlane;

/// A client that does not answer a ping in time is gone: its stream ends and it is listed so.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Rest between two pushes. The first change goes out at once; of a burst, only what is newest after
/// each rest does. A push costs every Envoy some milliseconds of its main thread.
const REST: Duration = Duration::from_millis(20);

/// Serves revisions as they are published: translated once, whoever is connected, and those that are
/// overtaken not at all, to those whom the gate lets in. See [`serve_snapshots`].
///
/// # Errors
///
/// When the server itself fails; never because of a client.
pub async fn serve(
    listener: Listener,
    mut current: Current,
    data_plane: DataPlane,
    fleet: Arc<Fleet>,
    gate: Gate,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let (publish, snapshots) = watch::channel(None);
    let translate = async {
        loop {
            let published = current.borrow_and_update().clone();
            if let Some(published) = published {
                fleet.running().follow(&published);
                publish.send_replace(Some(Arc::new(translate::translate(&published, &data_plane))));
                sleep_until(Instant::now() + REST).await;
            }
            if current.changed().await.is_err() {
                // Nobody will publish again; what is there is still served.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        served = serve_streams(STREAMS, listener, snapshots, Arc::clone(&fleet), gate, shutdown) => served,
        () = translate => Ok(()),
    }
}

/// Serves the newest snapshot over every discovery service on `listener` until `shutdown` completes,
/// then ends every stream; Envoy goes on with what it has. Nothing is sent while there is none. Whoever
/// reaches the listener is let in.
///
/// # Errors
///
/// When the server itself fails; never because of a client.
pub async fn serve_snapshots(
    listener: Listener,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    fleet: Arc<Fleet>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    serve_streams(STREAMS, listener, snapshots, fleet, Gate::open(), shutdown).await
}

async fn serve_streams(
    streams: usize,
    listener: Listener,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    fleet: Arc<Fleet>,
    gate: Gate,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let role = Arc::new(Role::default());
    let (stop, stopping) = watch::channel(false);
    let reports = reports::service(Arc::clone(&fleet), gate.clone(), stopping.clone(), streams);
    let discovery = Discovery::new(Arc::clone(&role), fleet, gate, stopping, streams);
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_routes(discovery.routes().add_service(reports))
        .serve_with_incoming_shutdown(listener.incoming(), async {
            shutdown.await;
            // An open stream would hold the server, which waits for all of them.
            let _ = stop.send(true);
        });
    tokio::select! {
        served = server => served,
        () = role.follow(snapshots) => Ok(()),
    }
}
