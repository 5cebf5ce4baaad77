//! How the process starts, ends and fails, and where its output goes.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rampart::tls;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, Command};

use crate::command::{Ran, command, ran, run};
use crate::support::{Service, open};

/// A `rampart serve` of its own.
pub(crate) struct Serve {
    process: Child,
    /// Where the API is, by http.
    pub(crate) url: String,
    log: Lines<BufReader<ChildStderr>>,
}

impl Serve {
    /// Waits until it logs a line with this in it.
    pub(crate) async fn logs(&mut self, part: &str) -> String {
        loop {
            let line = self.log.next_line().await.unwrap();
            match line.unwrap_or_else(|| panic!("it ended without: {part}")) {
                line if line.contains(part) => return line,
                _ => {}
            }
        }
    }

    /// Stops it; what it has logged since it serves.
    pub(crate) async fn stop(mut self) -> String {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(self.process.wait().await.unwrap().success());
        let mut log = String::new();
        while let Some(line) = self.log.next_line().await.unwrap() {
            log = log + &line + "\n";
        }
        log
    }
}

#[tokio::test]
async fn serve_keeps_its_database_and_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let serve = serve(dir.path()).await;
    let status = run(dir.path(), &serve.url, &["status"]).await;
    assert!(status.stdout.starts_with("revision 0, 0 flags"), "{}{}", status.stdout, status.stderr);
    serve.stop().await;
    assert_eq!(open(dir.path()).await.head().revision, 0);
}

#[tokio::test]
async fn who_listens_to_events_does_not_keep_it_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let serve = serve(dir.path()).await;
    let made = run(dir.path(), &serve.url, &["key", "create", "page", "--role", "evaluator"]).await;
    tls::use_ring();
    let events = Client::new().get(format!("{}/ofrep/v1/events", serve.url)).bearer_auth(made.stdout.trim());
    let mut events = events.send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some(), "it listens");
    let stopped = tokio::time::timeout(Duration::from_secs(20), serve.stop());
    stopped.await.expect("it stops");
}

#[tokio::test]
async fn a_warning_is_logged_once() {
    let dir = tempfile::tempdir().unwrap();
    let serve = serve(dir.path()).await;
    for arguments in
        [&["flag", "create", "f", "--on", "jürgen"][..], &["flag", "set", "f", "--percentage", "5"]]
    {
        assert_eq!(run(dir.path(), &serve.url, arguments).await.code, Some(0));
    }
    let log = serve.stop().await;
    assert_eq!(log.matches("flags[f].organisations.on[0]: not ASCII").count(), 1, "{log}");
}

#[tokio::test]
async fn two_processes_on_one_database_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = tokio::join!(serve(dir.path()), serve(dir.path()));
    let created = run(dir.path(), &one.url, &["flag", "create", "f"]).await;
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let followed =
        async { while !run(dir.path(), &other.url, &["flag", "list"]).await.stdout.contains("\nf ") {} };
    tokio::time::timeout(Duration::from_secs(20), followed).await.expect("the other takes it up");
}

