//! `rampart backup` and `rampart restore`: on databases, without the flag service.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::client::Failure;
use super::output::Output;
use crate::store::{self, Chain, Database};

/// Where the database is. Whatever is given is taken, and not shown: it may hold a password.
#[derive(Debug, Args)]
pub(super) struct DatabaseOption {
    /// The database: a SQLite file, or postgres://USER@HOST/DATABASE. A URL with a password belongs into
    /// the environment, since command lines are for all to see
    #[arg(
        long,
        env = "RAMPART_DATABASE",
        hide_env_values = true,
        default_value = "rampart.db",
        value_name = "FILE|URL"
    )]
    pub(super) database: Database,
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Where the copy goes, which is a SQLite file; refused where there is a file already
    file: PathBuf,
    #[command(flatten)]
    database: DatabaseOption,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    database: DatabaseOption,
    /// Replace the file that is there. No flag service may have it open
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let chain = store::backup(&self.database.database, &self.file).await?;
        show(output, &format!("{} is a backup", self.file.display()), &chain)
    }
}

impl Restore {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let chain = store::restore(&self.file, &self.database.database, self.force).await?;
        show(output, &format!("{} is restored", self.database.database), &chain)
    }
}

fn show(output: Output, what: &str, chain: &Chain) -> Result<(), Failure> {
    let Chain { rows, head } = chain;
    output.show(&json!({"rows": rows, "head": head}), |_| format!("{what}: {rows} rows, head {head}"))
}
