//! The xDS server and clients that are no Envoys: gRPC's own, which name what they want, ask for
//! listeners as well by name, and never mean everything.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    grpc_client::GrpcClient,
    ports::Port,
    wait::{SOON, eventually},
    workdir::system_test,
    xds_server::{Backend, XdsServer, proxyless},
};
use std::net::SocketAddr;

/// Follows one client through everything that may change under it. No call may fail.
async fn follows(client: fn(SocketAddr) -> Result<GrpcClient>) -> Result<()> {
    let port = Port::claim()?;
    let server = XdsServer::start(port.address()).await?;
    let (one, other) = (Backend::start("one").await?, Backend::start("other").await?);
    server.publish(proxyless(1, "first", &[one.address()]));
    let mut client = client(port.address())?;
    let first = client.ask().await.with_context(|| format!("{:#?}", server.fleet.nodes()))?;
    ensure!(first == "one", "{first}");

    server.publish(proxyless(2, "first", &[other.address()]));
    served_by(&mut client, "other").await.context("other endpoints")?;
    // The new cluster comes before the route to it, and the old one goes after.
    server.publish(proxyless(3, "second", &[one.address()]));
    served_by(&mut client, "one").await.context("another cluster")?;
    accepts(&server, 3).await?;

    // Without the server it goes on, and follows again when that is back.
    drop(server);
    for _ in 0..10 {
        ensure!(client.ask().await.context("the server away")? == "one");
    }
    let server = XdsServer::start(port.address()).await?;
    server.publish(proxyless(9, "second", &[other.address()]));
    served_by(&mut client, "other").await.context("the server back")?;
    accepts(&server, 9).await
}

async fn served_by(client: &mut GrpcClient, backend: &str) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        let answer = client.ask().await?;
        if answer == backend {
            return Ok(());
        }
        ensure!(start.elapsed() < SOON, "still served by {answer}");
    }
}

/// Waits until the one client has accepted everything of a revision, and sees that it refused nothing.
async fn accepts(server: &XdsServer, revision: u64) -> Result<()> {
    let accepted = async || {
        let nodes = server.fleet.nodes();
        ensure!(nodes.len() == 1, "{nodes:?}");
        for (kind, status) in &nodes[0].types {
            ensure!(status.nacked.is_none(), "{kind}: {status:?}");
            // After a reconnect it has what it was not sent again.
            let sent = status.pushed.as_ref().or(status.acked.as_ref());
            ensure!(sent == status.acked.as_ref(), "{kind}: {status:?}");
        }
        let endpoints = nodes[0].types.get("eds").and_then(|status| status.acked.as_ref());
        ensure!(endpoints.is_some_and(|acked| acked.revision == revision), "{nodes:?}");
        Ok(())
    };
    eventually(SOON, "the client's ack", accepted).await
}

#[test]
fn grpc_core_follows() {
    system_test(async |_| follows(GrpcClient::python).await);
}

#[test]
fn grpc_js_follows() {
    system_test(async |_| follows(GrpcClient::node).await);
}

#[test]
fn tonic_xds_follows() {
    system_test(async |_| follows(GrpcClient::tonic).await);
}
