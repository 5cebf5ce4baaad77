//! The delta protocol's rules, one by one, without a network.

use std::collections::BTreeMap;

use envoy_types::pb::google::rpc::Status;

use super::super::testing::{names, resource, snapshot};
use super::*;

/// A stream, and what was said on it.
#[derive(Default)]
struct Client {
    stream: Delta,
    nonces: Vec<String>,
}

impl Client {
    fn ask(&mut self, request: DeltaDiscoveryRequest, snapshot: &Snapshot) -> Vec<String> {
        let answers = self.stream.on_request(&request, snapshot).answers;
        self.read(answers)
    }

    fn see(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let answers = self.stream.on_snapshot(snapshot);
        self.read(answers)
    }

    /// Answers everything of a type that is still open.
    fn ack(&mut self, kind: Kind, error: Option<&str>, snapshot: &Snapshot) -> Vec<String> {
        let error_detail = error.map(|text| Status { message: text.into(), ..Status::default() });
        let response_nonce = self.stream.ledger.last(kind).unwrap().to_owned();
        self.ask(DeltaDiscoveryRequest { response_nonce, error_detail, ..subscribe(kind, &[]) }, snapshot)
    }

    /// `cds +a -b`: what was sent of each type, and what was removed.
    fn read(&mut self, answers: Vec<Answer<DeltaDiscoveryResponse>>) -> Vec<String> {
        let mut read = Vec::new();
        for Answer { kind, message, .. } in answers {
            assert!(!self.nonces.contains(&message.nonce), "a nonce was used twice");
            self.nonces.push(message.nonce);
            let mut text = kind.name().to_owned();
            message.resources.iter().for_each(|resource| text += &format!(" +{}", resource.name));
            message.removed_resources.iter().for_each(|name| text += &format!(" -{name}"));
            read.push(text);
        }
        read
    }
}

fn subscribe(kind: Kind, asked: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names(asked),
        ..DeltaDiscoveryRequest::default()
    }
}

fn unsubscribe(kind: Kind, left: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { resource_names_unsubscribe: names(left), ..subscribe(kind, &[]) }
}

/// A first request of a client that holds (name, content).
fn resume(kind: Kind, asked: &[&str], held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let version = |(name, content): &(&str, &str)| ((*name).to_owned(), resource(content).version);
    DeltaDiscoveryRequest {
        initial_resource_versions: held.iter().map(version).collect(),
        ..subscribe(kind, asked)
    }
}

use Kind::{Cluster, Endpoints, Extension, Listener, Route};

