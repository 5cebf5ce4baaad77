//! What every Envoy is shown: the newest snapshot, and the clusters that only older policies name for
//! as long as an Envoy may run one of those. It knows no protocol, and sends nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::snapshot::{Kind, Resource, Snapshot};

/// How long a cluster is kept for an Envoy that does not answer. One that has refused what would
/// replace its policy has answered: it goes on with the old one, and the clusters of that stay.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a cluster outlives its last use. A client that names its clusters asks for the new one when
/// it gets the route to it: a list without the old one, on its way at that moment, would look as if there
/// was no new one either.
const DRAIN: Duration = Duration::from_secs(1);

/// The newest of what is shown; `None` until there is anything.
pub(super) type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// Everything that is served to Envoys which are all served the same.
#[derive(Debug, Default)]
pub(super) struct Role {
    state: Mutex<State>,
    shown: watch::Sender<Option<Arc<Snapshot>>>,
    /// Something has become due that was not.
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    latest: Arc<Snapshot>,
    /// The revision that brought each cluster.
    since: BTreeMap<String, u64>,
    /// Clusters that the latest revision does without, and that are still shown.
    retired: BTreeMap<String, Retired>,
    /// By a number that never comes again.
    streams: BTreeMap<u64, Runs>,
    opened: u64,
}

#[derive(Debug)]
struct Retired {
    cluster: Resource,
    endpoints: Option<Resource>,
    /// Policies from this revision on …
    from: u64,
    /// … and before this one may name it.
    to: u64,
    until: Instant,
    /// Nobody needs it any more, and from then on it is gone.
    drained: Option<Instant>,
}

impl Retired {
    fn is_needed(&self, streams: &BTreeMap<u64, Runs>, now: Instant) -> bool {
        streams.values().any(|runs| {
            let named = runs.from < self.to && runs.to >= self.from;
            named && (runs.refuses || now < self.until)
        })
    }

    /// Whether it is still shown.
    fn stays(&mut self, streams: &BTreeMap<u64, Runs>, now: Instant) -> bool {
        if self.is_needed(streams, now) {
            self.drained = None;
            return true;
        }
        now < *self.drained.get_or_insert(now + DRAIN)
    }
}

/// Which policies an Envoy may run: what it accepted last, up to what it was last sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Runs {
    from: u64,
    to: u64,
    /// It has refused a later one and not accepted another since.
    refuses: bool,
}

impl Runs {
    /// It has accepted this one, and been sent no other.
    const fn just(revision: u64) -> Self {
        Self { from: revision, to: revision, refuses: false }
    }

    /// None that comes by this stream.
    const NONE: Self = Self::just(u64::MAX);
}

/// How far the Envoy of a stream is with the types that name clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// It has accepted all there is for it.
    Settled,
    /// It has refused something, and has nothing left to answer.
    Refused,
    /// It has not answered yet, or has not been sent everything.
    Open,
}

impl Role {
    /// What is shown, from now on.
    pub(super) fn snapshots(&self) -> Snapshots {
        self.shown.subscribe()
    }

