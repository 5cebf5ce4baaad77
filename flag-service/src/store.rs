//! The durable side: a revision, the resources at that revision, and how they came to be. All SQL
//! is here and below, and in the words that SQLite and PostgreSQL share, but for what opens and copies
//! a file. It does not know what a change means.

mod chain;
mod copy;
mod verify;

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite, Transaction};
use utoipa::ToSchema;

use crate::model::{Edit, Kind, State};
use chain::{Row, START};
pub use copy::{backup, restore};
pub use verify::Chain;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for another process that holds the database.
const BUSY: Duration = Duration::from_secs(5);
/// How long to wait before asking again for what cannot be waited for.
const AGAIN: Duration = Duration::from_millis(20);

/// A database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// One change in the history.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Entry {
    /// The revision it made.
    pub revision: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// By which means: `cli` or `api`.
    pub source: String,
    /// From which network address; empty where none is known.
    pub address: String,
    /// Why, in the actor's words; may be empty.
    pub reason: String,
    /// What, in words.
    pub summary: String,
    /// What, exactly.
    pub edits: Vec<Edit>,
}

/// Why the store could not do what was asked. Each message holds its cause, which is therefore no
/// `source`: whoever writes down the chain would write it twice.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has raised the revision.
    #[error("the revision is no longer {0}")]
    Overtaken(u64),
    /// The database was written by a newer Rampart.
    #[error(
        "the database was written by a newer version of Rampart (migration {0} is not known here): use that version"
    )]
    Newer(i64),
    /// A resource in the database does not read.
    #[error("the database holds a {kind} `{name}` that does not read: {error}")]
    Unreadable {
        /// The kind, as stored.
        kind: String,
        /// The name.
        name: String,
        /// Why.
        error: String,
    },
    /// The history was altered, or what is stored does not follow from it.
    #[error("the history does not fit: {0}")]
    Altered(String),
    /// The database cannot be used.
    #[error("the database cannot be used: {}", sentence(.cause))]
    Database {
        /// Why.
        cause: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("the database's schema cannot be brought up to date: {cause}")]
    Migration {
        /// Why.
        cause: MigrateError,
    },
    /// Something cannot be written as JSON.
    #[error("it cannot be written as JSON: {cause}")]
    Json {
        /// Why.
        cause: serde_json::Error,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(cause: sqlx::Error) -> Self {
        Self::Database { cause }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(cause: serde_json::Error) -> Self {
        Self::Json { cause }
    }
}

impl Store {
    /// Opens a SQLite file, creating it where there is none, and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// When the file cannot be used, or was written by a newer Rampart.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        // WAL keeps readers and the writer apart; FULL makes a commit survive a power cut.
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        let pool = connect(&options).await?;
        // The lock comes first: two processes that start at once must not both find nothing done.
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        // Only once: a hash that is taken away later must be missed, not made again.
        let unchained: bool = sqlx::query_scalar(
            "SELECT COUNT(*) > 0 AND MAX(name = 'hash') = 0 FROM pragma_table_info('history')",
        )
        .fetch_one(&mut *transaction)
        .await?;
        MIGRATIONS.run(&mut *transaction).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => StoreError::Newer(version),
            cause => StoreError::Migration { cause },
        })?;
        if unchained {
            chain_all(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(Self { pool })
    }

    /// The newest revision.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn revision(&self) -> Result<u64, StoreError> {
        let revision: i64 = sqlx::query_scalar("SELECT revision FROM revision").fetch_one(&self.pool).await?;
        Ok(revision.cast_unsigned())
    }

    /// The newest revision and its state.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or holds what does not read.
    pub async fn load(&self) -> Result<(u64, State), StoreError> {
        // One transaction, so that revision and resources belong together.
        let mut transaction = self.pool.begin().await?;
        let revision: i64 =
            sqlx::query_scalar("SELECT revision FROM revision").fetch_one(&mut *transaction).await?;
        let rows = sqlx::query("SELECT kind, name, body FROM resource").fetch_all(&mut *transaction).await?;
        let mut state = State::default();
        for row in rows {
            let (kind, name, body): (String, String, String) =
                (row.try_get("kind")?, row.try_get("name")?, row.try_get("body")?);
            let unreadable =
                |error: String| StoreError::Unreadable { kind: kind.clone(), name: name.clone(), error };
            let known = Kind::from_word(&kind).ok_or_else(|| unreadable("unknown kind".to_owned()))?;
            let value = serde_json::from_str(&body).map_err(|error| unreadable(error.to_string()))?;
            state.set(known, &name, Some(&value)).map_err(|error| unreadable(error.to_string()))?;
        }
        Ok((revision.cast_unsigned(), state))
    }

    /// Makes a change durable: all of it or none of it. When this returns, it survives a power cut.
    /// Returns the hash that the history ends with now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Overtaken`] where the revision is no longer the one before the entry's; then
    /// nothing was written.
    pub async fn commit(&self, entry: &Entry) -> Result<String, StoreError> {
        let before = entry.revision.saturating_sub(1);
        let mut transaction = self.pool.begin().await?;
        let raised = sqlx::query("UPDATE revision SET revision = $1 WHERE revision = $2")
            .bind(entry.revision.cast_signed())
            .bind(before.cast_signed())
            .execute(&mut *transaction)
            .await?;
        if raised.rows_affected() != 1 {
            return Err(StoreError::Overtaken(before));
        }
        for edit in &entry.edits {
            write(&mut transaction, edit).await?;
        }
        let previous: Option<String> = sqlx::query_scalar("SELECT hash FROM history WHERE revision = $1")
            .bind(before.cast_signed())
            .fetch_optional(&mut *transaction)
            .await?;
        let row = Row::new(entry, previous.as_deref().unwrap_or(START))?;
        sqlx::query(
            "INSERT INTO history (revision, at_ms, actor, source, address, reason, summary, edits, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(row.revision)
        .bind(row.at_ms)
        .bind(&row.actor)
        .bind(&row.source)
        .bind(&row.address)
        .bind(&row.reason)
        .bind(&row.summary)
        .bind(&row.edits)
        .bind(&row.hash)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(row.hash)
    }

    /// Changes below revision `before`, newest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn history(&self, before: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM history WHERE revision < $1 ORDER BY revision DESC LIMIT $2")
                .bind(i64::try_from(before).unwrap_or(i64::MAX))
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().map(Row::entry).collect::<Result<_, _>>()?)
    }

    /// The edits of every change after `revision`, newest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn edits_since(&self, revision: u64) -> Result<Vec<Edit>, StoreError> {
        let rows = sqlx::query("SELECT edits FROM history WHERE revision > $1 ORDER BY revision DESC")
            .bind(i64::try_from(revision).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        let mut edits = Vec::new();
        for row in rows {
            let text: String = row.try_get("edits")?;
            edits.append(&mut serde_json::from_str(&text)?);
        }
        Ok(edits)
    }
}