#[tokio::test]
async fn the_environment_gives_flags_their_first_values_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let serving = async |variables: &[(&str, &str)]| {
        let arguments = ["serve", "--http", "127.0.0.1:0", "--xds", "127.0.0.1:0"];
        let mut serve = command(dir.path(), "", &arguments);
        start({
            serve.envs(variables.iter().copied());
            serve
        })
        .await
    };
    let switches = async |serve: &Serve| {
        let arguments = ["flag", "list", "--output", "json"];
        let listed = run(dir.path(), &serve.url, &arguments).await.stdout;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let flags = listed["flags"].as_array().unwrap().clone();
        let on = |flag: &&Value| flag["percentage"] == 100 && flag["no_organisation"] == true;
        (
            flags.len(),
            flags.iter().filter(on).map(|flag| flag["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        )
    };
    let serve = serving(&[("MESSAGING_RETRY_LOGIC", "True"), ("MESSAGING_ALERTING", "false")]).await;
    let (made, on) = switches(&serve).await;
    assert_eq!((made, on.len()), (22, 9), "nine of the preset's are on, one more and one less: {on:?}");
    assert!(on.contains(&"RETRY_LOGIC_ENABLED".to_owned()) && !on.contains(&"ALERTING_ENABLED".to_owned()));
    let killed = run(dir.path(), &serve.url, &["disable-all", "--reason", "it burns"]).await;
    assert_eq!(killed.code, Some(0), "{}", killed.stderr);
    let kills = run(dir.path(), &serve.url, &["flag", "list"]).await.stdout;
    assert_eq!(kills.matches(" killed ").count(), 19, "three are there for safety: {kills}");
    let set = ["flag", "set", "RETRY_LOGIC_ENABLED", "--percentage", "5"];
    assert_eq!(run(dir.path(), &serve.url, &set).await.code, Some(0));
    let history = run(dir.path(), &serve.url, &["history"]).await.stdout;
    assert!(history.contains("first values of MESSAGING_* in the environment"), "{history}");
    serve.stop().await;

    // What an operator has changed since stays.
    let serve = serving(&[("MESSAGING_RETRY_LOGIC", "true"), ("MESSAGING_TYPO", "true")]).await;
    let kept = run(dir.path(), &serve.url, &["flag", "get", "RETRY_LOGIC_ENABLED", "--output", "json"]).await;
    let kept: Value = serde_json::from_str(&kept.stdout).unwrap();
    assert_eq!(json!([kept["percentage"], kept["killed"]]), json!([5, true]));
    let revision = run(dir.path(), &serve.url, &["history", "--output", "json"]).await.stdout;
    let revision: Value = serde_json::from_str(&revision).unwrap();
    assert_eq!(revision["changes"][0]["revision"], 3);
    serve.stop().await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_once_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    std::fs::write(dir.path().join("text"), "this is a text and no database at all".repeat(100)).unwrap();
    let in_use = "cannot be used: Address already in use (os error 98): end the process that listens there, or name \
                  another address";
    for (arguments, error) in [
        (["--http", &taken], format!("--http {taken} {in_use}")),
        (["--xds", &taken], format!("--xds {taken} {in_use}")),
        (
            ["--internal-listen", "127.0.0.1:10000"],
            "--internal-listen 127.0.0.1:10000 is --listen: name another address".to_owned(),
        ),
        (
            ["--database", "no/such/folder.db"],
            "--database no/such/folder.db: the database cannot be used: unable to open database file: the file and \
             its folder must be there and writable for this user"
                .to_owned(),
        ),
        (
            ["--database", "text"],
            "--database text: the database cannot be used: file is not a database: restore it from a backup, or name \
             another file"
                .to_owned(),
        ),
    ] {
        let mut all = vec!["serve"];
        if arguments[0] == "--internal-listen" {
            all.extend(arguments);
        }
        for (option, value) in [("--http", "127.0.0.1:0"), ("--xds", "127.0.0.1:0"), ("--database", "rampart.db")] {
            let value = if option == arguments[0] { arguments[1] } else { value };
            all.extend([option, value]);
        }
        let ran = run(dir.path(), "http://127.0.0.1:1", &all).await;
        assert_eq!((ran.code, ran.stderr), (Some(1), format!("error: {error}\n")));
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_a_failure() {
    let service = Service::start().await;
    let dir = service.dir.path().to_str().unwrap();
    let out = format!("{dir}/key");
    let token = ["token", "issue", "--key", &format!("{dir}/key/private-key.pem"), "--issuer", "i"];
    let full = "the answer cannot be written to stdout (a change that was asked for is made): No space left on device";
    for arguments in [
        &["flag", "create", "f"][..],
        &["flag", "list"],
        &["status", "--output", "json"],
        &["token", "key", "--out", &out],
        &token,
        &["--help"],
        &["flag", "--help"],
        &["--version"],
    ] {
        let device = File::options().write(true).open("/dev/full").unwrap();
        let ran = to(&service, arguments, device.into()).await;
        let said = format!("error: {full} (os error 28)\n");
        assert_eq!((ran.code, ran.stderr), (Some(1), said), "{arguments:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = to(&service, arguments, writer.into()).await;
        // What is done already was done by the round before.
        let refused = ran.stderr.contains("exists already");
        assert!(refused || (ran.code, ran.stderr.as_str()) == (Some(0), ""), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(service.writer.head().revision, 1);
}

#[tokio::test]
async fn a_refusal_that_cannot_be_written_still_shows_in_the_exit_code() {
    let service = Service::start().await;
    let device = File::options().write(true).open("/dev/full").unwrap();
    let mut command = command(service.dir.path(), &service.url, &["flag", "kill", "nobody"]);
    let status = command.stderr(device).status().await.unwrap();
    assert_eq!(status.code(), Some(1));
}

async fn to(service: &Service, arguments: &[&str], stdout: Stdio) -> Ran {
    ran(command(service.dir.path(), &service.url, arguments).stdout(stdout)).await
}

async fn serve(dir: &Path) -> Serve {
    serve_with(dir, &[]).await
}

pub(crate) async fn serve_with(dir: &Path, options: &[&str]) -> Serve {
    let arguments = ["serve", "--http", "127.0.0.1:0", "--xds", "127.0.0.1:0"];
    let arguments = [&arguments, options].concat();
    start(command(dir, "", &arguments)).await
}

/// Starts it, and waits until it serves.
async fn start(mut serve: Command) -> Serve {
    let mut process = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut line = String::new();
    while !line.contains("serving") {
        line = log.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended: {line}"));
    }
    let http = line.split_whitespace().find_map(|word| word.strip_prefix("http=")).expect(&line);
    Serve { url: format!("http://{http}"), process, log }
}
