//! What `rampart` prints, and how it exits.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{Service, open};

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

#[tokio::test]
async fn a_flag_is_created_raised_killed_and_explained() {
    let service = Service::start().await;
    service.prints(&["flag", "set", "f"], "revision 1: flag f added\n").await;
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
    service.prints(&explain, "on: named in the flag (revision 4)\n").await;
    service.prints(&["flag", "list"], "KEY  STATE  PERCENTAGE  DESCRIPTION\nf    live   25\n").await;
    let history = service.json(&["history", "--output", "json", "--limit", "2"]).await;
    let killed = &history["changes"][1];
    let said = json!([killed["actor"], killed["source"], killed["reason"]]);
    assert_eq!(said, json!(["amina", "cli", "it burns"]));
}

#[tokio::test]
async fn a_refusal_prints_field_and_problem_and_exits_with_1() {
    let service = Service::start().await;
    let refused = service.run(&["flag", "set", "f", "--percentage", "130"]).await;
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
}

#[tokio::test]
async fn a_development_key_signs_tokens_that_its_provider_accepts() {
    let service = Service::start().await;
    let dir = service.dir.path().to_str().unwrap().to_owned();
    let (key, jwks) = (format!("{dir}/private-key.pem"), format!("{dir}/jwks.json"));
    assert_eq!(service.run(&["token", "key", "--out", &dir]).await.code, Some(0));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let again = service.run(&["token", "key", "--out", &dir]).await;
    assert_eq!(again.code, Some(1), "a key was overwritten");
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

#[tokio::test]
async fn serve_keeps_its_database_and_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_rampart"));
    let database = dir.path().join("rampart.db");
    serve.args(["serve", "--http", "127.0.0.1:0", "--xds", "127.0.0.1:0", "--database"]).arg(&database);
    let mut serve = serve.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(serve.stderr.take().unwrap()));
    let mut line = String::new();
    while !line.contains("serving") {
        line = lines.next_line().await.unwrap().expect("it serves");
    }
    let http = line.split_whitespace().find_map(|word| word.strip_prefix("http=")).expect(&line);
    let status = run(dir.path(), &format!("http://{http}"), &["status"]).await;
    assert!(status.stdout.starts_with("revision 0, 0 flags"), "{}{}", status.stdout, status.stderr);
    let pid = serve.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert!(serve.wait().await.unwrap().success());
    assert_eq!(open(dir.path()).await.head().revision, 0);
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_once_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    fs::write(dir.path().join("text"), "this is a text and no database at all".repeat(100)).unwrap();
    let in_use = "cannot be used: Address already in use (os error 98): end the process that listens there, or name \
                  another address";
    for (arguments, error) in [
        (["--http", &taken], format!("--http {taken} {in_use}")),
        (["--xds", &taken], format!("--xds {taken} {in_use}")),
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
        for (option, value) in [("--http", "127.0.0.1:0"), ("--xds", "127.0.0.1:0"), ("--database", "rampart.db")] {
            let value = if option == arguments[0] { arguments[1] } else { value };
            all.extend([option, value]);
        }
        let ran = run(dir.path(), "http://127.0.0.1:1", &all).await;
        assert_eq!((ran.code, ran.stderr), (Some(1), format!("error: {error}\n")));
    }
}

impl Service {
    async fn run(&self, arguments: &[&str]) -> Ran {
        run(self.dir.path(), &self.url, arguments).await
    }

    async fn prints(&self, arguments: &[&str], stdout: &str) {
        let ran = self.run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), stdout), "{}", ran.stderr);
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).await.stdout).unwrap()
    }
}

async fn run(dir: &Path, api: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rampart"));
    command.args(arguments).current_dir(dir).env("RAMPART_API", api).env("USER", "amina");
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
