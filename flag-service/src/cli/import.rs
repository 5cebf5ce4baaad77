//! `rampart import …`: flags of other systems, read here and made through the API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use rampart_engine::flag::Flags;
use rampart_engine::policy::Problem;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::output::{complain, items};
use crate::imported::{Import as Imported, Rebucketing};
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
        let flags = in_order(imported, client, source).await?;
        if client.dry_run {
            // The service would try each by itself, without those that it needs.
            return client.output.show(&json!({"applied": false, "flags": flags}), |_| {
                let lines = flags
                    .iter()
                    .map(|flag| format!("not applied: flag {} at {} %", flag.key, flag.percentage));
                lines.collect::<Vec<_>>().join("\n")
            });
        }
        for flag in &flags {
            let body = serde_json::to_value(flag).context("a flag as JSON")?;
            let path = ["flags", flag.key.as_str()];
            if source.replace {
                client.change_seen(Method::PUT, &path, &path, Some(&body)).await?;
            } else {
                client.create(&path, &body).await?;
            }
        }
        Ok(())
    }
}

fn senseless(file: &Path, problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::Refused(format!("{}: {}", file.display(), lines.join("\n       ")))
}

/// The flags in an order in which each can be made, once it is sure that all of them can: half an import
/// would be a state that nobody has asked for.
async fn in_order(imported: Imported, client: &Client, source: &Source) -> Result<Vec<Flag>, Failure> {
    let answer = client.list(&["flags"], "flags").await?;
    let known = items(&answer, "flags").iter().map(|flag| serde_json::from_value(flag.clone()));
    let known: Vec<Flag> = known.collect::<Result<_, _>>().context("the service's flags")?;
    let mut after: BTreeMap<String, Flag> = known.into_iter().map(|flag| (flag.key.clone(), flag)).collect();
    let taken: Vec<&str> =
        imported.flags.iter().map(|flag| flag.key.as_str()).filter(|key| after.contains_key(*key)).collect();
    if let (false, false) = (taken.is_empty(), source.replace) {
        let taken = taken.join(", ");
        return Err(Failure::Refused(format!(
            "these flags exist already: {taken}; to change them, add --replace"
        )));
    }
    after.extend(imported.flags.iter().map(|flag| (flag.key.clone(), flag.clone())));
    let all: Vec<Flag> = after.into_values().collect();
    Flags::new(&all).map_err(|problems| senseless(&source.file, &problems))?;
    let mut left = imported.flags;
    let mut ordered: Vec<Flag> = Vec::with_capacity(left.len());
    // What they need leads in no circle, so each round finds some.
    while !left.is_empty() {
        let waits = |flag: &Flag| {
            flag.prerequisites.iter().any(|needed| left.iter().any(|other| other.key == needed.flag))
        };
        let (later, now): (Vec<Flag>, Vec<Flag>) = left.iter().cloned().partition(waits);
        ordered.extend(now);
        left = later;
    }
    Ok(ordered)
}
