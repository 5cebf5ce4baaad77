//! Whole databases, copied: a backup of one that is in use, and its way back. Both see files and
//! processes only; the flag service need not run.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use super::{BUSY, Chain, Store, code, sentence};
use crate::head::Head;

/// Copies the database, as it is at one moment, to a file that is not there yet. Whether it is whole
/// is tried on the copy.
///
/// # Errors
///
/// When a file cannot be used, the copy's name is taken, or the history does not fit.
pub async fn backup(database: &Path, file: &Path) -> anyhow::Result<Chain> {
    ensure!(!file.exists(), "{} exists already: name another file", file.display());
    let (folder, copy) = copied(database, file).await?;
    let tried = folder.path().join("tried");
    fs::copy(&copy, &tried).with_context(|| tried.display().to_string())?;
    let chain = prove(&tried).await.with_context(|| {
        format!("no backup is made of {}, since it could not be restored", database.display())
    })?;
    place(&copy, file, false)?;
    Ok(chain)
}

/// Makes a backup the database, once it is proved to be whole and to make sense. The flag service of
/// that database must not run; `force` replaces what is there.
///
/// # Errors
///
/// When a file cannot be used, the backup is damaged or makes no sense, or there is a database already.
/// Then the database is what it was.
pub async fn restore(backup: &Path, database: &Path, force: bool) -> anyhow::Result<Chain> {
    let taken = [database.to_owned(), beside(database, "-wal")];
    let taken = taken.iter().any(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0));
    ensure!(force || !taken, "{} exists already: --force replaces it", database.display());
    let (_folder, copy) = copied(backup, database).await?;
    let chain = prove(&copy).await.with_context(|| backup.display().to_string())?;
    if taken && database.exists() {
        release(database).await?;
    }
    for ending in ["-wal", "-shm"] {
        // Left behind, they would be taken for the new file's.
        match fs::remove_file(beside(database, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| beside(database, ending).display().to_string());
            }
            _ => {}
        }
    }
    place(&copy, database, database.exists())?;
    Ok(chain)
}

/// A copy of a database that others may be writing, in a folder beside where it is to go, so that it
/// can be moved there in one step. The folder goes with the value.
async fn copied(from: &Path, to: &Path) -> anyhow::Result<(TempDir, PathBuf)> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".rampart-").tempdir_in(parent);
    let folder = folder.with_context(|| parent.display().to_string())?;
    let copy = folder.path().join("copy");
    let explain = |error: sqlx::Error| anyhow::anyhow!("{}: {}", from.display(), sentence(&error));
    let options = SqliteConnectOptions::new().filename(from).busy_timeout(BUSY);
    let mut connection = options.connect().await.map_err(explain)?;
    let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('revision', 'resource', 'history')";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut connection).await.map_err(explain)?;
    // It would become an empty database, and a good one.
    ensure!(tables == 3, "{} is no database of Rampart: name another file", from.display());
    let copying = sqlx::query("VACUUM INTO $1").bind(copy.to_string_lossy().into_owned());
    copying.execute(&mut connection).await.map_err(explain)?;
    connection.close().await.map_err(explain)?;
    // Whoever may not read the one shall not read the other.
    let others = fs::metadata(from)?.permissions().mode() & 0o077;
    fs::set_permissions(&copy, Permissions::from_mode(0o600 | others))?;
    Ok((folder, copy))
}

/// Whether this file can be served: its history fits, and the engine takes what it holds.
async fn prove(file: &Path) -> anyhow::Result<Chain> {
    let store = Store::open(file).await?;
    let chain = store.verify(None).await?;
    let (revision, state) = store.load().await?;
    // Writes back what the log beside the file holds: the file alone is moved.
    store.pool.close().await;
    if let Err(problems) = Head::new(revision, state, None) {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bail!("its policy makes no sense to this version:\n  {}", problems.join("\n  "));
    }
    Ok(chain)
}

/// Fails while another process has the database open: it would go on with the file that is replaced.
async fn release(database: &Path) -> anyhow::Result<()> {
    // To leave WAL is what SQLite does for the last one only.
    let options = SqliteConnectOptions::new().filename(database).journal_mode(SqliteJournalMode::Delete);
    match options.connect().await {
        Ok(connection) => Ok(connection.close().await?),
        // A damaged file is what one restores over.
        Err(error) if matches!(code(&error), Some(11 | 26)) => Ok(()),
        Err(error) => bail!("{}: {}", database.display(), sentence(&error)),
    }
}

/// Gives a file its name in one step, and for good.
fn place(copy: &Path, file: &Path, replace: bool) -> anyhow::Result<()> {
    let place = || {
        File::open(copy)?.sync_all()?;
        let placed = if replace { fs::rename(copy, file) } else { fs::hard_link(copy, file) };
        placed?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    place().with_context(|| file.display().to_string())
}

/// A file that SQLite keeps beside a database.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(ending);
    name.into()
}
