//! One stream of one Envoy: feeds its requests and the snapshots to a state machine and sends what
//! comes out. It knows the order in which a change is made visible, and nothing of the protocol.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;
use tracing::{info, warn};

use super::fleet::{Fleet, Session};
use super::gate::Entry;
use super::protocol::{Answer, Protocol, Step};
use super::refusal;
use super::role::{Member, Role, Snapshots};
use super::snapshot::Snapshot;

/// How long a policy waits for a client that does not ask for the endpoints of a new cluster. Envoy
/// asks within a round trip, unless it refused the cluster.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a client may leave what it is sent unread. Longer than a machine that is short of
/// memory stands still, and no reason to keep what is meant for it for ever.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// Serves one stream to its end. Whatever makes it end, Envoy connects again by itself, so an
/// error is told to the client and not to the operator.
pub(super) async fn run<P: Protocol>(
    mut requests: impl Stream<Item = Result<P::Request, Status>> + Unpin,
    responses: mpsc::Sender<Result<P::Response, Status>>,
    role: Arc<Role>,
    fleet: Arc<Fleet>,
    mut entry: Entry,
) {
    let first = match requests.next().await {
        Some(Ok(first)) => first,
        Some(Err(status)) => return refuse(&responses, status),
        None => return,
    };
    let Some(node) = P::node(&first).filter(|node| !node.id.is_empty()) else {
        let status =
            Status::invalid_argument("the first request of a stream must name its node: set node.id");
        return refuse(&responses, status);
    };
    let id = node.id.clone();
    if let Err(status) = entry.admit(&id).await {
        let _ = responses.send(Err(status)).await;
        return;
    }
    info!(node = id, protocol = P::NAME, "envoy connected");
    let session = fleet.connect(node);
    let machine = P::new(session.refused());
    let (snapshots, member) = (role.snapshots(), role.join());
    let conversation =
        Conversation { machine, session, member, responses: responses.clone(), id: id.clone() };
    tokio::select! {
        _ = conversation.hold(first, requests, snapshots) => {}
        // A client that does not read is not waited for: its stream ends all the same.
        status = entry.closes(&id) => drop(responses.try_send(Err(status))),
    }
    info!(node = id, protocol = P::NAME, "envoy disconnected");
}

/// Ends a stream with a reason. The client may be gone, and then it need not be told.
fn refuse<R>(responses: &mpsc::Sender<Result<R, Status>>, status: Status) {
    let _ = responses.try_send(Err(status));
}

struct Conversation<P: Protocol> {
    machine: P,
    session: Session,
    member: Member,
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
                request = requests.next() => match request? {
                    Ok(request) => self.hear(&request, &shown).await?,
                    Err(status) => {
                        refuse(&self.responses, status);
                        return None;
                    }
                },
                changed = snapshots.changed() => {
                    changed.ok()?;
                    shown = newest(&mut snapshots).await?;
                    let answers = self.machine.on_snapshot(&shown);
                    self.send(answers, &shown).await?;
                }
                () = patience, if self.machine.is_waiting(&shown) => {
                    let answers = self.machine.stop_waiting(&shown);
                    self.send(answers, &shown).await?;
                }
            }
        }
    }

    async fn hear(&mut self, request: &P::Request, snapshot: &Snapshot) -> Option<()> {
        let Step { verdict, answers } = self.machine.on_request(request, snapshot);
        if let Some(verdict) = verdict {
            let words = verdict.error.as_deref().unwrap_or_default();
            let resources = refusal::named(words, verdict.kind, snapshot);
            let is_news = self.session.said(&verdict, &resources);
            if let (Some(error), true) = (&verdict.error, is_news) {
                let (kind, revision) = (verdict.kind.name(), verdict.push.revision);
                let resources = resources.join(", ");
                warn!(
                    node = self.id,
                    kind,
                    revision,
                    resources,
                    error,
                    "envoy refused a resource and keeps the last good one; `rampart status` tells what changed"
                );
            }
        }
        self.send(answers, snapshot).await
    }

    /// Waits while the client does not read; only this stream waits. `None` when the client is gone,
    /// or does not read for so long that it might as well be.
    async fn send(&mut self, answers: Vec<Answer<P::Response>>, snapshot: &Snapshot) -> Option<()> {
        // Before it is under way: a cluster must not go between the policy that names it and its ack.
        self.member.note(self.machine.progress(snapshot), snapshot.revision());
        for Answer { kind, push, message } in answers {
            let Ok(sent) = timeout(READ_WITHIN, self.responses.send(Ok(message))).await else {
                warn!(node = self.id, "envoy does not read what it is sent; its stream is ended");
                return None;
            };
            sent.ok()?;
            self.session.pushed(kind, &push);
        }
        Some(())
    }
}

async fn newest(snapshots: &mut Snapshots) -> Option<Arc<Snapshot>> {
    snapshots.wait_for(Option::is_some).await.ok()?.clone()
}
