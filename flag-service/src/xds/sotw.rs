//! One state-of-the-world stream as a state machine. Pure: it knows no network, no clock and no
//! other stream.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::ledger::Ledger;
use super::protocol::{Answer, Protocol, Push, Step, Verdict};
use super::snapshot::{Kind, Resource, Snapshot, version_of};
use super::subscription::Subscription;
use super::wire::DiscoveryResponse;

/// The state of one state-of-the-world stream.
#[derive(Debug, Default)]
pub(super) struct Sotw {
    ledger: Ledger,
    types: BTreeMap<Kind, Type>,
    /// Versions of the clusters sent on this stream.
    clusters: BTreeMap<String, String>,
    /// A cluster was sent whose endpoints must be sent afterwards, whether or not they changed:
    /// Envoy warms a changed cluster only on a fresh assignment, and does not always ask for one.
    owes_endpoints: bool,
    /// The client came with something: it has reconnected, and not started anew.
    resumes: bool,
    /// The client does not ask for the endpoints of its clusters, so nothing waits for them.
    impatient: bool,
}

/// One type of the stream.
#[derive(Debug)]
struct Type {
    subscription: Subscription,
    /// Version of what the client wants, as it holds it or was last sent it: a hash over exactly
    /// those resources, so that it also tells whether a client that reconnects lacks any.
    sent: String,
}

impl Protocol for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const NAME: &'static str = "state of the world";

    fn new(refused: BTreeMap<Kind, String>) -> Self {
        Self { ledger: Ledger::new(refused), ..Self::default() }
    }

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &mut DiscoveryRequest) -> &mut String {
        &mut request.type_url
    }

    /// What a request says and asks for. One that answers an older response than the last is not
    /// heard as a subscription, as the specification demands; before the first response of a type
    /// every nonce is taken, since a client may repeat one from an earlier stream.
    fn on_request(&mut self, request: &DiscoveryRequest, snapshot: &Snapshot) -> Step<DiscoveryResponse> {
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            return Step { verdict: None, answers: Vec::new() };
        };
        let last = self.ledger.last(kind);
        // No nonce is no stale one: the client begins again with that type, having given it up before.
        let begins = last.is_some() && request.response_nonce.is_empty();
        let stale = !begins && last.is_some_and(|last| last != request.response_nonce);
        let mut verdict = self.ledger.settle(kind, &request.response_nonce, request.error_detail.as_ref());
        if stale {
            return Step { verdict, answers: Vec::new() };
        }

        if begins {
            self.types.remove(&kind);
        }
        let asks = if let Some(state) = self.types.get_mut(&kind) {
            let before = state.subscription.clone();
            state.subscription.replace(&request.resource_names);
            let grew = state.subscription.grew_since(&before);
            let version = version_of(wanted(&state.subscription, kind, snapshot));
            let differs = version != state.sent;
            if !grew {
                // What is left is what the client already holds.
                state.sent = version;
            }
            grew && differs
        } else {
            let asks = self.open(kind, request, snapshot);
            if !asks && self.ledger.is_settled(kind) {
                // It holds what it would have been sent, so it has accepted it before.
                let push = Push { version: request.version_info.clone(), revision: snapshot.revision() };
                verdict = Some(Verdict { kind, push, error: None });
            }
            asks
        };

        let mut answers = Vec::new();
        if asks {
            answers.extend(self.answer(kind, snapshot));
        }
        if kind == Kind::Cluster && self.owes_endpoints {
            answers.extend(self.answer(Kind::Endpoints, snapshot));
        }
        if kind == Kind::Endpoints {
            answers.extend(self.on_snapshot(snapshot));
        }
        Step { verdict, answers }
    }

    fn on_snapshot(&mut self, snapshot: &Snapshot) -> Vec<Answer<DiscoveryResponse>> {
        let mut answers = Vec::new();
        for kind in Kind::PUSH_ORDER {
            let changed = self
                .types
                .get(&kind)
                .is_some_and(|state| state.sent != version_of(wanted(&state.subscription, kind, snapshot)));
            if changed || (kind == Kind::Endpoints && self.owes_endpoints) {
                answers.extend(self.answer(kind, snapshot));
            }
        }
        answers
    }

    fn is_waiting(&self, snapshot: &Snapshot) -> bool {
        let Some(clusters) = self.types.get(&Kind::Cluster).filter(|_| !self.impatient) else {
            return false;
        };
        let mut needed = wanted(&clusters.subscription, Kind::Endpoints, snapshot).peekable();
        match self.types.get(&Kind::Endpoints) {
            Some(Type { subscription, sent }) => {
                *sent != version_of(wanted(subscription, Kind::Endpoints, snapshot))
                    || needed.any(|(name, _)| !subscription.wants(name))
            }
            None => needed.peek().is_some(),
        }
    }

    fn stop_waiting(&mut self, snapshot: &Snapshot) -> Vec<Answer<DiscoveryResponse>> {
        self.impatient = true;
        self.on_snapshot(snapshot)
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn asks_for(&self, kind: Kind) -> bool {
        self.types.contains_key(&kind)
    }
}