    /// Shows whatever is newest, and gives up what is overdue; for ever.
    pub(super) async fn follow(&self, mut newest: Snapshots) {
        newest.mark_changed();
        let mut open = true;
        loop {
            let overdue = self.deadline(Instant::now());
            tokio::select! {
                changed = newest.changed(), if open => {
                    // When nobody will publish again, what is there is still served.
                    open = changed.is_ok();
                    let snapshot = newest.borrow_and_update().clone();
                    snapshot.into_iter().for_each(|snapshot| self.publish(snapshot, Instant::now()));
                }
                () = self.moved.notified() => {}
                () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                    self.sweep(self.lock(), Instant::now());
                }
            }
        }
    }

    /// Shows a new snapshot, with the clusters that it does without and that may still be in use.
    fn publish(&self, snapshot: Arc<Snapshot>, now: Instant) {
        let mut state = self.lock();
        state.replace(snapshot, now);
        state.sweep(now);
        self.shown.send_replace(Some(state.shown()));
    }

    /// When a cluster is next given up, as far as is known now.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let state = self.lock();
        let due = state.retired.values().map(|retired| retired.drained.unwrap_or(retired.until));
        due.filter(|due| *due > now).min()
    }

    /// A stream was opened. Its Envoy is taken to run nothing older than what it is shown first; of
    /// one that comes back with more, its stream takes care.
    pub(super) fn join(self: &Arc<Self>) -> Member {
        let mut state = self.lock();
        state.opened += 1;
        let (number, revision) = (state.opened, state.latest.revision());
        state.streams.insert(number, Runs::just(revision));
        Member { role: Arc::clone(self), number }
    }

    /// Gives up what no Envoy needs any more.
    fn sweep(&self, mut state: MutexGuard<'_, State>, now: Instant) {
        if state.sweep(now) {
            self.shown.send_replace(Some(state.shown()));
        }
        self.moved.notify_one();
    }

    /// What is kept here is valid after every single assignment, so a panic elsewhere ends nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn replace(&mut self, latest: Arc<Snapshot>, now: Instant) {
        let revision = latest.revision();
        let before = std::mem::replace(&mut self.latest, latest);
        for (name, cluster) in before.all(Kind::Cluster) {
            if self.latest.get(Kind::Cluster, name).is_none() {
                let from = self.since.remove(name).unwrap_or_default();
                let endpoints = before.get(Kind::Endpoints, name).cloned();
                let until = now + DEADLINE;
                let cluster = cluster.clone();
                let retired = Retired { cluster, endpoints, from, to: revision, until, drained: None };
                if retired.is_needed(&self.streams, now) {
                    self.retired.insert(name.clone(), retired);
                }
            }
        }
        for (name, _) in self.latest.all(Kind::Cluster) {
            let again = self.retired.remove(name).map_or(revision, |retired| retired.from);
            self.since.entry(name.clone()).or_insert(again);
        }
    }

    /// Returns whether anything was given up.
    fn sweep(&mut self, now: Instant) -> bool {
        let Self { retired, streams, .. } = self;
        let before = retired.len();
        retired.retain(|_, retired| retired.stays(streams, now));
        retired.len() != before
    }

    fn shown(&self) -> Arc<Snapshot> {
        if self.retired.is_empty() {
            return Arc::clone(&self.latest);
        }
        let retired = self.retired.iter().flat_map(|(name, Retired { cluster, endpoints, .. })| {
            let endpoints = endpoints.iter().map(|body| (Kind::Endpoints, name.as_str(), body));
            std::iter::once((Kind::Cluster, name.as_str(), cluster)).chain(endpoints)
        });
        Arc::new(self.latest.with(retired))
    }

    /// Whether no stream has the latest before it.
    fn all_follow(&self) -> bool {
        self.streams.values().all(|runs| runs.from >= self.latest.revision())
    }
}

/// One open stream of the role.
#[derive(Debug)]
pub(super) struct Member {
    role: Arc<Role>,
    number: u64,
}

