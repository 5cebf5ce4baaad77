//! What was answered to writes that brought an idempotency key, so that a write that is sent again is
//! answered again and not made again. It does not know what is answered.

use sqlx::AnyConnection;

use super::{Store, StoreError, within};

/// How long an answer is kept, in milliseconds: a day.
const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;
/// Most answers that are kept.
const KEPT: i64 = 10_000;

/// What was answered to a request that brought a key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Answer {
    /// The key.
    pub idempotency_key: String,
    /// Tells requests under one key apart.
    pub request: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The revision that was answered.
    pub revision: i64,
    /// What changed, in words.
    pub summary: String,
    /// What the change made odd, as JSON.
    pub warnings: String,
}

impl Store {
    /// What was answered under this key, unless that is too long ago at `now_ms`.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn answer(&self, key: &str, now_ms: i64) -> Result<Option<Answer>, StoreError> {
        let query = sqlx::query_as(
            "SELECT idempotency_key, request, at_ms, revision, summary, warnings FROM answer
             WHERE idempotency_key = $1 AND at_ms >= $2",
        );
        within(async { Ok(query.bind(key).bind(now_ms - KEPT_MS).fetch_optional(&self.pool).await?) }).await
    }

    /// Makes the answer to a request that changed nothing durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Overtaken`] where the revision is no longer the answer's, or another process has
    /// answered under this key; then nothing was written.
    pub async fn keep(&self, answer: &Answer) -> Result<(), StoreError> {
        within(async {
            let mut transaction = self.begin().await?;
            raise(&mut transaction, answer.revision, answer.revision).await?;
            keep(&mut transaction, answer).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }
}

/// Sets the revision; until the transaction ends, nobody else does.
pub(super) async fn raise(connection: &mut AnyConnection, from: i64, to: i64) -> Result<(), StoreError> {
    let raised = sqlx::query("UPDATE revision SET revision = $1 WHERE revision = $2")
        .bind(to)
        .bind(from)
        .execute(connection)
        .await?;
    match raised.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Overtaken(from.cast_unsigned())),
    }
}

/// Writes an answer and drops what there is too much of, within a transaction that has raised the revision.
pub(super) async fn keep(connection: &mut AnyConnection, answer: &Answer) -> Result<(), StoreError> {
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT MAX(number) FROM answer").fetch_one(&mut *connection).await?;
    let number = newest.unwrap_or_default() + 1;
    let kept = sqlx::query(
        "INSERT INTO answer (idempotency_key, number, request, at_ms, revision, summary, warnings)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (idempotency_key) DO UPDATE
         SET number = excluded.number, request = excluded.request, at_ms = excluded.at_ms,
             revision = excluded.revision, summary = excluded.summary, warnings = excluded.warnings
         WHERE answer.at_ms < $8",
    )
    .bind(&answer.idempotency_key)
    .bind(number)
    .bind(&answer.request)
    .bind(answer.at_ms)
    .bind(answer.revision)
    .bind(&answer.summary)
    .bind(&answer.warnings)
    .bind(answer.at_ms - KEPT_MS)
    .execute(&mut *connection)
    .await?;
    if kept.rows_affected() != 1 {
        return Err(StoreError::Overtaken(answer.revision.cast_unsigned()));
    }
    sqlx::query("DELETE FROM answer WHERE number <= $1").bind(number - KEPT).execute(connection).await?;
    Ok(())
}

/// All of them, the oldest first.
pub(super) async fn all(connection: &mut AnyConnection) -> Result<Vec<Answer>, sqlx::Error> {
    let query =
        "SELECT idempotency_key, request, at_ms, revision, summary, warnings FROM answer ORDER BY number";
    sqlx::query_as(query).fetch_all(connection).await
}
