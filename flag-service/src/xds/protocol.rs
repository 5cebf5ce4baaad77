//! What both variants of the protocol have in common, as the stream that drives them sees it.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;

use super::ledger::Ledger;
use super::role::Progress;
use super::snapshot::{Kind, Snapshot};

/// One stream of one variant, as a state machine: pure, so that every rule is tested without a
/// network.
pub(super) trait Protocol: Send + 'static {
    /// What the client sends.
    type Request: prost::Message + Default + 'static;
    /// What it is sent.
    type Response: prost::Message + 'static;
    /// Name for people.
    const NAME: &'static str;

    /// A new stream of a node that refused these versions on an earlier one.
    fn new(refused: BTreeMap<Kind, String>) -> Self;

    /// Who the client says it is; only the first request says so.
    fn node(request: &Self::Request) -> Option<&Node>;

    /// The type a request is about, as it is written in it.
    fn type_url(request: &mut Self::Request) -> &mut String;

    /// What a request says of earlier responses, and what it asks for.
    fn on_request(&mut self, request: &Self::Request, snapshot: &Snapshot) -> Step<Self::Response>;

    /// What must be sent now that this is the snapshot, in push order.
    fn on_snapshot(&mut self, snapshot: &Snapshot) -> Vec<Answer<Self::Response>>;

    /// Whether listeners, routes and the policy are held back, because the client has not asked yet
    /// for the endpoints of a new cluster. Envoy serves a cluster only once it has its endpoints, so
    /// a policy that arrived earlier would lead to a cluster that is not there.
    fn is_waiting(&self, snapshot: &Snapshot) -> bool;

    /// What was held back, for a client that does not ask.
    fn stop_waiting(&mut self, snapshot: &Snapshot) -> Vec<Answer<Self::Response>>;

    /// What was sent, and what the client said of it.
    fn ledger(&self) -> &Ledger;

    /// Whether the client has asked for that type on this stream.
    fn asks_for(&self, kind: Kind) -> bool;

    /// How far the client is with what names clusters; `None` where it asks for no such thing here.
    fn progress(&self, snapshot: &Snapshot) -> Option<Progress> {
        let kinds = Kind::NAMES_CLUSTERS.into_iter().filter(|kind| self.asks_for(*kind));
        let progress = kinds.map(|kind| self.ledger().progress(kind)).max()?;
        Some(if self.is_waiting(snapshot) { Progress::Open } else { progress })
    }
}

/// What a response carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Push {
    /// Version of the type's contents: a content hash.
    pub(super) version: String,
    /// Revision of the store they were made from.
    pub(super) revision: u64,
}

/// What a client said of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Type of the response.
    pub(super) kind: Kind,
    /// What it carried.
    pub(super) push: Push,
    /// The client's words, when it refused.
    pub(super) error: Option<String>,
}

/// A response on its way, and what must be noted once it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer<R> {
    /// Its type.
    pub(super) kind: Kind,
    /// What it carries.
    pub(super) push: Push,
    /// The message.
    pub(super) message: R,
}

/// What follows from a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step<R> {
    /// What the request said of an earlier response.
    pub(super) verdict: Option<Verdict>,
    /// What is sent.
    pub(super) answers: Vec<Answer<R>>,
}
