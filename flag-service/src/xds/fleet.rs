//! What is known of every Envoy that connects: what it was sent, accepted and refused. It sends
//! nothing and decides nothing.
//!
//! An ack says that Envoy's main thread took a resource, not that its workers run it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use envoy_types::pb::io::prometheus::client::MetricFamily;
use serde::Serialize;
use utoipa::ToSchema;

use super::protocol::{Push, Verdict};
use super::snapshot::Kind;
use crate::blame::Cause;
use crate::counts::Answers;
use crate::running::Running;

/// Nodes remembered. Beyond it the one that has been away the longest is forgotten; nodes that are
/// connected never are (their number is bounded by the streams the server takes).
const REMEMBERED: usize = 1000;

/// Bytes of an error text kept. Envoy's can quote a whole resource.
const ERROR_BYTES: usize = 2000;

/// Every node seen by this process.
#[derive(Debug, Default)]
pub struct Fleet {
    nodes: Mutex<BTreeMap<String, Entry>>,
    answers: Answers,
    running: Running,
}

/// One node, for the status API. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeStatus {
    /// `node.id` of its bootstrap. A claim, not an identity.
    pub id: String,
    /// `node.cluster` of its bootstrap.
    pub cluster: String,
    /// Name and version of the client, such as `envoy 1.40.0`.
    pub agent: String,
    /// Whether it has a stream open to this process.
    pub connected: bool,
    /// When it connected, or, when it is not connected, when it left.
    pub since_ms: u64,
    /// By type (`cds`, `ecds`, …): what became of what it was sent.
    pub types: BTreeMap<&'static str, TypeStatus>,
}

/// What one node made of one type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct TypeStatus {
    /// What it was last sent.
    pub pushed: Option<Version>,
    /// What it last accepted.
    pub acked: Option<Version>,
    /// What it last refused, until it accepts something else.
    pub nacked: Option<Refusal>,
}

/// What a response carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Version {
    /// Hash over the contents.
    pub version: String,
    /// Revision of the store they were made from.
    pub revision: u64,
}

/// A response that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refusal {
    /// Hash over the contents.
    pub version: String,
    /// Revision of the store they were made from.
    pub revision: u64,
    /// Envoy's words, shortened.
    pub error: String,
    /// The resources that these words name.
    pub resources: Vec<String>,
    /// What it is about, as [`crate::blame`] finds out; the fleet does not know.
    pub caused_by: Vec<Cause>,
}

#[derive(Debug)]
struct Entry {
    status: NodeStatus,
    /// Streams open; two while a node reconnects before its old stream is seen to end.
    streams: usize,
}

impl Fleet {
    /// Every node seen, by id.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.lock().values().map(|entry| entry.status.clone()).collect()
    }

    /// Counts of what nodes said.
    #[must_use]
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What nodes report of themselves.
    #[must_use]
    pub const fn running(&self) -> &Running {
        &self.running
    }

    /// Notes that a node opened a stream to report on.
    pub(super) fn reports(self: &Arc<Self>, id: &str) -> Report {
        Report { fleet: Arc::clone(self), id: id.to_owned(), stream: self.running.opened(id) }
    }

    /// Notes that a node opened a stream; it is noted as gone when the session is dropped.
    pub(super) fn connect(self: &Arc<Self>, node: &Node) -> Session {
        let mut nodes = self.lock();
        let entry = nodes.entry(node.id.clone()).or_insert_with(|| Entry {
            status: NodeStatus { id: node.id.clone(), ..NodeStatus::default() },
            streams: 0,
        });
        entry.streams += 1;
        entry.status.cluster.clone_from(&node.cluster);
        entry.status.agent = agent(node);
        entry.status.connected = true;
        entry.status.since_ms = now_ms();
        while nodes.len() > REMEMBERED {
            let away = nodes.values().filter(|entry| entry.streams == 0).map(|entry| &entry.status);
            let Some(id) = away.min_by_key(|status| status.since_ms).map(|status| status.id.clone()) else {
                break;
            };
            nodes.remove(&id);
        }
        Session { fleet: Arc::clone(self), id: node.id.clone() }
    }

    /// A panic elsewhere must not end the status page: what is kept here is valid after every
    /// single assignment.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open stream on which a node reports.
#[derive(Debug)]
pub(super) struct Report {
    fleet: Arc<Fleet>,
    id: String,
    stream: u64,
}

impl Report {
    /// Takes what it says.
    pub(super) fn hear(&self, families: &[MetricFamily]) {
        self.fleet.running.hear(&self.id, self.stream, families);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.fleet.running.closed(&self.id);
    }
}

/// One open stream of one node.
#[derive(Debug)]
pub(super) struct Session {
    fleet: Arc<Fleet>,
    id: String,
}

impl Session {
    /// The versions this node refused and has not replaced since, by type.
    #[must_use]
    pub(super) fn refused(&self) -> BTreeMap<Kind, String> {
        let nodes = self.fleet.lock();
        let types = nodes.get(&self.id).map(|entry| &entry.status.types);
        let refused = |kind: &Kind| Some((*kind, types?.get(kind.name())?.nacked.as_ref()?.version.clone()));
        Kind::PUSH_ORDER.iter().filter_map(refused).collect()
    }

    /// Notes what was sent.
    pub(super) fn pushed(&self, kind: Kind, push: &Push) {
        self.update(kind, |status| status.pushed = Some(push.into()));
    }

