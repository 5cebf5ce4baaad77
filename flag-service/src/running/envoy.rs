//! What is heard of one Envoy: which revision decides on each of its workers, and which endpoints it finds
//! healthy. It knows no other Envoy.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::count::Count;

/// How long workers may take to follow their main thread, which answers for them: some milliseconds, unless
/// they are busy.
const SETTLE: Duration = Duration::from_secs(1);

/// Most workers of one Envoy that are told apart; the filter counts no further either.
pub(super) const WORKERS: u32 = 256;

/// Answers remembered until they are old enough to count; more come only if nothing is reported.
const ACKS: usize = 1_024;

/// What one Envoy has told of itself. Times are since this process started.
#[derive(Debug, Default)]
pub(super) struct Envoy {
    /// Streams open; two while it reconnects.
    pub(super) open: usize,
    /// The newest of them. What an older one still says of workers and endpoints is not heard.
    pub(super) stream: u64,
    /// When it was heard last.
    pub(super) heard: Option<Duration>,
    pub(super) requests: Count,
    /// Of these, those that ended with a server error.
    pub(super) failed: Count,
    /// Requests that the guard stopped, since nobody had judged them.
    pub(super) unjudged: u64,
    pub(super) endpoints: HashMap<Arc<str>, Endpoints>,
    /// How many workers it says it has.
    pub(super) concurrency: Option<u64>,
    workers: BTreeMap<u32, Worker>,
    /// Envoy's time of the report being read, and ours when it and the one before it began.
    report: i64,
    began: Option<Duration>,
    before: Option<Duration>,
    /// Policies accepted, of which it is too early to say that workers must have them.
    acks: VecDeque<(Duration, u64)>,
    /// What workers must have had before the report being read began to count.
    settled: u64,
}

/// Endpoints of one cluster.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Endpoints {
    pub(super) healthy: u64,
    pub(super) total: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Worker {
    revision: u64,
    /// Envoy's second of its last decision.
    decided: u64,
    behind: bool,
}

impl Envoy {
    /// A report begins, or goes on: Envoy sends a large one in parts, all with the same time.
    pub(super) fn report(&mut self, timestamp: i64, now: Duration) {
        self.heard = Some(now);
        if self.report == timestamp && self.began.is_some() {
            return;
        }
        (self.report, self.before, self.began) = (timestamp, self.began, Some(now));
        let Some(before) = self.before else { return };
        while let Some((_, revision)) = self.acks.pop_front_if(|(at, _)| *at + SETTLE <= before) {
            self.settled = self.settled.max(revision);
        }
    }

    /// It has accepted a policy.
    pub(super) fn accepted(&mut self, revision: u64, now: Duration) {
        if self.acks.len() == ACKS {
            self.acks.pop_front();
        }
        self.acks.push_back((now, revision));
    }

    /// A worker's last decision was by this revision.
    pub(super) fn revision(&mut self, worker: u32, revision: u64) {
        let worker = self.workers.entry(worker).or_default();
        worker.revision = revision;
        worker.behind &= revision < self.settled;
    }

    /// A worker's last decision was at this second. If that is news, it has decided since the report before:
    /// by an older revision than it must have had by then, it is behind.
    pub(super) fn decided(&mut self, worker: u32, second: u64) {
        let worker = self.workers.entry(worker).or_default();
        if worker.decided != second {
            worker.decided = second;
            worker.behind = worker.revision < self.settled;
        }
    }

    pub(super) fn behind(&self) -> usize {
        self.workers.values().filter(|worker| worker.behind).count()
    }

    /// What an operator is told, at this time.
    pub(super) fn running(&self, now: Duration, unix_ms: impl Fn(Duration) -> u64) -> Option<RunningStatus> {
        let heard = self.heard?;
        let mut workers: Vec<(u32, Worker)> = self.workers.iter().map(|(n, worker)| (*n, *worker)).collect();
        // A worker's VM that was started anew has a number of its own, and the old one says nothing more.
        workers.sort_by_key(|(number, worker)| (Reverse(worker.decided), *number));
        workers.truncate(self.concurrency.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(1)));
        workers.sort_by_key(|(number, _)| *number);
        let workers = workers.into_iter().map(|(number, worker)| WorkerStatus {
            worker: number,
            revision: worker.revision,
            decided_ms: worker.decided.saturating_mul(1000),
            state: match worker {
                Worker { behind: true, .. } => WorkerState::Behind,
                _ if worker.revision < self.settled => WorkerState::Idle,
                _ => WorkerState::Current,
            },
        });
        let per_second = |count: &Count| count.last(now.as_secs(), 10) as f64 / 10.0;
        Some(RunningStatus {
            heard_ms: unix_ms(heard),
            workers: workers.collect(),
            requests_per_second: per_second(&self.requests),
            errors_per_second: per_second(&self.failed),
            unjudged: self.unjudged,
        })
    }
}

