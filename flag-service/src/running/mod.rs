//! What runs, as Envoys report it each second: which revision decides on each worker, how many requests of
//! which module, route and arm were answered how and how fast, which endpoints are healthy. It sends nothing
//! and decides nothing.
//!
//! Envoys report increments, so a report that is lost is missing and none is counted twice, whoever starts
//! anew. An Envoy reports to one process; what other processes on the same database hear is theirs to tell.

mod count;
mod envoy;
mod health;
mod metrics;
mod names;
mod sample;
mod traffic;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use envoy_types::pb::io::prometheus::client::MetricFamily;
use tokio::sync::watch;

pub use count::Durations;
pub use envoy::{RunningStatus, WorkerState, WorkerStatus};
pub use health::{Health, HealthStatus};
pub(crate) use metrics::Reported;
pub use traffic::{Calls, Series};

use crate::published::Published;
use crate::store::{Pair, Usage};
use envoy::{Endpoints, Envoy, WORKERS};
use names::Names;
use sample::{Sample, samples};
use traffic::{Dropped, Traffic};

/// Envoys remembered. Beyond it the one that was heard the longest ago is forgotten, but none that is open.
const REMEMBERED: usize = 10_000;

/// Reasons of refusal that are counted apart: more than the filter has.
const REASONS: usize = 64;

/// An Envoy that has said nothing for so long says nothing of health either: several reports.
const SILENT: Duration = Duration::from_secs(10);

/// What Envoys report.
#[derive(Debug)]
pub struct Running {
    started: Instant,
    started_ms: u64,
    state: Mutex<State>,
    /// Tokens signed with a key that is not known, by provider.
    unknown_keys: watch::Sender<BTreeMap<Arc<str>, u64>>,
}

#[derive(Debug, Default)]
struct State {
    /// What the names are of.
    published: Option<Arc<Published>>,
    names: Names,
    envoys: BTreeMap<String, Envoy>,
    traffic: Traffic,
    refused: BTreeMap<String, u64>,
    /// How organisations used modules, as far as it is not written down.
    usages: BTreeMap<Pair, Usage>,
    streams: u64,
    messages: u64,
    unjudged: u64,
    dropped: BTreeMap<&'static str, u64>,
}

/// Counts since this process started, for who compares two readings.
#[derive(Debug, Clone)]
pub struct Reading {
    /// When: since this process started, by a clock that never goes back.
    pub at: Duration,
    /// Requests, of all Envoys together.
    pub requests: Vec<(Series, u64)>,
    /// How long they took, by module and arm.
    pub durations: Vec<(Arc<str>, Arc<str>, Durations)>,
}

/// What is counted besides requests, since this process started.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// Requests that filters refused, by the reason's word.
    pub refused: BTreeMap<String, u64>,
    /// Tokens signed with a key that is not known, by provider.
    pub unknown_keys: BTreeMap<String, u64>,
    /// What was reported and not kept, by why.
    pub dropped: BTreeMap<String, u64>,
    /// Messages heard.
    pub messages: u64,
    /// Requests that were stopped since no filter had judged them.
    pub unjudged: u64,
    /// Envoys with a stream open.
    pub reporting: u64,
    /// Workers that decide by an older revision than their Envoy has accepted.
    pub behind: u64,
}

impl Default for Running {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let unknown_keys = watch::channel(BTreeMap::new()).0;
        Self { started: Instant::now(), started_ms, state: Mutex::default(), unknown_keys }
    }
}

impl Running {
    /// From now on reports are about this revision's names. What it no longer names is forgotten.
    pub fn follow(&self, published: &Arc<Published>) {
        let before = self.lock().published.clone();
        let same = before.is_some_and(|before| {
            before.policy.modules == published.policy.modules
                && before.policy.providers == published.policy.providers
                && before.upstreams == published.upstreams
        });
        let names = if same { None } else { Some(Names::of(published)) };
        let mut state = self.lock();
        state.published = Some(Arc::clone(published));
        if let Some(names) = names {
            self.unknown_keys.send_if_modified(|counts| {
                counts.retain(|provider, _| names.provider(provider).is_some());
                false
            });
            state.rename(names);
        }
    }

    /// What each Envoy does that has reported anything, by id.
    #[must_use]
    pub fn envoys(&self) -> BTreeMap<String, RunningStatus> {
        let now = self.now();
        let state = self.lock();
        let told = state
            .envoys
            .iter()
            .filter_map(|(id, envoy)| Some((id.clone(), envoy.running(now, |at| self.unix_ms(at))?)));
        told.collect()
    }

    /// Calls of all Envoys together: by module and route.
    #[must_use]
    pub fn by_route(&self) -> BTreeMap<(String, String), Calls> {
        let name = |module: &str, route: &str| (module.to_owned(), route.to_owned());
        self.lock().traffic.calls(self.now(), name)
    }

    /// Calls of all Envoys together: by module.
    #[must_use]
    pub fn by_module(&self) -> BTreeMap<String, Calls> {
        self.lock().traffic.calls(self.now(), |module, _| module.to_owned())
    }

