//! The rules of the protocol, one test each, named after it. `docs/xds.md` says what each rule is.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tonic::Code;

use super::super::snapshot::Kind::{self, Cluster, Endpoints, Extension, Listener, Route, Runtime, Secret};
use super::super::testing::resource;
use super::client::{Client, Incremental, Served, StateOfTheWorld, status, subscribe};

type Sotw = Client<StateOfTheWorld>;
type Delta = Client<Incremental>;

/// A first request of a client that holds these contents.
fn resume(kind: Kind, names: &str, held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let version = |(name, content): &(&str, &str)| ((*name).to_owned(), resource(content).version);
    let initial_resource_versions: HashMap<String, String> = held.iter().map(version).collect();
    DeltaDiscoveryRequest { initial_resource_versions, ..subscribe(kind, names) }
}

#[tokio::test]
async fn rule_1_a_nonce_is_new_for_every_response_and_dies_with_its_stream() {
    let served = Served::of(&[(Endpoints, "A1 B1")]).await;
    let mut delta = Delta::open(&served, None).await;
    delta.subscribe(Endpoints, "A").await;
    assert_eq!(delta.got().await, "eds A1");
    let version = delta.newest().version.clone();
    delta.subscribe(Endpoints, "A").await;
    assert_eq!((delta.got().await.as_str(), &delta.newest().version), ("eds A1", &version));

    let mut sotw = Sotw::open(&served, None).await;
    let old = DiscoveryRequest {
        type_url: Endpoints.type_url().to_owned(),
        response_nonce: "77".to_owned(),
        version_info: "old".to_owned(),
        resource_names: vec!["A".to_owned()],
        ..DiscoveryRequest::default()
    };
    sotw.send(old).await;
    assert_eq!(sotw.next().await, "eds A1", "a nonce of an earlier stream says nothing");
}

#[tokio::test]
async fn rule_2_a_nack_is_error_detail_and_nothing_else() {
    let served = Served::of(&[(Extension, "F1")]).await;
    let mut sotw = Sotw::open(&served, None).await;
    sotw.want(Extension, "F").await;
    assert_eq!(sotw.next().await, "ecds F1");
    let mut accepted_without_version = sotw.newest().clone();
    accepted_without_version.version.clear();
    sotw.accept(&accepted_without_version, "F").await;
    served.until_acked(Extension, 1).await;

    served.publish(&[(Extension, "F2")]);
    assert_eq!(sotw.next().await, "ecds F2");
    sotw.nack("no such field").await;
    served.until(|nodes| status(nodes, Extension).nacked.is_some()).await;
    // The same bytes as another revision are not sent, and the stream goes on.
    served.publish(&[(Extension, "F2")]);
    served.publish(&[(Extension, "F3")]);
    assert_eq!(sotw.got().await, "ecds F3");
    served.until(|nodes| status(nodes, Extension).nacked.is_none()).await;
}

#[tokio::test]
async fn rule_3_state_of_the_world_does_not_hear_a_stale_nonce() {
    let served = Served::of(&[(Endpoints, "A1 B1")]).await;
    let mut sotw = Sotw::open(&served, None).await;
    sotw.want(Endpoints, "A").await;
    assert_eq!(sotw.got().await, "eds A1");
    let stale = sotw.newest().clone();
    served.publish(&[(Endpoints, "A2 B1")]);
    assert_eq!(sotw.next().await, "eds A2");
    sotw.accept(&stale, "A B").await;
    sotw.ack().await;
    served.publish(&[(Endpoints, "A3 B1")]);
    assert_eq!(sotw.next().await, "eds A3", "B was asked for with a nonce that no longer counts");
}

#[tokio::test]
async fn rule_4_delta_hears_a_subscription_whatever_its_nonce() {
    let served = Served::of(&[(Endpoints, "A1 B1")]).await;
    let mut delta = Delta::open(&served, None).await;
    delta.subscribe(Endpoints, "A").await;
    assert_eq!(delta.got().await, "eds A1");
    let stale = "no nonce of this stream".to_owned();
    delta.send(DeltaDiscoveryRequest { response_nonce: stale, ..subscribe(Endpoints, "B") }).await;
    assert_eq!(delta.next().await, "eds B1");
}