/// What an Envoy does, as it reports itself.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RunningStatus {
    /// When it was heard last, in milliseconds since the Unix epoch
    pub heard_ms: u64,
    /// Its workers that have decided something
    pub workers: Vec<WorkerStatus>,
    /// Over the last ten seconds
    pub requests_per_second: f64,
    /// Over the last ten seconds: those answered with a status of 500 or more
    pub errors_per_second: f64,
    /// Requests that were stopped since the filter had not judged them; must be 0
    pub unjudged: u64,
}

/// What a worker decides by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WorkerStatus {
    /// Numbered in the order in which workers first decided something
    pub worker: u32,
    /// The revision that decided its last request
    pub revision: u64,
    /// When it did, to the second, in milliseconds since the Unix epoch by Envoy's clock
    pub decided_ms: u64,
    /// What that says
    pub state: WorkerState,
}

/// What a worker's last decision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It was by what the Envoy has accepted
    Current,
    /// It was by an older revision, and nothing has been decided since
    Idle,
    /// It was by an older revision, though the Envoy had accepted a newer one before
    Behind,
}

#[cfg(test)]
mod tests {
    use super::{Duration, Envoy, WorkerState};

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Reports each second what each worker last decided: by which revision, and when.
    fn report(envoy: &mut Envoy, second: u64, workers: &[(u64, u64)]) {
        envoy.report(i64::try_from(second * 1000).unwrap(), at(second * 1000));
        for (number, (revision, decided)) in (0..).zip(workers) {
            envoy.decided(number, *decided);
            envoy.revision(number, *revision);
        }
    }

    fn states(envoy: &Envoy) -> Vec<(u64, WorkerState)> {
        let running = envoy.running(at(0), |_| 0).unwrap();
        running.workers.iter().map(|worker| (worker.revision, worker.state)).collect()
    }

    #[test]
    fn a_worker_that_decides_by_an_older_revision_is_behind_and_one_that_decides_nothing_is_idle() {
        use WorkerState::{Behind, Current, Idle};
        let mut envoy = Envoy::default();
        envoy.accepted(7, at(500));
        report(&mut envoy, 1, &[(7, 1), (7, 1)]);
        envoy.accepted(8, at(1_200));
        // Decided before, or just as, it was accepted.
        report(&mut envoy, 2, &[(8, 2), (7, 2)]);
        assert_eq!(states(&envoy), [(8, Current), (7, Current)]);
        report(&mut envoy, 3, &[(8, 3), (7, 2)]);
        report(&mut envoy, 4, &[(8, 4), (7, 2)]);
        assert_eq!(states(&envoy), [(8, Current), (7, Idle)]);
        report(&mut envoy, 5, &[(8, 4), (7, 5)]);
        assert_eq!(states(&envoy), [(8, Current), (7, Behind)]);
        assert_eq!(envoy.behind(), 1);
        // It stays so until it decides by what it should, idle or not.
        report(&mut envoy, 6, &[(8, 4), (7, 5)]);
        assert_eq!(states(&envoy), [(8, Current), (7, Behind)]);
        report(&mut envoy, 7, &[(8, 4), (8, 7)]);
        assert_eq!(states(&envoy), [(8, Current), (8, Current)]);
        assert_eq!(envoy.behind(), 0);
    }

    #[test]
    fn what_was_decided_before_the_first_report_is_held_against_nobody() {
        let mut envoy = Envoy::default();
        envoy.accepted(8, at(0));
        report(&mut envoy, 60, &[(7, 3)]);
        assert_eq!(states(&envoy), [(7, WorkerState::Current)]);
        report(&mut envoy, 61, &[(7, 3)]);
        assert_eq!(states(&envoy), [(7, WorkerState::Idle)]);
    }

    #[test]
    fn changes_that_follow_one_another_faster_than_reports_hide_no_worker() {
        let mut envoy = Envoy::default();
        for second in 1..100 {
            envoy.accepted(10 * second, at(second * 1000 - 500));
            envoy.accepted(10 * second + 5, at(second * 1000 - 1));
            report(&mut envoy, second, &[(10 * second, second), (3, second)]);
        }
        assert_eq!(states(&envoy), [(990, WorkerState::Current), (3, WorkerState::Behind)]);
    }

    #[test]
    fn a_report_in_parts_is_one_report() {
        let mut envoy = Envoy::default();
        report(&mut envoy, 1, &[(7, 1)]);
        envoy.accepted(8, at(1_100));
        report(&mut envoy, 2, &[(7, 1)]);
        for _ in 0..5 {
            report(&mut envoy, 3, &[(7, 1)]);
        }
        // Were each part a report, the revision would have to be known by now.
        envoy.decided(0, 3);
        assert_eq!(states(&envoy), [(7, WorkerState::Current)]);
    }

    #[test]
    fn as_many_workers_are_told_as_there_are() {
        let mut envoy = Envoy::default();
        report(&mut envoy, 1, &[(7, 1), (7, 1), (7, 1)]);
        report(&mut envoy, 2, &[(7, 2), (7, 1), (7, 2)]);
        envoy.concurrency = Some(2);
        let told = envoy.running(at(0), |_| 0).unwrap().workers;
        assert_eq!(told.iter().map(|worker| worker.worker).collect::<Vec<_>>(), [0, 2]);
    }
}