    /// How long a module's requests took in the last minute.
    #[must_use]
    pub fn last_minute(&self, module: &str) -> Durations {
        self.lock().traffic.last_minute(module, self.now())
    }

    /// Everything that is counted of requests.
    #[must_use]
    pub fn read(&self) -> Reading {
        let state = self.lock();
        let requests = state.traffic.requests().map(|(series, count)| (series.clone(), count));
        let durations = state.traffic.latencies();
        let durations =
            durations.map(|(module, arm, all)| (Arc::clone(module), Arc::clone(arm), all.clone()));
        Reading { at: self.now(), requests: requests.collect(), durations: durations.collect() }
    }

    /// What else is counted.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let state = self.lock();
        let mut sums = Sums {
            refused: state.refused.clone(),
            messages: state.messages,
            unjudged: state.unjudged,
            ..Sums::default()
        };
        let told = self.unknown_keys.borrow();
        sums.unknown_keys = told.iter().map(|(provider, count)| (provider.to_string(), *count)).collect();
        sums.dropped = state.dropped.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
        for envoy in state.envoys.values().filter(|envoy| envoy.open > 0 && envoy.heard.is_some()) {
            sums.reporting += 1;
            sums.behind += envoy.behind() as u64;
        }
        sums
    }

    /// How each module fares, by id.
    #[must_use]
    pub fn health(&self) -> BTreeMap<String, Health> {
        let now = self.now();
        let state = self.lock();
        let heard = |envoy: &&Envoy| envoy.heard.is_some_and(|heard| heard + SILENT >= now);
        let envoys: Vec<&Envoy> = state.envoys.values().filter(heard).collect();
        let judge = |cluster: &str| {
            let told: Vec<(Endpoints, Duration)> = envoys
                .iter()
                .filter_map(|envoy| Some((*envoy.endpoints.get(cluster)?, envoy.heard?)))
                .collect();
            let last = told.iter().map(|(_, heard)| self.unix_ms(*heard)).max();
            let told: Vec<Endpoints> = told.into_iter().map(|(endpoints, _)| endpoints).collect();
            health::judge(&told, state.traffic.outcomes_of(cluster), now.as_secs(), last)
        };
        let clusters = state.names.clusters_of_modules().iter();
        clusters.map(|(module, cluster)| (module.to_string(), judge(cluster))).collect()
    }

    /// Names each provider for which an Envoy has seen a token of a key that it does not have, as that is
    /// reported, for as long as it is polled. What is reported meanwhile is told once.
    pub async fn unknown_keys(&self, mut tell: impl FnMut(&str)) {
        let mut counts = self.unknown_keys.subscribe();
        let mut told = counts.borrow_and_update().clone();
        while counts.changed().await.is_ok() {
            let newest = counts.borrow_and_update().clone();
            for (provider, count) in &newest {
                if told.get(provider) != Some(count) {
                    tell(provider);
                }
            }
            told = newest;
        }
    }

    /// A moment of this process, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ms(&self, at: Duration) -> u64 {
        self.started_ms.saturating_add(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
    }

    /// An Envoy opens a stream: what it reports on it goes under the number that is returned.
    pub(crate) fn opened(&self, id: &str) -> u64 {
        let mut state = self.lock();
        state.streams += 1;
        let stream = state.streams;
        let envoy = state.envoy(id);
        (envoy.open, envoy.stream) = (envoy.open + 1, stream);
        // It may be another process of that name, or the same one with less to say.
        envoy.endpoints.clear();
        stream
    }

    /// The stream has ended.
    pub(crate) fn closed(&self, id: &str) {
        let mut state = self.lock();
        if let Some(envoy) = state.envoys.get_mut(id) {
            envoy.open = envoy.open.saturating_sub(1);
        }
    }

    /// An Envoy's main thread has accepted a policy.
    pub(crate) fn accepted(&self, id: &str, revision: u64) {
        let now = self.now();
        self.lock().envoy(id).accepted(revision, now);
    }

    /// Takes a report, or a part of one.
    pub(crate) fn hear(&self, id: &str, stream: u64, families: &[MetricFamily]) {
        let now = self.now();
        let mut unknown_keys = Vec::new();
        self.lock().hear(id, stream, families, (now, self.unix_ms(now)), &mut unknown_keys);
        if unknown_keys.is_empty() {
            return;
        }
        self.unknown_keys.send_modify(|counts| {
            for (provider, count) in unknown_keys {
                let sum = counts.entry(provider).or_default();
                *sum = sum.saturating_add(count);
            }
        });
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A panic elsewhere must not end what operators see: what is kept here is valid after every single
    /// assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rename(&mut self, names: Names) {
        self.names = names;
        self.traffic.keep(&self.names);
        let names = &self.names;
        for envoy in self.envoys.values_mut() {
            envoy.endpoints.retain(|cluster, _| names.cluster(cluster).is_some());
        }
    }

    /// Known or new; then the one that has been silent the longest may have to go.
    fn envoy(&mut self, id: &str) -> &mut Envoy {
        if !self.envoys.contains_key(id) && self.envoys.len() >= REMEMBERED {
            let gone = self.envoys.iter().filter(|(_, envoy)| envoy.open == 0);
            if let Some(id) = gone.min_by_key(|(_, envoy)| envoy.heard).map(|(id, _)| id.clone()) {
                self.envoys.remove(&id);
            }
        }
        self.envoys.entry(id.to_owned()).or_default()
    }

    /// What it says of unknown keys is for others to be told.
    fn hear(
        &mut self,
        id: &str,
        stream: u64,
        families: &[MetricFamily],
        (now, now_ms): (Duration, u64),
        unknown_keys: &mut Vec<(Arc<str>, u64)>,
    ) {
        self.messages += 1;
        let timestamp = families.iter().find_map(|family| family.metric.first()?.timestamp_ms);
        let newest = self.envoy(id).stream == stream;
        if newest {
            self.envoy(id).report(timestamp.unwrap_or_default(), now);
        }
        for sample in families.iter().flat_map(samples) {
            let kept = match sample {
                Ok(Sample::UnknownKeys { provider, count }) => match self.names.provider(provider) {
                    Some(provider) => {
                        unknown_keys.extend((count > 0).then_some((provider, count)));
                        Ok(())
                    }
                    None => Err(Dropped::Unknown),
                },
                Ok(Sample::Used { module, organisation, count }) => {
                    self.used(module, organisation, count, now_ms)
                }
                Ok(sample) => self.keep(id, newest, sample, now),
                Err(sample::Malformed) => Err(Dropped::Malformed),
            };
            if let Err(why) = kept {
                *self.dropped.entry(why.as_str()).or_default() += 1;
            }
        }
    }

    fn keep(&mut self, id: &str, newest: bool, sample: Sample<'_>, now: Duration) -> Result<(), Dropped> {
        let second = now.as_secs();
        let Self { names, envoys, traffic, .. } = self;
        let Some(envoy) = envoys.get_mut(id) else { return Ok(()) };
        match sample {
            Sample::Requests { place, code, count } => {
                envoy.requests.add(second, count);
                if code >= 500 {
                    envoy.failed.add(second, count);
                }
                traffic.request(names, place, code, count, now)?;
            }
            Sample::Took { place, microseconds } => traffic.took(names, place, microseconds)?,
            Sample::Durations { module, arm, durations } => {
                traffic.durations(names, (module, arm), &durations, now)?;
            }
            Sample::Unconnected { cluster, count } => {
                if let Some(outcomes) = traffic.outcomes(names, cluster) {
                    outcomes.unconnected.add(second, count);
                }
            }
            Sample::Answered { cluster, count } => {
                if let Some(outcomes) = traffic.outcomes(names, cluster) {
                    outcomes.answered.add(second, count);
                }
            }
            Sample::Unjudged { count } => {
                envoy.unjudged = envoy.unjudged.saturating_add(count);
                self.unjudged = self.unjudged.saturating_add(count);
            }
            Sample::Refused { reason, count } => self.refused(reason, count)?,
            // Told apart before.
            Sample::UnknownKeys { .. } | Sample::Used { .. } => {}
            // An older stream, of the same Envoy or of another that calls itself so.
            _ if !newest => {}
            Sample::Workers { count } => envoy.concurrency = Some(count),
            Sample::Endpoints { cluster, healthy, count } => {
                // Envoys have clusters of their own, which are no module's.
                let Some(cluster) = names.endpoints(cluster) else { return Ok(()) };
                let endpoints = envoy.endpoints.entry(cluster).or_default();
                *(if healthy { &mut endpoints.healthy } else { &mut endpoints.total }) = count;
            }
            Sample::Revision { worker, .. } | Sample::Decided { worker, .. } if worker >= WORKERS => {
                return Err(Dropped::Full);
            }
            Sample::Revision { worker, revision } => envoy.revision(worker, revision),
            Sample::Decided { worker, second } => envoy.decided(worker, second),
        }
        Ok(())
    }

    fn used(&mut self, module: &str, organisation: &str, count: u64, now_ms: u64) -> Result<(), Dropped> {
        if !self.names.is_recorded(module, organisation) {
            return Err(Dropped::Unknown);
        }
        // What was counted once is reported for good.
        if count > 0 {
            let pair = (module.to_owned(), organisation.to_owned());
            self.usages.entry(pair).or_default().add(Usage { requests: count, last_ms: now_ms });
        }
        Ok(())
    }

    fn refused(&mut self, reason: &str, count: u64) -> Result<(), Dropped> {
        let is_word =
            reason.len() <= 32 && reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if !is_word {
            return Err(Dropped::Unknown);
        }
        if self.refused.len() >= REASONS && !self.refused.contains_key(reason) {
            return Err(Dropped::Full);
        }
        let sum = self.refused.entry(reason.to_owned()).or_default();
        *sum = sum.saturating_add(count);
        Ok(())
    }
}