#[tokio::test]
async fn rule_5_a_wildcard_ends_with_the_first_name_in_state_of_the_world_and_not_in_delta() {
    let served = Served::of(&[(Cluster, "A1 B1"), (Runtime, "R1")]).await;
    let mut sotw = Sotw::open(&served, None).await;
    sotw.want(Cluster, "").await;
    assert_eq!(sotw.got().await, "cds A1 B1");
    sotw.want(Cluster, "A").await;
    sotw.want(Runtime, "").await;
    sotw.want(Listener, "").await;
    assert_eq!(sotw.got().await, "lds", "and no runtime, of which an empty list asks for none");
    served.publish(&[(Cluster, "A2 B2"), (Runtime, "R2"), (Secret, "S1")]);
    assert_eq!(sotw.got().await, "cds A2");
    sotw.want(Cluster, "").await;
    sotw.want(Secret, "S").await;
    assert_eq!(sotw.got().await, "sds S1");
    served.publish(&[(Cluster, "A3 B3"), (Secret, "S2")]);
    assert_eq!(sotw.got().await, "sds S2", "and no clusters, since a name was sent before");
    served.publish(&[(Cluster, "A2 B2")]);

    let mut delta = Delta::open(&served, None).await;
    delta.subscribe(Cluster, "").await;
    assert_eq!(delta.got().await, "cds A2 B2");
    delta.subscribe(Cluster, "A").await;
    assert_eq!(delta.got().await, "cds A2");
    served.publish(&[(Cluster, "A2 B3")]);
    assert_eq!(delta.got().await, "cds B3");
    delta.unsubscribe(Cluster, "*").await;
    delta.nothing_more().await;
    served.publish(&[(Cluster, "A4 B4")]);
    assert_eq!(delta.got().await, "cds A4");
}

#[tokio::test]
async fn rule_6_listeners_and_clusters_are_complete_and_never_sent_before_they_are_known() {
    let served = Served::start().await;
    let mut sotw = Sotw::open(&served, None).await;
    sotw.want(Cluster, "").await;
    sotw.want(Endpoints, "A B").await;
    assert!(sotw.is_idle().await, "an empty list of clusters would delete them");
    served.publish(&[(Cluster, "A1 B1"), (Endpoints, "A1 B1")]);
    assert_eq!(sotw.got().await, "cds A1 B1");
    assert_eq!(sotw.got().await, "eds A1 B1");
    served.publish(&[(Cluster, "A2 B1"), (Endpoints, "A1 B1")]);
    assert_eq!(sotw.got().await, "cds A2 B1");
    assert_eq!(sotw.got().await, "eds A1 B1");
    served.publish(&[]);
    assert_eq!(sotw.got().await, "cds");
}

#[tokio::test]
async fn rule_7_a_name_that_does_not_exist_is_answered_and_sent_once_it_does() {
    let served = Served::of(&[]).await;
    let mut delta = Delta::open(&served, None).await;
    for kind in Kind::PUSH_ORDER {
        delta.subscribe(kind, "A").await;
        assert_eq!(delta.got().await, format!("{} -A", kind.name()));
    }
    for kind in Kind::PUSH_ORDER {
        served.publish(&[(kind, "A1")]);
        let came = format!("{} A1", kind.name());
        while delta.got().await != came {}
    }
}

#[tokio::test]
async fn rule_8_a_name_that_is_subscribed_again_is_sent_again() {
    let served = Served::of(&[(Endpoints, "A1 B1")]).await;
    let mut delta = Delta::open(&served, None).await;
    delta.subscribe(Endpoints, "A B").await;
    assert_eq!(delta.got().await, "eds A1 B1");
    delta.subscribe(Endpoints, "A").await;
    assert_eq!(delta.got().await, "eds A1");
    delta.nothing_more().await;
}

#[tokio::test]
async fn rule_9_unsubscribing_a_name_under_a_wildcard_is_answered() {
    let served = Served::of(&[(Cluster, "A1")]).await;
    let mut delta = Delta::open(&served, None).await;
    delta.subscribe(Cluster, "* A X").await;
    assert_eq!(delta.got().await, "cds A1 -X");
    delta.unsubscribe(Cluster, "A X").await;
    assert_eq!(delta.got().await, "cds A1 -X");
    delta.nothing_more().await;
}

