//! Brings a database's schema up to date, which happens to it once, however many processes start.

use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::{AnyConnection, Executor as _};

use super::chain::{Row, START};
use super::{Database, Store, StoreError, postgres};

/// What is here is never edited: sqlx keeps a checksum of each migration that it has made, and a
/// database refuses another. An older version goes on reading and writing beside each, so that
/// services are replaced one by one: add, move over, and take away in a later version.
static MIGRATIONS: Migrator = {
    let mut migrations = sqlx::migrate!("./migrations");
    // The lock that is taken here lasts until the transaction ends; sqlx's own would end before.
    migrations.locking = false;
    migrations
};

/// The migration that gave each row of the history its hash.
const CHAINED: i64 = 2;

/// Makes, in one transaction, whatever changes this version knows and the database does not have.
pub(super) async fn bring_up_to_date(store: &Store) -> Result<(), StoreError> {
    // The lock comes first: two processes that start at once must not both find nothing done.
    let mut transaction = store.begin().await?;
    if let Database::Server(_) = store.database {
        transaction.execute(postgres::LOCK).await?;
    }
    transaction.ensure_migrations_table(&MIGRATIONS.table_name).await?;
    let applied = transaction.list_applied_migrations(&MIGRATIONS.table_name).await?;
    MIGRATIONS.run(&mut *transaction).await?;
    // Only once: a hash that is taken away later must be missed, not made again.
    if !applied.iter().any(|migration| migration.version == CHAINED) {
        chain_all(&mut transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// Fails where the schema is another version's.
pub(super) async fn is_current(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let applied = connection.list_applied_migrations(&MIGRATIONS.table_name).await?;
    let applied: Vec<i64> = applied.into_iter().map(|migration| migration.version).collect();
    let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    match applied.iter().find(|version| !known.contains(version)) {
        Some(version) => Err(StoreError::Newer(*version)),
        None if applied.len() < known.len() => Err(StoreError::Older),
        None => Ok(()),
    }
}

/// Chains the rows that were written before there was a chain.
async fn chain_all(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let mut previous = START.to_owned();
    let mut revision = 0;
    // Row by row: a history need not fit into memory.
    while let Some(row) = sqlx::query_as::<_, Row>(history!("WHERE revision > $1 ORDER BY revision LIMIT 1"))
        .bind(revision)
        .fetch_optional(&mut *connection)
        .await?
    {
        (revision, previous) = (row.revision, row.hash_after(&previous));
        sqlx::query("UPDATE history SET hash = $1 WHERE revision = $2")
            .bind(&previous)
            .bind(revision)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
