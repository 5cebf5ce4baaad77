//! Issuers' keys, fetched and kept up to date: on a schedule, and at once where a filter, or the API itself,
//! has seen a token whose key is not known. What is new is submitted as an ordinary change; where a fetch
//! fails, the keys so far stay, and whoever asks is told.

mod fetch;
mod schedule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rampart_engine::policy::wire::{JwksFrom, Provider};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use utoipa::ToSchema;

use crate::access::Role;
use crate::conflict::Basis;
use crate::counts::{Fetched, Fetches};
use crate::head::Head;
use crate::model::{Change, KeySet};
use crate::writer::{Submission, Writer};

use fetch::{Answer, Found};
pub use fetch::{Client, FetchError};
use schedule::{Schedule, Unknown};

/// How long who comes with a token of an unknown key waits for newer ones.
const WAIT: Duration = Duration::from_secs(5);

/// Keeps the keys of everybody who has them fetched: see [`State::fetched`](crate::model::State::fetched).
#[derive(Debug)]
pub struct Keeper {
    writer: Arc<Writer>,
    client: Client,
    kept: watch::Sender<Kepts>,
    counts: Fetches,
}

/// What is known of one provider's keys. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Keeping {
    /// When they were last fetched, or found unchanged; none where that has not succeeded since the start
    pub fetched_at_ms: Option<u64>,
    /// When they are fetched next
    pub next_at_ms: Option<u64>,
    /// How many fetches have failed since
    pub failures: u32,
    /// What went wrong with the last, if it did
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Keys of the set that no token is judged by, and why
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Which ask was the newest when the last fetch began; 0 before one has ended
    #[serde(skip)]
    asked: u64,
}

/// Who is kept, by name.
type Kepts = BTreeMap<String, Arc<Kept>>;

/// A provider that is being kept.
#[derive(Debug)]
struct Kept {
    /// What its keys are called.
    name: String,
    provider: Provider,
    from: JwksFrom,
    /// The newest ask for a fetch. The first fetch, which nobody asks for, is 1.
    asked: watch::Sender<u64>,
    /// A filter has seen a token whose key is not known.
    seen: Notify,
    /// When such a token last had them fetched.
    unknown: Mutex<Unknown>,
    state: watch::Sender<Keeping>,
}

impl Keeper {
    /// Keeps nothing yet: [`run`](Self::run) does.
    #[must_use]
    pub fn new(writer: Arc<Writer>, client: Client) -> Self {
        Self { writer, client, kept: watch::channel(BTreeMap::new()).0, counts: Fetches::default() }
    }

    /// What is true now.
    #[must_use]
    pub fn head(&self) -> Arc<Head> {
        self.writer.head()
    }

    /// What is counted of fetches.
    #[must_use]
    pub const fn counts(&self) -> &Fetches {
        &self.counts
    }

