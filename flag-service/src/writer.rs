//! The one write path. Whatever asks for a change, it is applied, judged by the engine, made
//! durable and published here, in this order, one at a time.

use std::mem::discriminant;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rampart_engine::policy::Problem;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::access::Role;
use crate::conflict::{Basis, Conflict};
use crate::counts::{Why, Writes};
use crate::head::Head;
use crate::model::{Change, Edit, Kind, Refusal};
use crate::published::{Current, Published};
use crate::store::{Answer, Entry, Store, StoreError};

/// How often other processes on the same database are looked for.
const FOLLOW: Duration = Duration::from_secs(1);
/// Most warnings that are logged of one revision; all of them are to be had from the API.
const LOGGED: usize = 20;
/// Most resources of one change that its summary tells; the history has all of them.
const TOLD: usize = 20;

/// A change and who asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// What is to change.
    pub change: Change,
    /// What the asker has seen of it.
    pub based_on: Basis,
    /// Refuse what would alter something that exists.
    pub only_new: bool,
    /// Who asks.
    pub actor: String,
    /// What the asker may do.
    pub role: Role,
    /// By which means: `cli`, `api`, `jwks`, `folder` or `environment`.
    pub source: &'static str,
    /// From which network address, where that is known.
    pub address: Option<IpAddr>,
    /// Why; may be empty.
    pub reason: String,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Under which key the asker may ask again, where an answer does not arrive.
    pub key: Option<Key>,
}

/// An idempotency key. A change that was made under it is answered again and not made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What the asker chose.
    pub name: String,
    /// Who the asker is: others may choose the same.
    pub asker: String,
    /// The same for the same request only.
    pub request: String,
}

impl Key {
    /// Under what its answer is kept. The name holds no space.
    fn stored(&self) -> String {
        format!("{} {}", self.asker, self.name)
    }
}

/// A change that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The state that holds now. After a dry run the one that would hold, under the revision that
    /// there is: the one it would get may go to somebody else.
    pub head: Arc<Head>,
    /// Whether it holds: not after a dry run.
    pub applied: bool,
    /// What changed, in words.
    pub summary: String,
    /// What changed, exactly.
    pub edits: Vec<Edit>,
    /// What the change makes odd.
    pub warnings: Vec<Problem>,
}

/// Why a change was not made. Nothing has changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The asker has seen something else than what is there.
    #[error("{0}")]
    Conflict(Box<Conflict>),
    /// The asker does not say what they have seen of something that exists.
    #[error(
        "{0} is there: say with `If-Match` which one this change is based on, by the ETag it was read with, or \
         `If-Match: *` for whatever is there"
    )]
    Unconditional(String),
    /// The asker wants to change what exists, and it does not.
    #[error("there is no {} `{}` to be changed: leave `If-Match` away to make it", .0.as_str(), .1)]
    Absent(Kind, String),
    /// The asker wanted to make something new.
    #[error("{0} exists already")]
    Exists(String),
    /// The asker may not change something of this kind.
    #[error("{0} is for an admin to change, and this is asked in the role {1}")]
    Forbidden(String, Role),
    /// It cannot be applied.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine refuses what would follow.
    #[error("the policy would make no sense")]
    Senseless(Vec<Problem>),
    /// The revision to go back to does not exist.
    #[error("there is no revision {0} to go back to")]
    NoSuchRevision(u64),
    /// The key was used for something else.
    #[error("the idempotency key `{0}` was used for another request: a new request takes a new key")]
    KeyReused(String),
    /// The change was broken off; whether it was made, the history says.
    #[error("the change was broken off: the history says whether it was made")]
    Interrupted,
    /// A newer version of Rampart shares the database.
    #[error(
        "another process has written revision {0}, which makes no sense to this version of Rampart: run the same \
         version on one database"
    )]
    Incomprehensible(u64),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WriteError {
    /// One word for it, where refusals are counted.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "conflict",
            Self::Unconditional(_) => "unconditional",
            Self::Absent(..) => "absent",
            Self::Exists(_) => "exists",
            Self::Forbidden(..) => "forbidden",
            Self::Refused(Refusal::Missing { .. }) => "missing",
            Self::Refused(Refusal::Malformed { .. } | Refusal::Several(_)) => "malformed",
            Self::Senseless(_) => "senseless",
            Self::NoSuchRevision(_) => "no_such_revision",
            Self::KeyReused(_) => "key_reused",
            Self::Interrupted => "interrupted",
            Self::Incomprehensible(_) => "incomprehensible",
            Self::Store(_) => "store",
        }
    }
}

