//! What became of modules: a row for each state that one entered, whoever saw it. It does not know how
//! states follow from each other.
//!
//! A row is unique by module, state and cause, so that several processes write down once what all of them
//! see, and one module's envoys that come and go make no rows. The oldest go when there are too many; who
//! registered and removed what is in the history of changes for good.

use serde::Serialize;
use sqlx::{AnyConnection, Row as _};
use utoipa::ToSchema;

use super::{Entry, Store, StoreError, answers, within};
use crate::model::{Kind, Lifecycle};

/// Most rows that are kept.
const KEPT: i64 = 100_000;

/// That a module entered a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Event {
    /// Its place in the order; `before` of the next page.
    pub number: u64,
    /// The module's id; the file's name where that is all that is known.
    pub module: String,
    /// The state that it was in; none where it is new.
    pub from: Option<Lifecycle>,
    /// The state that it entered.
    pub to: Lifecycle,
    /// When (RFC 3339, UTC).
    pub at: String,
    /// Who brought it there.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The module's id.
    pub module: String,
    /// The state that it enters.
    pub to: Lifecycle,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What brought it there: the same for whoever sees the same.
    pub cause: String,
}

impl Store {
    /// Writes down states that were entered; those that are known already are not written again.
    ///
    /// # Errors
    ///
    /// When the database cannot be used.
    pub async fn note(&self, notes: &[Note]) -> Result<(), StoreError> {
        within(async {
            let mut transaction = self.begin().await?;
            let revision: i64 =
                sqlx::query_scalar("SELECT revision FROM revision").fetch_one(&mut *transaction).await?;
            // One at a time: numbers are given in order.
            answers::raise(&mut transaction, revision, revision).await?;
            enter_all(&mut transaction, notes).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// States that modules entered, below number `before`, newest first; of one module, where it is named.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn lifecycle(
        &self,
        module: Option<&str>,
        before: u64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        // No module's id is empty.
        let query = sqlx::query(
            "SELECT number, module, from_state, to_state, at_ms, actor, reason FROM lifecycle
             WHERE number < $1 AND ($2 = '' OR module = $2) ORDER BY number DESC LIMIT $3",
        );
        let query = query
            .bind(i64::try_from(before).unwrap_or(i64::MAX))
            .bind(module.unwrap_or_default())
            .bind(i64::from(limit));
        let rows = within(async { Ok(query.fetch_all(&self.pool).await?) }).await?;
        rows.iter().map(|row| Ok(event(row)?)).collect()
    }

    /// The state that each module entered last, of the modules that are in none of the lists.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn last_states(&self) -> Result<Vec<Event>, StoreError> {
        let query = sqlx::query(
            "SELECT number, module, from_state, to_state, at_ms, actor, reason FROM lifecycle
             WHERE number IN (SELECT MAX(number) FROM lifecycle GROUP BY module) ORDER BY module",
        );
        let rows = within(async { Ok(query.fetch_all(&self.pool).await?) }).await?;
        rows.iter().map(|row| Ok(event(row)?)).collect()
    }
}

/// The states that modules enter by a change.
pub(super) fn of_entry(entry: &Entry) -> Vec<Note> {
    let modules = entry.edits.iter().filter(|edit| edit.kind == Kind::Module);
    let note = |edit: &crate::model::Edit| Note {
        module: edit.name.clone(),
        to: if edit.after.is_some() { Lifecycle::Registered } else { Lifecycle::Unregistered },
        at_ms: entry.at_ms,
        by: entry.actor.clone(),
        reason: entry.reason.clone(),
        cause: format!("revision {}", entry.revision),
    };
    modules.map(note).collect()
}

/// Writes rows, within a transaction that has raised the revision, and drops what there is too much of.
pub(super) async fn enter_all(connection: &mut AnyConnection, notes: &[Note]) -> Result<(), StoreError> {
    if notes.is_empty() {
        return Ok(());
    }
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT MAX(number) FROM lifecycle").fetch_one(&mut *connection).await?;
    let mut number = newest.unwrap_or_default();
    for note in notes {
        let from: Option<String> = sqlx::query_scalar(
            "SELECT to_state FROM lifecycle WHERE module = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(&note.module)
        .fetch_optional(&mut *connection)
        .await?;
        let from = from.unwrap_or_default();
        let from_state = Lifecycle::from_word(&from);
        // What is seen too late is no news: meanwhile, the module may have been removed.
        let is_late = match note.to {
            Lifecycle::Active => !matches!(from_state, None | Some(Lifecycle::Registered | Lifecycle::Error)),
            Lifecycle::Unregistered => from_state == Some(Lifecycle::Unregistered),
            _ => false,
        };
        if !is_late {
            number += i64::from(insert(connection, number + 1, note, &from).await?);
        }
    }
    sqlx::query("DELETE FROM lifecycle WHERE number <= $1").bind(number - KEPT).execute(connection).await?;
    Ok(())
}

/// Whether it was not there.
async fn insert(
    connection: &mut AnyConnection,
    number: i64,
    note: &Note,
    from: &str,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO lifecycle (number, module, from_state, to_state, at_ms, actor, reason, cause)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (module, to_state, cause) DO NOTHING",
    )
    .bind(number)
    .bind(&note.module)
    .bind(from)
    .bind(note.to.as_str())
    .bind(note.at_ms)
    .bind(&note.by)
    // A text of PostgreSQL holds any character but this one.
    .bind(note.reason.replace('\0', "\u{fffd}"))
    .bind(&note.cause)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Every row, as it is.
pub(super) async fn copy(from: &mut AnyConnection, to: &mut AnyConnection) -> Result<(), StoreError> {
    let query = "SELECT number, module, from_state, to_state, at_ms, actor, reason, cause FROM lifecycle";
    for row in sqlx::query(query).fetch_all(from).await? {
        let word: String = row.try_get("to_state")?;
        let note = Note {
            module: row.try_get("module")?,
            to: state(&word)?,
            at_ms: row.try_get("at_ms")?,
            by: row.try_get("actor")?,
            reason: row.try_get("reason")?,
            cause: row.try_get("cause")?,
        };
        let from: String = row.try_get("from_state")?;
        insert(to, row.try_get("number")?, &note, &from).await?;
    }
    Ok(())
}

fn event(row: &sqlx::any::AnyRow) -> Result<Event, sqlx::Error> {
    let (from, to): (String, String) = (row.try_get("from_state")?, row.try_get("to_state")?);
    let at = jiff::Timestamp::from_millisecond(row.try_get("at_ms")?).unwrap_or_default();
    Ok(Event {
        number: row.try_get::<i64, _>("number")?.cast_unsigned(),
        module: row.try_get("module")?,
        from: Lifecycle::from_word(&from),
        to: state(&to)?,
        at: at.to_string(),
        by: row.try_get("actor")?,
        reason: row.try_get("reason")?,
    })
}

fn state(word: &str) -> Result<Lifecycle, sqlx::Error> {
    Lifecycle::from_word(word).ok_or_else(|| sqlx::Error::Decode(format!("`{word}` is no state").into()))
}
