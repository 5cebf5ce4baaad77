//! Waiting for a condition with a deadline. The only place of the tests that sleeps: a fixed sleep
//! is either too long or, on a slow day, too short.

use anyhow::{Error, Result, anyhow};
use std::{
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

const INTERVAL: Duration = Duration::from_millis(10);

/// What "soon" means for a process on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Lets a moment pass, for a peer that shows by nothing that it has done what it was told.
pub async fn pause(moment: Duration) {
    tokio::time::sleep(moment).await;
}

/// Polls until `probe` succeeds; its error says what it saw instead. The first probe is made at
/// once, and one more after the deadline has passed.
///
/// # Errors
///
/// At the deadline, naming `what` was awaited and what the last probe saw.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = start.elapsed() >= deadline;
        match probe().await {
            Ok(value) => return Ok(value),
            Err(saw) if last => return Err(too_late(deadline, what, &saw)),
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// The same for a child's end, without a runtime: processes are also ended on drop.
///
/// # Errors
///
/// When the child lives on at the deadline, or is not ours to wait for.
pub fn exited(deadline: Duration, child: &mut Child) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() >= deadline {
            return Err(too_late(deadline, "the end of a process", &anyhow!("process {} alive", child.id())));
        }
        thread::sleep(INTERVAL);
    }
}

fn too_late(deadline: Duration, what: &str, saw: &Error) -> Error {
    anyhow!("waited {deadline:?} for {what}; last saw: {saw:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn polls_until_the_condition_holds() {
        let mut probes = 0;
        let probe = async || {
            probes += 1;
            if probes < 3 { Err(anyhow!("{probes}")) } else { Ok(probes) }
        };
        assert_eq!(eventually(SOON, "three", probe).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn names_what_it_waited_for_and_what_it_saw() {
        let probe = async || Err::<(), _>(anyhow!("status 503"));
        let error = eventually(Duration::from_millis(30), "readiness", probe).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 30ms for readiness; last saw: status 503");
    }
}
