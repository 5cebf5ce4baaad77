//! One delta stream as a state machine: what the client holds, and what it must be told. Pure:
//! it knows no network, no clock and no other stream.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};

use super::ledger::Ledger;
use super::protocol::{Answer, Protocol, Push, Step, Verdict};
use super::snapshot::{Kind, Snapshot};
use super::subscription::Subscription;

/// Held "version" of a name that the client was told does not exist.
const ABSENT: &str = "";

/// The state of one delta stream.
#[derive(Debug, Default)]
pub(super) struct Delta {
    ledger: Ledger,
    types: BTreeMap<Kind, Type>,
    /// Clusters sent whose endpoints must be sent afterwards, whether or not they changed: Envoy
    /// warms a changed cluster only on a fresh assignment, and does not always ask for one.
    owed: BTreeSet<String>,
    /// The client came with clusters that are gone. The policy it came with may still name them,
    /// so they are removed only once it has the new one.
    keeps_clusters: bool,
    /// The client came with something: it has reconnected, and not started anew.
    resumes: bool,
    /// The client does not ask for the endpoints of its clusters, so nothing waits for them.
    impatient: bool,
}

/// One type of the stream.
#[derive(Debug)]
struct Type {
    subscription: Subscription,
    /// Versions the client holds or was last sent, by name. What it refused stays noted, so that
    /// the same bytes are not sent again.
    held: BTreeMap<String, String>,
    /// The client waits for an answer, also when there is nothing to say.
    owed: bool,
}

impl Protocol for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const NAME: &'static str = "delta";

    fn new(refused: BTreeMap<Kind, String>) -> Self {
        Self { ledger: Ledger::new(refused), ..Self::default() }
    }

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    /// What a request says and asks for. Never rejected for its nonce: "the nonce only pairs acks",
    /// and a subscription that changes while a response is under way must be heard.
    fn on_request(
        &mut self,
        request: &DeltaDiscoveryRequest,
        snapshot: &Snapshot,
    ) -> Step<DeltaDiscoveryResponse> {
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            return Step { verdict: None, answers: Vec::new() };
        };
        let mut verdict = self.ledger.settle(kind, &request.response_nonce, request.error_detail.as_ref());
        let (subscribe, unsubscribe) =
            (&request.resource_names_subscribe, &request.resource_names_unsubscribe);

        let mut answers = Vec::new();
        if let Some(state) = self.types.get_mut(&kind) {
            let mut due = state.subscription.add(subscribe);
            due.extend(state.subscription.remove(unsubscribe));
            // A name that is still wanted after it was removed is wanted by the wildcard, and the
            // client must hear which of the two holds.
            due.retain(|name| state.subscription.wants(name));
            state.held.retain(|name, _| state.subscription.wants(name));
            answers.extend(self.answer(kind, snapshot, due));
        } else {
            self.open(kind, request, snapshot);
            answers.extend(self.answer(kind, snapshot, BTreeSet::new()));
            if answers.is_empty() && !self.holds_back(kind, snapshot) && self.ledger.is_settled(kind) {
                // It holds what it would have been sent, so it has accepted it before.
                let push = push_of(kind, snapshot);
                verdict = Some(Verdict { kind, push, error: None });
            }
        }
        let mut follow = |kind| answers.extend(self.answer(kind, snapshot, BTreeSet::new()));
        match kind {
            Kind::Cluster => follow(Kind::Endpoints),
            Kind::Endpoints => {
                Kind::PUSH_ORDER.into_iter().filter(|kind| kind.needs_endpoints()).for_each(follow);
            }
            Kind::Listener | Kind::Route | Kind::Extension => {}
        }
        // Only now, when a policy that waited is under way and no longer counts as settled.
        if self.keeps_clusters && self.may_release_clusters(verdict.as_ref(), snapshot) {
            self.keeps_clusters = false;
            answers.extend(self.answer(Kind::Cluster, snapshot, BTreeSet::new()));
        }
        Step { verdict, answers }
    }

    fn on_snapshot(&mut self, snapshot: &Snapshot) -> Vec<Answer<DeltaDiscoveryResponse>> {
        let answer = |kind| self.answer(kind, snapshot, BTreeSet::new());
        Kind::PUSH_ORDER.into_iter().filter_map(answer).collect()
    }

    fn is_waiting(&self, snapshot: &Snapshot) -> bool {
        let endpoints = self.types.get(&Kind::Endpoints);
        let all_sent = snapshot.all(Kind::Endpoints).all(|(name, resource)| {
            endpoints.and_then(|state| state.held.get(name)) == Some(&resource.version)
        });
        self.types.contains_key(&Kind::Cluster) && !self.impatient && !all_sent
    }

    fn stop_waiting(&mut self, snapshot: &Snapshot) -> Vec<Answer<DeltaDiscoveryResponse>> {
        self.impatient = true;
        self.on_snapshot(snapshot)
    }

    fn is_settled(&self, kind: Kind) -> bool {
        self.ledger.is_settled(kind)
    }
}