/// Statements wait for other processes by themselves, except the one that switches a new database to
/// WAL: SQLite refuses it at once, lest two that switch wait for each other.
async fn connect(options: &SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let deadline = Instant::now() + BUSY;
    loop {
        match SqlitePoolOptions::new().max_connections(4).connect_with(options.clone()).await {
            Err(error) if code(&error) == Some(SQLITE_BUSY) && Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            connected => return connected,
        }
    }
}

const SQLITE_BUSY: u32 = 5;

/// SQLite's primary result code, <https://sqlite.org/rescode.html>.
fn code(error: &sqlx::Error) -> Option<u32> {
    let extended: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// What happened, and what to do where that is known.
fn sentence(error: &sqlx::Error) -> String {
    let what =
        error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let todo = match code(error) {
        Some(SQLITE_BUSY) => "another process holds it: find out which, and end it",
        Some(3 | 8 | 14) => "the file and its folder must be there and writable for this user",
        Some(11 | 26) => "restore it from a backup, or name another file",
        Some(13) => "make room on its disk",
        _ => return what,
    };
    format!("{what}: {todo}")
}

async fn write(transaction: &mut Transaction<'_, Sqlite>, edit: &Edit) -> Result<(), StoreError> {
    let (kind, name) = (edit.kind.as_str(), &edit.name);
    let query = match &edit.after {
        None => sqlx::query("DELETE FROM resource WHERE kind = $1 AND name = $2").bind(kind).bind(name),
        Some(body) => sqlx::query(
            "INSERT INTO resource (kind, name, body) VALUES ($1, $2, $3)
             ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body",
        )
        .bind(kind)
        .bind(name)
        .bind(body.to_string()),
    };
    query.execute(&mut **transaction).await?;
    Ok(())
}

/// Chains the rows that were written before there was a chain.
async fn chain_all(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
    let mut previous = START.to_owned();
    let mut revision = 0;
    // Row by row: a history need not fit into memory.
    while let Some(row) =
        sqlx::query_as::<_, Row>("SELECT * FROM history WHERE revision > $1 ORDER BY revision LIMIT 1")
            .bind(revision)
            .fetch_optional(&mut **transaction)
            .await?
    {
        (revision, previous) = (row.revision, row.hash_after(&previous));
        sqlx::query("UPDATE history SET hash = $1 WHERE revision = $2")
            .bind(&previous)
            .bind(revision)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