impl Member {
    /// Notes how far the Envoy is with what it was shown of `revision`; `None` where it asks for
    /// nothing that names clusters.
    pub(super) fn note(&self, progress: Option<Progress>, revision: u64) {
        let mut state = self.role.lock();
        let Some(runs) = state.streams.get_mut(&self.number) else { return };
        let before = *runs;
        // Of one that begins to ask only now, nothing older is known.
        let known = if before == Runs::NONE { Runs::just(revision) } else { before };
        *runs = match progress {
            None => Runs::NONE,
            Some(Progress::Settled) => Runs::just(revision),
            Some(Progress::Refused) => Runs { to: known.from, refuses: true, ..known },
            Some(Progress::Open) => Runs { to: revision, ..known },
        };
        let moved = *runs != before && progress != Some(Progress::Open);
        // Until the last has followed there is little to find; what is overdue goes by the clock.
        if moved && !state.retired.is_empty() && (before.refuses || state.all_follow()) {
            self.role.sweep(state, Instant::now());
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.role.lock();
        state.streams.remove(&self.number);
        if !state.retired.is_empty() {
            self.role.sweep(state, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::testing::snapshot;
    use super::{DEADLINE, Instant, Kind, Member, Progress, Role};

    /// A revision with these clusters, and endpoints for each.
    fn publish(role: &Role, revision: u64, clusters: &[&str]) {
        let both = |name| [(Kind::Cluster, name, "1"), (Kind::Endpoints, name, "1")];
        let resources: Vec<_> = clusters.iter().flat_map(|name| both(*name)).collect();
        role.publish(Arc::new(snapshot(revision, &resources)), Instant::now());
    }

    /// The clusters shown, each with its endpoints.
    fn shown(role: &Role) -> String {
        let shown = role.snapshots().borrow().clone().unwrap();
        let names = |kind| shown.all(kind).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(Kind::Cluster), names(Kind::Endpoints));
        names(Kind::Cluster)
    }

    /// Lets pass what a cluster outlives its last use, and whoever has not answered with it.
    fn drain(role: &Role) {
        let due = role.deadline(Instant::now()).unwrap();
        role.sweep(role.lock(), due);
    }

    fn role(clusters: &[&str]) -> Arc<Role> {
        let role = Arc::new(Role::default());
        publish(&role, 1, clusters);
        role
    }

    /// A stream that has accepted revision 1.
    fn member(role: &Arc<Role>) -> Member {
        let member = role.join();
        member.note(Some(Progress::Settled), 1);
        member
    }

    #[test]
    fn a_cluster_stays_until_all_have_followed() {
        let role = role(&["a"]);
        let (one, other, gone) = (member(&role), member(&role), member(&role));
        publish(&role, 2, &["b"]);
        assert_eq!(shown(&role), "a b");
        one.note(Some(Progress::Settled), 2);
        other.note(Some(Progress::Open), 2);
        drop(gone);
        assert_eq!(shown(&role), "a b", "one of them has not answered");
        other.note(Some(Progress::Settled), 2);
        assert_eq!(shown(&role), "a b", "for a moment");
        drain(&role);
        assert_eq!(shown(&role), "b");
    }

    #[test]
    fn who_does_not_answer_is_waited_for_only_so_long() {
        let role = role(&["a"]);
        let silent = member(&role);
        publish(&role, 2, &["b"]);
        silent.note(Some(Progress::Open), 2);
        let deadline = role.deadline(Instant::now()).unwrap();
        role.sweep(role.lock(), deadline - Duration::from_millis(1));
        assert_eq!(shown(&role), "a b");
        role.sweep(role.lock(), deadline);
        drain(&role);
        assert_eq!(shown(&role), "b");
    }

    #[test]
    fn who_refuses_keeps_the_clusters_of_what_it_runs_and_of_nothing_else() {
        let role = role(&["a"]);
        let stubborn = member(&role);
        publish(&role, 2, &["b"]);
        stubborn.note(Some(Progress::Open), 2);
        stubborn.note(Some(Progress::Refused), 2);
        publish(&role, 3, &["c"]);
        drain(&role);
        assert_eq!(shown(&role), "a c", "b was named by a policy that never ran");
        stubborn.note(Some(Progress::Open), 3);
        role.sweep(role.lock(), Instant::now() + DEADLINE);
        assert_eq!(shown(&role), "a c");
        stubborn.note(Some(Progress::Settled), 3);
        drain(&role);
        assert_eq!(shown(&role), "c");
    }

    #[test]
    fn a_cluster_that_comes_back_is_as_old_as_it_was() {
        let role = role(&["a"]);
        let slow = member(&role);
        publish(&role, 2, &[]);
        publish(&role, 3, &["a"]);
        publish(&role, 4, &[]);
        assert_eq!(shown(&role), "a", "the policy of revision 1 still runs");
        slow.note(Some(Progress::Settled), 4);
        drain(&role);
        assert_eq!(shown(&role), "");
    }

    #[test]
    fn who_asks_for_no_policy_keeps_nothing() {
        let role = role(&["a"]);
        let clusters_only = role.join();
        clusters_only.note(None, 1);
        publish(&role, 2, &["b"]);
        assert_eq!(shown(&role), "b");
    }
}
