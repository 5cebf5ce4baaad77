//! `rampart flag preview`: what a change of a flag would mean, before it is made.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::files::lines;
use super::flag::Members;
use super::output::{Paint, items, named, paint, text};

#[derive(Debug, Args)]
pub(super) struct Preview {
    #[command(flatten)]
    members: Members,
    /// Organisations to look at besides those that flags name, one a line, `-` for stdin
    #[arg(long, value_name = "FILE")]
    organisations: Option<PathBuf>,
}

impl Preview {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (key, patch) = self.members.json();
        let organisations = self.organisations.as_deref().map(lines).transpose()?.unwrap_or_default();
        let body = json!({"patch": patch, "organisations": organisations});
        let path = ["flags", key.as_str(), "preview"];
        let preview = client.submit(Method::POST, &path, Some(&body), None).await?;
        client.output.show(&preview, |preview| {
            let flags = items(preview, "flags").iter().flat_map(moves);
            let summary = format!("at revision {}: {}", preview["revision"], text(&preview["summary"]));
            std::iter::once(summary).chain(flags).collect::<Vec<_>>().join("\n")
        })
    }
}

/// Lines about one flag; the sign says what the colour does.
fn moves(flag: &Value) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", text(&flag["flag"]), text(&flag["summary"]))];
    for (sign, colour, names, count) in
        [('+', Paint::Good, "joins", "joining"), ('-', Paint::Bad, "leaves", "leaving")]
    {
        let count = flag[count].as_u64().unwrap_or_default();
        if count > 0 {
            lines.push(paint(colour, &format!("  {sign} {}", named(items(flag, names), count))));
        }
    }
    if flag["other_variant"] != 0 {
        lines.push(paint(Paint::Odd, &format!("  ~ {} with another variant", flag["other_variant"])));
    }
    lines
}