impl Delta {
    /// Whether that type must wait for endpoints.
    fn holds_back(&self, kind: Kind, snapshot: &Snapshot) -> bool {
        kind.needs_endpoints() && self.is_waiting(snapshot)
    }

    /// Starts a type.
    fn open(&mut self, kind: Kind, request: &DeltaDiscoveryRequest, snapshot: &Snapshot) {
        let mut subscription = Subscription::first(kind, &request.resource_names_subscribe);
        subscription.remove(&request.resource_names_unsubscribe);
        let initial = request.initial_resource_versions.iter();
        let mut held: BTreeMap<String, String> =
            initial.map(|(name, version)| (name.clone(), version.clone())).collect();
        self.resumes |= !held.is_empty();
        if !self.resumes {
            self.ledger.pardon(kind);
        }
        // The same bytes a second time would be acknowledged, though Envoy does not run them.
        if self.ledger.is_refused(kind, snapshot.version(kind)) {
            let wanted = snapshot.all(kind).filter(|(name, _)| subscription.wants(name));
            held.extend(wanted.map(|(name, resource)| (name.clone(), resource.version.clone())));
        }
        let gone = held.keys().any(|name| snapshot.get(kind, name).is_none());
        let keeps = kind == Kind::Cluster && gone;
        self.keeps_clusters |= keeps;
        // A client that starts waits for the first answer to a wildcard, also when it is empty. And
        // where clusters are kept, only an ack tells that we have seen all the client asks for.
        let owed = (subscription.is_wildcard() && held.is_empty()) || keeps;
        self.types.insert(kind, Type { subscription, held, owed });
    }

    /// Whether the client runs the policy that does without the kept clusters, or has answered the
    /// clusters without having asked for a policy: what it asks for when it connects comes before
    /// its answers.
    fn may_release_clusters(&self, verdict: Option<&Verdict>, snapshot: &Snapshot) -> bool {
        if self.types.contains_key(&Kind::Extension) {
            self.ledger.is_settled(Kind::Extension) && !self.is_waiting(snapshot)
        } else {
            verdict.is_some_and(|verdict| verdict.kind == Kind::Cluster)
        }
    }

