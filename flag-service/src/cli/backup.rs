//! `rampart backup` and `rampart restore`: on files, without the flag service.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::client::Failure;
use super::output::Output;
use crate::store::{self, Chain};

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Where the copy goes; refused where there is a file already
    file: PathBuf,
    /// The database, whether a flag service has it open or not
    #[arg(long, env = "RAMPART_DATABASE", default_value = "rampart.db", value_name = "FILE")]
    database: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    /// What it becomes. No flag service may have it open
    #[arg(long, env = "RAMPART_DATABASE", default_value = "rampart.db", value_name = "FILE")]
    database: PathBuf,
    /// Replace the database that is there
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let chain = store::backup(&self.database, &self.file).await?;
        show(output, &format!("{} is a backup", self.file.display()), &chain)
    }
}

impl Restore {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let chain = store::restore(&self.file, &self.database, self.force).await?;
        show(output, &format!("{} is restored", self.database.display()), &chain)
    }
}

fn show(output: Output, what: &str, chain: &Chain) -> Result<(), Failure> {
    let Chain { rows, head } = chain;
    output.show(&json!({"rows": rows, "head": head}), |_| format!("{what}: {rows} rows, head {head}"))
}
