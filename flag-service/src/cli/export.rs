//! `rampart export`: everything there is, as `rampart apply` takes it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::output::{Output, items, print};
use crate::yaml;

/// A file for each kind.
const FILES: [(&str, &str); 6] = [
    ("settings", "settings.yaml"),
    ("segment", "segments.yaml"),
    ("provider", "providers.yaml"),
    ("flag", "flags.yaml"),
    ("module", "modules.yaml"),
    ("organisation_module", "organisation_modules.yaml"),
];

#[derive(Debug, Args)]
pub(super) struct Export {
    /// A folder for one file of each kind; unset: everything goes to stdout
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

impl Export {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let answer = client.get(&["export"], &[]).await?;
        let resources = items(&answer, "resources");
        let Some(folder) = self.to else {
            return match client.output {
                Output::Json => print(&format!("{:#}", answer["resources"])),
                Output::Table | Output::Yaml => print(documents(resources)?.trim_end()),
            };
        };
        let named = || folder.display().to_string();
        fs::create_dir_all(&folder).with_context(named)?;
        let files = FILES.map(|(kind, file)| (kind, folder.join(file)));
        // All are looked at first, so that there is never half an export.
        if let Some((_, file)) = files.iter().find(|(_, file)| !self.force && file.exists()) {
            let todo = "is there already: name another folder, or replace it with --force";
            return Err(anyhow!("{} {todo}", file.display()).into());
        }
        for (kind, file) in &files {
            let of_kind = resources.iter().filter(|resource| resource["kind"] == *kind);
            let text = documents(of_kind)?;
            fs::write(file, text).with_context(|| file.display().to_string())?;
        }
        let written = json!({"revision": answer["revision"], "files": files.map(|(_, file)| file)});
        let count = resources.len();
        client.output.show(&written, |_| {
            format!(
                "{count} resources of revision {} are written to {}",
                answer["revision"],
                folder.display()
            )
        })
    }
}

/// One document after the other.
fn documents<'a>(resources: impl IntoIterator<Item = &'a Value>) -> anyhow::Result<String> {
    let written = resources.into_iter().map(yaml::write).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(written.join("---\n"))
}
