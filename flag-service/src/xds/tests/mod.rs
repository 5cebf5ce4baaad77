//! The server over a real connection: what only the network and several streams together show. The
//! state machines are tested on their own, beside them.
//!
//! - `client`: a server on a free port, and a bare client.
//! - `rules`: the protocol's rules, one test each.
//! - `outlines`: the scenarios of the public conformance suite, for every type, variant and service.
//! - `reports`: what clients report of themselves.
//! - this file: what is said of the fleet, and how streams end.

mod client;
mod outlines;
mod reports;
mod rules;

use tokio::time::timeout;

use super::snapshot::Kind::{Cluster, Endpoints, Extension, Route};
use client::{Client, DEADLINE, Incremental, Served, StateOfTheWorld, status};

type Delta = Client<Incremental>;

#[tokio::test]
async fn the_fleet_knows_what_was_accepted_and_what_was_refused() {
    let served = Served::of(&[(Cluster, "A1")]).await;
    let mut envoy = Delta::open(&served, None).await;
    envoy.subscribe(Cluster, "").await;
    envoy.got().await;
    served.until_acked(Cluster, 1).await;
    served.publish(&[(Cluster, "A2")]);
    envoy.next().await;
    envoy.nack("no such cluster").await;
    served.until(|nodes| status(nodes, Cluster).nacked.is_some()).await;
    let status = status(&served.fleet.nodes(), Cluster);
    assert_eq!(status.nacked.unwrap().error, "no such cluster");
    assert_eq!((status.pushed.unwrap().revision, status.acked.unwrap().revision), (2, 1));
    drop(envoy);
    served.until(|nodes| nodes.len() == 1 && !nodes[0].connected).await;
}

#[tokio::test]
async fn clusters_go_only_after_the_policy_that_named_them() {
    let served = Served::of(&[(Cluster, "A1"), (Endpoints, "A1"), (Extension, "F1")]).await;
    let mut envoy = Delta::open(&served, None).await;
    envoy.subscribe(Cluster, "").await;
    envoy.got().await;
    envoy.subscribe(Endpoints, "A").await;
    envoy.got().await;
    envoy.subscribe(Extension, "F").await;
    envoy.got().await;
    served.until_acked(Extension, 1).await;

    served.publish(&[(Cluster, "B1"), (Endpoints, "B1"), (Extension, "F2")]);
    assert_eq!(envoy.got().await, "cds B1");
    envoy.subscribe(Endpoints, "B").await;
    assert_eq!(envoy.got().await, "eds B1");
    assert_eq!(envoy.next().await, "ecds F2");
    envoy.nack("cannot").await;
    served.until(|nodes| status(nodes, Extension).nacked.is_some()).await;
    served.publish(&[(Cluster, "C1"), (Endpoints, "C1"), (Extension, "F3")]);
    // The refused policy never ran, so its cluster goes; that of the last good one stays.
    assert_eq!(envoy.got().await, "cds C1 -B");
    assert_eq!(envoy.got().await, "eds -B");
    // It asks for no endpoints this time, and is given the policy all the same.
    assert_eq!(envoy.got().await, "ecds F3");
    assert_eq!(envoy.got().await, "cds -A");
}

#[tokio::test]
async fn each_service_serves_its_own_type_named_or_not() {
    let all = super::snapshot::Kind::PUSH_ORDER;
    let served = Served::of(&all.map(|kind| (kind, "A1"))).await;
    for kind in all {
        let mut delta = Delta::open(&served, Some(kind)).await;
        let mut unnamed = client::subscribe(kind, "A");
        unnamed.type_url.clear();
        delta.send(unnamed).await;
        assert_eq!(delta.got().await, format!("{} A1", kind.name()));
        let mut sotw = Client::<StateOfTheWorld>::open(&served, Some(kind)).await;
        sotw.want(kind, "A").await;
        assert_eq!(sotw.got().await, format!("{} A1", kind.name()));
        let other = if kind == Route { Cluster } else { Route };
        delta.subscribe(other, "A").await;
        assert_eq!(delta.end().await, tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn shutdown_ends_every_stream() {
    let served = Served::of(&[(Cluster, "A1")]).await;
    let mut envoy = Delta::open(&served, None).await;
    envoy.subscribe(Cluster, "").await;
    envoy.got().await;
    served.stop.send(()).unwrap();
    timeout(DEADLINE, served.server).await.expect("the server ends").unwrap().unwrap();
    envoy.end().await;
}
