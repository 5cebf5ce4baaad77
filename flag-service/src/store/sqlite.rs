//! What only SQLite does: files, their log, and copies of them.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{self, Path};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};

use super::StoreError;
use super::error::{SQLITE_BUSY, sentence, sqlite_code};

/// For a transaction that will write: it waits for its turn now, not in its midst.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

/// What each connection is told: a commit survives a power cut, and a statement waits for another
/// process that holds the database.
pub(super) const SESSION: &str = "PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000";

/// How long a connection waits for another process that holds the database.
const BUSY: Duration = Duration::from_secs(5);
/// How long to wait before asking again for what cannot be waited for.
const AGAIN: Duration = Duration::from_millis(20);

/// Makes a file a database in WAL, which keeps readers and the writer apart and stays with the file;
/// creates it where there is none. Returns its URL.
pub(super) async fn prepare(file: &Path) -> Result<String, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY);
    connect(&options).await?.close().await?;
    Ok(url(file))
}

/// Statements wait for other processes by themselves, except the one that switches a new database to
/// WAL: SQLite refuses it at once, lest two that switch wait for each other.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let deadline = Instant::now() + BUSY;
    loop {
        match options.connect().await {
            Err(error) if sqlite_code(&error) == Some(SQLITE_BUSY) && Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            connected => return connected,
        }
    }
}

/// Escaped, since a path may hold what means something in a URL; and without the steps up that a
/// URL would take by its text, and not through links.
fn url(file: &Path) -> String {
    let path = file.canonicalize().or_else(|_| path::absolute(file)).unwrap_or_else(|_| file.to_owned());
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                url.push(char::from(*byte));
            }
            byte => drop(write!(url, "%{byte:02X}")),
        }
    }
    url + "?mode=rw"
}

/// Copies a database that others may be writing, as it is at one moment, to a file that is not there.
pub(super) async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let explain = |error: sqlx::Error| anyhow::anyhow!("{}: {}", from.display(), sentence(&error));
    let options = SqliteConnectOptions::new().filename(from).busy_timeout(BUSY);
    let mut connection = options.connect().await.map_err(explain)?;
    let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('revision', 'resource', 'history')";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut connection).await.map_err(explain)?;
    // It would become an empty database, and a good one.
    ensure!(tables == 3, "{} is no database of Rampart: name another file", from.display());
    let copying = sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned());
    copying.execute(&mut connection).await.map_err(explain)?;
    connection.close().await.map_err(explain)
}

/// Fails while another process has the database open: it would go on with the file that is replaced.
pub(super) async fn release(database: &Path) -> anyhow::Result<()> {
    // To leave WAL is what SQLite does for the last one only.
    let options = SqliteConnectOptions::new().filename(database).journal_mode(SqliteJournalMode::Delete);
    match options.connect().await {
        Ok(connection) => Ok(connection.close().await?),
        // A damaged file is what one restores over.
        Err(error) if matches!(sqlite_code(&error), Some(11 | 26)) => Ok(()),
        Err(error) => bail!("{}: {}", database.display(), sentence(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use crate::store::{Database, Store, StoreError};

    #[tokio::test]
    async fn any_name_of_a_file_is_that_file() -> Result<(), StoreError> {
        let dir = tempfile::tempdir().unwrap();
        let wanted = ["a b?c#d%20e", "größe", "[x]@^:1", "'\"&"];
        for name in wanted {
            Store::open(&Database::File(dir.path().join(name))).await?;
        }
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        let names: BTreeSet<String> =
            names.map(|name| name.trim_end_matches("-wal").trim_end_matches("-shm").to_owned()).collect();
        assert_eq!(names, wanted.map(str::to_owned).into());
        Ok(())
    }
}
