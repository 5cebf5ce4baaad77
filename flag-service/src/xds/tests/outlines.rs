//! The eighteen scenario outlines of the public conformance suite (ii/xds-test-harness), each for the
//! types it lists, on the aggregated service and on the type's own. Contents stand for versions.

use super::super::snapshot::Kind::{self, Cluster, Endpoints, Listener, Route};
use super::client::{Client, Incremental, Served, StateOfTheWorld, Variant};

type Sotw = Client<StateOfTheWorld>;
type Delta = Client<Incremental>;

/// Types whose state of the world is always told whole.
const COMPLETE: [Kind; 2] = [Cluster, Listener];
/// Types of which a response may tell a part.
const PARTIAL: [Kind; 2] = [Route, Endpoints];
const ALL: [Kind; 4] = [Cluster, Listener, Route, Endpoints];
/// Pairs of types that share a stream.
const PAIRS: [(Kind, Kind); 4] =
    [(Cluster, Listener), (Listener, Cluster), (Route, Endpoints), (Endpoints, Route)];

/// A server with resources of one type, once for each type and service that can tell of it.
async fn targets(kinds: &[Kind], resources: &str) -> Vec<(Served, Kind, Option<Kind>)> {
    let mut targets = Vec::new();
    for kind in kinds {
        for service in [None, Some(*kind)] {
            targets.push((Served::of(&[(*kind, resources)]).await, *kind, service));
        }
    }
    targets
}

impl<V: Variant> Client<V> {
    async fn gets(&mut self, kind: Kind, contents: &str) {
        assert_eq!(self.got().await, format!("{} {contents}", kind.name()));
    }
}

#[tokio::test]
async fn a_wildcard_is_sent_all_resources() {
    for (served, kind, service) in targets(&COMPLETE, "A1 B1 C1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "").await;
        client.gets(kind, "A1 B1 C1").await;
        served.publish(&[(kind, "A9 B9 C9")]);
        client.gets(kind, "A9 B9 C9").await;
    }
}

#[tokio::test]
async fn a_wildcard_is_sent_updates() {
    for (served, kind, service) in targets(&COMPLETE, "A1 B1 C1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "").await;
        client.gets(kind, "A1 B1 C1").await;
        served.publish(&[(kind, "A2 B1 C1")]);
        client.gets(kind, "A2 B1 C1").await;
    }
}

#[tokio::test]
async fn a_wildcard_is_sent_what_is_added() {
    for (served, kind, service) in targets(&COMPLETE, "A1 B1 C1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "").await;
        client.gets(kind, "A1 B1 C1").await;
        served.publish(&[(kind, "A1 B1 C1 D2")]);
        client.gets(kind, "A1 B1 C1 D2").await;
    }
}

#[tokio::test]
async fn who_names_resources_is_sent_these() {
    for (served, kind, service) in targets(&ALL, "A1 B1 C1 D1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "B D").await;
        client.gets(kind, "B1 D1").await;
        let mut client = Delta::open(&served, service).await;
        client.subscribe(kind, "B D").await;
        client.gets(kind, "B1 D1").await;
        served.publish(&[(kind, "A2 B1 C1 D2")]);
        client.gets(kind, "D2").await;
    }
}

#[tokio::test]
async fn who_names_listeners_or_clusters_is_sent_all_of_them_when_one_changes() {
    for (served, kind, service) in targets(&COMPLETE, "A1 B1 C1 D1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "B D").await;
        client.gets(kind, "B1 D1").await;
        served.publish(&[(kind, "A1 B2 C1 D1")]);
        client.gets(kind, "B2 D1").await;
    }
}

#[tokio::test]
async fn who_names_other_resources_is_sent_what_changed() {
    for (served, kind, service) in targets(&PARTIAL, "A1 B1 C1 D1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "B D").await;
        client.gets(kind, "B1 D1").await;
        served.publish(&[(kind, "A1 B2 C1 D1")]);
        assert!(client.got().await.contains(" B2"));
    }
}

#[tokio::test]
async fn who_names_a_listener_or_cluster_that_is_missing_is_sent_all_when_it_is_made() {
    for (served, kind, service) in targets(&COMPLETE, "A1 B1 C1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "A Z").await;
        client.gets(kind, "A1").await;
        served.publish(&[(kind, "A1 B1 C1 Z2")]);
        client.gets(kind, "A1 Z2").await;
    }
}

#[tokio::test]
async fn who_names_another_resource_that_is_missing_is_sent_it_when_it_is_made() {
    for (served, kind, service) in targets(&PARTIAL, "A1 B1 C1 D1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "A Z").await;
        client.gets(kind, "A1").await;
        served.publish(&[(kind, "A1 B1 C1 D1 Z2")]);
        assert!(client.got().await.contains(" Z2"));
    }
}

#[tokio::test]
async fn one_stream_carries_several_types() {
    for (one, other) in PAIRS {
        let served = Served::of(&[(one, "A1 B1 C1"), (other, "A1 B1 C1")]).await;
        let mut client = Sotw::open(&served, None).await;
        client.want(one, "B").await;
        client.gets(one, "B1").await;
        client.want(other, "B").await;
        client.gets(other, "B1").await;
        served.publish(&[(one, "A1 B2 C1"), (other, "A1 B1 C1")]);
        client.gets(one, "B2").await;
    }
}

