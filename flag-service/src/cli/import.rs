//! `rampart import …`: flags of other systems, read here and applied as one change.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use rampart_engine::policy::Problem;
use reqwest::Method;
use serde_json::{Value, json};

use super::apply;
use super::client::{Client, Failure};
use super::files::resource;
use super::output::{complain, items};
use crate::imported::Rebucketing;
use crate::model::Flag;
use crate::{flagd, unleash};

#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// A flagd definition
    Flagd(Source),
    /// An export of Unleash, or what its clients are sent
    Unleash {
        #[command(flatten)]
        source: Source,
        /// The field of Unleash's context that names the organisation
        #[arg(long, default_value = "organizationId", value_name = "FIELD")]
        organisation_field: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Source {
    /// JSON
    file: PathBuf,
    /// Keep percentages though they will be of other organisations; else such flags begin at 0 %
    #[arg(long)]
    accept_rebucketing: bool,
    /// Also change flags that exist already
    #[arg(long)]
    replace: bool,
}

impl Import {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (source, organisation) = match &self {
            Self::Flagd(source) => (source, None),
            Self::Unleash { source, organisation_field } => (source, Some(organisation_field)),
        };
        let file = &source.file;
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        let sent: Value =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", file.display()))?;
        let rebucketing = if source.accept_rebucketing { Rebucketing::Accept } else { Rebucketing::FromZero };
        let imported = match organisation {
            None => flagd::import(&sent, rebucketing),
            Some(field) => unleash::import(&sent, field, rebucketing),
        };
        let imported = imported.map_err(|problems| senseless(file, &problems))?;
        for note in &imported.notes {
            let left_out = if note.left_out { "left out: " } else { "" };
            complain(format_args!("note: {}: {left_out}{}", note.flag, note.note));
        }
        if imported.flags.is_empty() {
            return Err(Failure::Refused(format!("{}: it has no flag that can be taken", file.display())));
        }
        let known = client.list(&["flags"], "flags").await?;
        let exists = |flag: &&Flag| items(&known, "flags").iter().any(|known| known["key"] == flag.key);
        let taken: Vec<&str> = imported.flags.iter().filter(exists).map(|flag| flag.key.as_str()).collect();
        if let (false, false) = (taken.is_empty(), source.replace) {
            let taken = taken.join(", ");
            return Err(Failure::Refused(format!(
                "these flags exist already: {taken}; to change them, add --replace"
            )));
        }
        // As one change: half an import would be a state that nobody has asked for.
        let body = json!({"resources": imported.flags.iter().map(resource).collect::<Vec<_>>()});
        let seen = format!("\"{}\"", known["revision"]);
        let condition = Some(("if-match", seen.as_str()));
        let answer = client.submit(Method::POST, &["apply"], Some(&body), condition).await?;
        if client.dry_run { apply::differences(client, &answer) } else { apply::made(client, &answer).await }
    }
}

fn senseless(file: &Path, problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::Refused(format!("{}: {}", file.display(), lines.join("\n       ")))
}