#[tokio::test]
async fn rule_10_a_client_that_reconnects_is_sent_what_it_lacks_and_nothing_else() {
    let served = Served::of(&[(Endpoints, "A1 B2"), (Route, "R1"), (Extension, "F1 G1")]).await;
    let mut delta = Delta::open(&served, None).await;
    delta.send(resume(Endpoints, "A B C", &[("A", "A1"), ("B", "B1"), ("C", "C1")])).await;
    assert_eq!(delta.got().await, "eds B2 -C");
    delta.send(resume(Route, "R", &[("R", "R1")])).await;
    delta.nothing_more().await;
    served.until_acked(Route, 1).await;

    let mut before = Sotw::open(&served, None).await;
    before.want(Extension, "F").await;
    assert_eq!(before.got().await, "ecds F1");
    let held = before.newest().clone();
    let mut again = Sotw::open(&served, None).await;
    again.accept(&held, "F").await;
    served.publish(&[(Extension, "F2 G1")]);
    assert_eq!(again.next().await, "ecds F2", "and nothing before it");
}

#[tokio::test]
async fn rule_11_endpoints_follow_their_cluster_though_they_did_not_change() {
    let served = Served::of(&[(Cluster, "A2"), (Endpoints, "A1")]).await;
    let mut delta = Delta::open(&served, None).await;
    delta.send(resume(Cluster, "", &[("A", "A1")])).await;
    assert_eq!(delta.got().await, "cds A2");
    delta.send(resume(Endpoints, "A", &[("A", "A1")])).await;
    assert_eq!(delta.got().await, "eds A1");

    let mut sotw = Sotw::open(&served, None).await;
    sotw.want(Cluster, "").await;
    sotw.want(Endpoints, "A").await;
    assert_eq!((sotw.got().await.as_str(), sotw.got().await.as_str()), ("cds A2", "eds A1"));
    served.publish(&[(Cluster, "A3"), (Endpoints, "A1")]);
    assert_eq!((sotw.got().await.as_str(), sotw.got().await.as_str()), ("cds A3", "eds A1"));
}

/// Asks for clusters, their endpoints and the policy, as an Envoy does.
async fn follow(delta: &mut Delta, clusters: &str) {
    delta.subscribe(Cluster, "").await;
    assert!(delta.got().await.starts_with("cds"));
    delta.subscribe(Endpoints, clusters).await;
    assert!(delta.got().await.starts_with("eds"));
    delta.subscribe(Extension, "F").await;
    assert!(delta.got().await.starts_with("ecds"));
}

#[tokio::test]
async fn rule_12_what_is_new_comes_first_and_what_is_old_goes_when_all_have_followed() {
    let served = Served::of(&[(Cluster, "A1"), (Endpoints, "A1"), (Extension, "F1")]).await;
    let mut first = Delta::open(&served, None).await;
    let mut second = Delta::try_open(&served, None, "b").await.unwrap();
    follow(&mut first, "A").await;
    follow(&mut second, "A").await;
    served
        .until(|nodes| nodes.len() == 2 && nodes.iter().all(|node| node.types["ecds"].acked.is_some()))
        .await;

    served.publish(&[(Cluster, "B1"), (Endpoints, "B1"), (Extension, "F2")]);
    for envoy in [&mut first, &mut second] {
        assert_eq!(envoy.got().await, "cds B1");
        envoy.subscribe(Endpoints, "B").await;
        assert_eq!(envoy.got().await, "eds B1", "the policy waits for it");
        assert_eq!(envoy.next().await, "ecds F2");
    }
    first.ack().await;
    first.nothing_more().await;
    second.ack().await;
    for envoy in [&mut first, &mut second] {
        assert_eq!(envoy.got().await, "cds -A");
        assert_eq!(envoy.got().await, "eds -A");
    }
}

