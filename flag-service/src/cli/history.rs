//! `rampart history`, its proof, and `rampart revert`

use std::collections::VecDeque;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize as _;
use serde_json::Value;

use super::client::{Client, Failure};
use super::output::{items, table, text};
use crate::model::Edit;

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
        client.output.show(&answer, |answer| listed(items(answer, "changes")))
    }
}

impl Revert {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = ["revert", &self.revision.to_string()];
        client.change_seen(Method::POST, &path, &["status"], None).await
    }
}

/// Changes, newest first, a page at a time.
pub(super) struct Changes<'a> {
    client: &'a Client,
    page: VecDeque<Value>,
    /// Where the next page begins; none: at the newest.
    before: Option<u64>,
    ended: bool,
}

impl<'a> Changes<'a> {
    /// The changes before a revision, or all of them.
    pub(super) const fn before(client: &'a Client, revision: Option<u64>) -> Self {
        Self { client, page: VecDeque::new(), before: revision, ended: false }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        if self.page.is_empty() && !self.ended {
            let before = self.before.map(|revision| revision.to_string());
            let query = before.as_deref().map(|before| ("before", before));
            let answer = self.client.get(&["history"], query.as_slice()).await?;
            self.before = answer["next"].as_u64();
            self.ended = self.before.is_none();
            self.page = items(&answer, "changes").iter().cloned().collect();
        }
        Ok(self.page.pop_front())
    }

    /// The next that is about a flag, with nothing else in it.
    pub(super) async fn next_of_flag(&mut self, key: &str) -> Result<Option<Value>, Failure> {
        while let Some(mut change) = self.next().await? {
            let edits =
                items(&change, "edits").iter().filter(|edit| edit["kind"] == "flag" && edit["name"] == key);
            let edits: Vec<Value> = edits.cloned().collect();
            if let Some(edit) = edits.first() {
                if let Ok(edit) = Edit::deserialize(edit) {
                    change["summary"] = edit.to_string().into();
                }
                change["edits"] = edits.into();
                return Ok(Some(change));
            }
        }
        Ok(None)
    }
}

/// Changes for people.
pub(super) fn listed(changes: &[Value]) -> String {
    let rows = changes.iter().map(|change| {
        let [revision, actor, source, address, summary, reason] =
            ["revision", "actor", "source", "address", "summary", "reason"]
                .map(|member| text(&change[member]));
        let from = format!("{source} {address}").trim_end().to_owned();
        [revision, when(&change["at_ms"]), actor, from, summary, reason]
    });
    table(["REVISION", "WHEN (UTC)", "WHO", "FROM", "WHAT", "WHY"], rows)
}

/// A moment as `2026-11-21 08:30:00`.
pub(super) fn when(ms: &Value) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms.as_i64().unwrap_or_default()).unwrap_or_default();
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
