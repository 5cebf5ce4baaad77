//! `rampart history`, its proof, and `rampart revert`

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, Failure};
use super::output::{items, table, text};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct History {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many changes, newest first, at most 100
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Only changes before this revision
    #[arg(long, value_name = "REVISION")]
    before: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove that no change was altered or removed: its number of rows and the hash of the newest
    Verify {
        /// A hash that an earlier proof ended with: proves also that nothing was cut off since
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Revert {
    /// The revision to go back to
    revision: u64,
}

impl History {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        if let Some(Command::Verify { head }) = &self.command {
            let query = head.as_deref().map(|head| ("head", head));
            let chain = client.get(&["history", "verify"], query.as_slice()).await?;
            return client
                .output
                .show(&chain, |chain| format!("OK: {} rows, head {}", chain["rows"], text(&chain["head"])));
        }
        let limit = self.limit.to_string();
        let before = self.before.map(|before| before.to_string());
        let mut query = vec![("limit", limit.as_str())];
        query.extend(before.as_deref().map(|before| ("before", before)));
        let answer = client.get(&["history"], &query).await?;
        client.output.show(&answer, |answer| {
            let rows = items(answer, "changes").iter().map(|change| {
                let [revision, actor, source, address, summary, reason] =
                    ["revision", "actor", "source", "address", "summary", "reason"]
                        .map(|member| text(&change[member]));
                let from = format!("{source} {address}").trim_end().to_owned();
                [revision, when(&change["at_ms"]), actor, from, summary, reason]
            });
            table(["REVISION", "WHEN (UTC)", "WHO", "FROM", "WHAT", "WHY"], rows)
        })
    }
}

impl Revert {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = ["revert", &self.revision.to_string()];
        client.change_seen(Method::POST, &path, &["status"], None).await
    }
}

/// A moment as `2026-11-21 08:30:00`.
fn when(ms: &Value) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms.as_i64().unwrap_or_default()).unwrap_or_default();
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