#[tokio::test]
async fn who_gives_up_listeners_or_clusters_is_sent_the_rest() {
    for (served, kind, service) in targets(&COMPLETE, "A1 B1 C1 D1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "A B C").await;
        client.gets(kind, "A1 B1 C1").await;
        client.want(kind, "A").await;
        served.publish(&[(kind, "A2 B1 C1 D1")]);
        assert!(client.got().await.contains(" A2"));
    }
}

#[tokio::test]
async fn who_gives_up_other_resources_is_sent_only_the_rest() {
    for (served, kind, service) in targets(&PARTIAL, "A1 B1 C1 D1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "B D").await;
        client.gets(kind, "B1 D1").await;
        // The answer to what is new tells that the request has been heard.
        client.want(kind, "A B").await;
        client.gets(kind, "A1 B1").await;
        served.publish(&[(kind, "A1 B2 C1 D2")]);
        client.gets(kind, "A1 B2").await;
    }
}

#[tokio::test]
async fn who_gives_up_everything_is_sent_nothing() {
    for (served, kind, service) in targets(&ALL, "A1 B1 C1 D1").await {
        let mut client = Sotw::open(&served, service).await;
        client.want(kind, "A B").await;
        client.gets(kind, "A1 B1").await;
        client.want(kind, "none").await;
        if COMPLETE.contains(&kind) {
            assert_eq!(client.got().await, kind.name(), "nothing is what is left");
        }
        served.publish(&[(kind, "A1 B1 C1 D1 none2")]);
        client.gets(kind, "none2").await;
        served.publish(&[(kind, "A1 B2 C1 D1 none2")]);
        served.publish(&[(kind, "A1 B2 C1 D1 none3")]);
        client.gets(kind, "none3").await;
    }
}

#[tokio::test]
async fn delta_resources_may_be_subscribed_one_after_the_other() {
    for (served, kind, service) in targets(&ALL, "A1 B1 C1").await {
        let mut client = Delta::open(&served, service).await;
        client.subscribe(kind, "A").await;
        client.gets(kind, "A1").await;
        client.subscribe(kind, "B").await;
        client.gets(kind, "B1").await;
        served.publish(&[(kind, "A2 B1 C2")]);
        client.gets(kind, "A2").await;
    }
}

#[tokio::test]
async fn delta_sends_only_the_resource_that_changed() {
    for (served, kind, service) in targets(&ALL, "A1 B1 C1").await {
        let mut client = Delta::open(&served, service).await;
        client.subscribe(kind, "A B C").await;
        client.gets(kind, "A1 B1 C1").await;
        served.publish(&[(kind, "A2 B1 C1")]);
        client.gets(kind, "A2").await;
    }
}

#[tokio::test]
async fn delta_tells_what_does_not_exist_and_sends_it_when_it_is_made() {
    for (served, kind, service) in targets(&ALL, "A1").await {
        let mut client = Delta::open(&served, service).await;
        client.subscribe(kind, "A B").await;
        client.gets(kind, "A1 -B").await;
        served.publish(&[(kind, "A1 B1")]);
        client.gets(kind, "B1").await;
    }
}

#[tokio::test]
async fn delta_tells_what_was_removed() {
    for (served, kind, service) in targets(&ALL, "A1 B1").await {
        let mut client = Delta::open(&served, service).await;
        client.subscribe(kind, "A B").await;
        client.gets(kind, "A1 B1").await;
        served.publish(&[(kind, "A1")]);
        client.gets(kind, "-B").await;
        served.publish(&[(kind, "A1 B2")]);
        client.gets(kind, "B2").await;
    }
}

#[tokio::test]
async fn delta_resources_may_be_given_up_one_after_the_other() {
    for (served, kind, service) in targets(&ALL, "A1 B1 C1").await {
        let mut client = Delta::open(&served, service).await;
        client.subscribe(kind, "A B C").await;
        client.gets(kind, "A1 B1 C1").await;
        // The answer to what is missing tells that the request before it has been heard.
        for (given_up, after) in [("B", "A1 B2 C1"), ("A", "A2 B2 C1")] {
            client.unsubscribe(kind, given_up).await;
            client.subscribe(kind, "none").await;
            client.gets(kind, "-none").await;
            served.publish(&[(kind, after)]);
        }
        served.publish(&[(kind, "A2 B2 C2")]);
        client.gets(kind, "C2").await;
    }
}

#[tokio::test]
async fn one_delta_stream_carries_several_types() {
    for (one, other) in PAIRS {
        let served = Served::of(&[(one, "A1 B1 C1"), (other, "A1 B1 C1")]).await;
        let mut client = Delta::open(&served, None).await;
        client.subscribe(one, "B").await;
        client.gets(one, "B1").await;
        client.subscribe(other, "B").await;
        client.gets(other, "B1").await;
        served.publish(&[(one, "A1 B2 C1"), (other, "A1 B1 C1")]);
        client.gets(one, "B2").await;
        served.publish(&[(one, "A1 B2 C1"), (other, "A1 B2 C1")]);
        client.gets(other, "B2").await;
    }
}
