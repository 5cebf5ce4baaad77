//! One stream of one Envoy: feeds its requests and the snapshots to a state machine and sends what
//! comes out. It knows the order in which a change is made visible, and nothing of the protocol.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tracing::{info, warn};

use super::fleet::{Fleet, Session};
use super::protocol::{Answer, Protocol, Step};
use super::snapshot::{Kind, Snapshot};

/// How long a policy waits for a client that does not ask for the endpoints of a new cluster. Envoy
/// asks within a round trip, unless it refused the cluster.
const PATIENCE: Duration = Duration::from_secs(1);

/// The newest snapshot; `None` until there is one.
pub(super) type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// Serves one stream to its end. Whatever makes it end, Envoy connects again by itself, so an
/// error is told to the client and not to the operator.
pub(super) async fn run<P: Protocol>(
    mut requests: impl Stream<Item = Result<P::Request, Status>> + Unpin,
    responses: mpsc::Sender<Result<P::Response, Status>>,
    snapshots: Snapshots,
    fleet: Arc<Fleet>,
) {
    let first = match requests.next().await {
        Some(Ok(first)) => first,
        Some(Err(_)) | None => return,
    };
    let Some(node) = P::node(&first).filter(|node| !node.id.is_empty()) else {
        let status =
            Status::invalid_argument("the first request of a stream must name its node: set node.id");
        // The client may be gone, and then it need not be told.
        let _ = responses.send(Err(status)).await;
        return;
    };
    info!(node = node.id, protocol = P::NAME, "envoy connected");
    let id = node.id.clone();
    let session = fleet.connect(node);
    let machine = P::new(session.refused());
    Conversation { machine, session, responses, id: id.clone() }.hold(first, requests, snapshots).await;
    info!(node = id, protocol = P::NAME, "envoy disconnected");
}

struct Conversation<P: Protocol> {
    machine: P,
    session: Session,
    responses: mpsc::Sender<Result<P::Response, Status>>,
    id: String,
}

impl<P: Protocol> Conversation<P> {
    async fn hold(
        mut self,
        first: P::Request,
        mut requests: impl Stream<Item = Result<P::Request, Status>> + Unpin,
        mut snapshots: Snapshots,
    ) -> Option<()> {
        // Requests wait in the transport until there is something to answer with.
        let mut shown = tokio::select! {
            snapshot = newest(&mut snapshots) => snapshot?,
            () = self.responses.closed() => return None,
        };
        self.hear(&first, &shown).await?;
        loop {
            // Counted from the last thing that happened, so a busy client is given longer.
            let patience = tokio::time::sleep(PATIENCE);
            tokio::select! {
                request = requests.next() => self.hear(&request?.ok()?, &shown).await?,
                changed = snapshots.changed() => {
                    changed.ok()?;
                    let latest = newest(&mut snapshots).await?;
                    shown = latest.with_clusters_of(&shown).map_or(latest, Arc::new);
                    let answers = self.machine.on_snapshot(&shown);
                    self.send(answers).await?;
                }
                () = patience, if self.machine.is_waiting(&shown) => {
                    let answers = self.machine.stop_waiting(&shown);
                    self.send(answers).await?;
                }
            }
            // Break only after make: while the policy that Envoy runs is not known to be the new
            // one, the clusters that only the old one names stay.
            let latest = Arc::clone(snapshots.borrow().as_ref()?);
            let current = latest.revision() == shown.revision() && !self.machine.is_waiting(&shown);
            if current && self.machine.is_settled(Kind::Extension) {
                if !Arc::ptr_eq(&latest, &shown) {
                    let answers = self.machine.on_snapshot(&latest);
                    self.send(answers).await?;
                }
                shown = latest;
            }
        }
    }

    async fn hear(&mut self, request: &P::Request, snapshot: &Snapshot) -> Option<()> {
        let Step { verdict, answers } = self.machine.on_request(request, snapshot);
        if let Some(verdict) = verdict {
            if let Some(error) = &verdict.error {
                let (kind, revision) = (verdict.kind.name(), verdict.push.revision);
                warn!(
                    node = self.id,
                    kind, revision, error, "envoy refused a resource and keeps the last good one"
                );
            }
            self.session.said(&verdict);
        }
        self.send(answers).await
    }

    /// Waits while the client does not read; only this stream waits. `None` when it is gone.
    async fn send(&mut self, answers: Vec<Answer<P::Response>>) -> Option<()> {
        for Answer { kind, push, message } in answers {
            self.responses.send(Ok(message)).await.ok()?;
            self.session.pushed(kind, &push);
        }
        Some(())
    }
}

async fn newest(snapshots: &mut Snapshots) -> Option<Arc<Snapshot>> {
    snapshots.wait_for(Option::is_some).await.ok()?.clone()
}
