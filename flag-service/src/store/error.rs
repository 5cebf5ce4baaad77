//! Why the store could not do what was asked, in sentences that say what to do.

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

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
    /// The database was written by an older Rampart, and is not to be changed.
    #[error(
        "the database was written by an older version of Rampart: use that version, or let `rampart serve` bring it \
         up to date"
    )]
    Older,
    /// There is something already where something is to be restored.
    #[error("the database holds revision {0} already: make a new one, and name that")]
    Taken(u64),
    /// What was given is neither a path nor a URL that is known.
    #[error("that is no database: name a file, or postgres://USER:PASSWORD@HOST/DATABASE")]
    Nowhere,
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
    /// The database does not answer.
    #[error("the database does not answer: it is asked again, and nothing needs a restart")]
    Silent,
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
        match cause {
            sqlx::Error::PoolTimedOut => Self::Silent,
            cause => Self::Database { cause },
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::Newer(version),
            MigrateError::Execute(cause) => cause.into(),
            cause => Self::Migration { cause },
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(cause: serde_json::Error) -> Self {
        Self::Json { cause }
    }
}

pub(super) const SQLITE_BUSY: u32 = 5;

/// SQLite's primary result code, <https://sqlite.org/rescode.html>.
pub(super) fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let error = error.as_database_error()?.try_downcast_ref::<SqliteError>()?;
    let extended: u32 = sqlx::error::DatabaseError::code(error)?.parse().ok()?;
    Some(extended & 0xff)
}

/// PostgreSQL's SQLSTATE, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    Some(error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.code())
}

/// What happened, and what to do where that is known.
pub(super) fn sentence(error: &sqlx::Error) -> String {
    let what =
        error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let todo = match (sqlite_code(error), sqlstate(error)) {
        (Some(SQLITE_BUSY), _) => "another process holds it: find out which, and end it",
        (Some(3 | 8 | 14), _) => "the file and its folder must be there and writable for this user",
        (Some(11 | 26), _) => "restore it from a backup, or name another file",
        (Some(13), _) | (_, Some("53100")) => "make room on its disk",
        (_, Some("28000" | "28P01")) => "name a user and a password that the server accepts",
        (_, Some("3D000")) => "create it, or name another database",
        (_, Some("42501")) => "the user must own the database, or may create tables in its schema",
        (_, Some("25006")) => "it is a standby: name the primary",
        _ => return what,
    };
    format!("{what}: {todo}")
}
