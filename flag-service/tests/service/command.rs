//! What `rampart` prints, and how it exits.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{Service, argument};

pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[tokio::test]
async fn a_flag_is_created_raised_killed_and_explained() {
    let service = Service::start().await;
    service.prints(&["flag", "create", "f"], "revision 1: flag f added\n").await;
    let set = ["flag", "set", "f", "--percentage", "25", "--on", "acme"];
    let said = service.run(&set).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("percentage 0 → 25"), "{}", said.stdout);
    service
        .prints(&["flag", "kill", "f", "--reason", "it burns"], "revision 3: flag f: killed false → true\n")
        .await;
    let explain = ["flag", "explain", "f", "--organisation", "acme"];
    service.prints(&explain, "off: the flag is killed (revision 3)\n").await;
    service.run(&["flag", "restore", "f"]).await;
    service.prints(&explain, "on: organisation `acme` is named `on` (revision 4)\n").await;
    service.prints(&["flag", "list"], "KEY  STATE  PERCENTAGE  DESCRIPTION\nf    live   25\n").await;
    let history = service.json(&["history", "--output", "json", "--limit", "2"]).await;
    let killed = &history["changes"][1];
    let said = json!([killed["actor"], killed["source"], killed["reason"]]);
    assert_eq!(said, json!(["key/local for amina", "cli", "it burns"]));
}

#[tokio::test]
async fn a_refusal_prints_field_and_problem_and_exits_with_1() {
    let service = Service::start().await;
    let refused = service.run(&["flag", "create", "f", "--percentage", "130"]).await;
    assert_eq!(refused.stderr, "error: percentage: 130 is not a percentage: 0 to 100 is allowed\n");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    // In a URL this would be the list of all flags.
    let no_name = service.run(&["flag", "get", ".."]).await;
    assert_eq!((no_name.code, no_name.stderr.as_str()), (Some(1), "error: `..` is no name\n"));
    let missing = service.run(&["flag", "kill", "nobody"]).await;
    assert_eq!((missing.code, missing.stderr.as_str()), (Some(1), "error: there is no flag `nobody`\n"));
    assert_eq!(service.writer.head().revision, 0);
}

#[tokio::test]
async fn what_is_no_command_exits_with_2_and_a_service_that_is_away_with_3() {
    let service = Service::start().await;
    assert_eq!(service.run(&["flag", "sett", "f"]).await.code, Some(2));
    assert_eq!(service.run(&["flag", "set", "f", "--percentage", "many"]).await.code, Some(2));
    // Taken and never answering: nobody listens any more once it is dropped.
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ran = run(service.dir.path(), &format!("http://{away}"), &["status"]).await;
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.starts_with(&format!("error: the flag service at http://{away} cannot be reached")));
}

#[tokio::test]
async fn create_makes_and_set_changes() {
    let service = Service::start().await;
    service
        .prints(&["flag", "create", "reports", "--percentage", "5"], "revision 1: flag reports added\n")
        .await;
    let again = service.run(&["flag", "create", "reports"]).await;
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (
            Some(1),
            "error: the flag `reports` exists already; to change a flag, PATCH it, or use `rampart flag set`\n"
        )
    );
    let typo = service.run(&["flag", "set", "report", "--percentage", "50"]).await;
    assert_eq!(typo.code, Some(1));
    assert!(typo.stderr.contains("did you mean `reports`?") && typo.stderr.contains("rampart flag create"));
    assert_eq!(service.writer.head().revision, 1);
}

#[tokio::test]
async fn a_dry_run_says_that_nothing_was_done() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let said = "not applied, tried at revision 1: flag f: percentage 25 → 50\n";
    service.prints(&["flag", "set", "f", "--percentage", "50", "--dry-run"], said).await;
}

#[tokio::test]
async fn warnings_go_to_stderr() {
    let service = Service::start().await;
    let ran = service.run(&["flag", "create", "f", "--on", "jürgen"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "revision 1: flag f added\n"));
    assert!(ran.stderr.starts_with("warning: organisations.on[0]: not ASCII"), "{}", ran.stderr);
    let status = service.run(&["status"]).await;
    assert!(
        status.stderr.starts_with("warning: flags[f].organisations.on[0]: not ASCII"),
        "{}",
        status.stderr
    );
}

