//! The `rampart` command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rampart::cli::run().await
}
