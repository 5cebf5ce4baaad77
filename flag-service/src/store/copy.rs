//! Whole databases, copied: a backup of one that is in use, and its way back. A backup is a SQLite file,
//! whatever it is of, so it is also the way from one to the other. The flag service need not run.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use futures::TryStreamExt as _;
use sqlx::AnyConnection;
use tempfile::TempDir;

use super::answers;
use super::chain::Row;
use super::{
    Chain, Database, Store, StoreError, append, lifecycle, resources, schema, sqlite, usage, verify,
};
use crate::head::Head;

/// Copies the database, as it is at one moment, to a file that is not there yet. Whether it is whole
/// is tried on the copy.
///
/// # Errors
///
/// When the database or a file cannot be used, the copy's name is taken, or the history does not fit.
pub async fn backup(database: &Database, file: &Path) -> anyhow::Result<Chain> {
    ensure!(!file.exists(), "{} exists already: name another file", file.display());
    let folder = beside(file)?;
    let copy = match database {
        Database::File(database) => copied(database, &folder).await?,
        Database::Server(_) => drawn(database, &folder).await.with_context(|| database.to_string())?,
    };
    let tried = folder.path().join("tried");
    fs::copy(&copy, &tried).with_context(|| tried.display().to_string())?;
    let chain = prove(&tried)
        .await
        .with_context(|| format!("no backup is made of {database}, since it could not be restored"))?;
    place(&copy, file, false)?;
    Ok(chain)
}

/// Makes a backup the database, once it is proved to be whole and to make sense. The flag service of a
/// file must not run, and `force` replaces what is there; on a server, the database must be empty.
///
/// # Errors
///
/// When the database or a file cannot be used, the backup is damaged or makes no sense, or there is a
/// database already. Then the database is what it was.
pub async fn restore(backup: &Path, database: &Database, force: bool) -> anyhow::Result<Chain> {
    match database {
        Database::File(file) => restore_file(backup, file, force).await,
        Database::Server(_) => {
            ensure!(!force, "--force replaces files only: make a new database, and name that");
            let folder = tempfile::tempdir().context("a folder for the backup's copy")?;
            let copy = copied(backup, &folder).await?;
            prove(&copy).await.with_context(|| backup.display().to_string())?;
            let filled = fill(database, &Database::File(copy)).await;
            filled.with_context(|| database.to_string())
        }
    }
}

async fn restore_file(backup: &Path, database: &Path, force: bool) -> anyhow::Result<Chain> {
    let taken = [database.to_owned(), with_ending(database, "-wal")];
    let taken = taken.iter().any(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0));
    ensure!(force || !taken, "{} exists already: --force replaces it", database.display());
    let folder = beside(database)?;
    let copy = copied(backup, &folder).await?;
    let chain = prove(&copy).await.with_context(|| backup.display().to_string())?;
    if taken && database.exists() {
        sqlite::release(database).await?;
    }
    for ending in ["-wal", "-shm"] {
        // Left behind, they would be taken for the new file's.
        match fs::remove_file(with_ending(database, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| with_ending(database, ending).display().to_string());
            }
            _ => {}
        }
    }
    place(&copy, database, database.exists())?;
    Ok(chain)
}

/// A folder beside where a file is to go, so that it can be moved there in one step. It goes with the
/// value.
fn beside(file: &Path) -> anyhow::Result<TempDir> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".rampart-").tempdir_in(parent);
    folder.with_context(|| parent.display().to_string())
}

/// A copy of a file that others may be writing.
async fn copied(from: &Path, folder: &TempDir) -> anyhow::Result<PathBuf> {
    let copy = folder.path().join("copy");
    sqlite::copy(from, &copy).await?;
    // Whoever may not read the one shall not read the other.
    let others = fs::metadata(from)?.permissions().mode() & 0o077;
    fs::set_permissions(&copy, Permissions::from_mode(0o600 | others))?;
    Ok(copy)
}

/// A copy of what is on a server, which is left as it is, an older schema included.
async fn drawn(database: &Database, folder: &TempDir) -> anyhow::Result<PathBuf> {
    let copy = folder.path().join("copy");
    let to = Store::open(&Database::File(copy.clone())).await?;
    let from = Store::connect(database).await?;
    transfer(&from, &to).await?;
    // Writes back what the log beside the file holds: the file alone is moved.
    to.close().await;
    // Whoever may not ask the server shall not read it here.
    fs::set_permissions(&copy, Permissions::from_mode(0o600))?;
    Ok(copy)
}

/// Fills an empty database with what is proved to be whole.
async fn fill(database: &Database, from: &Database) -> Result<Chain, StoreError> {
    let (from, to) = (Store::open(from).await?, Store::open(database).await?);
    transfer(&from, &to).await
}

/// Copies every row of one moment into an empty database, and proves that they have arrived.
async fn transfer(from: &Store, to: &Store) -> Result<Chain, StoreError> {
    let mut from = from.snapshot().await?;
    schema::is_current(&mut from).await?;
    let mut to = to.begin().await?;
    let (revision, state) = resources(&mut from).await?;
    if let Err(StoreError::Overtaken(_)) = answers::raise(&mut to, 0, revision).await {
        return Err(StoreError::Taken(resources(&mut to).await?.0.cast_unsigned()));
    }
    for (kind, name, body) in state {
        let insert = sqlx::query("INSERT INTO resource (kind, name, body) VALUES ($1, $2, $3)");
        insert.bind(kind).bind(name).bind(body).execute(&mut *to).await?;
    }
    copy_rows(&mut from, &mut to).await?;
    let chain = verify::verify(&mut to, None).await?;
    to.commit().await?;
    Ok(chain)
}

/// Row by row: a history need not fit into memory.
async fn copy_rows(from: &mut AnyConnection, to: &mut AnyConnection) -> Result<(), StoreError> {
    let mut rows = sqlx::query_as::<_, Row>(history!("ORDER BY revision")).fetch(&mut *from);
    while let Some(row) = rows.try_next().await? {
        append(to, &row).await?;
    }
    drop(rows);
    for answer in answers::all(from).await? {
        answers::keep(to, &answer).await?;
    }
    lifecycle::copy(from, to).await?;
    usage::copy(from, to).await?;
    Ok(())
}

/// Whether this file can be served: its history fits, and the engine takes what it holds.
async fn prove(file: &Path) -> anyhow::Result<Chain> {
    let store = Store::open(&Database::File(file.to_owned())).await?;
    let chain = store.verify(None).await?;
    let (revision, state) = store.load().await?;
    // Writes back what the log beside the file holds: the file alone is moved.
    store.close().await;
    if let Err(problems) = Head::new(revision, state, &[]) {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bail!("its policy makes no sense to this version:\n  {}", problems.join("\n  "));
    }
    Ok(chain)
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
fn with_ending(database: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(ending);
    name.into()
}