impl Sotw {
    /// Starts a type, and tells whether its first request is answered.
    fn open(&mut self, kind: Kind, request: &DiscoveryRequest, snapshot: &Snapshot) -> bool {
        let subscription = Subscription::first(kind, &request.resource_names);
        let version = version_of(wanted(&subscription, kind, snapshot));
        self.resumes |= !request.version_info.is_empty();
        if !self.resumes && self.ledger.last(kind).is_none() {
            self.ledger.pardon(kind);
        }
        // The same bytes a second time would be acknowledged, though Envoy does not run them.
        let holds = request.version_info == version || self.ledger.is_refused(kind, &version);
        self.types.insert(kind, Type { subscription, sent: version });
        !holds || (kind == Kind::Endpoints && self.owes_endpoints)
    }

    /// Everything the client wants of that type, if it wants any.
    fn answer(&mut self, kind: Kind, snapshot: &Snapshot) -> Option<Answer<DiscoveryResponse>> {
        let holds_back = kind.needs_endpoints() && self.is_waiting(snapshot);
        let state = self.types.get_mut(&kind)?;
        if holds_back {
            // No version is empty, so it is sent as soon as it may be.
            state.sent.clear();
            return None;
        }
        let version = version_of(wanted(&state.subscription, kind, snapshot));
        state.sent.clone_from(&version);
        if kind == Kind::Endpoints {
            self.owes_endpoints = false;
        }
        let resources: Vec<_> = wanted(&state.subscription, kind, snapshot).collect();
        // Only the lists of listeners and clusters are complete, so that a gap in them deletes.
        // The other types end with what refers to them, and an empty answer would say nothing.
        let complete = matches!(kind, Kind::Listener | Kind::Cluster);
        if resources.is_empty() && !complete {
            return None;
        }
        if kind == Kind::Cluster {
            let sent: BTreeMap<String, String> = resources
                .iter()
                .map(|(name, resource)| ((*name).clone(), resource.version.clone()))
                .collect();
            self.owes_endpoints |= sent.iter().any(|(name, version)| {
                self.clusters.get(name) != Some(version) && snapshot.get(Kind::Endpoints, name).is_some()
            });
            self.clusters = sent;
        }
        let push = Push { version, revision: snapshot.revision() };
        let message = DiscoveryResponse {
            version_info: snapshot.told(&push.version).to_owned(),
            resources: resources.into_iter().map(|(_, resource)| resource.body.clone()).collect(),
            type_url: kind.type_url().to_owned(),
            nonce: self.ledger.issue(kind, push.clone()),
        };
        Some(Answer { kind, push, message })
    }
}

