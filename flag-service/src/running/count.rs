//! Counts with a memory of the last minute, second by second. They know no clock: whoever adds says when.

/// Seconds that are remembered one by one.
const SECONDS: u64 = 60;

/// Seconds that a histogram remembers together, and how many of such it remembers.
const SLICE: u64 = 10;
const SLICES: usize = 6;

/// Most buckets of a histogram that is taken.
const BUCKETS: usize = 64;

/// How often something happened: ever, and lately.
#[derive(Debug, Clone)]
pub(super) struct Count {
    total: u64,
    recent: [u32; SECONDS as usize],
    /// The newest second that `recent` has.
    newest: u64,
}

impl Default for Count {
    fn default() -> Self {
        Self { total: 0, recent: [0; SECONDS as usize], newest: 0 }
    }
}

impl Count {
    pub(super) fn add(&mut self, second: u64, by: u64) {
        for passed in (self.newest + 1).max(second.saturating_sub(SECONDS - 1))..=second {
            self.recent[(passed % SECONDS) as usize] = 0;
        }
        self.newest = self.newest.max(second);
        let slot = &mut self.recent[(self.newest % SECONDS) as usize];
        *slot = slot.saturating_add(u32::try_from(by).unwrap_or(u32::MAX));
        self.total = self.total.saturating_add(by);
    }

    /// Ever.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// In the last so many seconds, of which there are sixty.
    pub(super) fn last(&self, now: u64, seconds: u64) -> u64 {
        let oldest = (now + 1).saturating_sub(seconds.min(SECONDS));
        let known = (self.newest + 1).saturating_sub(SECONDS);
        let within = oldest.max(known)..=self.newest.min(now);
        within.map(|second| u64::from(self.recent[(second % SECONDS) as usize])).sum()
    }
}

/// How long something took: ever, and in the last minute.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// Upper bounds of the buckets, in milliseconds, ascending.
    pub bounds: Vec<f64>,
    /// How many there were up to each bound, the bounds below included.
    pub up_to: Vec<u64>,
    /// How many there were in all.
    pub count: u64,
    /// How long they took together, in milliseconds.
    pub sum: f64,
}

impl Durations {
    /// None where it contradicts itself.
    pub(super) fn new(buckets: impl Iterator<Item = (f64, u64)>, count: u64, sum: f64) -> Option<Self> {
        let (bounds, up_to): (Vec<f64>, Vec<u64>) = buckets.take(BUCKETS + 1).unzip();
        let rises = bounds.is_sorted_by(|a, b| a < b) && bounds.iter().all(|bound| bound.is_finite());
        let counts = up_to.is_sorted() && up_to.last().is_none_or(|last| *last <= count);
        let sound = rises && counts && bounds.len() <= BUCKETS && sum.is_finite() && sum >= 0.0;
        sound.then_some(Self { bounds, up_to, count, sum })
    }

    /// Adds what has the same buckets; whether it has.
    pub(super) fn add(&mut self, other: &Self) -> bool {
        if self.bounds.is_empty() {
            self.clone_from(other);
            return true;
        }
        if self.bounds != other.bounds {
            return false;
        }
        for (up_to, more) in self.up_to.iter_mut().zip(&other.up_to) {
            *up_to = up_to.saturating_add(*more);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        true
    }

    /// How long at most so large a share took, in milliseconds, as if each bucket were filled evenly. What is
    /// beyond the last bound is told as that.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share.clamp(0.0, 1.0) * self.count as f64;
        let (mut below, mut lower) = (0, 0.0);
        for (bound, up_to) in self.bounds.iter().zip(&self.up_to) {
            if *up_to as f64 >= wanted && *up_to > below {
                let part = (wanted - below as f64) / (*up_to - below) as f64;
                return Some(lower + (bound - lower) * part.clamp(0.0, 1.0));
            }
            (below, lower) = (*up_to, *bound);
        }
        self.bounds.last().copied().filter(|_| self.count > 0)
    }
}

/// Durations, and those of the last minute.
#[derive(Debug, Clone, Default)]
pub(super) struct Latency {
    ever: Durations,
    recent: [(u64, Durations); SLICES],
}

