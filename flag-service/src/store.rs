//! The durable side: a revision, the resources at that revision, and how they came to be. All SQL
//! is here and below, once, in the words that SQLite and PostgreSQL share; what only one of them has is in
//! `sqlite` and `postgres`. It does not know what a change means.

/// Rows of the history. Columns are named, because a newer version may have added some.
macro_rules! history {
    ($which:literal) => {
        concat!(
            "SELECT revision, at_ms, actor, source, address, reason, summary, edits, hash FROM history ",
            $which
        )
    };
}

mod answers;
mod chain;
mod copy;
mod database;
mod error;
mod lifecycle;
mod postgres;
mod schema;
mod sqlite;
mod usage;
mod verify;

use std::str::FromStr as _;
use std::time::Duration;

use serde::Serialize;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, Executor as _, Row as _, Transaction};
use tokio::sync::Notify;
use utoipa::ToSchema;

use crate::model::{Edit, Kind, State};
pub use answers::Answer;
use chain::{Row, START};
pub use copy::{backup, restore};
pub use database::Database;
pub use error::StoreError;
pub use lifecycle::{Event, Note};
pub use usage::{Pair, Usage};
pub use verify::Chain;

/// Connections of one process, besides the one that listens.
const CONNECTIONS: u32 = 4;
/// How long to wait for a connection: no longer than somebody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a change or a look at the newest state may take, the wait for others included.
const DEADLINE: Duration = Duration::from_secs(10);

/// A database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    database: Database,
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