    /// Fetches for as long as it is polled.
    pub async fn run(&self) {
        let mut current = self.writer.current();
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<String, (Arc<Kept>, tokio::task::AbortHandle)> = BTreeMap::new();
        loop {
            current.mark_unchanged();
            let head = self.writer.head();
            let wanted: BTreeMap<String, &Provider> = head.state.fetched().collect();
            running.retain(|name, (kept, task)| {
                // Another source is another provider: what was heard of the old one says nothing of it.
                let stays = wanted.get(name).is_some_and(|provider| kept.provider == **provider);
                if !stays {
                    task.abort();
                    self.counts.forget(name);
                }
                stays
            });
            for (name, provider) in wanted {
                let Some(from) = provider.jwks_from.clone().filter(|_| !running.contains_key(&name)) else {
                    continue;
                };
                let kept = Arc::new(Kept::new(name.clone(), provider.clone(), from));
                let worker = Worker::new(Arc::clone(&self.writer), self.client.clone(), self.counts.clone());
                let task = tasks.spawn(worker.keep(Arc::clone(&kept)));
                running.insert(name, (kept, task));
            }
            let kept = running.iter().map(|(name, (kept, _))| (name.clone(), Arc::clone(kept)));
            self.kept.send_replace(kept.collect());
            tokio::select! {
                changed = current.changed() => if changed.is_err() { return },
                // Of those that were aborted; the others have no end.
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// What is known of a provider's keys; none where they are not fetched.
    #[must_use]
    pub fn keeping(&self, provider: &str) -> Option<Keeping> {
        self.kept.borrow().get(provider).map(|kept| kept.state.borrow().clone())
    }

    /// The same of every provider whose keys are fetched.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Keeping> {
        self.kept.borrow().iter().map(|(name, kept)| (name.clone(), kept.state.borrow().clone())).collect()
    }

    /// A filter has seen a token of this provider whose key is not known. The keys are fetched at once,
    /// unless they just were.
    pub fn unknown_key(&self, provider: &str) {
        if let Some(kept) = self.kept.borrow().get(provider) {
            kept.seen.notify_one();
        }
    }

    /// The same of a token that is here and can wait: not for long, nor at all where another just had the
    /// keys fetched. Whether they are the issuer's newest now, as far as is known.
    pub async fn renew(&self, name: &str) -> bool {
        let head = self.writer.head();
        let renewed = async {
            let kept = self.kept(name, head.state.issuer(name)?).await?;
            let mut state = kept.state.subscribe();
            let keeping = match kept.ask_for_unknown(Instant::now()) {
                Some(ask) => state.wait_for(|keeping| keeping.asked >= ask).await.ok()?.clone(),
                None => state.borrow().clone(),
            };
            Some(keeping.error.is_none())
        };
        tokio::time::timeout(WAIT, renewed).await.ok().flatten().unwrap_or(false)
    }

    /// Fetches a provider's keys now, and says what became of it; none where they are not fetched.
    pub async fn refresh(&self, provider: &str) -> Option<Keeping> {
        let head = self.writer.head();
        let wanted = head.state.issuer(provider)?;
        wanted.jwks_from.as_ref()?;
        let asked = async {
            let kept = self.kept(provider, wanted).await?;
            let mut state = kept.state.subscribe();
            let ask = kept.ask();
            // One that began before knows nothing of what made them ask.
            Some(state.wait_for(|keeping| keeping.asked >= ask).await.ok()?.clone())
        };
        // No fetch takes longer; but another change can put an end to it.
        tokio::time::timeout(fetch::PATIENCE * 2, asked)
            .await
            .ok()
            .flatten()
            .or_else(|| self.keeping(provider))
    }

    /// Whoever is kept by this name, once it is: what was set this moment may not be taken up yet.
    async fn kept(&self, name: &str, wanted: &Provider) -> Option<Arc<Kept>> {
        let mut all = self.kept.subscribe();
        let is_kept = |all: &Kepts| all.get(name).is_some_and(|kept| kept.provider == *wanted);
        all.wait_for(is_kept).await.ok()?.get(name).cloned()
    }
}

impl Kept {
    fn new(name: String, provider: Provider, from: JwksFrom) -> Self {
        let (asked, state) = (watch::channel(1).0, watch::channel(Keeping::default()).0);
        Self { name, provider, from, asked, seen: Notify::new(), unknown: Mutex::default(), state }
    }

    /// Asks for a fetch that begins from now on.
    fn ask(&self) -> u64 {
        let mut ask = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            ask = *asked;
        });
        ask
    }

    /// Asks for one because of an unknown key, or joins another that did and still waits; none where one
    /// just was answered.
    fn ask_for_unknown(&self, now: Instant) -> Option<u64> {
        let mut unknown = self.unknown();
        let ended = self.state.borrow().asked;
        if ended == 0 {
            return Some(1);
        }
        if unknown.next(now) > now {
            return unknown.ask().filter(|ask| ended < *ask);
        }
        let ask = self.ask();
        unknown.asks(now, ask);
        Some(ask)
    }