/// The writer, and what has been written last.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    one_at_a_time: Mutex<()>,
    head: RwLock<Arc<Head>>,
    publish: watch::Sender<Option<Arc<Published>>>,
    counts: Writes,
}

impl Writer {
    /// Reads the store and publishes what it holds.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or holds a policy that this engine refuses.
    pub async fn start(store: Store) -> Result<Self, WriteError> {
        let (revision, state) = store.load().await?;
        let head = Arc::new(Head::new(revision, state, &[]).map_err(WriteError::Senseless)?);
        log(revision, &head.warnings().cloned().collect::<Vec<_>>());
        let (publish, _) = watch::channel(Some(Arc::clone(&head.published)));
        Ok(Self {
            store,
            one_at_a_time: Mutex::new(()),
            head: RwLock::new(head),
            publish,
            counts: Writes::default(),
        })
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

    /// What is counted of changes.
    #[must_use]
    pub const fn counts(&self) -> &Writes {
        &self.counts
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
            // Where the database is away, all who ask wait at once, and not one after another.
            writer.store.revision().await?;
            let _turn = writer.one_at_a_time.lock().await;
            writer.submit_in_turn(&submission).await
        });
        let done = turn.await.unwrap_or(Err(WriteError::Interrupted));
        if let Err(error) = &done {
            self.counts.refused.get_or_create(&Why { reason: error.reason() }).inc();
        }
        done
    }

    async fn submit_in_turn(&self, submission: &Submission) -> Result<Accepted, WriteError> {
        loop {
            let now = self.newest().await?;
            match self.attempt(&now, submission).await {
                // Another process shares the database: look again. Each round, somebody got ahead.
                Err(WriteError::Store(StoreError::Overtaken(_))) => {}
                Err(WriteError::Store(error)) => {
                    // A commit whose answer was lost may have been made. If this fails too, whoever
                    // comes next finds out.
                    let _ = self.newest().await;
                    return Err(error.into());
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes up what other processes write to the same database, for as long as it is polled. Where
    /// they tell, that is at once; since what is told can be lost, the database is asked as well.
    pub async fn follow(&self) {
        let told = Notify::new();
        tokio::select! {
            () = self.store.listen(&told) => {}
            () = self.poll(&told) => {}
        }
    }

    async fn poll(&self, told: &Notify) {
        let mut every = tokio::time::interval(FOLLOW);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = None;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = told.notified() => {}
            }
            let _turn = self.one_at_a_time.lock().await;
            // Trouble that lasts is told once, however its words vary, and so is its end.
            let trouble = self.newest().await.err();
            let kind = trouble.as_ref().map(discriminant);
            match trouble {
                None if before.is_some() => tracing::info!("changes are taken up again"),
                Some(trouble) if kind != before => {
                    tracing::error!("changes of other processes cannot be taken up: {trouble}");
                }
                _ => {}
            }
            before = kind;
        }
    }

    /// What is true in the database, whoever wrote it.
    async fn newest(&self) -> Result<Arc<Head>, WriteError> {
        let known = self.head();
        if self.store.revision().await? == known.revision {
            return Ok(known);
        }
        let (revision, state) = self.store.load().await?;
        let head = Head::new(revision, state, &[]);
        let head = Arc::new(head.map_err(|_| WriteError::Incomprehensible(revision))?);
        tracing::info!(revision, "taken up from another process");
        log(revision, &head.warnings_since(&known));
        self.set(&head);
        Ok(head)
    }

    async fn attempt(&self, now: &Arc<Head>, submission: &Submission) -> Result<Accepted, WriteError> {
        let key = submission.key.as_ref().filter(|_| !submission.dry_run);
        if let Some(key) = key
            && let Some(accepted) = self.answered(now, key).await?
        {
            return Ok(accepted);
        }
        self.check_basis(now, submission).await?;
        let since = match submission.change.back_to() {
            Some(to) if to > now.revision => return Err(WriteError::NoSuchRevision(to)),
            Some(to) => self.store.edits_since(to).await?,
            None => Vec::new(),
        };
        let subject = submission.change.subject();
        let state = submission.change.apply(&now.state, &since)?;
        let edits = now.state.edits(&state).map_err(StoreError::from)?;
        if let Some(edit) = edits.iter().find(|edit| !submission.role.may(edit.right())) {
            let what = format!("the {} {}", edit.kind.as_str(), edit.name);
            return Err(WriteError::Forbidden(what.trim_end().to_owned(), submission.role));
        }
        if submission.only_new && (edits.is_empty() || edits.iter().any(|edit| edit.before.is_some())) {
            let it = subject.map(|(kind, name)| format!("the {} `{name}`", kind.as_str()));
            return Err(WriteError::Exists(it.unwrap_or_else(|| "what would be made".to_owned())));
        }
        let applied = !submission.dry_run;
        if edits.is_empty() {
            let (head, summary) = (Arc::clone(now), "nothing to change".to_owned());
            let accepted = Accepted { head, applied, summary, edits, warnings: Vec::new() };
            if let Some(key) = key {
                self.store.keep(&answer(key, &accepted)).await?;
            }
            return Ok(accepted);
        }
        let mut summary = summarise(&edits);
        if let Some(to) = submission.change.back_to() {
            summary = format!("back to revision {to}: {summary}");
        }
        // A text of PostgreSQL holds any character but this one; JSON escapes it.
        let summary = summary.replace('\0', "\u{fffd}");
        let (suspects, forced) = (submission.change.suspects(), submission.change.is_forced());
        let next = now.followed_by(now.revision + u64::from(applied), state, &suspects, forced);
        let next = Arc::new(next.map_err(|problems| WriteError::Senseless(shorten(problems, subject)))?);
        let warnings = next.warnings_since(now);
        let accepted = Accepted {
            head: Arc::clone(&next),
            applied,
            summary: summary.clone(),
            edits: edits.clone(),
            warnings: shorten(warnings.clone(), subject),
        };
        if applied {
            let entry = Entry {
                revision: next.revision,
                at_ms: now_ms(),
                actor: submission.actor.clone(),
                source: submission.source.to_owned(),
                address: submission.address.map(|address| address.to_string()).unwrap_or_default(),
                reason: submission.reason.clone(),
                summary: summary.clone(),
                edits,
            };
            let started = Instant::now();
            let hash = self.store.commit(&entry, key.map(|key| answer(key, &accepted)).as_ref()).await?;
            self.counts.store.observe(started.elapsed().as_secs_f64());
            self.counts.made.inc();
            self.set(&next);
            // With the hash, whoever collects the log can prove that no row was taken away since.
            tracing::info!(revision = entry.revision, actor = entry.actor, hash, "{summary}");
            log(next.revision, &warnings);
        }
        Ok(accepted)
    }

    /// What was answered under this key: what is stored of it, and the state at its revision.
    async fn answered(&self, now: &Arc<Head>, key: &Key) -> Result<Option<Accepted>, WriteError> {
        let Some(answer) = self.store.answer(&key.stored(), now_ms()).await? else { return Ok(None) };
        if answer.request != key.request {
            return Err(WriteError::KeyReused(key.name.clone()));
        }
        let revision = answer.revision.cast_unsigned();
        if revision > now.revision {
            return Err(StoreError::Overtaken(now.revision).into());
        }
        let since = self.store.edits_since(revision).await?;
        let state = Change::Revert(revision).apply(&now.state, &since)?;
        let head = Arc::new(Head::new(revision, state, &[]).map_err(WriteError::Senseless)?);
        let warnings =
            serde_json::from_str::<Vec<(String, String)>>(&answer.warnings).map_err(StoreError::from)?;
        let warnings = warnings.into_iter().map(|(field, problem)| Problem { field, problem }).collect();
        let summary = answer.summary;
        // Where there was nothing to change, the revision is another change's.
        let entry = self.store.history(revision + 1, 1).await?.into_iter();
        let entry = entry.filter(|entry| entry.revision == revision && entry.summary == summary);
        let edits = entry.flat_map(|entry| entry.edits).collect();
        Ok(Some(Accepted { head, applied: true, summary, edits, warnings }))
    }

    /// Whether what the asker has seen is what is there.
    async fn check_basis(&self, now: &Head, submission: &Submission) -> Result<(), WriteError> {
        let Submission { change, based_on, only_new, dry_run, .. } = submission;
        let subject = change.subject();
        let there = subject.map(|(kind, name)| now.state.value(kind, name));
        match (based_on, subject, &there) {
            // What is not there and is not made by this change: that it is missing, the change says itself.
            (_, _, Some(None)) if !change.makes() => Ok(()),
            (Basis::Existing, Some((kind, name)), Some(None)) => {
                Err(WriteError::Absent(kind, name.to_owned()))
            }
            (Basis::Unsaid, _, Some(Some(_)) | None) if !(change.is_kill() || *only_new || *dry_run) => {
                let it = |(kind, name): (Kind, &str)| match name {
                    "" => format!("what the {} say", kind.as_str()),
                    name => format!("the {} `{name}`", kind.as_str()),
                };
                Err(WriteError::Unconditional(subject.map_or_else(|| "a policy".to_owned(), it)))
            }
            (Basis::Tags(tags), ..) if !tags.contains(&now.tag(subject)) => {
                let conflict = Conflict::find(&self.store, now, change, tags).await?;
                Err(WriteError::Conflict(Box::new(conflict)))
            }
            _ => Ok(()),
        }
    }

    fn set(&self, head: &Arc<Head>) {
        *self.head.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(head);
        self.publish.send_replace(Some(Arc::clone(&head.published)));
    }
}

fn summarise(edits: &[Edit]) -> String {
    let mut words: Vec<String> = edits.iter().take(TOLD).map(ToString::to_string).collect();
    if let Some(more) = edits.len().checked_sub(TOLD).filter(|more| *more > 0) {
        words.push(format!("and {more} more"));
    }
    words.join("; ")
}

/// Once, when they arise: they stay until what they are about is changed.
fn log(revision: u64, warnings: &[Problem]) {
    for warning in warnings.iter().take(LOGGED) {
        tracing::warn!(revision, "{warning}");
    }
    if let Some(more) = warnings.len().checked_sub(LOGGED).filter(|more| *more > 0) {
        tracing::warn!(revision, "and {more} warnings more: GET /api/v1/policy/warnings");
    }
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

/// What is kept of an answer, besides what the history has.
fn answer(key: &Key, accepted: &Accepted) -> Answer {
    let warnings: Vec<_> =
        accepted.warnings.iter().map(|warning| (&warning.field, &warning.problem)).collect();
    Answer {
        idempotency_key: key.stored(),
        request: key.request.clone(),
        at_ms: now_ms(),
        revision: accepted.head.revision.cast_signed(),
        summary: accepted.summary.clone(),
        warnings: serde_json::json!(warnings).to_string(),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