fn wanted<'a>(
    subscription: &'a Subscription,
    kind: Kind,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = (&'a String, &'a Resource)> {
    snapshot.all(kind).filter(|(name, _)| subscription.wants(name))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::rpc::Status;

    use super::super::testing::{names, snapshot};
    use super::*;
    use Kind::{Cluster, Endpoints, Extension, Listener, Route};

    fn request(kind: Kind, asked: &[&str]) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names: names(asked),
            ..DiscoveryRequest::default()
        }
    }

    /// The answer of a client to the last response of a type.
    fn ack(stream: &Sotw, kind: Kind, asked: &[&str]) -> DiscoveryRequest {
        let nonce = stream.ledger.last(kind).unwrap().to_owned();
        let version_info = stream.types[&kind].sent.clone();
        DiscoveryRequest { response_nonce: nonce, version_info, ..request(kind, asked) }
    }

    /// `cds 2`: the type and the number of resources of each response.
    fn read(answers: &[Answer<DiscoveryResponse>]) -> Vec<String> {
        answers
            .iter()
            .map(|Answer { kind, message, .. }| format!("{} {}", kind.name(), message.resources.len()))
            .collect()
    }

    fn ask(stream: &mut Sotw, request: &DiscoveryRequest, snapshot: &Snapshot) -> Vec<String> {
        read(&stream.on_request(request, snapshot).answers)
    }

    #[test]
    fn clusters_are_always_complete_and_acks_are_not_answered() {
        let mut stream = Sotw::default();
        let one = snapshot(1, &[(Cluster, "a", "1"), (Cluster, "b", "1")]);
        assert_eq!(ask(&mut stream, &request(Cluster, &[]), &one), ["cds 2"]);
        let request = ack(&stream, Cluster, &[]);
        let step = stream.on_request(&request, &one);
        assert!(step.answers.is_empty() && step.verdict.unwrap().error.is_none());
        assert!(stream.on_snapshot(&snapshot(2, &[(Cluster, "a", "1"), (Cluster, "b", "1")])).is_empty());
        assert_eq!(
            read(&stream.on_snapshot(&snapshot(3, &[(Cluster, "a", "2"), (Cluster, "b", "1")]))),
            ["cds 2"]
        );
        assert_eq!(read(&stream.on_snapshot(&snapshot(4, &[]))), ["cds 0"]);
    }

    #[test]
    fn a_client_that_starts_is_told_that_there_is_nothing() {
        let mut stream = Sotw::default();
        assert_eq!(ask(&mut stream, &request(Listener, &[]), &snapshot(1, &[])), ["lds 0"]);
        assert!(ask(&mut stream, &request(Route, &["r"]), &snapshot(1, &[])).is_empty());
        assert_eq!(read(&stream.on_snapshot(&snapshot(2, &[(Route, "r", "1")]))), ["rds 1"]);
    }

    #[test]
    fn a_stale_nonce_is_no_subscription_but_still_a_verdict() {
        let mut stream = Sotw::default();
        let one = snapshot(1, &[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
        ask(&mut stream, &request(Endpoints, &["a"]), &one);
        let stale = ack(&stream, Endpoints, &["a", "b"]);
        stream.on_snapshot(&snapshot(2, &[(Endpoints, "a", "2"), (Endpoints, "b", "1")]));
        let step = stream.on_request(&stale, &one);
        assert!(step.answers.is_empty() && step.verdict.unwrap().push.revision == 1);
    }

    #[test]
    fn a_request_without_a_nonce_begins_again_with_its_type() {
        let mut stream = Sotw::default();
        let one = snapshot(1, &[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
        assert_eq!(ask(&mut stream, &request(Endpoints, &["a"]), &one), ["eds 1"]);
        let given_up = ack(&stream, Endpoints, &[]);
        assert!(ask(&mut stream, &given_up, &one).is_empty());
        assert_eq!(ask(&mut stream, &request(Endpoints, &["b"]), &one), ["eds 1"]);
        assert!(stream.on_snapshot(&snapshot(2, &[(Endpoints, "a", "2"), (Endpoints, "b", "1")])).is_empty());
    }

    #[test]
    fn an_unknown_nonce_on_a_new_stream_is_an_initial_request() {
        let mut stream = Sotw::default();
        let one = snapshot(1, &[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
        let old = DiscoveryRequest {
            response_nonce: "77".into(),
            version_info: "old".into(),
            ..request(Endpoints, &["a"])
        };
        assert_eq!(ask(&mut stream, &old, &one), ["eds 1"]);
    }

    #[test]
    fn names_may_grow_and_shrink() {
        let mut stream = Sotw::default();
        let one = snapshot(1, &[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
        ask(&mut stream, &request(Endpoints, &["a"]), &one);
        let grown = ack(&stream, Endpoints, &["a", "b"]);
        assert_eq!(ask(&mut stream, &grown, &one), ["eds 2"]);
        let shrunk = ack(&stream, Endpoints, &["b"]);
        assert!(ask(&mut stream, &shrunk, &one).is_empty());
        assert!(stream.on_snapshot(&snapshot(2, &[(Endpoints, "a", "2"), (Endpoints, "b", "1")])).is_empty());
        let nothing = ack(&stream, Endpoints, &[]);
        assert!(ask(&mut stream, &nothing, &one).is_empty());
        assert!(stream.on_snapshot(&snapshot(3, &[(Endpoints, "b", "3")])).is_empty());
    }

    #[test]
    fn a_client_that_reconnects_is_sent_nothing_it_has() {
        let mut before = Sotw::default();
        let one = snapshot(1, &[(Cluster, "a", "1"), (Extension, "f", "1"), (Extension, "g", "1")]);
        ask(&mut before, &request(Cluster, &[]), &one);
        ask(&mut before, &request(Extension, &["f"]), &one);

        let mut stream = Sotw::default();
        for (kind, asked) in [(Cluster, &[] as &[&str]), (Extension, &["f"])] {
            let step = stream.on_request(&ack(&before, kind, asked), &one);
            assert!(step.answers.is_empty(), "{kind:?}");
            assert_eq!(step.verdict.unwrap().push.revision, 1, "what it holds counts as accepted");
        }
        let more = ack(&before, Extension, &["f", "g"]);
        assert_eq!(ask(&mut Sotw::default(), &more, &one), ["ecds 2"]);
    }

    #[test]
    fn endpoints_follow_their_cluster_though_they_did_not_change() {
        let one = snapshot(1, &[(Cluster, "a", "1"), (Endpoints, "a", "1")]);
        let two = snapshot(2, &[(Cluster, "a", "2"), (Endpoints, "a", "1")]);
        let mut stream = Sotw::default();
        ask(&mut stream, &request(Cluster, &[]), &one);
        ask(&mut stream, &request(Endpoints, &["a"]), &one);
        assert_eq!(read(&stream.on_snapshot(&two)), ["cds 1", "eds 1"]);

        let mut again = Sotw::default();
        assert_eq!(ask(&mut again, &ack(&stream, Cluster, &[]), &one), ["cds 1"]);
        assert_eq!(ask(&mut again, &ack(&stream, Endpoints, &["a"]), &one), ["eds 1"]);
    }

    #[test]
    fn refused_bytes_are_not_sent_again_on_this_stream_or_the_next() {
        let good = snapshot(1, &[(Extension, "f", "good")]);
        let bad = snapshot(2, &[(Extension, "f", "bad")]);
        let mut stream = Sotw::default();
        ask(&mut stream, &request(Extension, &["f"]), &good);
        let accepted = ack(&stream, Extension, &["f"]);
        ask(&mut stream, &accepted, &good);
        stream.on_snapshot(&bad);
        let refusal = DiscoveryRequest {
            error_detail: Some(Status { message: "no".into(), ..Status::default() }),
            version_info: accepted.version_info.clone(),
            ..ack(&stream, Extension, &["f"])
        };
        let step = stream.on_request(&refusal, &bad);
        assert_eq!(step.verdict.unwrap().error.as_deref(), Some("no"));
        assert!(step.answers.is_empty() && stream.on_snapshot(&bad).is_empty());

        let refused = BTreeMap::from([(Extension, stream.types[&Extension].sent.clone())]);
        let resumed = DiscoveryRequest { version_info: accepted.version_info, ..request(Extension, &["f"]) };
        assert!(ask(&mut Sotw::new(refused.clone()), &resumed, &bad).is_empty());
        assert_eq!(ask(&mut Sotw::new(refused), &request(Extension, &["f"]), &bad), ["ecds 1"]);
        assert_eq!(read(&stream.on_snapshot(&good)), ["ecds 1"]);
    }

    #[test]
    fn a_policy_waits_for_the_endpoints_of_new_clusters() {
        let mut stream = Sotw::default();
        let one = snapshot(1, &[(Cluster, "a", "1"), (Endpoints, "a", "1"), (Extension, "f", "1")]);
        ask(&mut stream, &request(Cluster, &[]), &one);
        assert!(ask(&mut stream, &request(Extension, &["f"]), &one).is_empty());
        assert_eq!(ask(&mut stream, &request(Endpoints, &["a"]), &one), ["eds 1", "ecds 1"]);
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
        assert_eq!(read(&stream.on_snapshot(&two)), ["cds 2", "eds 1"]);
        let grown = ack(&stream, Endpoints, &["a", "b"]);
        assert_eq!(ask(&mut stream, &grown, &two), ["eds 2", "ecds 1"]);
        let three = snapshot(3, &[(Cluster, "c", "1"), (Endpoints, "c", "1"), (Extension, "f", "3")]);
        assert_eq!(read(&stream.on_snapshot(&three)), ["cds 1"]);
        assert!(stream.is_waiting(&three));
        assert_eq!(read(&stream.stop_waiting(&three)), ["ecds 1"]);
    }

    #[test]
    fn a_policy_that_waited_is_sent_though_the_endpoints_need_not_be() {
        let mut before = Sotw::default();
        let one = snapshot(1, &[(Cluster, "a", "1"), (Endpoints, "a", "1"), (Extension, "f", "1")]);
        ask(&mut before, &request(Cluster, &[]), &one);
        ask(&mut before, &request(Endpoints, &["a"]), &one);
        ask(&mut before, &request(Extension, &["f"]), &one);

        let mut stream = Sotw::default();
        let two = snapshot(2, &[(Cluster, "a", "1"), (Endpoints, "a", "1"), (Extension, "f", "2")]);
        assert!(ask(&mut stream, &ack(&before, Cluster, &[]), &two).is_empty());
        assert!(ask(&mut stream, &ack(&before, Extension, &["f"]), &two).is_empty());
        assert_eq!(ask(&mut stream, &ack(&before, Endpoints, &["a"]), &two), ["ecds 1"]);
    }
}