impl Store {
    /// Opens a database, creating it where it is a file that is not there, and brings its schema up to
    /// date.
    ///
    /// # Errors
    ///
    /// When it cannot be used, or was written by a newer Rampart.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let store = Self::connect(database).await?;
        schema::bring_up_to_date(&store).await?;
        Ok(store)
    }

    /// Connects to a database, whichever version has written it.
    async fn connect(database: &Database) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (url, session) = match database {
            Database::File(file) if file.to_string_lossy().contains("://") => {
                return Err(StoreError::Nowhere);
            }
            Database::File(file) => (sqlite::prepare(file).await?, sqlite::SESSION),
            Database::Server(url) => (url.clone(), postgres::SESSION),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(session).await.map(drop) })
            })
            .connect_with(AnyConnectOptions::from_str(&url)?)
            .await?;
        Ok(Self { pool, database: database.clone() })
    }

    /// Where it is.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Ends its connections, once they are used no more.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction that will write.
    async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        let begin = match self.database {
            Database::File(_) => sqlite::BEGIN,
            Database::Server(_) => postgres::BEGIN,
        };
        self.pool.begin_with(begin).await
    }

    /// Begins a transaction that sees one moment of all tables.
    async fn snapshot(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.database {
            Database::File(_) => self.pool.begin().await,
            Database::Server(_) => self.pool.begin_with(postgres::SNAPSHOT).await,
        }
    }

    /// Passes on that others have written, for as long as it is polled. Others may have written all the
    /// same where nothing is told: whoever must know asks for the revision.
    pub async fn listen(&self, told: &Notify) {
        match &self.database {
            // Nobody tells.
            Database::File(_) => std::future::pending().await,
            Database::Server(url) => postgres::listen(url, told).await,
        }
    }

    /// The newest revision.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn revision(&self) -> Result<u64, StoreError> {
        let revision = sqlx::query_scalar::<_, i64>("SELECT revision FROM revision");
        within(async { Ok(revision.fetch_one(&self.pool).await?.cast_unsigned()) }).await
    }

    /// The newest revision and its state.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or holds what does not read.
    pub async fn load(&self) -> Result<(u64, State), StoreError> {
        let (revision, rows) = within(async { Ok(resources(&mut *self.snapshot().await?).await?) }).await?;
        let mut state = State::default();
        for (kind, name, body) in rows {
            let unreadable =
                |error: String| StoreError::Unreadable { kind: kind.clone(), name: name.clone(), error };
            let known = Kind::from_word(&kind).ok_or_else(|| unreadable("unknown kind".to_owned()))?;
            let value = serde_json::from_str(&body).map_err(|error| unreadable(error.to_string()))?;
            state.set(known, &name, Some(&value)).map_err(|error| unreadable(error.to_string()))?;
        }
        Ok((revision.cast_unsigned(), state))
    }

    /// Makes a change durable, and the answer to whoever brought a key: all of it or none of it. When
    /// this returns, it survives a power cut. Returns the hash that the history ends with now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Overtaken`] where the revision is no longer the one before the entry's, or another
    /// process has answered under the key; then nothing was written. Where the database cannot be asked, or
    /// not in time, the change may have been made nonetheless.
    pub async fn commit(&self, entry: &Entry, answer: Option<&Answer>) -> Result<String, StoreError> {
        within(async {
            let revision = entry.revision.cast_signed();
            let mut transaction = self.begin().await?;
            answers::raise(&mut transaction, revision - 1, revision).await?;
            for edit in &entry.edits {
                write(&mut transaction, edit).await?;
            }
            let previous: Option<String> = sqlx::query_scalar("SELECT hash FROM history WHERE revision = $1")
                .bind(revision - 1)
                .fetch_optional(&mut *transaction)
                .await?;
            let row = Row::new(entry, previous.as_deref().unwrap_or(START))?;
            append(&mut transaction, &row).await?;
            lifecycle::enter_all(&mut transaction, &lifecycle::of_entry(entry)).await?;
            if let Some(answer) = answer {
                answers::keep(&mut transaction, answer).await?;
            }
            if let Database::Server(_) = self.database {
                transaction.execute(postgres::TELL).await?;
            }
            transaction.commit().await?;
            Ok(row.hash)
        })
        .await
    }

    /// Changes below revision `before`, newest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn history(&self, before: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let rows = sqlx::query_as::<_, Row>(history!("WHERE revision < $1 ORDER BY revision DESC LIMIT $2"))
            .bind(i64::try_from(before).unwrap_or(i64::MAX))
            .bind(i64::from(limit));
        let rows = within(async { Ok(rows.fetch_all(&self.pool).await?) }).await?;
        Ok(rows.into_iter().map(Row::entry).collect::<Result<_, _>>()?)
    }

    /// The edits of every change after `revision`, newest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn edits_since(&self, revision: u64) -> Result<Vec<Edit>, StoreError> {
        let rows = sqlx::query("SELECT edits FROM history WHERE revision > $1 ORDER BY revision DESC")
            .bind(i64::try_from(revision).unwrap_or(i64::MAX));
        let rows = within(async { Ok(rows.fetch_all(&self.pool).await?) }).await?;
        let mut edits = Vec::new();
        for row in rows {
            let text: String = row.try_get("edits")?;
            edits.append(&mut serde_json::from_str(&text)?);
        }
        Ok(edits)
    }
}

/// What the database does not do in time is given up: a machine that has gone answers nothing, ever.
async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(StoreError::Silent))
}

/// The revision, and each resource's kind, name and body.
async fn resources(
    connection: &mut AnyConnection,
) -> Result<(i64, Vec<(String, String, String)>), sqlx::Error> {
    let revision = sqlx::query_scalar("SELECT revision FROM revision").fetch_one(&mut *connection).await?;
    let resources = sqlx::query_as("SELECT kind, name, body FROM resource").fetch_all(connection).await?;
    Ok((revision, resources))
}

async fn write(connection: &mut AnyConnection, edit: &Edit) -> Result<(), sqlx::Error> {
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
    query.execute(connection).await.map(drop)
}

async fn append(connection: &mut AnyConnection, row: &Row) -> Result<(), sqlx::Error> {
    let insert = sqlx::query(
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
    .bind(&row.hash);
    insert.execute(connection).await.map(drop)
}