#[tokio::test]
async fn rule_13_an_ack_is_not_answered_and_nothing_is_sent_twice() {
    let all = |content| Kind::PUSH_ORDER.map(|kind| (kind, content));
    let served = Served::of(&all("A1")).await;
    let mut delta = Delta::open(&served, None).await;
    for kind in Kind::PUSH_ORDER {
        delta.subscribe(kind, "A").await;
        assert_eq!(delta.got().await, format!("{} A1", kind.name()));
    }
    served.publish(&all("A1"));
    delta.nothing_more().await;
    served.publish(&all("A2"));
    for kind in Kind::PUSH_ORDER {
        assert_eq!(delta.got().await, format!("{} A2", kind.name()), "in push order");
    }
    delta.nothing_more().await;
}

#[tokio::test]
async fn rule_14_the_node_is_in_the_first_request_and_in_no_other() {
    let served = Served::of(&[(Cluster, "A1"), (Route, "R1")]).await;
    for node in [None, Some(Node::default())] {
        let mut delta = Delta::open(&served, None).await;
        delta.come_from(node.clone());
        delta.subscribe(Cluster, "").await;
        assert_eq!(delta.end().await, Code::InvalidArgument);
        let mut sotw = Sotw::open(&served, None).await;
        sotw.come_from(node);
        sotw.want(Cluster, "").await;
        assert_eq!(sotw.end().await, Code::InvalidArgument);
    }
    assert!(served.fleet.nodes().is_empty());
    let mut delta = Delta::open(&served, None).await;
    delta.subscribe(Cluster, "").await;
    assert_eq!(delta.got().await, "cds A1");
    delta.subscribe(Route, "R").await;
    assert_eq!(delta.got().await, "rds R1");
    assert_eq!(served.fleet.nodes()[0].id, "a");
}

#[tokio::test]
async fn rule_15_no_resource_has_a_time_to_live() {
    let all = Kind::PUSH_ORDER.map(|kind| (kind, "A1"));
    let served = Served::of(&all).await;
    let mut delta = Delta::open(&served, None).await;
    let features = ["xds.config.supports-resource-ttl", "xds.config.supports-resource-in-sotw"];
    let client_features = features.map(str::to_owned).into();
    delta.come_from(Some(Node { id: "a".to_owned(), client_features, ..Node::default() }));
    for kind in Kind::PUSH_ORDER {
        delta.subscribe(kind, "A").await;
        assert_eq!(delta.got().await, format!("{} A1", kind.name()), "and `read` sees no time to live");
    }
}

#[tokio::test]
async fn rule_16_a_full_server_says_so_when_a_stream_is_opened() {
    let served = Served::with_room_for(1).await;
    served.publish(&[(Secret, "S1")]);
    let mut first = Delta::open(&served, None).await;
    first.subscribe(Secret, "S").await;
    assert_eq!(first.got().await, "sds S1");
    let second = Delta::try_open(&served, None, "b").await.map(drop).unwrap_err();
    assert_eq!(second.code(), Code::ResourceExhausted);
    drop(first);
    served.until(|nodes| !nodes[0].connected).await;
    while let Err(status) = Delta::try_open(&served, None, "b").await.map(drop) {
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn rule_17_a_client_that_does_not_read_holds_up_nobody_and_gets_the_newest() {
    let served = Served::start().await;
    // Each revision renames a thousand clusters, more than the windows of the connection hold, so
    // that sending to a client that does not read has to wait.
    let publish = |revision: usize| {
        let names: Vec<String> = (0..1000).map(|number| format!("{revision}-{number:0>400}x1")).collect();
        served.publish(&[(Cluster, &names.join(" "))]);
        served.publish.borrow().as_ref().unwrap().version(Cluster).to_owned()
    };
    publish(0);
    let mut stuck = Delta::try_open(&served, None, "stuck").await.unwrap();
    let mut brisk = Delta::try_open(&served, None, "brisk").await.unwrap();
    for client in [&mut stuck, &mut brisk] {
        client.subscribe(Cluster, "").await;
        client.next().await;
    }
    let revisions = 40;
    let mut newest = String::new();
    for revision in 1..=revisions {
        newest = publish(revision);
        while brisk.newest().version != newest {
            brisk.next().await;
        }
    }
    let mut responses = 1;
    while stuck.newest().version != newest {
        stuck.next().await;
        responses += 1;
    }
    assert!(responses < revisions, "{responses} responses for {revisions} revisions");
}