#[test]
fn a_wildcard_gets_everything_and_then_what_changed() {
    let mut client = Client::default();
    let one = snapshot(1, &[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    assert_eq!(client.ask(subscribe(Cluster, &[]), &one), ["cds +a +b"]);
    assert!(client.ack(Cluster, None, &one).is_empty(), "an ack is not answered");
    assert!(client.see(&snapshot(2, &[(Cluster, "a", "1"), (Cluster, "b", "1")])).is_empty());
    let two = snapshot(3, &[(Cluster, "a", "2"), (Cluster, "c", "1")]);
    assert_eq!(client.see(&two), ["cds +a +c -b"]);
}

#[test]
fn a_client_that_starts_is_told_that_there_is_nothing() {
    let mut client = Client::default();
    assert_eq!(client.ask(subscribe(Cluster, &[]), &snapshot(1, &[])), ["cds"]);
    assert!(client.ask(subscribe(Endpoints, &[]), &snapshot(1, &[])).is_empty());
}

#[test]
fn a_name_that_does_not_exist_is_removed_at_once_and_sent_when_it_appears() {
    let mut client = Client::default();
    let without = snapshot(1, &[]);
    assert_eq!(client.ask(subscribe(Extension, &["f"]), &without), ["ecds -f"]);
    assert!(client.see(&without).is_empty());
    assert_eq!(client.ask(subscribe(Extension, &["f"]), &without), ["ecds -f"], "asked again");
    let with = snapshot(2, &[(Extension, "f", "1")]);
    assert_eq!(client.see(&with), ["ecds +f"]);
    assert_eq!(client.see(&without), ["ecds -f"]);
}

#[test]
fn a_name_that_is_subscribed_again_is_sent_again() {
    let mut client = Client::default();
    let one = snapshot(1, &[(Endpoints, "a", "1")]);
    assert_eq!(client.ask(subscribe(Endpoints, &["a"]), &one), ["eds +a"]);
    assert_eq!(client.ask(subscribe(Endpoints, &["a"]), &one), ["eds +a"]);
    assert!(client.ask(unsubscribe(Endpoints, &["a"]), &one).is_empty());
    assert!(client.see(&snapshot(2, &[(Endpoints, "a", "2")])).is_empty());
    assert!(client.see(&snapshot(3, &[])).is_empty(), "what is not wanted is not removed either");
}

#[test]
fn unsubscribing_a_name_under_a_wildcard_is_answered() {
    let mut client = Client::default();
    let one = snapshot(1, &[(Cluster, "a", "1")]);
    assert_eq!(client.ask(subscribe(Cluster, &["*", "a", "x"]), &one), ["cds +a -x"]);
    assert_eq!(client.ask(unsubscribe(Cluster, &["a", "x"]), &one), ["cds +a -x"]);
    assert!(client.ask(unsubscribe(Cluster, &["*"]), &one).is_empty());
    assert!(client.see(&snapshot(2, &[(Cluster, "a", "2")])).is_empty());
}

#[test]
fn a_subscription_is_heard_whatever_its_nonce() {
    let mut client = Client::default();
    let one = snapshot(1, &[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    client.ask(subscribe(Endpoints, &["a"]), &one);
    let stale = DeltaDiscoveryRequest { response_nonce: "old".into(), ..subscribe(Endpoints, &["b"]) };
    assert_eq!(client.ask(stale, &one), ["eds +b"]);
}

#[test]
fn a_client_that_reconnects_is_sent_what_it_lacks_and_nothing_else() {
    let mut client = Client::default();
    let now = snapshot(9, &[(Endpoints, "a", "1"), (Endpoints, "b", "2"), (Route, "r", "1")]);
    let request = resume(Endpoints, &["a", "b", "c"], &[("a", "1"), ("b", "1"), ("c", "1")]);
    assert_eq!(client.ask(request, &now), ["eds +b -c"]);
    let step = client.stream.on_request(&resume(Route, &["r"], &[("r", "1")]), &now);
    assert!(step.answers.is_empty());
    assert_eq!(step.verdict.unwrap().push.revision, 9, "what it holds counts as accepted");
}

#[test]
fn endpoints_follow_their_cluster_though_they_did_not_change() {
    let mut client = Client::default();
    let one = snapshot(1, &[(Cluster, "a", "1"), (Endpoints, "a", "1")]);
    client.ask(subscribe(Cluster, &[]), &one);
    client.ask(subscribe(Endpoints, &["a"]), &one);
    let two = snapshot(2, &[(Cluster, "a", "2"), (Endpoints, "a", "1")]);
    assert_eq!(client.see(&two), ["cds +a", "eds +a"]);

    let mut again = Client::default();
    assert_eq!(again.ask(resume(Cluster, &[], &[("a", "1")]), &two), ["cds +a"]);
    assert_eq!(again.ask(resume(Endpoints, &["a"], &[("a", "1")]), &two), ["eds +a"]);
}

#[test]
fn a_change_is_pushed_in_order() {
    let all = |revision, content| {
        snapshot(revision, &[Extension, Route, Listener, Endpoints, Cluster].map(|kind| (kind, "x", content)))
    };
    let mut client = Client::default();
    for kind in [Extension, Listener, Route, Endpoints, Cluster] {
        client.ask(subscribe(kind, &["x"]), &all(1, "1"));
    }
    assert_eq!(client.see(&all(2, "2")), ["cds +x", "eds +x", "lds +x", "rds +x", "ecds +x"]);
}

#[test]
fn refused_bytes_are_not_sent_again() {
    let mut client = Client::default();
    let good = snapshot(1, &[(Extension, "f", "good")]);
    let bad = snapshot(2, &[(Extension, "f", "bad")]);
    client.ask(subscribe(Extension, &["f"]), &good);
    client.ack(Extension, None, &good);
    client.see(&bad);
    assert!(client.ack(Extension, Some("no"), &bad).is_empty());
    assert!(client.see(&bad).is_empty() && !client.stream.ledger.is_settled(Extension));
    assert_eq!(client.see(&good), ["ecds +f"], "the last good one is sent explicitly");
}

#[test]
fn refused_bytes_are_not_sent_on_the_next_stream_unless_the_client_starts_anew() {
    let bad = snapshot(2, &[(Listener, "l", "1"), (Extension, "f", "bad")]);
    let refused = BTreeMap::from([(Extension, bad.version(Extension).to_owned())]);
    let client = || Client { stream: Delta::new(refused.clone()), ..Client::default() };

    let mut resumed = client();
    assert!(resumed.ask(resume(Extension, &["f"], &[("f", "good")]), &bad).is_empty());
    assert!(!resumed.stream.ledger.is_settled(Extension));
    let mut never_accepted_one = client();
    never_accepted_one.ask(resume(Listener, &[], &[("l", "1")]), &bad);
    assert!(never_accepted_one.ask(subscribe(Extension, &["f"]), &bad).is_empty());
    let mut fresh = client();
    fresh.ask(subscribe(Listener, &[]), &bad);
    assert_eq!(fresh.ask(subscribe(Extension, &["f"]), &bad), ["ecds +f"]);
    fresh.ack(Extension, None, &bad);
    assert!(fresh.stream.ledger.is_settled(Extension), "a new process may accept what the old one refused");
}

#[test]
fn clusters_gone_while_away_stay_until_the_new_policy_is_accepted() {
    let mut client = Client::default();
    let now = snapshot(2, &[(Cluster, "b", "1"), (Extension, "f", "2")]);
    assert_eq!(client.ask(resume(Cluster, &[], &[("a", "1")]), &now), ["cds +b"]);
    assert_eq!(client.ask(resume(Extension, &["f"], &[("f", "1")]), &now), ["ecds +f"]);
    assert!(client.ack(Cluster, None, &now).is_empty());
    assert_eq!(client.ack(Extension, None, &now), ["cds -a"]);
}

#[test]
fn clusters_gone_while_away_go_at_once_where_no_policy_is_asked_for() {
    let mut client = Client::default();
    let now = snapshot(2, &[]);
    assert_eq!(client.ask(resume(Cluster, &[], &[("a", "1")]), &now), ["cds"]);
    assert_eq!(client.ack(Cluster, None, &now), ["cds -a"]);
}

#[test]
fn a_policy_waits_for_the_endpoints_of_new_clusters() {
    let mut client = Client::default();
    let one = snapshot(1, &[(Cluster, "a", "1"), (Endpoints, "a", "1"), (Extension, "f", "1")]);
    client.ask(subscribe(Cluster, &[]), &one);
    assert!(client.ask(subscribe(Extension, &["f"]), &one).is_empty());
    assert!(client.ask(subscribe(Extension, &["f"]), &one).is_empty());
    assert_eq!(client.ask(subscribe(Endpoints, &["a"]), &one), ["eds +a", "ecds +f"]);
    let two = snapshot(
        2,
        &[
            (Cluster, "a", "1"),
            (Endpoints, "a", "1"),
            (Cluster, "b", "1"),
            (Endpoints, "b", "1"),
            (Extension, "f", "2"),
        ],
    );
    assert_eq!(client.see(&two), ["cds +b"]);
    assert!(client.stream.is_waiting(&two));
    assert_eq!(client.ask(subscribe(Endpoints, &["b"]), &two), ["eds +b", "ecds +f"]);
    let three = snapshot(3, &[(Cluster, "c", "1"), (Endpoints, "c", "1"), (Extension, "f", "3")]);
    assert_eq!(client.see(&three), ["cds +c -a -b", "eds -a -b"]);
    let answers = client.stream.stop_waiting(&three);
    assert_eq!(client.read(answers), ["ecds +f"]);
}

#[test]
fn a_policy_that_waited_is_sent_though_the_endpoints_need_not_be() {
    let mut client = Client::default();
    let now = snapshot(2, &[(Cluster, "a", "1"), (Endpoints, "a", "1"), (Extension, "f", "2")]);
    client.ask(resume(Cluster, &[], &[("a", "1")]), &now);
    assert!(client.ask(resume(Extension, &["f"], &[("f", "1")]), &now).is_empty());
    assert_eq!(client.ask(resume(Endpoints, &["a"], &[("a", "1")]), &now), ["ecds +f"]);

    let mut again = Client::default();
    again.ask(resume(Cluster, &[], &[("a", "1")]), &now);
    again.ask(resume(Extension, &["f"], &[("f", "2")]), &now);
    assert!(again.ask(subscribe(Extension, &["f"]), &now).is_empty());
    assert_eq!(again.ask(resume(Endpoints, &["a"], &[("a", "1")]), &now), ["ecds +f"], "asked again");
}

#[test]
fn clusters_gone_while_away_stay_while_the_new_policy_waits() {
    let mut client = Client::default();
    let now = snapshot(2, &[(Cluster, "b", "1"), (Endpoints, "b", "1"), (Extension, "f", "2")]);
    assert_eq!(client.ask(resume(Cluster, &[], &[("a", "1")]), &now), ["cds +b"]);
    assert!(client.ask(resume(Extension, &["f"], &[("f", "1")]), &now).is_empty());
    assert!(client.ack(Cluster, None, &now).is_empty());
    assert_eq!(client.ask(subscribe(Endpoints, &["b"]), &now), ["eds +b", "ecds +f"]);
    assert_eq!(client.ack(Extension, None, &now), ["cds -a"]);
}

#[test]
fn other_types_are_not_answered() {
    let request = DeltaDiscoveryRequest { type_url: "type.googleapis.com/x".into(), ..Default::default() };
    assert!(Client::default().ask(request, &snapshot(1, &[])).is_empty());
}
