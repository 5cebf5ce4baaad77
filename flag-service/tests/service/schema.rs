//! Databases of other versions: older ones are brought up to date, newer and foreign ones are refused.

use rampart::store::{Store, StoreError};
use serde_json::json;
use sqlx::migrate::Migrator;

use crate::support::{Service, database, execute, open, pool, put};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How the SHA-384 of each migration that was ever released begins: a new one is a new line.
const RELEASED: [(i64, &str); 5] = [
    (1, "ca4152cea4ea6b63"),
    (2, "6d1b670222b9aa6f"),
    (3, "e4d1f760a12bb477"),
    (4, "5bdec24956d1a217"),
    (5, "da452d2be4ccee43"),
];

#[test]
fn a_migration_that_was_released_is_never_edited() {
    let hex = |bytes: &[u8]| bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    let found: Vec<(i64, String)> =
        MIGRATIONS.iter().map(|migration| (migration.version, hex(&migration.checksum))).collect();
    assert_eq!(found, RELEASED.map(|(version, checksum)| (version, checksum.to_owned())));
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(dir.path()).await;
    let first = MIGRATIONS.iter().filter(|migration| migration.version == 1).cloned().collect();
    Migrator::with_migrations(first).run(&pool).await.unwrap();
    let body = json!({"key": "f", "percentage": 25}).to_string();
    let edits = format!(r#"[{{"kind":"flag","name":"f","before":null,"after":{body}}}]"#);
    execute(&pool, &format!("INSERT INTO resource (kind, name, body) VALUES ('flag', 'f', '{body}')")).await;
    execute(
        &pool,
        &format!(
            "INSERT INTO history (revision, at_ms, actor, source, reason, summary, edits)
             VALUES (1, 1795250000000, 'amina', 'cli', '', 'flag f added', '{edits}')"
        ),
    )
    .await;
    execute(&pool, "UPDATE revision SET revision = 1").await;

    let writer = open(dir.path()).await;
    assert_eq!(writer.head().state.flags["f"].percentage.thousandths(), 25_000);
    assert_eq!(writer.store().verify(None).await.unwrap().rows, 1);
    put(&writer, "g", json!({})).await.unwrap();
    assert_eq!(writer.store().verify(None).await.unwrap().rows, 2);
    // Rows are chained once: hashes that are taken away later are missed.
    execute(&pool, "UPDATE history SET hash = ''").await;
    let again = Store::open(&database(dir.path())).await.unwrap().verify(None).await;
    assert!(matches!(again, Err(StoreError::Altered(_))), "{again:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let service = Service::start().await;
    let pool = pool(service.dir.path()).await;
    execute(&pool, "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
    let error = Store::open(&database(service.dir.path())).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer(9999)), "{error:?}");
    assert!(error.to_string().contains("newer version of Rampart"));
}

#[tokio::test]
async fn a_database_that_another_migration_made_is_refused() {
    let service = Service::start().await;
    let pool = pool(service.dir.path()).await;
    let other = "(SELECT checksum FROM _sqlx_migrations WHERE version = 2)";
    execute(&pool, &format!("UPDATE _sqlx_migrations SET checksum = {other} WHERE version = 1")).await;
    let error = Store::open(&database(service.dir.path())).await.unwrap_err();
    assert!(matches!(error, StoreError::Migration { .. }), "{error:?}");
    assert!(
        error.to_string().contains("migration 1 was previously applied but has been modified"),
        "{error}"
    );
}
