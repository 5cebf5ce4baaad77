//! One delta stream as a state machine: what the client holds, and what it must be told. Pure:
//! it knows no network, no clock and no other stream.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::ledger::Ledger;
use super::protocol::{Answer, Protocol, Push, Step, Verdict};
use super::snapshot::{Kind, Snapshot};
use super::subscription::Subscription;
use super::wire::{DeltaDiscoveryResponse, Resource};

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

    fn type_url(request: &mut DeltaDiscoveryRequest) -> &mut String {
        &mut request.type_url
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
            Kind::Secret | Kind::Runtime | Kind::Listener | Kind::Route | Kind::Extension => {}
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
        let Some(clusters) = self.types.get(&Kind::Cluster).filter(|_| !self.impatient) else {
            return false;
        };
        let endpoints = self.types.get(&Kind::Endpoints);
        let mut needed = snapshot.all(Kind::Endpoints).filter(|(name, _)| clusters.subscription.wants(name));
        needed.any(|(name, resource)| {
            endpoints.and_then(|state| state.held.get(name)) != Some(&resource.version)
        })
    }

    fn stop_waiting(&mut self, snapshot: &Snapshot) -> Vec<Answer<DeltaDiscoveryResponse>> {
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
                    resource: resource.body.clone(),
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
            system_version_info: snapshot.told(&push.version).to_owned(),
            type_url: kind.type_url().to_owned(),
            nonce: self.ledger.issue(kind, push.clone()),
            resources,
            removed_resources: removed.into_iter().collect(),
        };
        Some(Answer { kind, push, message })
    }
}

fn push_of(kind: Kind, snapshot: &Snapshot) -> Push {
    Push { version: snapshot.version(kind).to_owned(), revision: snapshot.revision() }
}

#[cfg(test)]
mod tests;
