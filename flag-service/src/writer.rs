//! The one write path. Whatever asks for a change, it is applied, judged by the engine, made
//! durable and published here, in this order, one at a time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rampart_engine::policy::{Policy, Problem};
use tokio::sync::{Mutex, watch};

use crate::model::{Change, Kind, Refusal, State};
use crate::published::{Current, Published};
use crate::store::{Entry, Store, StoreError};

/// What is true at one revision.
#[derive(Debug)]
pub struct Head {
    /// The revision.
    pub revision: u64,
    /// What operators set up.
    pub state: State,
    /// The same, as filters decide by it.
    pub policy: Policy,
    /// The same, as it is sent.
    pub published: Arc<Published>,
}

/// A change and who asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// What is to change.
    pub change: Change,
    /// The revision that the asker has seen; none for whichever there is.
    pub based_on: Option<u64>,
    /// Who asks.
    pub actor: String,
    /// From where: `cli` or `api`.
    pub source: &'static str,
    /// Why; may be empty.
    pub reason: String,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// A change that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The state that holds now, or would hold.
    pub head: Arc<Head>,
    /// What changed, in words.
    pub summary: String,
}

/// Why a change was not made. Nothing has changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The asker has seen an older revision.
    #[error("this change is based on revision {based_on}, and the revision is {revision} now")]
    Conflict {
        /// What the asker has seen.
        based_on: u64,
        /// What it is.
        revision: u64,
    },
    /// It cannot be applied.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine refuses what would follow.
    #[error("the policy would make no sense")]
    Senseless(Vec<Problem>),
    /// The revision to go back to does not exist.
    #[error("there is no revision {0} to go back to")]
    NoSuchRevision(u64),
    /// The change was broken off; whether it was made, the history says.
    #[error("the change was broken off: the history says whether it was made")]
    Interrupted,
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The writer, and what has been written last.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    one_at_a_time: Mutex<()>,
    head: RwLock<Arc<Head>>,
    publish: watch::Sender<Option<Arc<Published>>>,
}

impl Writer {
    /// Reads the store and publishes what it holds.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or holds a policy that this engine refuses.
    pub async fn start(store: Store) -> Result<Self, WriteError> {
        let (revision, state) = store.load().await?;
        let head = Arc::new(head(revision, state).map_err(WriteError::Senseless)?);
        let (publish, _) = watch::channel(Some(Arc::clone(&head.published)));
        Ok(Self { store, one_at_a_time: Mutex::new(()), head: RwLock::new(head), publish })
    }

    /// What is true now.
    #[must_use]
    pub fn head(&self) -> Arc<Head> {
        // The lock guards a pointer: whoever panicked while holding it left it whole.
        Arc::clone(&self.head.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What to send to Envoys, now and whenever it changes.
    #[must_use]
    pub fn current(&self) -> Current {
        self.publish.subscribe()
    }

    /// The store, for its history.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Makes a change. When this returns, the change is durable and on its way to every Envoy.
    ///
    /// # Errors
    ///
    /// Why it was not made.
    pub async fn submit(self: &Arc<Self>, submission: Submission) -> Result<Accepted, WriteError> {
        let writer = Arc::clone(self);
        // A task of its own: an asker who hangs up drops this future, and a change that is durable
        // must be published all the same.
        let turn = tokio::spawn(async move {
            let _turn = writer.one_at_a_time.lock().await;
            writer.submit_in_turn(&submission).await
        });
        turn.await.unwrap_or(Err(WriteError::Interrupted))
    }

    async fn submit_in_turn(&self, submission: &Submission) -> Result<Accepted, WriteError> {
        let mut now = self.head();
        loop {
            match self.attempt(&now, submission).await {
                // Another process shares the database: look again. Each round, somebody got ahead.
                Err(WriteError::Store(StoreError::Overtaken(_))) => now = self.reload().await?,
                Err(WriteError::Store(error)) => {
                    // A commit whose answer was lost may have been made. If this fails too, the
                    // next change finds out: its revision is taken.
                    let _ = self.reload().await;
                    return Err(error.into());
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self, now: &Arc<Head>, submission: &Submission) -> Result<Accepted, WriteError> {
        if let Some(based_on) = submission.based_on.filter(|revision| *revision != now.revision) {
            return Err(WriteError::Conflict { based_on, revision: now.revision });
        }
        let since = match submission.change {
            Change::Revert(to) if to > now.revision => return Err(WriteError::NoSuchRevision(to)),
            Change::Revert(to) => self.store.edits_since(to).await?,
            _ => Vec::new(),
        };
        let state = submission.change.apply(&now.state, &since)?;
        let edits = now.state.edits(&state).map_err(StoreError::from)?;
        if edits.is_empty() {
            return Ok(Accepted { head: Arc::clone(now), summary: "nothing to change".to_owned() });
        }
        let mut summary = edits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if let Change::Revert(to) = submission.change {
            summary = format!("back to revision {to}: {summary}");
        }
        let next = head(now.revision + 1, state)
            .map_err(|problems| WriteError::Senseless(shorten(problems, submission.change.subject())))?;
        let next = Arc::new(next);
        if !submission.dry_run {
            let entry = Entry {
                revision: next.revision,
                at_ms: now_ms(),
                actor: submission.actor.clone(),
                source: submission.source.to_owned(),
                reason: submission.reason.clone(),
                summary: summary.clone(),
                edits,
            };
            self.store.commit(&entry).await?;
            self.set(&next);
            tracing::info!(revision = entry.revision, actor = entry.actor, "{summary}");
        }
        Ok(Accepted { head: next, summary })
    }

    async fn reload(&self) -> Result<Arc<Head>, WriteError> {
        let (revision, state) = self.store.load().await?;
        let head = Arc::new(head(revision, state).map_err(WriteError::Senseless)?);
        self.set(&head);
        Ok(head)
    }

    fn set(&self, head: &Arc<Head>) {
        *self.head.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(head);
        self.publish.send_replace(Some(Arc::clone(&head.published)));
    }
}

fn head(revision: u64, state: State) -> Result<Head, Vec<Problem>> {
    let published = Arc::new(state.published(revision));
    let policy = Policy::compile(&published.policy)?;
    Ok(Head { revision, state, policy, published })
}

/// Field paths as the asker sees them: within the resource that was sent.
fn shorten(mut problems: Vec<Problem>, subject: Option<(Kind, &str)>) -> Vec<Problem> {
    if let Some((kind, name)) = subject {
        let prefix = format!("{}s[{name}].", kind.as_str());
        for problem in &mut problems {
            if let Some(within) = problem.field.strip_prefix(&prefix) {
                problem.field = within.to_owned();
            }
        }
    }
    problems
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
