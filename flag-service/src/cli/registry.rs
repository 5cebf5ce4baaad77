//! `rampart module …`: what the registry says of modules: states, how they came there, what stands against
//! a manifest.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, Failure};
use super::completion;
use super::output::{items, table, text};
use crate::yaml::{Node, Unreadable};

#[derive(Debug, Subcommand)]
pub(super) enum Registry {
    /// Look at the folder of manifests now, and register again what was removed otherwise
    Discover,
    /// A module's state and health
    Status {
        /// The module's id
        #[arg(add = completion::modules())]
        id: String,
    },
    /// States that modules entered, newest first
    History(History),
    /// Claims to routes that other modules have, and routes that overlap
    Conflicts,
    /// Try a manifest, and change nothing
    Check {
        /// The manifest, JSON or YAML
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct History {
    /// Only of this module
    #[arg(add = completion::modules())]
    id: Option<String>,
    /// At most so many, and at most 1000
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

impl Registry {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        const MANAGEMENT: &str = "module-management";
        const CONFLICTS: [&str; 3] = [MANAGEMENT, "routing", "conflicts"];
        match self {
            Self::Discover => {
                let answer = client.request(&[MANAGEMENT, "modules", "discover"]).await?;
                client.output.show(&answer, discovered)
            }
            Self::Status { id } => {
                let answer = client.get(&[MANAGEMENT, "modules", &id, "status"], &[]).await?;
                client.output.show(&answer, |answer| {
                    let health = text(&answer["health"]["status"]);
                    let row = [text(&answer["module_id"]), text(&answer["state"]), health];
                    table(["ID", "STATE", "HEALTH"], [row])
                })
            }
            Self::History(History { id, limit }) => {
                let limit = limit.to_string();
                let mut query = vec![("limit", limit.as_str())];
                query.extend(id.as_deref().map(|id| ("module", id)));
                let answer = client.get(&[MANAGEMENT, "modules", "registration-history"], &query).await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "events").iter().map(|event| {
                        ["at", "module", "to", "by", "reason"].map(|member| text(&event[member]))
                    });
                    table(["AT", "MODULE", "STATE", "BY", "REASON"], rows)
                })
            }
            Self::Conflicts => {
                let answer = client.get(&CONFLICTS, &[]).await?;
                client.output.show(&answer, |answer| {
                    let claims = items(answer, "conflicts").iter();
                    let mut lines: Vec<String> =
                        claims.map(|claim| format!("{}: {}", text(&claim["file"]), placed(claim))).collect();
                    lines.extend(items(answer, "overlaps").iter().map(|overlap| {
                        let side = |index: usize| {
                            format!(
                                "{} {}",
                                text(&overlap["modules"][index]),
                                text(&overlap["routes"][index])
                            )
                        };
                        format!("{} and {} overlap: the more specific one wins", side(0), side(1))
                    }));
                    if lines.is_empty() { "no conflicts".to_owned() } else { lines.join("\n") }
                })
            }
            Self::Check { file } => {
                let answer = client.submit(Method::POST, &CONFLICTS, Some(&read(&file)?), None).await?;
                let valid = answer["valid"] == true;
                client.output.show(&answer, |answer| {
                    let problems = ["conflicts", "errors"].into_iter();
                    let problems = problems.flat_map(|member| items(answer, member)).map(placed);
                    let lines: Vec<String> = problems.collect();
                    if valid { "it would be registered".to_owned() } else { lines.join("\n") }
                })?;
                if valid { Ok(()) } else { Err(Failure::Refused("it would be refused".to_owned())) }
            }
        }
    }
}

fn discovered(answer: &Value) -> String {
    let mut lines: Vec<String> = Vec::new();
    for member in ["registered", "validated", "unregistered"] {
        let ids: Vec<String> = items(answer, member).iter().map(text).collect();
        if !ids.is_empty() {
            lines.push(format!("{member}: {}", ids.join(", ")));
        }
    }
    lines.extend(
        items(answer, "errors").iter().map(|error| format!("{}: {}", text(&error["file"]), placed(error))),
    );
    lines.push(format!("{} manifests, revision {}", items(answer, "found").len(), answer["revision"]));
    lines.join("\n")
}

/// A problem with its place.
fn placed(problem: &Value) -> String {
    let mut words = String::new();
    if let Some(line) = problem["line"].as_u64() {
        words += &format!("line {line}: ");
    }
    if let Some(field) = problem["field"].as_str().filter(|field| !field.is_empty()) {
        words += &format!("{field}: ");
    }
    words + &text(&problem["problem"])
}

/// A manifest in a file.
pub(super) fn read(file: &Path) -> anyhow::Result<Value> {
    let name = file.display();
    let written = std::fs::read_to_string(file).with_context(|| name.to_string())?;
    let documents = Node::documents(&written);
    let documents =
        documents.map_err(|Unreadable { line, problem, .. }| anyhow::anyhow!("{name}:{line}: {problem}"))?;
    let [document] = &*documents else {
        bail!("{name}: a manifest is one document, and here are {}", documents.len())
    };
    Ok(document.value())
}
