//! How often, and when last, organisations used modules. Every process adds what it was told, so that the sum
//! is of all of them.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row as _};

use super::{Store, StoreError, within};

/// How an organisation used a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that the module served.
    pub requests: u64,
    /// When the last was told of, in milliseconds since the Unix epoch.
    pub last_ms: u64,
}

impl Usage {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// A module and an organisation.
pub type Pair = (String, String);

impl Store {
    /// Adds to what there is.
    ///
    /// # Errors
    ///
    /// When the database cannot be written; then nothing was added.
    pub async fn add_usage(&self, usages: &BTreeMap<Pair, Usage>) -> Result<(), StoreError> {
        within(async {
            let mut transaction = self.begin().await?;
            for (pair, usage) in usages {
                add(&mut transaction, pair, *usage).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// How organisations used a module.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn usage_of_module(&self, module: &str) -> Result<BTreeMap<Pair, Usage>, StoreError> {
        let query =
            sqlx::query("SELECT module, organisation, requests, last_ms FROM module_usage WHERE module = $1");
        read(within(async { Ok(query.bind(module).fetch_all(&self.pool).await?) }).await?)
    }

    /// How an organisation used modules.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn usage_of_organisation(
        &self,
        organisation: &str,
    ) -> Result<BTreeMap<Pair, Usage>, StoreError> {
        let query = sqlx::query(
            "SELECT module, organisation, requests, last_ms FROM module_usage WHERE organisation = $1",
        );
        read(within(async { Ok(query.bind(organisation).fetch_all(&self.pool).await?) }).await?)
    }
}

/// Every row, as it is.
pub(super) async fn copy(from: &mut AnyConnection, to: &mut AnyConnection) -> Result<(), StoreError> {
    let query = sqlx::query("SELECT module, organisation, requests, last_ms FROM module_usage");
    for (pair, usage) in read(query.fetch_all(from).await?)? {
        add(to, &pair, usage).await?;
    }
    Ok(())
}

async fn add(connection: &mut AnyConnection, pair: &Pair, usage: Usage) -> Result<(), sqlx::Error> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let query = sqlx::query(
        "INSERT INTO module_usage (module, organisation, requests, last_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (module, organisation) DO UPDATE SET
             requests = module_usage.requests + excluded.requests,
             last_ms = CASE WHEN excluded.last_ms > module_usage.last_ms
                            THEN excluded.last_ms ELSE module_usage.last_ms END",
    );
    let query = query.bind(&pair.0).bind(&pair.1).bind(count(usage.requests)).bind(count(usage.last_ms));
    query.execute(connection).await.map(drop)
}

fn read(rows: Vec<sqlx::any::AnyRow>) -> Result<BTreeMap<Pair, Usage>, StoreError> {
    let usage = |row: &sqlx::any::AnyRow| -> Result<_, sqlx::Error> {
        let number = |name| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
        let usage = Usage { requests: number("requests")?, last_ms: number("last_ms")? };
        Ok(((row.try_get("module")?, row.try_get("organisation")?), usage))
    };
    Ok(rows.iter().map(usage).collect::<Result<_, _>>()?)
}