#[tokio::test]
async fn modules_are_registered_listed_and_removed() {
    let service = Service::start().await;
    let file = service.dir.path().join("module.json");
    fs::write(&file, r#"{"id": "analytics_core", "endpoints": ["127.0.0.1:9001"]}"#).unwrap();
    let file = file.to_str().unwrap();
    service.prints(&["module", "register", file], "revision 1: module analytics_core added\n").await;
    let list = service.run(&["module", "list"]).await.stdout;
    assert!(
        list.contains("analytics_core  /api/v1/modules/v1/analytics-core  basic  127.0.0.1:9001"),
        "{list}"
    );
    service
        .prints(&["module", "remove", "analytics_core"], "revision 2: module analytics_core removed\n")
        .await;
    let reverted = service.run(&["revert", "1"]).await.stdout;
    assert_eq!(reverted, "revision 3: back to revision 1: module analytics_core added\n");
}

#[tokio::test]
async fn settings_that_are_not_named_stay() {
    let service = Service::start().await;
    service.run(&["settings", "set", "--legacy", "127.0.0.1:9000"]).await;
    service.run(&["settings", "set", "--default", "deny"]).await;
    let settings = service.json(&["settings", "get", "--output", "json"]).await;
    let expected = json!({"default": "deny", "admin_roles": ["admin"], "legacy": ["127.0.0.1:9000"]});
    assert_eq!(settings, expected);
    service.run(&["settings", "set", "--cluster", "own", "--cluster", "other"]).await;
    let settings = service.json(&["settings", "get", "--output", "json"]).await;
    assert_eq!(settings["clusters"], json!(["own", "other"]));
    service.run(&["settings", "set", "--cluster", ""]).await;
    assert_eq!(service.json(&["settings", "get", "--output", "json"]).await, expected);
}

#[tokio::test]
async fn a_development_key_signs_tokens_that_its_provider_accepts() {
    let service = Service::start().await;
    let dir = service.dir.path().to_str().unwrap().to_owned();
    let (key, jwks) = (format!("{dir}/private-key.pem"), format!("{dir}/jwks.json"));
    assert_eq!(service.run(&["token", "key", "--out", &dir]).await.code, Some(0));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = (fs::read(&key).unwrap(), fs::read(&jwks).unwrap());
    let refused = async |file: &str| {
        let again = service.run(&["token", "key", "--out", &dir]).await;
        let todo = "exists already: move it away, or name another folder with --out";
        assert_eq!((again.code, again.stderr), (Some(1), format!("error: {file} {todo}\n")));
    };
    refused(&key).await;
    // What a provider is set from is never overwritten either, and no key is left that does not fit.
    fs::rename(&key, format!("{dir}/away")).unwrap();
    refused(&jwks).await;
    assert!(!fs::exists(&key).unwrap());
    fs::rename(format!("{dir}/away"), &key).unwrap();
    assert_eq!((fs::read(&key).unwrap(), fs::read(&jwks).unwrap()), before);
    let provider = ["provider", "set", "main", "--issuer", "https://issuer.example", "--jwks", &jwks];
    let set = service.run(&provider).await;
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    let issue =
        ["token", "issue", "--key", &key, "--issuer", "https://issuer.example", "--organisation", "acme"];
    let token = service.run(&issue).await.stdout;
    let published: Value = serde_json::from_slice(&fs::read(&jwks).unwrap()).unwrap();
    let public = jwt_simple::algorithms::RS256PublicKey::from_jwk(&published["keys"][0].to_string()).unwrap();
    let claims = jwt_simple::algorithms::RSAPublicKeyLike::verify_token::<Value>(&public, token.trim(), None);
    assert_eq!(claims.unwrap().custom["org_id"], "acme");
}

#[tokio::test]
async fn validate_names_every_problem() {
    let service = Service::start().await;
    let file = service.dir.path().join("policy.json");
    let policy = json!({"schema": 1, "flags": [{"key": "a b"}, {"key": "f"}, {"key": "f"}]});
    fs::write(&file, policy.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let ran = service.run(&["validate", file]).await;
    assert_eq!(ran.code, Some(1));
    for field in ["flags[a b].key", "flags[f].key"] {
        assert!(ran.stderr.contains(field), "{}", ran.stderr);
    }
    fs::write(file, r#"{"schema": 1}"#).unwrap();
    assert_eq!(service.run(&["validate", file]).await.code, Some(0));
}

impl Service {
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        run(self.dir.path(), &self.url, arguments).await
    }

    pub(crate) async fn prints(&self, arguments: &[&str], stdout: &str) {
        let ran = self.run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), stdout), "{}", ran.stderr);
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).await.stdout).unwrap()
    }
}

pub(crate) async fn run(dir: &Path, api: &str, arguments: &[&str]) -> Ran {
    ran(command(dir, api, arguments).stdout(Stdio::piped())).await
}

pub(crate) fn command(dir: &Path, api: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rampart"));
    command
        .args(arguments)
        .current_dir(dir)
        .env("RAMPART_API", api)
        .env("RAMPART_DATABASE", argument(dir))
        .env("USER", "amina")
        .env("XDG_STATE_HOME", dir);
    command.kill_on_drop(true);
    command
}

/// What came of a command whose stdout goes wherever it was told to.
pub(crate) async fn ran(command: &mut Command) -> Ran {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
