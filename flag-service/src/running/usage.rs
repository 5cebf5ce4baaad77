//! How often organisations used modules of which something is said, as filters count it, until that is
//! written down.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Running;
use crate::store::{Pair, Store, StoreError, Usage};

/// How often it is written down. What a process has not written when it is killed is lost.
const EVERY: Duration = Duration::from_secs(5);

impl Running {
    /// Writes down how organisations used modules, for as long as it is polled.
    pub async fn write_down_always(&self, store: &Store) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            every.tick().await;
            let written = self.write_down(store).await;
            match written {
                Err(error) if !failed => {
                    tracing::warn!("how organisations use modules is not written down yet: {error}");
                    failed = true;
                }
                written => failed = written.is_err(),
            }
        }
    }

    /// Writes down how organisations used modules. What cannot be written is kept for the next time.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub async fn write_down(&self, store: &Store) -> Result<(), StoreError> {
        let told = std::mem::take(&mut self.lock().usages);
        if told.is_empty() {
            return Ok(());
        }
        let written = store.add_usage(&told).await;
        if written.is_err() {
            let mut state = self.lock();
            for (pair, usage) in told {
                state.usages.entry(pair).or_default().add(usage);
            }
        }
        written
    }

    /// What is not written down yet.
    #[must_use]
    pub fn usages(&self) -> BTreeMap<Pair, Usage> {
        self.lock().usages.clone()
    }
}
