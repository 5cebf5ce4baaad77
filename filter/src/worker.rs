//! Which revision this worker decides by, for who watches: Envoy answers for its main thread that a policy is
//! accepted, and a worker may yet run another. Two gauges for each worker tell the revision of its last
//! decision, and the second of it, in `rampart.worker_revision.{n}` and `rampart.worker_decided.{n}`.
//!
//! They are written once a second at most, and when the revision changes: most requests cost nothing.

use std::cell::Cell;

use crate::host;

/// How many workers have been numbered, among the data that the VMs of all workers share.
const NUMBERED: &str = "rampart.workers";

/// Most workers that are numbered, VMs that were started anew included: each has its gauges for good.
const MOST: u32 = 256;

/// Tries to take a number while other workers take theirs.
const TRIES: u32 = 1_000;

#[derive(Debug, Clone, Copy)]
struct Worker {
    gauges: Gauges,
    revision: u64,
    second: u64,
}

#[derive(Debug, Clone, Copy)]
enum Gauges {
    /// Nothing was decided here yet; so it stays on the main thread.
    Undefined,
    /// There is no number to be had.
    None,
    Defined {
        revision: u32,
        decided: u32,
    },
}

thread_local! {
    /// This VM's worker.
    static WORKER: Cell<Worker> =
        const { Cell::new(Worker { gauges: Gauges::Undefined, revision: 0, second: 0 }) };
}

/// Lets workers be numbered. Envoy configures on its main thread before it does on workers, so there is a
/// value that they can compare and exchange before any of them does.
pub(crate) fn prepare() {
    if host::shared(NUMBERED).is_none() {
        host::share(NUMBERED, &0_u32.to_le_bytes(), 0);
    }
}

/// A request was decided by this revision in this second.
pub(crate) fn decided(revision: u64, second: u64) {
    let mut worker = WORKER.get();
    if (worker.revision, worker.second) == (revision, second) {
        return;
    }
    if matches!(worker.gauges, Gauges::Undefined) {
        worker.gauges = define().unwrap_or(Gauges::None);
    }
    if let Gauges::Defined { revision: of_revision, decided } = worker.gauges {
        // The revision first: who reads in between must not see an old one decide now.
        if worker.revision != revision {
            host::record(of_revision, revision);
        }
        if worker.second != second {
            host::record(decided, second);
        }
    }
    WORKER.set(Worker { revision, second, ..worker });
}

fn define() -> Option<Gauges> {
    let number = number()?;
    let define = |what: &str| host::define_gauge(&format!("rampart.worker_{what}.{number}"));
    Some(Gauges::Defined { revision: define("revision")?, decided: define("decided")? })
}

/// A number that no other worker has.
fn number() -> Option<u32> {
    for _ in 0..TRIES {
        let (taken, version) = host::shared(NUMBERED)?;
        let number = u32::from_le_bytes(taken.try_into().ok()?);
        if number >= MOST {
            return None;
        }
        if host::share(NUMBERED, &(number + 1).to_le_bytes(), version) {
            return Some(number);
        }
    }
    None
}