    fn unknown(&self) -> std::sync::MutexGuard<'_, Unknown> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What fetches the keys of one provider.
struct Worker {
    writer: Arc<Writer>,
    client: Client,
    counts: Fetches,
}

impl Worker {
    const fn new(writer: Arc<Writer>, client: Client, counts: Fetches) -> Self {
        Self { writer, client, counts }
    }

    async fn keep(self, kept: Arc<Kept>) {
        let mut schedule = Schedule::new(&kept.from);
        let mut seen = None;
        let mut asks = kept.asked.subscribe();
        loop {
            let asked = *asks.borrow_and_update();
            let (outcome, next) = match self.fetch(&kept, &mut seen).await {
                Ok((outcome, keeping, fresh)) => {
                    let next = schedule.fetched(Instant::now(), fresh);
                    kept.state.send_replace(Keeping { next_at_ms: Some(at(next)), asked, ..keeping });
                    (outcome, next)
                }
                Err(error) => {
                    let next = schedule.failed(Instant::now());
                    let error = error.to_string();
                    let told = kept.state.borrow().error.as_deref() == Some(error.as_str());
                    if !told {
                        let provider = &kept.name;
                        tracing::error!(
                            provider,
                            "its keys cannot be fetched, and those so far stay: {error}"
                        );
                    }
                    kept.state.send_modify(|keeping| {
                        keeping.failures = keeping.failures.saturating_add(1);
                        keeping.error = Some(error);
                        keeping.next_at_ms = Some(at(next));
                        keeping.asked = asked;
                    });
                    ("failed", next)
                }
            };
            let fetched = Fetched { provider: kept.name.clone(), outcome };
            self.counts.fetches.get_or_create(&fetched).inc();
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                // It lives as long as `kept`.
                _ = asks.changed() => {}
                () = async {
                    kept.seen.notified().await;
                    let next = kept.unknown().next(Instant::now());
                    tokio::time::sleep_until(next.into()).await;
                } => drop(kept.ask_for_unknown(Instant::now())),
            }
        }
    }

    /// Fetches, and submits what is new.
    async fn fetch(
        &self,
        kept: &Kept,
        seen: &mut Option<Found>,
    ) -> Result<(&'static str, Keeping, Option<Duration>), FetchError> {
        let Answer { fresh, found } = self.client.fetch(&kept.provider, &kept.from, seen.as_ref()).await?;
        if let Some(found) = found {
            *seen = Some(found);
        }
        let found = seen.as_ref().ok_or(FetchError::Unasked)?;
        let now = now_ms();
        let set = KeySet::new(&kept.name, &kept.provider, &kept.from, found.keys.clone(), now / 1000);
        let made =
            self.writer.submit(submission(set)).await.map_err(|error| FetchError::Kept(error.to_string()))?;
        let keeping =
            Keeping { fetched_at_ms: Some(now), left_out: found.left_out.clone(), ..Keeping::default() };
        let outcome = if made.edits.is_empty() { "same" } else { "changed" };
        if kept.state.borrow().error.is_some() {
            tracing::info!(provider = kept.name, "its keys are fetched again");
        }
        Ok((outcome, keeping, fresh))
    }
}

fn submission(set: KeySet) -> Submission {
    let reason = format!("keys of {}", set.uri.as_deref().unwrap_or(&set.issuer));
    Submission {
        change: Change::PutKeySet(set),
        // Whatever is there: the issuer's word is the newest.
        based_on: Basis::Existing,
        only_new: false,
        actor: "rampart".to_owned(),
        role: Role::Admin,
        source: "jwks",
        address: None,
        reason,
        dry_run: false,
        key: None,
    }
}

/// A moment of the monotonic clock, as people read it.
fn at(moment: Instant) -> u64 {
    let until = moment.saturating_duration_since(Instant::now());
    now_ms().saturating_add(u64::try_from(until.as_millis()).unwrap_or(u64::MAX))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