impl Latency {
    /// Whether they were taken: not where their buckets are others than before.
    pub(super) fn add(&mut self, second: u64, durations: &Durations) -> bool {
        let slice = second / SLICE;
        let (of, recent) = &mut self.recent[(slice % SLICES as u64) as usize];
        if *of != slice {
            (*of, *recent) = (slice, Durations::default());
        }
        self.ever.add(durations) && recent.add(durations)
    }

    pub(super) const fn ever(&self) -> &Durations {
        &self.ever
    }

    /// Of the last minute, or a little less.
    pub(super) fn last_minute(&self, now: u64) -> Durations {
        let oldest = (now / SLICE + 1).saturating_sub(SLICES as u64);
        let mut sum = Durations::default();
        for (_, recent) in self.recent.iter().filter(|(slice, recent)| *slice >= oldest && recent.count > 0) {
            sum.add(recent);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Durations, Latency};

    #[test]
    fn a_count_forgets_what_is_older_than_a_minute_and_keeps_the_total() {
        let mut count = Count::default();
        for second in 100..200 {
            count.add(second, 2);
        }
        assert_eq!((count.total(), count.last(199, 10), count.last(199, 60)), (200, 20, 120));
        // Nothing comes for a while, and then once more.
        assert_eq!((count.last(205, 10), count.last(258, 60), count.last(259, 60)), (8, 2, 0));
        count.add(300, 7);
        assert_eq!((count.last(300, 60), count.total()), (7, 207));
        count.add(u64::MAX / 2, u64::MAX);
        assert_eq!(count.total(), u64::MAX);
    }

    #[test]
    fn a_count_in_the_first_minute_of_a_process_counts() {
        let mut count = Count::default();
        count.add(0, 1);
        count.add(3, 1);
        assert_eq!(
            (count.last(3, 1), count.last(3, 60), count.last(59, 60), count.last(60, 60)),
            (1, 2, 2, 1)
        );
    }

    fn durations(up_to: [u64; 3], count: u64) -> Durations {
        Durations::new([10.0, 100.0, 1000.0].into_iter().zip(up_to), count, 1.0).unwrap()
    }

    #[test]
    fn quantiles_are_within_the_bucket_that_has_them() {
        let some = durations([50, 90, 100], 100);
        assert_eq!(some.quantile(0.5), Some(10.0));
        assert_eq!(some.quantile(0.25), Some(5.0));
        assert_eq!(some.quantile(0.7), Some(55.0));
        assert_eq!(some.quantile(0.95), Some(550.0));
        assert_eq!(durations([0, 0, 0], 4).quantile(0.5), Some(1000.0), "beyond the last bound");
        assert_eq!(Durations::default().quantile(0.5), None);
        assert_eq!(durations([0, 0, 0], 0).quantile(0.5), None);
    }

    #[test]
    fn durations_that_contradict_themselves_are_none() {
        let new = |buckets: &[(f64, u64)], count, sum| Durations::new(buckets.iter().copied(), count, sum);
        assert!(new(&[(1.0, 1), (2.0, 3)], 3, 4.0).is_some());
        for (buckets, count, sum) in [
            (&[(1.0, 2), (2.0, 1)][..], 3, 4.0),
            (&[(1.0, 1), (2.0, 4)], 3, 4.0),
            (&[(2.0, 1), (1.0, 3)], 3, 4.0),
            (&[(f64::NAN, 1)], 3, 4.0),
            (&[(f64::INFINITY, 1)], 3, 4.0),
            (&[(1.0, 1)], 3, f64::NAN),
            (&[(1.0, 1)], 3, -1.0),
        ] {
            assert!(new(buckets, count, sum).is_none(), "{buckets:?} {count} {sum}");
        }
        let many: Vec<(f64, u64)> = (0..65_u32).map(|bound| (f64::from(bound), 0)).collect();
        assert!(new(&many, 0, 0.0).is_none());
    }

    #[test]
    fn durations_of_other_buckets_are_not_mixed() {
        let mut latency = Latency::default();
        assert!(latency.add(100, &durations([1, 2, 3], 3)) && latency.add(131, &durations([1, 1, 1], 1)));
        assert!(!latency.add(131, &Durations::new([(5.0, 1)].into_iter(), 1, 1.0).unwrap()));
        assert_eq!((latency.ever().count, latency.last_minute(140).count), (4, 4));
        assert_eq!((latency.last_minute(160).count, latency.last_minute(200).count), (1, 0));
    }
}
