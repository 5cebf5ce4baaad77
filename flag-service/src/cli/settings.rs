//! `rampart settings …`

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::client::{Client, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Settings {
    /// The settings
    Get,
    /// Change settings; what is not named stays
    Set(Set),
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// Where the application runs that serves what modules do not; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    legacy: Vec<String>,
    /// Clusters that Envoy's bootstrap defines and effects may name; may be repeated, empty to clear
    #[arg(long = "cluster", value_name = "NAME")]
    clusters: Vec<String>,
    /// What happens to paths outside /api/v1/modules/: pass or deny
    #[arg(long, value_name = "pass|deny")]
    default: Option<String>,
    /// Roles that satisfy the auth level `admin`; may be repeated
    #[arg(long = "admin-role", value_name = "ROLE")]
    admin_roles: Vec<String>,
    /// Whose tokens the API takes, and which roles they give: a JSON file with a list, empty to clear
    #[arg(long, value_name = "FILE")]
    issuers: Option<PathBuf>,
}

impl Settings {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (mut settings, tag) = client.get_tagged(&["settings"]).await?;
        let Self::Set(set) = self else {
            return client.output.show(&settings, |settings| format!("{settings:#}"));
        };
        if !set.legacy.is_empty() {
            settings["legacy"] = json!(set.legacy);
        }
        if !set.clusters.is_empty() {
            let named: Vec<String> = set.clusters.into_iter().filter(|name| !name.is_empty()).collect();
            settings["clusters"] = json!(named);
        }
        if let Some(default) = set.default {
            settings["default"] = json!(default);
        }
        if !set.admin_roles.is_empty() {
            settings["admin_roles"] = json!(set.admin_roles);
        }
        if let Some(file) = set.issuers {
            let text = fs::read(&file).with_context(|| file.display().to_string())?;
            settings["issuers"] =
                serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
        }
        client.change_based_on(Method::PUT, &["settings"], Some(&settings), tag.as_deref()).await
    }
}
