//! The `rampart` command: `serve`, and everything else over the same API that anyone can call.

mod apply;
mod backup;
mod client;
mod completion;
mod connection;
mod deny;
mod emergency;
mod envoys;
mod export;
mod files;
mod flag;
mod history;
mod import;
mod key;
mod module;
mod organisation;
mod output;
mod people;
mod preview;
mod provider;
mod registry;
mod segment;
mod serve;
mod settings;
mod status;
mod token;
mod top;
mod validate;
mod wait;

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use client::{Client, Failure};
pub use completion::complete;
use output::{Output, answered, complain};

/// Who is calling, what is switched on for their organisation, and which module serves them:
/// decided inside Envoy, changed live from here.
#[derive(Debug, Parser)]
#[command(name = "rampart", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or the answer cannot be written: the reason is on stderr
  2  the command line makes no sense
  3  the flag service cannot be reached
  4  there are differences: said by `diff`, and by `apply` and `import` with --dry-run
  5  the change is made, and with --wait: not every connected Envoy has it
  6  somebody else has changed the same meanwhile: nothing was changed";

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    /// The flag service
    #[arg(
        long,
        global = true,
        env = "RAMPART_API",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    api: String,
    #[command(flatten)]
    connection: connection::Connection,
    /// How answers are written
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    /// For whom the bearer of an API key asks, for the history
    #[arg(long, global = true, env = "USER", default_value = "", hide_default_value = true, hide_env = true)]
    actor: String,
    /// Why, for the history
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    reason: String,
    /// Only say what would change
    #[arg(long, global = true)]
    dry_run: bool,
    /// After a change, wait until every connected Envoy has accepted it
    #[arg(long, global = true)]
    wait: bool,
    /// How long Envoys are waited for
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS")]
    wait_timeout: u64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the flag service
    Serve(Box<serve::Serve>),
    /// Feature flags
    #[command(subcommand)]
    Flag(flag::Flag),
    /// Named lists of organisations, which flags name as `segment:NAME`
    #[command(subcommand)]
    Segment(segment::Segment),
    /// One organisation, across all flags
    #[command(subcommand)]
    Organisation(people::Person),
    /// One subject, across all flags
    #[command(subcommand)]
    Subject(people::Person),
    /// Kill every flag but those for safety, as one change; --reason must say why
    DisableAll,
    /// Take back what `disable-all` has killed; --reason must say why
    RestoreAll,
    /// Flags of other systems
    #[command(subcommand)]
    Import(import::Import),
    /// Modules
    #[command(subcommand)]
    Module(module::Module),
    /// Token issuers and their keys
    #[command(subcommand)]
    Provider(provider::Provider),
    /// Who is refused though their token is good
    #[command(subcommand)]
    Deny(deny::Deny),
    /// API keys: who may ask the flag service
    #[command(subcommand)]
    Key(key::Key),
    /// What there is one of: the legacy application, admin roles, paths outside the modules
    #[command(subcommand)]
    Settings(settings::Settings),
    /// What was changed, when, by whom and why
    History(history::History),
    /// Go back to what was true at an older revision
    Revert(history::Revert),
    /// Make what files say true: all of it, as one change, or none
    Apply(apply::Apply),
    /// What `apply` would change, or what was changed since a revision
    Diff(apply::Diff),
    /// Write everything there is as files for `apply`
    Export(export::Export),
    /// Copy the database, also while it is served
    Backup(backup::Backup),
    /// Make a backup the database
    Restore(backup::Restore),
    /// The service and the Envoys that follow it
    Status,
    /// The Envoys that are or were connected: how far behind they are, and what they refuse
    Envoys,
    /// Watch revision, Envoys, flags, modules and changes; press ? for the keys
    Top(top::Top),
    /// Wait until every connected Envoy has accepted a revision
    Wait(wait::Wait),
    /// Tokens for development
    #[command(subcommand)]
    Token(token::Token),
    /// Check a policy file as the filter would
    Validate(validate::Validate),
    /// Print a script that has a shell complete commands and names
    Completion(completion::Completion),
}

/// The command line, for who documents it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line; the process's exit code.
pub async fn run() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(other) => return help(&other),
    };
    let mut client = Client::new(&global);
    let done = match command {
        Command::Serve(command) => command.run().await,
        Command::Flag(command) => command.run(&client).await,
        Command::Segment(command) => command.run(&client).await,
        Command::Organisation(command) => command.run(&client, "organisations").await,
        Command::Subject(command) => command.run(&client, "subjects").await,
        Command::DisableAll => emergency::disable(&client).await,
        Command::RestoreAll => emergency::restore(&client).await,
        Command::Import(command) => command.run(&client).await,
        Command::Module(command) => command.run(&mut client).await,
        Command::Provider(command) => command.run(&client).await,
        Command::Deny(command) => command.run(&client).await,
        Command::Key(command) => command.run(&client).await,
        Command::Settings(command) => command.run(&client).await,
        Command::History(command) => command.run(&client).await,
        Command::Revert(command) => command.run(&client).await,
        Command::Backup(command) => command.run(global.output).await,
        Command::Restore(command) => command.run(global.output).await,
        Command::Apply(command) => command.run(&client).await,
        Command::Diff(command) => command.run(&client).await,
        Command::Export(command) => command.run(&client).await,
        Command::Status => status::run(&client).await,
        Command::Envoys => envoys::run(&client).await,
        Command::Top(command) => command.run(&client).await,
        Command::Wait(command) => command.run(&client).await,
        Command::Token(command) => command.run(global.output),
        Command::Validate(command) => command.run(global.output),
        Command::Completion(command) => command.run(global.output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Different) => failure.exit_code(),
        Err(failure) => {
            complain(format_args!("error: {failure}"));
            failure.exit_code()
        }
    }
}

/// What was asked for is help or the version; or the command line makes no sense.
fn help(other: &clap::Error) -> ExitCode {
    let printed = other.print().and_then(|()| stdout().flush());
    match answered(printed) {
        Err(failure) if !other.use_stderr() => {
            complain(format_args!("error: {failure}"));
            failure.exit_code()
        }
        _ => ExitCode::from(u8::try_from(other.exit_code()).unwrap_or(2)),
    }
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreachable(_) => ExitCode::from(3),
            Self::Different => ExitCode::from(4),
            Self::NotEverywhere(_) => ExitCode::from(5),
            Self::Conflict(_) => ExitCode::from(6),
            Self::Refused(_) | Self::Local(_) | Self::Unwritten(_) => ExitCode::from(1),
        }
    }
}
