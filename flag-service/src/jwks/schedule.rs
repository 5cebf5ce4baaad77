//! When keys are fetched next. Pure: the clock is handed in.

use std::time::{Duration, Instant};

use rampart_engine::policy::wire::JwksFrom;

/// How often at most a token with an unknown key has keys fetched: anyone can make up such a token.
const UNKNOWN: Duration = Duration::from_secs(10);
/// How soon at least keys are fetched again, where only the answer asks for it.
const FLOOR: Duration = Duration::from_secs(10);
/// The wait after the first failure; it doubles with each that follows.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The schedule of one provider.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Duration,
    failures: u32,
}

/// When tokens with unknown keys last had keys fetched, and by which ask.
#[derive(Debug, Default)]
pub(super) struct Unknown(Option<(Instant, u64)>);

impl Schedule {
    pub(super) fn new(from: &JwksFrom) -> Self {
        Self { every: Duration::from_secs(from.refresh_seconds.into()), failures: 0 }
    }

    /// After a fetch whose answer says for how long it is fresh, or does not.
    pub(super) fn fetched(&mut self, now: Instant, fresh: Option<Duration>) -> Instant {
        self.failures = 0;
        now + fresh.map_or(self.every, |fresh| fresh.max(FLOOR).min(self.every))
    }

    /// After a fetch that failed: soon, and less so each time; never later than if it had not.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        let wait = RETRY.saturating_mul(1 << self.failures.min(10)).min(PATIENCE);
        self.failures = self.failures.saturating_add(1);
        now + wait.min(self.every.max(RETRY))
    }
}

impl Unknown {
    /// When such a token may have keys fetched: at once, unless another just had.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.0.map_or(now, |(asked, _)| (asked + UNKNOWN).max(now))
    }

    /// One has keys fetched now, by this ask.
    pub(super) const fn asks(&mut self, now: Instant, ask: u64) {
        self.0 = Some((now, ask));
    }

    /// The last such ask.
    pub(super) fn ask(&self) -> Option<u64> {
        self.0.map(|(_, ask)| ask)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rampart_engine::policy::wire::JwksFrom;

    use super::{Schedule, Unknown};

    fn schedule(refresh_seconds: u32) -> Schedule {
        Schedule::new(&JwksFrom { uri: None, refresh_seconds })
    }

    #[test]
    fn the_answer_can_ask_for_sooner_and_not_for_later() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        for (refresh, fresh, wait) in [
            (300, None, 300),
            (300, Some(60), 60),
            (300, Some(86_400), 300),
            (300, Some(0), 10),
            (1, Some(0), 1),
        ] {
            let next = schedule(refresh).fetched(now, fresh.map(seconds));
            assert_eq!(next, now + seconds(wait), "{refresh} {fresh:?}");
        }
    }

    #[test]
    fn failures_are_tried_again_soon_and_then_less_often() {
        let (now, mut schedule) = (Instant::now(), schedule(300));
        let waits: Vec<u64> = (0..9).map(|_| (schedule.failed(now) - now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.fetched(now, None);
        assert_eq!(schedule.failed(now), now + Duration::from_secs(1), "a success forgets them");
        let mut eager = self::schedule(2);
        let waits: Vec<u64> = (0..4).map(|_| (eager.failed(now) - now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 2, 2]);
    }

    #[test]
    fn made_up_keys_have_an_issuer_asked_every_ten_seconds_at_most() {
        let (now, mut unknown) = (Instant::now(), Unknown::default());
        assert_eq!(unknown.next(now), now, "a key may be new since a moment ago");
        unknown.asks(now, 2);
        assert_eq!((unknown.next(now), unknown.ask()), (now + Duration::from_secs(10), Some(2)));
        let later = now + Duration::from_secs(60);
        assert_eq!(unknown.next(later), later);
    }
}
