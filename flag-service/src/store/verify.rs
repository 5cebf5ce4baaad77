//! Proves the history: walks its chain from the first row, and replays what its rows say.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use serde::Serialize;
use serde_json::Value;
use sqlx::AnyConnection;
use utoipa::ToSchema;

use super::chain::{Row, START};
use super::{Store, StoreError, resources};
use crate::model::Edit;

/// A history that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Chain {
    /// How many rows it has.
    pub rows: u64,
    /// The hash of the newest: whoever keeps it elsewhere notices later if rows are missing.
    pub head: String,
}

impl Store {
    /// Walks the chain from its start. It must hold the hash `head`, if one is given; and the state
    /// that the rows lead to must be the one that is stored.
    ///
    /// # Errors
    ///
    /// [`StoreError::Altered`] with the first row that does not fit; or when the database cannot be read.
    pub async fn verify(&self, head: Option<&str>) -> Result<Chain, StoreError> {
        // One transaction, so that a change made meanwhile is either in all tables or in none.
        verify(&mut *self.snapshot().await?, head).await
    }
}

/// The same, as a transaction sees it.
pub(super) async fn verify(connection: &mut AnyConnection, head: Option<&str>) -> Result<Chain, StoreError> {
    let mut walk = Walk::new(head);
    let mut rows = sqlx::query_as::<_, Row>(history!("ORDER BY revision")).fetch(&mut *connection);
    while let Some(row) = rows.next().await {
        match row {
            Ok(row) => walk.step(&row)?,
            // SQLite keeps what it is given: a number may have become a text, a text bytes.
            Err(error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))) => {
                return Err(walk.altered(&format!("a row that reads was expected: {error}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    drop(rows);
    let (revision, resources) = resources(connection).await?;
    walk.end(revision, resources)
}

/// How far the walk has come.
struct Walk<'a> {
    wanted: Option<&'a str>,
    revision: i64,
    hash: String,
    /// By kind and name, as the rows so far leave it.
    resources: BTreeMap<(String, String), Value>,
}

impl<'a> Walk<'a> {
    fn new(head: Option<&'a str>) -> Self {
        let wanted = head.filter(|head| *head != START);
        Self { wanted, revision: 0, hash: START.to_owned(), resources: BTreeMap::new() }
    }

    fn step(&mut self, row: &Row) -> Result<(), StoreError> {
        if row.revision != self.revision + 1 {
            return Err(self.altered(&format!("it is missing: revision {} follows", row.revision)));
        }
        let expected = row.hash_after(&self.hash);
        if row.hash != expected {
            return Err(self.altered(&format!("hash {expected} was expected, and it has `{}`", row.hash)));
        }
        let edits: Vec<Edit> = serde_json::from_str(&row.edits)
            .map_err(|error| self.altered(&format!("its edits do not read: {error}")))?;
        for Edit { kind, name, after, .. } in edits {
            let place = (kind.as_str().to_owned(), name);
            match after {
                Some(body) => drop(self.resources.insert(place, body)),
                None => drop(self.resources.remove(&place)),
            }
        }
        self.wanted = self.wanted.filter(|wanted| *wanted != expected);
        (self.revision, self.hash) = (row.revision, expected);
        Ok(())
    }

    fn end(mut self, revision: i64, stored: Vec<(String, String, String)>) -> Result<Chain, StoreError> {
        if revision != self.revision {
            return Err(self.altered(&format!("it is missing: the newest revision is {revision}")));
        }
        for (kind, name, body) in stored {
            let body = serde_json::from_str::<Value>(&body).ok();
            let place = (kind, name);
            if body.is_none() || self.resources.remove(&place) != body {
                return Err(unlike(place));
            }
        }
        if let Some((place, _)) = self.resources.pop_first() {
            return Err(unlike(place));
        }
        if let Some(wanted) = self.wanted {
            return Err(StoreError::Altered(format!(
                "no row up to the newest, revision {revision}, has the hash `{wanted}`"
            )));
        }
        Ok(Chain { rows: self.revision.cast_unsigned(), head: self.hash })
    }

    /// The row that comes next does not fit.
    fn altered(&self, problem: &str) -> StoreError {
        StoreError::Altered(format!("revision {}: {problem}", self.revision + 1))
    }
}

fn unlike((kind, name): (String, String)) -> StoreError {
    StoreError::Altered(format!("the stored {kind} `{name}` is not what the changes lead to"))
}
