//! Requests of all Envoys together: how many of which module, route, arm and code, and how long they took.
//! It keeps what the policy names and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::count::{Count, Durations, Latency};
use super::names::Names;
use super::sample::Place;

/// Most combinations of module, route, arm and code that are counted apart; some 300 bytes each.
pub(super) const SERIES: usize = 50_000;

/// What requests are counted apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// The module's id; empty where a path leads to none.
    pub module: Arc<str>,
    /// The route's pattern.
    pub route: Arc<str>,
    /// What served: `module`, `legacy`, the cluster that an effect chose, or `pass`; empty where the request
    /// was refused.
    pub arm: Arc<str>,
    /// The status; 0 where the client went before there was one.
    pub code: u16,
}

impl Series {
    /// Whether it counts as an error: the upstream's or ours, not the client's.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.code >= 500
    }
}

/// Why something that was reported is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dropped {
    /// The policy has no such name.
    Unknown,
    /// It does not read, or contradicts itself.
    Malformed,
    /// There are as many series as are kept.
    Full,
}

impl Dropped {
    /// The word in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Full => "full",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Traffic {
    requests: HashMap<Series, Count>,
    routes: HashMap<(Arc<str>, Arc<str>), Route>,
    latencies: HashMap<(Arc<str>, Arc<str>), Latency>,
    clusters: HashMap<Arc<str>, Outcomes>,
}

#[derive(Debug, Default)]
struct Route {
    microseconds: u64,
    /// When it was asked last.
    asked: Duration,
}

/// What became of requests to a cluster.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) unconnected: Count,
    pub(super) answered: Count,
}

/// A route's or a module's calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// How many of them ended with a status of 500 or more.
    pub failed: u64,
    /// How long they took together.
    pub took: Duration,
    /// When the last one was reported, since this process started.
    pub asked: Duration,
    /// How many there were in the last minute, and how many of them failed.
    pub recent: (u64, u64),
    /// By arm and code.
    pub arms: BTreeMap<String, BTreeMap<u16, u64>>,
}

impl Traffic {
    pub(super) fn request(
        &mut self,
        names: &Names,
        place: Place<'_>,
        code: u16,
        count: u64,
        now: Duration,
    ) -> Result<(), Dropped> {
        let (module, route) = names.place(place.module, place.route).ok_or(Dropped::Unknown)?;
        let series = Series { module, route, arm: names.arm(place.arm).ok_or(Dropped::Unknown)?, code };
        if count == 0 {
            return Ok(());
        }
        self.routes.entry((Arc::clone(&series.module), Arc::clone(&series.route))).or_default().asked = now;
        if self.requests.len() >= SERIES && !self.requests.contains_key(&series) {
            return Err(Dropped::Full);
        }
        self.requests.entry(series).or_default().add(now.as_secs(), count);
        Ok(())
    }

    pub(super) fn took(&mut self, names: &Names, place: Place<'_>, microseconds: u64) -> Result<(), Dropped> {
        let place = names.place(place.module, place.route).ok_or(Dropped::Unknown)?;
        if microseconds > 0 {
            let route = self.routes.entry(place).or_default();
            route.microseconds = route.microseconds.saturating_add(microseconds);
        }
        Ok(())
    }

    pub(super) fn durations(
        &mut self,
        names: &Names,
        (module, arm): (&str, &str),
        durations: &Durations,
        now: Duration,
    ) -> Result<(), Dropped> {
        let of = (names.module(module).ok_or(Dropped::Unknown)?, names.arm(arm).ok_or(Dropped::Unknown)?);
        if durations.count == 0 || self.latencies.entry(of).or_default().add(now.as_secs(), durations) {
            Ok(())
        } else {
            Err(Dropped::Malformed)
        }
    }

    /// None of a cluster that is the Envoy's own.
    pub(super) fn outcomes(&mut self, names: &Names, cluster: &str) -> Option<&mut Outcomes> {
        Some(self.clusters.entry(names.cluster(cluster)?).or_default())
    }

    pub(super) fn outcomes_of(&self, cluster: &str) -> Option<&Outcomes> {
        self.clusters.get(cluster)
    }

    /// Forgets what the policy names no more.
    pub(super) fn keep(&mut self, names: &Names) {
        self.requests.retain(|series, _| {
            names.place(&series.module, &series.route).is_some() && names.arm(&series.arm).is_some()
        });
        self.routes.retain(|(module, route), _| names.place(module, route).is_some());
        self.latencies.retain(|(module, arm), _| names.module(module).is_some() && names.arm(arm).is_some());
        self.clusters.retain(|cluster, _| names.cluster(cluster).is_some());
    }

    /// Calls by the name that each series is given; none leaves it out.
    pub(super) fn calls<K: Ord>(&self, now: Duration, name: impl Fn(&str, &str) -> K) -> BTreeMap<K, Calls> {
        let mut sums: BTreeMap<K, Calls> = BTreeMap::new();
        for (series, count) in &self.requests {
            let calls = sums.entry(name(&series.module, &series.route)).or_default();
            let recent = count.last(now.as_secs(), 60);
            let add = |sum: &mut u64, more| *sum = sum.saturating_add(more);
            add(&mut calls.count, count.total());
            add(&mut calls.recent.0, recent);
            if series.failed() {
                add(&mut calls.failed, count.total());
                add(&mut calls.recent.1, recent);
            }
            let codes = calls.arms.entry(series.arm.to_string()).or_default();
            add(codes.entry(series.code).or_default(), count.total());
        }
        for ((module, route), known) in &self.routes {
            if let Some(calls) = sums.get_mut(&name(module, route)) {
                calls.took += Duration::from_micros(known.microseconds);
                calls.asked = calls.asked.max(known.asked);
            }
        }
        sums
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = (&Series, u64)> {
        self.requests.iter().map(|(series, count)| (series, count.total()))
    }

    pub(super) fn latencies(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Durations)> {
        self.latencies.iter().map(|((module, arm), latency)| (module, arm, latency.ever()))
    }

    /// How long a module's requests took in the last minute, whatever served them.
    pub(super) fn last_minute(&self, module: &str, now: Duration) -> Durations {
        let mut sum = Durations::default();
        for (_, latency) in self.latencies.iter().filter(|((of, _), _)| &**of == module) {
            let recent = latency.last_minute(now.as_secs());
            if recent.count > 0 {
                sum.add(&recent);
            }
        }
        sum
    }
}
