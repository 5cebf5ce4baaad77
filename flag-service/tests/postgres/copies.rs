//! Backups of a server, and the way from one database to the other.

use std::fs;

use rampart::model::Change;
use rampart::store::{Database, Store, backup, restore};
use rampart::writer::{Key, Submission, Writer};
use serde_json::json;
use sqlx::migrate::Migrator;

use crate::support::{database, execute, open, pool, put, server, submission};

#[tokio::test]
async fn a_database_moves_to_a_server_and_back_with_all_that_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let file = Database::File(dir.path().join("small.db"));
    let writer = std::sync::Arc::new(Writer::start(Store::open(&file).await.unwrap()).await.unwrap());
    put(&writer, "f", json!({"percentage": 25, "description": "größer"})).await.unwrap();
    let key = Some(Key { name: "k".to_owned(), asker: "test".to_owned(), request: "r".to_owned() });
    let killed = Submission { key, ..submission(Change::KillFlag("f".to_owned())) };
    let first = writer.submit(killed.clone()).await.unwrap();
    let copy = dir.path().join("copy");
    let chain = backup(&file, &copy).await.unwrap();

    let moved = Database::Server(server().database().unwrap());
    assert_eq!(restore(&copy, &moved, false).await.unwrap(), chain);
    let there = std::sync::Arc::new(Writer::start(Store::open(&moved).await.unwrap()).await.unwrap());
    assert_eq!((there.head().revision, &there.head().state), (2, &writer.head().state));
    // Who has not got an answer asks again, there.
    let again = there.submit(killed).await.unwrap();
    assert_eq!((again.head.revision, again.summary), (2, first.summary));
    put(&there, "g", json!({})).await.unwrap();

    let back = dir.path().join("back");
    let chain = backup(&moved, &back).await.unwrap();
    assert_eq!(there.store().verify(None).await.unwrap(), chain);
    let (revision, state) = Store::open(&Database::File(back)).await.unwrap().load().await.unwrap();
    assert_eq!((revision, &state), (3, &there.head().state));
}

#[tokio::test]
async fn nothing_on_a_server_is_replaced_and_what_is_damaged_does_not_get_there() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path()).await;
    for percentage in 1..5 {
        put(&writer, "f", json!({ "percentage": percentage })).await.unwrap();
    }
    let copy = dir.path().join("copy");
    backup(&database(dir.path()), &copy).await.unwrap();
    let taken = format!("{:#}", restore(&copy, &database(dir.path()), false).await.unwrap_err());
    assert!(taken.contains("the database holds revision 4 already"), "{taken}");
    let forced = restore(&copy, &database(dir.path()), true).await.unwrap_err().to_string();
    assert!(forced.contains("--force replaces files only"), "{forced}");
    assert_eq!(writer.store().verify(None).await.unwrap().rows, 4);

    let mut bytes = fs::read(&copy).unwrap();
    let place = bytes.windows(7).position(|bytes| bytes == b"percent").unwrap();
    bytes[place] = b'q';
    fs::write(&copy, bytes).unwrap();
    let empty = Database::Server(server().database().unwrap());
    restore(&copy, &empty, false).await.unwrap_err();
    assert_eq!(Store::open(&empty).await.unwrap().revision().await.unwrap(), 0);
}

#[tokio::test]
async fn a_backup_leaves_an_older_database_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(dir.path()).await;
    let migrations = sqlx::migrate!("./migrations");
    let first = migrations.iter().filter(|migration| migration.version == 1).cloned().collect();
    Migrator::with_migrations(first).run(&pool).await.unwrap();
    let refused = format!("{:#}", backup(&database(dir.path()), &dir.path().join("copy")).await.unwrap_err());
    assert!(refused.contains("an older version of Rampart"), "{refused}");
    execute(&pool, "INSERT INTO history VALUES (1, 0, '', '', '', '', '[]')").await;
    let none = Database::Server(server().database().unwrap());
    let refused = format!("{:#}", backup(&none, &dir.path().join("copy")).await.unwrap_err());
    assert!(refused.contains("_sqlx_migrations"), "{refused}");
}
