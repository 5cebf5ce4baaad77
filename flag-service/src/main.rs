//! The `rampart` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    rampart::cli::complete();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    rampart::cli::run().await
}
