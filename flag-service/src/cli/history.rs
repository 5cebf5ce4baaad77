//! `rampart history` and `rampart revert`

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, Failure};
use super::output::{items, table, text};

#[derive(Debug, Args)]
pub(super) struct History {
    /// How many changes, newest first, at most 100
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Only changes before this revision
    #[arg(long, value_name = "REVISION")]
    before: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Revert {
    /// The revision to go back to
    revision: u64,
}

impl History {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let limit = self.limit.to_string();
        let before = self.before.unwrap_or(u64::MAX).to_string();
        let answer = client.get(&["history"], &[("limit", &limit), ("before", &before)]).await?;
        client.output.show(&answer, |answer| {
            let rows = items(answer, "changes").iter().map(|change| {
                let (actor, reason) = (text(&change["actor"]), text(&change["reason"]));
                [text(&change["revision"]), when(&change["at_ms"]), actor, text(&change["summary"]), reason]
            });
            table(["REVISION", "WHEN (UTC)", "WHO", "WHAT", "WHY"], rows)
        })
    }
}

impl Revert {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        client.change(Method::POST, &["revert", &self.revision.to_string()], None).await
    }
}

/// A moment as `2026-11-21 08:30:00`.
fn when(ms: &Value) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms.as_i64().unwrap_or_default()).unwrap_or_default();
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
