//! What the flag service counts of itself, for Prometheus. Names and labels are the service's own words:
//! nothing that is sent to it becomes one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// From half a millisecond to a minute.
pub fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.5, 14))
}

/// Counts of the write path.
#[derive(Debug, Clone)]
pub struct Writes {
    /// Changes that were made.
    pub made: Counter,
    /// Writes that were refused, by the reason's word.
    pub refused: Family<Why, Counter>,
    /// How long the store takes to make a change durable.
    pub store: Histogram,
}

/// Why a write was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Why {
    /// One word of a few.
    pub reason: &'static str,
}

/// Counts of what Envoys say of what they are sent.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Responses that were accepted.
    pub acked: Counter,
    /// Responses that were refused.
    pub nacked: Counter,
}

/// Counts of fetches of issuers' keys.
#[derive(Debug, Clone, Default)]
pub struct Fetches {
    /// Fetches, by provider and what became of them.
    pub fetches: Family<Fetched, Counter>,
}

/// A fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Fetched {
    /// The name of the provider's keys, which is an operator's.
    pub provider: String,
    /// `changed`, `same` or `failed`.
    pub outcome: &'static str,
}

impl Fetches {
    /// Makes them known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("jwks_fetches", "Fetches of issuers' keys", Family::clone(&self.fetches));
    }

    /// Stops counting a provider whose keys are no longer fetched.
    pub fn forget(&self, provider: &str) {
        for outcome in ["changed", "same", "failed"] {
            self.fetches.remove(&Fetched { provider: provider.to_owned(), outcome });
        }
    }
}

impl Default for Writes {
    fn default() -> Self {
        Self { made: Counter::default(), refused: Family::default(), store: seconds() }
    }
}

impl Writes {
    /// Makes them known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("changes", "Changes that were made", self.made.clone());
        registry.register("refused_writes", "Writes that were refused", self.refused.clone());
        let help = "How long the store takes to make a change durable";
        registry.register_with_unit("store_commit", help, Unit::Seconds, self.store.clone());
    }
}

impl Answers {
    /// Makes them known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("xds_acks", "Responses that Envoys accepted", self.acked.clone());
        registry.register("xds_nacks", "Responses that Envoys refused", self.nacked.clone());
    }
}