    /// Notes what the node said of it, and of which resources by name. Returns whether it is news: no
    /// node has said the same of the same before.
    pub(super) fn said(&self, verdict: &Verdict, resources: &[String]) -> bool {
        let Verdict { kind, push, error } = verdict;
        let Answers { acked, nacked } = &self.fleet.answers;
        if error.is_some() {
            nacked.inc()
        } else {
            acked.inc()
        };
        let Some(error) = error else {
            if *kind == Kind::Extension {
                self.fleet.running.accepted(&self.id, push.revision);
            }
            self.update(*kind, |status| {
                status.acked = Some(push.into());
                status.nacked = None;
            });
            return true;
        };
        let cut = error.floor_char_boundary(ERROR_BYTES);
        let refusal = Refusal {
            version: push.version.clone(),
            revision: push.revision,
            error: error.get(..cut).unwrap_or_default().to_owned(),
            resources: resources.to_vec(),
            caused_by: Vec::new(),
        };
        let is_known = |entry: &Entry| {
            let refused = entry.status.types.get(kind.name()).and_then(|status| status.nacked.as_ref());
            refused.is_some_and(|known| known.version == refusal.version && known.error == refusal.error)
        };
        let is_news = !self.fleet.lock().values().any(is_known);
        self.update(*kind, |status| status.nacked = Some(refusal));
        is_news
    }

    fn update(&self, kind: Kind, change: impl FnOnce(&mut TypeStatus)) {
        if let Some(entry) = self.fleet.lock().get_mut(&self.id) {
            change(entry.status.types.entry(kind.name()).or_default());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(entry) = self.fleet.lock().get_mut(&self.id) {
            entry.streams = entry.streams.saturating_sub(1);
            if entry.streams == 0 {
                entry.status.connected = false;
                entry.status.since_ms = now_ms();
            }
        }
    }
}

impl From<&Push> for Version {
    fn from(push: &Push) -> Self {
        Self { version: push.version.clone(), revision: push.revision }
    }
}

fn agent(node: &Node) -> String {
    let name = node.user_agent_name.clone();
    match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => format!("{name} {version}"),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => match &build.version {
            Some(v) => format!("{name} {}.{}.{}", v.major_number, v.minor_number, v.patch),
            None => name,
        },
        None => name,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Fleet, Kind, Node, Push, REMEMBERED, Verdict};

    fn node(id: &str) -> Node {
        Node { id: id.into(), cluster: "edge".into(), user_agent_name: "envoy".into(), ..Node::default() }
    }

    fn verdict(version: &str, error: Option<&str>) -> Verdict {
        let push = Push { version: version.into(), revision: 7 };
        Verdict { kind: Kind::Extension, push, error: error.map(Into::into) }
    }

    #[test]
    fn a_node_that_left_stays_listed() {
        let fleet = Arc::new(Fleet::default());
        let old = fleet.connect(&node("a"));
        let new = fleet.connect(&node("a"));
        drop(old);
        assert!(fleet.nodes()[0].connected, "the new stream is open");
        drop(new);
        assert_eq!(fleet.nodes().len(), 1);
        assert!(!fleet.nodes()[0].connected);
    }

    #[test]
    fn the_longest_gone_are_forgotten_and_the_connected_never() {
        let fleet = Arc::new(Fleet::default());
        let here = fleet.connect(&node("here"));
        for id in 0..REMEMBERED + 10 {
            drop(fleet.connect(&node(&format!("gone-{id}"))));
        }
        let nodes = fleet.nodes();
        assert_eq!(nodes.len(), REMEMBERED);
        assert!(nodes.iter().any(|node| node.id == "here" && node.connected));
        drop(here);
    }

    #[test]
    fn a_refusal_stands_until_something_else_is_accepted() {
        let fleet = Arc::new(Fleet::default());
        let session = fleet.connect(&node("a"));
        session.said(&verdict("good", None), &[]);
        session.said(&verdict("bad", Some("no such thing")), &[]);
        let status = fleet.nodes()[0].types["ecds"].clone();
        assert_eq!(status.acked.unwrap().version, "good");
        assert_eq!(status.nacked.unwrap().error, "no such thing");
        assert_eq!(session.refused()[&Kind::Extension], "bad");
        session.said(&verdict("better", None), &[]);
        assert!(session.refused().is_empty());
    }

    #[test]
    fn what_one_has_said_is_no_news_from_another() {
        let fleet = Arc::new(Fleet::default());
        let (one, other) = (fleet.connect(&node("a")), fleet.connect(&node("b")));
        let bad = verdict("bad", Some("no such thing"));
        assert!(one.said(&bad, &["f".to_owned()]) && !other.said(&bad, &["f".to_owned()]));
        assert!(other.said(&verdict("worse", Some("no such thing")), &[]));
        assert!(other.said(&verdict("worse", Some("nor this")), &[]));
        assert_eq!(fleet.nodes()[0].types["ecds"].nacked.as_ref().unwrap().resources, ["f"]);
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let fleet = Arc::new(Fleet::default());
        fleet.connect(&node("a")).said(&verdict("bad", Some(&"é".repeat(5000))), &[]);
        let error = fleet.nodes()[0].types["ecds"].nacked.clone().unwrap().error;
        assert!(error.len() <= 2000 && error.chars().all(|c| c == 'é') && !error.is_empty());
    }
}
