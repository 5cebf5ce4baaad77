//! `rampart module …`

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, Failure};
use super::completion;
use super::organisation::{Organisation, modules_of};
use super::output::{items, table, text};
use super::registry::{self, Registry};

#[derive(Debug, Subcommand)]
pub(super) enum Module {
    /// All modules
    List {
        /// Whether this organisation may use them
        #[arg(long, value_name = "ORGANISATION")]
        organisation: Option<String>,
    },
    /// One module
    Get {
        /// The module's id
        #[arg(add = completion::modules())]
        id: String,
    },
    /// Register a module, or a new version of its manifest
    Register {
        /// The manifest, JSON or YAML
        file: PathBuf,
    },
    /// Remove a module
    Remove {
        /// The module's id
        #[arg(add = completion::modules())]
        id: String,
        /// Also where other modules depend on it
        #[arg(long)]
        force: bool,
    },
    #[command(flatten)]
    Organisation(Organisation),
    #[command(flatten)]
    Registry(Registry),
}

impl Module {
    pub(super) async fn run(self, client: &mut Client) -> Result<(), Failure> {
        const MODULES: [&str; 2] = ["module-management", "modules"];
        let one = |id: &str| [MODULES[0], MODULES[1], id].map(str::to_owned);
        match self {
            Self::List { organisation: Some(organisation) } => modules_of(client, &organisation).await,
            Self::List { organisation: None } => {
                let answer = client.list(&MODULES, "modules").await?;
                client.output.show(&answer, |answer| {
                    let rows = items(answer, "modules").iter().map(|module| {
                        let path = format!(
                            "/api/v1/modules/{}/{}",
                            text(&module["version"]),
                            text(&module["namespace"])
                        );
                        [text(&module["id"]), path, text(&module["auth"]["level"]), place(module)]
                    });
                    table(["ID", "PATH", "AUTH", "ENDPOINTS"], rows)
                })
            }
            Self::Get { id } => {
                let answer = client.get(&one(&id).each_ref().map(String::as_str), &[]).await?;
                client.output.show(&answer, |answer| format!("{answer:#}"))
            }
            Self::Register { file } => {
                let manifest = registry::read(&file)?;
                let id = manifest.get("id").or_else(|| manifest.get("module_id"));
                let seen = one(id.and_then(|id| id.as_str()).unwrap_or_default());
                let seen = seen.each_ref().map(String::as_str);
                client.change_seen(Method::POST, &MODULES, &seen, Some(&manifest)).await
            }
            Self::Organisation(command) => command.run(client).await,
            Self::Registry(command) => command.run(client).await,
            Self::Remove { id, force } => {
                client.force = force;
                let path = one(&id);
                let path = path.each_ref().map(String::as_str);
                client.change_seen(Method::DELETE, &path, &path, None).await
            }
        }
    }
}

/// Where a module runs: its endpoints, or the cluster that others define.
pub(super) fn place(module: &Value) -> String {
    text(module.get("endpoints").unwrap_or(&module["cluster"]))
}