    /// The response that brings the client to `snapshot`: what changed, and the names in `due`
    /// whether they changed or not. `None` when there is nothing to say, unless one is due.
    fn answer(
        &mut self,
        kind: Kind,
        snapshot: &Snapshot,
        due: BTreeSet<&str>,
    ) -> Option<Answer<DeltaDiscoveryResponse>> {
        let holds_back = self.holds_back(kind, snapshot);
        let Type { subscription, held, owed: waits } = self.types.get_mut(&kind)?;
        if holds_back {
            // What is due stays due.
            held.retain(|name, _| !due.contains(name.as_str()));
            return None;
        }
        let owed = if kind == Kind::Endpoints { std::mem::take(&mut self.owed) } else { BTreeSet::new() };
        let mut due: BTreeSet<&str> = due;
        due.extend(owed.iter().map(String::as_str));

        let waited = std::mem::take(waits);
        let mut resources = Vec::new();
        for (name, resource) in snapshot.all(kind).filter(|(name, _)| subscription.wants(name)) {
            if due.contains(name.as_str()) || held.get(name) != Some(&resource.version) {
                held.insert(name.clone(), resource.version.clone());
                resources.push(Resource {
                    name: name.clone(),
                    version: resource.version.clone(),
                    resource: Some(resource.body.clone()),
                    ..Resource::default()
                });
            }
        }

        let keeps = kind == Kind::Cluster && self.keeps_clusters;
        let absent = |name: &str| !keeps && snapshot.get(kind, name).is_none();
        let told = |name: &str| held.get(name).is_some_and(|version| version == ABSENT);
        let asked = subscription.names().filter(|name| !told(name));
        let gone = held.iter().filter(|(_, version)| *version != ABSENT).map(|(name, _)| name.as_str());
        let again = due.iter().copied().filter(|name| subscription.wants(name));
        let removed: BTreeSet<String> =
            asked.chain(gone).chain(again).filter(|name| absent(name)).map(str::to_owned).collect();
        held.retain(|name, _| !absent(name));
        let missing = subscription.names().filter(|name| absent(name));
        held.extend(missing.map(|name| (name.to_owned(), ABSENT.to_owned())));

        if resources.is_empty() && removed.is_empty() && !waited {
            return None;
        }
        if kind == Kind::Cluster {
            let sent = resources.iter().map(|resource| resource.name.clone());
            self.owed.extend(sent.filter(|name| snapshot.get(Kind::Endpoints, name).is_some()));
        }
        let push = push_of(kind, snapshot);
        let message = DeltaDiscoveryResponse {
            system_version_info: push.version.clone(),
            type_url: kind.type_url().to_owned(),
            nonce: self.ledger.issue(kind, push.clone()),
            resources,
            removed_resources: removed.into_iter().collect(),
            ..DeltaDiscoveryResponse::default()
        };
        Some(Answer { kind, push, message })
    }
}

fn push_of(kind: Kind, snapshot: &Snapshot) -> Push {
    Push { version: snapshot.version(kind).to_owned(), revision: snapshot.revision() }
}

#[cfg(test)]
mod tests {
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
            snapshot(
                revision,
                &[Extension, Route, Listener, Endpoints, Cluster].map(|kind| (kind, "x", content)),
            )
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
        assert!(client.see(&bad).is_empty() && !client.stream.is_settled(Extension));
        assert_eq!(client.see(&good), ["ecds +f"], "the last good one is sent explicitly");
    }

    #[test]
    fn refused_bytes_are_not_sent_on_the_next_stream_unless_the_client_starts_anew() {
        let bad = snapshot(2, &[(Listener, "l", "1"), (Extension, "f", "bad")]);
        let refused = BTreeMap::from([(Extension, bad.version(Extension).to_owned())]);
        let client = || Client { stream: Delta::new(refused.clone()), ..Client::default() };

        let mut resumed = client();
        assert!(resumed.ask(resume(Extension, &["f"], &[("f", "good")]), &bad).is_empty());
        assert!(!resumed.stream.is_settled(Extension));
        let mut never_accepted_one = client();
        never_accepted_one.ask(resume(Listener, &[], &[("l", "1")]), &bad);
        assert!(never_accepted_one.ask(subscribe(Extension, &["f"]), &bad).is_empty());
        let mut fresh = client();
        fresh.ask(subscribe(Listener, &[]), &bad);
        assert_eq!(fresh.ask(subscribe(Extension, &["f"]), &bad), ["ecds +f"]);
        fresh.ack(Extension, None, &bad);
        assert!(fresh.stream.is_settled(Extension), "a new process may accept what the old one refused");
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
        let request =
            DeltaDiscoveryRequest { type_url: "type.googleapis.com/x".into(), ..Default::default() };
        assert!(Client::default().ask(request, &snapshot(1, &[])).is_empty());
    }
}
