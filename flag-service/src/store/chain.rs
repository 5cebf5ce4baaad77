//! The hash chain over the history: what a row's hash is made of. It does not know where rows are.
//!
//! A row's hash is the SHA-256 of nine fields, each as a netstring (its length in bytes in decimal, a
//! colon, its bytes, a comma), in this order: the hash of the row before, `revision`, `at_ms`, `actor`,
//! `source`, `address`, `reason`, `summary`, `edits`. Hashes are 64 lower-case hexadecimal digits,
//! numbers are decimal, texts are UTF-8, and `edits` is the JSON text exactly as it is stored. Before
//! the first row stands [`START`].

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::Entry;

/// The hash before the first row.
pub(super) const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A row as it is stored.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) revision: i64,
    pub(super) at_ms: i64,
    pub(super) actor: String,
    pub(super) source: String,
    pub(super) address: String,
    pub(super) reason: String,
    pub(super) summary: String,
    pub(super) edits: String,
    pub(super) hash: String,
}

impl Row {
    /// The row of an entry that follows the row of this hash.
    pub(super) fn new(entry: &Entry, previous: &str) -> Result<Self, serde_json::Error> {
        let mut row = Self {
            revision: entry.revision.cast_signed(),
            at_ms: entry.at_ms,
            actor: entry.actor.clone(),
            source: entry.source.clone(),
            address: entry.address.clone(),
            reason: entry.reason.clone(),
            summary: entry.summary.clone(),
            edits: serde_json::to_string(&entry.edits)?,
            hash: String::new(),
        };
        row.hash = row.hash_after(previous);
        Ok(row)
    }

    /// What the row says.
    pub(super) fn entry(self) -> Result<Entry, serde_json::Error> {
        Ok(Entry {
            revision: self.revision.cast_unsigned(),
            at_ms: self.at_ms,
            actor: self.actor,
            source: self.source,
            address: self.address,
            reason: self.reason,
            summary: self.summary,
            edits: serde_json::from_str(&self.edits)?,
        })
    }

    /// The hash that this row must have after the row of hash `previous`.
    pub(super) fn hash_after(&self, previous: &str) -> String {
        let (revision, at_ms) = (self.revision.to_string(), self.at_ms.to_string());
        let mut digest = Sha256::new();
        for field in [
            previous,
            &revision,
            &at_ms,
            &self.actor,
            &self.source,
            &self.address,
            &self.reason,
            &self.summary,
            &self.edits,
        ] {
            digest.update(format!("{}:{field},", field.len()));
        }
        digest.finalize().iter().fold(String::with_capacity(START.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, START};

    /// Computed with another implementation: a hash that was written down must stay true.
    #[test]
    fn the_hash_is_that_of_netstrings() {
        let row = Row {
            revision: 1,
            at_ms: 1_795_250_000_000,
            actor: "amina".to_owned(),
            source: "cli".to_owned(),
            address: "127.0.0.1".to_owned(),
            reason: "größer".to_owned(),
            summary: "flag f added".to_owned(),
            edits: "[]".to_owned(),
            hash: String::new(),
        };
        assert_eq!(row.hash_after(START), "590202ac16ac215ac7aaa814370bb562c60720c48e8207a6316e604a306ec7c6");
    }
}
