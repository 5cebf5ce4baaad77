//! Backups: taken while others write, and restored whole or not at all.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rampart::model::{Edit, Kind};
use rampart::store::{Chain, Database, Entry, Store, backup};
use serde_json::json;
use sqlx::sqlite::SqlitePool;

use crate::support::{Service, database, on_a_server, open, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_during_writes_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path()).await;
    put(&writer, "first", json!({})).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (writer, done) = (Arc::clone(&writer), Arc::clone(&done));
        async move {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                put(&writer, &format!("f{number}"), json!({})).await.unwrap();
            }
        }
    });
    let database = database(dir.path());
    let mut rows = 0;
    for number in 0..5 {
        let (file, restored) =
            (dir.path().join(format!("{number}.bak")), dir.path().join(number.to_string()));
        let chain = backup(&database, &file).await.unwrap();
        assert!(chain.rows >= rows, "{} after {rows}", chain.rows);
        rows = chain.rows;
        assert_eq!(restore(&file, &restored, false).await.unwrap(), chain);
        let (revision, state) = Store::open(&Database::File(restored)).await.unwrap().load().await.unwrap();
        assert_eq!(u64::try_from(state.flags.len()).unwrap(), revision);
        assert_eq!(revision, rows);
    }
    done.store(true, Ordering::Relaxed);
    writing.await.unwrap();
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_nothing_is_left() {
    let service = Service::start().await;
    for percentage in 1..30 {
        service.flag("f", percentage).await;
    }
    let dir = service.dir.path();
    let good = dir.join("good");
    backup(&database(dir), &good).await.unwrap();
    let altered = async |statement: &'static str| {
        let file = dir.join("altered");
        fs::copy(&good, &file).unwrap();
        let pool = SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
        refused(dir, &file).await
    };
    let said = altered("UPDATE history SET reason = 'x' WHERE revision = 7").await;
    assert!(said.contains("the history does not fit: revision 7: "), "{said}");
    let said = altered("UPDATE resource SET body = '{}'").await;
    assert!(said.contains("the stored flag `f`"), "{said}");
    let bytes = fs::read(&good).unwrap();
    let file = dir.join("damaged");
    let mut without_page = bytes.clone();
    without_page[8192..12288].fill(0x55);
    for damaged in [&bytes[..bytes.len() / 2], &bytes[..0], b"no database", &without_page] {
        fs::write(&file, damaged).unwrap();
        refused(dir, &file).await;
    }
    refused(dir, &dir.join("missing")).await;
}

#[tokio::test]
async fn a_backup_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("senseless");
    let module = json!({"id": "m", "endpoints": ["127.0.0.1:9000"], "flags": ["nobody"]});
    let edit = Edit { kind: Kind::Module, name: "m".to_owned(), before: None, after: Some(module) };
    let said = String::new;
    let (actor, source, address, reason, summary) = (said(), said(), said(), said(), said());
    let entry = Entry { revision: 1, at_ms: 0, actor, source, address, reason, summary, edits: vec![edit] };
    Store::open(&Database::File(file.clone())).await.unwrap().commit(&entry, None).await.unwrap();
    let said = refused(dir.path(), &file).await;
    assert!(said.contains("makes no sense to this version") && said.contains("nobody"), "{said}");
}

#[tokio::test]
async fn nothing_is_overwritten_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let writer = open(dir.path()).await;
    put(&writer, "f", json!({})).await.unwrap();
    let source = database(dir.path());
    if let Database::File(file) = &source {
        fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap();
    }
    let older = backup(&source, &path("older")).await.unwrap();
    put(&writer, "g", json!({})).await.unwrap();
    let newer = backup(&source, &path("newer")).await.unwrap();
    let before = fs::read(path("older")).unwrap();
    let taken = backup(&source, &path("older")).await.unwrap_err().to_string();
    assert!(taken.contains("exists already"), "{taken}");
    assert_eq!(fs::read(path("older")).unwrap(), before);
    fs::write(path("database"), "").unwrap();
    assert_eq!(restore(&path("older"), &path("database"), false).await.unwrap(), older);
    let taken = restore(&path("newer"), &path("database"), false).await.unwrap_err().to_string();
    assert!(taken.contains("--force"), "{taken}");
    assert_eq!(revision(&path("database")).await, 1);
    assert_eq!(restore(&path("newer"), &path("database"), true).await.unwrap(), newer);
    assert_eq!(revision(&path("database")).await, 2);
    // What a server's users only were to see is for its owner only.
    let mode = if on_a_server() { 0o600 } else { 0o640 };
    assert_eq!(fs::metadata(path("database")).unwrap().permissions().mode() & 0o777, mode);
    // Over what is no database any more, there is no other way.
    fs::write(path("database"), [0x55; 9000]).unwrap();
    assert_eq!(restore(&path("older"), &path("database"), true).await.unwrap(), older);
}

#[tokio::test]
async fn a_database_in_use_is_not_replaced() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    let copied = service.run(&["backup", "copy"]).await;
    let head = service.writer.store().verify(None).await.unwrap().head;
    assert_eq!((copied.code, copied.stdout), (Some(0), format!("copy is a backup: 1 rows, head {head}\n")));
    service.flag("f", 20).await;
    let (arguments, reason) = match on_a_server() {
        true => (&["restore", "copy"][..], "the database holds revision 2 already"),
        false => (&["restore", "copy", "--force"][..], "another process holds it"),
    };
    let refused = service.run(arguments).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    service.flag("f", 30).await;
    assert_eq!(service.writer.store().verify(None).await.unwrap().rows, 3);
    let elsewhere = service.run(&["restore", "copy", "--database", "other.db"]).await;
    assert_eq!(
        elsewhere.stdout,
        format!("other.db is restored: 1 rows, head {head}\n"),
        "{}",
        elsewhere.stderr
    );
}

async fn restore(backup: &Path, file: &Path, force: bool) -> anyhow::Result<Chain> {
    rampart::store::restore(backup, &Database::File(file.to_owned()), force).await
}

/// Why a backup is not restored; nothing new may be in the folder.
async fn refused(dir: &Path, file: &Path) -> String {
    let hidden = || {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".rampart-")).count()
    };
    let target = dir.join("target");
    let said = format!("{:#}", restore(file, &target, false).await.unwrap_err());
    assert!(!target.exists() && hidden() == 0, "{said}");
    said
}

async fn revision(file: &Path) -> u64 {
    let pool = SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let revision: i64 = sqlx::query_scalar("SELECT revision FROM revision").fetch_one(&pool).await.unwrap();
    pool.close().await;
    u64::try_from(revision).unwrap()
}
