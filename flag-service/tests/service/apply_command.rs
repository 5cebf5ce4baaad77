//! What files say is made true: all of it or nothing, and nothing in passing.

use std::fs;

use rampart::model::State;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::command::run;
use crate::support::Service;

/// One of each kind.
const DOCUMENTS: &str = "\
# Reviewed by the team.
kind: settings
legacy: [127.0.0.1:9000]
---
kind: flag
key: checkout
percentage: 25
organisations:
  on: [acme]
---
kind: module
id: analytics_core
endpoints: [127.0.0.1:9001]
gates: [{flag: checkout, when_off: legacy}]
";

impl Service {
    /// What there is, but for which set has what.
    fn state(&self) -> State {
        State { sets: Default::default(), ..self.writer.head().state.clone() }
    }

    /// What the command printed; it must have succeeded.
    async fn applied(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
        ran.stdout
    }

    /// What the command complained about; it must have been refused and changed nothing.
    async fn refused(&self, arguments: &[&str]) -> String {
        let revision = self.revision();
        let ran = self.run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert_eq!(self.revision(), revision);
        ran.stderr
    }
}

#[tokio::test]
async fn files_become_one_revision_and_the_same_files_none() {
    let service = Service::start().await;
    let file = service.file("all.yaml", DOCUMENTS);
    let flag = "+ flag checkout added\n";
    let rest = "+ module analytics_core added\n~ settings: legacy + 127.0.0.1:9000\n";
    let would = service.run(&["apply", "-f", &file, "--dry-run"]).await;
    let tried = "not applied, tried at revision 0: 3 changes\n";
    assert_eq!((would.code, would.stdout), (Some(4), format!("{flag}{rest}{tried}")), "{}", would.stderr);
    let diff = service.run(&["diff", "-f", &file]).await;
    assert_eq!((diff.code, diff.stdout), (Some(4), format!("{flag}{rest}{tried}")));
    assert_eq!(service.revision(), 0);
    let applied = service.applied(&["apply", "-f", &file, "--reason", "first"]).await;
    assert_eq!(applied, format!("{flag}{rest}revision 1: 3 changes\n"));
    let history = service.get("/api/v1/history").await.ok();
    assert_eq!(history["changes"].as_array().unwrap().len(), 1);
    assert_eq!(history["changes"][0]["reason"], "first");
    assert_eq!(service.applied(&["apply", "-f", &file]).await, "revision 1: nothing to change\n");
    assert_eq!(service.applied(&["diff", "-f", &file]).await, "no difference to revision 1\n");
    assert_eq!(service.applied(&["apply", "-f", &file, "--dry-run"]).await, "no difference to revision 1\n");
}

#[tokio::test]
async fn every_problem_has_file_line_and_field_and_nothing_is_changed() {
    let service = Service::start().await;
    let folder = service.dir.path().join("set");
    let folder = folder.to_str().unwrap();
    service.file("set/good.yaml", DOCUMENTS);
    service.file("set/.hidden.yaml", "kind: none");
    service.file("set/notes.txt", "no document");
    let bad =
        service.file("set/b/bad.yml", "kind: flag\nkey: a\n---\nkind: flag\nkey: b\npercentage:\n  130\n");
    let module = json!({"id": "other", "endpoints": ["here"], "routes": [{"path": "/a"}]});
    let other = service.file("set/other.json", &format!("{module:#}"));
    assert_eq!(
        service.refused(&["apply", "-f", folder]).await,
        format!(
            "error: {bad}:7: flags[b].percentage: 130 is not a percentage: 0 to 100 is allowed\n       {other}:3: \
             modules[other].endpoints[0]: `here` is no endpoint: write host:port, such as 127.0.0.1:8000 or \
             [::1]:8000\n"
        )
    );
    // What reads is judged as a whole: a module may name a flag that comes with it, and no other.
    service
        .file("set/b/bad.yml", "kind: flag\nkey: a\nprerequisites:\n  - flag: checkout\n  - flag: nowhere\n");
    service.file("set/other.json", "[]");
    let refused = service.refused(&["apply", "-f", folder]).await;
    assert!(refused.starts_with(&format!("error: {bad}:5: flags[a].prerequisites[1].flag: ")), "{refused}");
    for (text, complaint) in [
        (
            "kind: flg\nkey: a\n",
            ":1: kind: `flg` is none: `flag`, `module`, `organisation_module`, `provider`, `segment` or `settings` is expected",
        ),
        (
            "---\n\nkey: a\n",
            ":3: kind: say what this is: `flag`, `module`, `organisation_module`, `provider`, `segment` or `settings`; or write a flagd \
             definition, with `flags`",
        ),
        (
            "kind: set\nname: a\n",
            ":1: kind: `set` is none: `flag`, `module`, `organisation_module`, `provider`, `segment` or `settings` is expected",
        ),
        (
            "just text",
            ":1: a document is an object with a `kind`: `flag`, `module`, `organisation_module`, `provider`, `segment` or `settings`",
        ),
        ("kind: flag\nkey: a\n---\nkind: flag\nkey: a\n", ":1: flags[a]: it is there twice"),
        (
            "kind: flag\nkey: a\nenabled: off\n",
            ":3: `off` is a boolean to some readers of YAML and a text to others: write true, false or \"off\"",
        ),
        (
            "kind: flag\nkey: a\n---\nkind: flag\npercentage: 5\n",
            ":4: resources[1].key: it is a name, and must be there",
        ),
        ("kind: flag\nkey: a\nmeaning: 1\n", ":3: flags[a].meaning: unknown field"),
        ("kind: settings\nadmin_roles: [1]\n", ":2: settings.admin_roles[0]: invalid type"),
    ] {
        let file = service.file("one.yaml", text);
        let refused = service.refused(&["apply", "-f", &file]).await;
        assert!(refused.starts_with(&format!("error: {file}{complaint}")), "{text}\n{refused}");
    }
    let empty = service.file("empty/notes.txt", "");
    let empty = empty.strip_suffix("/notes.txt").unwrap();
    assert_eq!(
        service.refused(&["apply", "-f", empty, "--set", "s", "--prune"]).await,
        "error: there is no document to apply in what -f names\n"
    );
}

#[tokio::test]
async fn a_file_takes_back_no_kill_no_rollout_and_no_denial_in_passing() {
    let service = Service::start().await;
    let flag =
        "kind: flag\nkey: f\ndescription: for sale\nkilled: false\n---\nkind: settings\ndefault: deny\n";
    let file = service.file("f.yaml", flag);
    service.applied(&["apply", "-f", &file]).await;
    for arguments in [
        &["flag", "set", "f", "--percentage", "40"][..],
        &["flag", "kill", "f"],
        &["deny", "add", "--subject", "eve"],
    ] {
        service.applied(arguments).await;
    }
    let before = service.state();
    assert_eq!(service.applied(&["apply", "-f", &file]).await, "revision 4: nothing to change\n");
    assert_eq!(service.state(), before);
    // What is said, counts.
    let said = service.file("said.yaml", "{kind: flag, key: f, percentage: 50, killed: true}");
    assert_eq!(
        service.applied(&["apply", "-f", &said]).await,
        "~ flag f: description \"for sale\" → none, percentage 40 → 50\nrevision 5: 1 change\n"
    );
    let moved = service.file("moved.yaml", "kind: flag\nkey: f\n\nrollout_group: g\n");
    assert_eq!(
        service.refused(&["apply", "-f", &moved]).await,
        format!(
            "error: {moved}:4: flags[f].rollout_group: it decides which organisations are on, and the flag is at 50 %: \
             set it to 0 or 100 first\n"
        )
    );
}

#[tokio::test]
async fn only_what_was_applied_under_the_name_is_pruned() {
    let service = Service::start().await;
    service.flag("by_hand", 5).await;
    let three = service
        .file("three.yaml", "{kind: flag, key: a}\n---\n{kind: flag, key: b}\n---\n{kind: flag, key: c}\n");
    let one = service.file("one.yaml", "{kind: flag, key: a}\n");
    let other = service.file("other.yaml", "{kind: flag, key: c}\n");
    assert!(service.applied(&["apply", "-f", &three, "--set", "team"]).await.contains("+ set team added"));
    service.applied(&["apply", "-f", &other, "--set", "others"]).await;
    // Without --prune nothing goes, and the set keeps what is in no file: pruning comes to it later.
    assert_eq!(
        service.applied(&["apply", "-f", &one, "--set", "team"]).await,
        "revision 3: nothing to change\n"
    );
    let pruned = service.applied(&["apply", "-f", &one, "--set", "team", "--prune"]).await;
    assert_eq!(pruned, "- flag b removed\n~ set team: flag - b - c\nrevision 4: 2 changes\n");
    let keys: Vec<String> = service.state().flags.into_keys().collect();
    assert_eq!(keys, ["a", "by_hand", "c"], "by_hand is nobody's, and c is also the others'");
    // A kill is not forgotten in passing.
    service.applied(&["flag", "kill", "a"]).await;
    let refused = service.refused(&["apply", "-f", &other, "--set", "team", "--prune"]).await;
    assert!(refused.starts_with("error: flags[a]: it is killed"), "{refused}");
    // What is gone already is no reason to fail, and a revert brings set and flags back together.
    service.applied(&["flag", "delete", "a"]).await;
    service.applied(&["apply", "-f", &other, "--set", "team", "--prune"]).await;
    service.applied(&["revert", "4"]).await;
    assert!(
        service
            .applied(&["apply", "-f", &one, "--set", "team", "--prune"])
            .await
            .ends_with("nothing to change\n")
    );
    let no_set = service.run(&["apply", "-f", &one, "--prune"]).await;
    assert_eq!(no_set.code, Some(2), "{}", no_set.stderr);
}

#[tokio::test]
async fn a_conflict_exits_with_6() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let conflict = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let read = connection.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"POST /api/v1/flags/f/kill "));
        let body = json!({"status": 409, "detail": "somebody was faster", "conflict": {}}).to_string();
        let head = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    };
    let (ran, ()) = tokio::join!(run(dir.path(), &url, &["flag", "kill", "f"]), conflict);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(6), "error: somebody was faster\n"));
}

/// A service with everything set that can be.
async fn full() -> Service {
    let service = Service::start().await;
    let dir = service.dir.path().to_str().unwrap().to_owned();
    service.applied(&["token", "key", "--out", &dir]).await;
    let jwks = format!("{dir}/jwks.json");
    service
        .applied(&["provider", "set", "main", "--issuer", "https://issuer.example", "--jwks", &jwks])
        .await;
    let settings = json!({
        "default": "deny", "admin_roles": ["no", "on"], "legacy": ["[::1]:9000"], "clusters": ["own"],
        "denied": {"tokens": ["1e3"], "subjects": ["~"], "organisations": ["0755"]},
    });
    service.send("PUT", "/api/v1/settings", &settings).await.ok();
    let segment = json!({"description": "off", "organisations": ["yes", "1e3"]});
    service.send("PUT", "/api/v1/segments/on", &segment).await.ok();
    let awkward = "no\n- a: 'b' \"c\" # d\n\ttab  \u{85}\u{feff}é😀\n\n";
    for (key, flag) in [
        ("plain", json!({"no_organisation": true})),
        ("team/..%2Fdeep", json!({"description": awkward, "percentage": 12.345, "rollout_group": "off"})),
        (
            "named",
            json!({"safety": true, "organisations": {"off": [{"name": "segment:on", "until": 1_900_000_000}]}}),
        ),
        ("parts", json!({"percentage": 5, "exclusive_group": {"name": "x", "from": 0, "to": 10}})),
        (
            "many",
            json!({
                "enabled": false, "killed": true, "percentage": 100, "by": "request",
                "bucketing": "flagd-v2", "variants": [{"name": "yes", "weight": 1}],
                "prerequisites": [{"flag": "plain", "value": false}],
                "organisations": {"on": ["null", {"name": "acme", "until": 1_900_000_000}], "off": ["1"]},
                "subjects": {"off": ["y"]},
            }),
        ),
    ] {
        service.send("PUT", &format!("/api/v1/flags/{}", key.replace('/', "%2F")), &flag).await.ok();
    }
    let manifest = json!({
        "description": awkward, "aliases": ["sales"], "rewrite": {"prefix": "/internal"}, "timeout_ms": 0,
        "auth": {"level": "permission", "permissions": ["read"], "roles": []},
        "gates": [{"flag": "plain", "when_off": "forbidden"}], "flags": ["many"], "hash_by": "organisation",
        "protocol": "auto", "tls": {"server_name": "orders.test", "ca_file": "/ca.pem"}, "connect_timeout_ms": 5,
        "health_check": {"http": {"path": "/a", "expected_statuses": [204]}}, "outlier_detection": {},
        "circuit_breakers": {"retry_budget": {}},
        "effects": [{"flag": "plain", "when_on": {"cluster": "own"}}],
        "routes": [{"methods": ["GET"], "path": "/of/{organisation}", "tenant": {"path": "organisation"}}],
    });
    service.module("orders", manifest).await.ok();
    service
}

#[tokio::test]
async fn an_export_applied_elsewhere_is_the_same_state() {
    let service = full().await;
    let folder = service.dir.path().join("export");
    let folder = folder.to_str().unwrap();
    let said = service.applied(&["export", "--to", folder]).await;
    assert_eq!(said, format!("9 resources of revision 9 are written to {folder}\n"));
    let yaml = service.file("all.yaml", &service.applied(&["export"]).await);
    let json = service.file("all.json", &service.applied(&["export", "--output", "json"]).await);
    for files in [folder, &yaml, &json] {
        let other = Service::start().await;
        other.applied(&["apply", "-f", files]).await;
        assert_eq!(other.state(), service.state(), "{files}");
        assert_eq!(other.revision(), 1);
        // Exported again it is the same text.
        assert_eq!(other.applied(&["export"]).await, fs::read_to_string(&yaml).unwrap());
        assert!(service.applied(&["apply", "-f", files]).await.ends_with("nothing to change\n"));
    }
    let refused = service.refused(&["export", "--to", folder]).await;
    assert!(refused.contains("settings.yaml is there already"), "{refused}");
    service.applied(&["export", "--to", folder, "--force"]).await;
    let exported = fs::read_to_string(yaml).unwrap();
    let private = fs::read_to_string(service.dir.path().join("private-key.pem")).unwrap();
    assert!(private.lines().all(|line| line.is_empty() || !exported.contains(line)));
}

#[tokio::test]
async fn a_flagd_definition_is_applied_where_all_of_it_is_understood() {
    let (one, other) = (Service::start().await, Service::start().await);
    one.flag("a", 0).await;
    one.send("PUT", "/api/v1/flags/b", &json!({"percentage": 12.5, "prerequisites": [{"flag": "a"}]}))
        .await
        .ok();
    let definition = one.get("/api/v1/flagd").await.ok();
    let file = other.file("flags.json", &definition.to_string());
    assert_eq!(
        other.applied(&["apply", "-f", &file]).await,
        "+ flag a added\n+ flag b added\nrevision 1: 2 changes\n"
    );
    assert_eq!(other.state().flags, one.state().flags);
    assert_eq!(other.applied(&["diff", "-f", &file]).await, "no difference to revision 1\n");
    // A definition says every percentage, also that it is 0.
    other.flag("a", 50).await;
    assert!(other.applied(&["apply", "-f", &file]).await.contains("flag a: percentage 50 → 0"));
    let foreign = other.file(
        "foreign.yaml",
        "$schema: https://flagd.dev/schema/v0/flags.json\nflags:\n  x:\n    state: DISABLED\n    variants: {\"on\": true, \
         \"off\": false}\n    defaultVariant: \"on\"\n  y: {}\n",
    );
    assert_eq!(
        other.refused(&["apply", "-f", &foreign]).await,
        format!(
            "error: {foreign}:1: flag x: it is disabled, which was the application's own default: here it is off: see \
             `rampart import flagd`\n       {foreign}:1: flag y: it has no `variants`: see `rampart import flagd`\n"
        )
    );
}

#[tokio::test]
async fn stdin_and_the_manifests_that_teams_have_are_taken() {
    let service = Service::start().await;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/samples");
    service.flag("module_routing_enabled", 0).await;
    service.flag("analytics_core_enabled", 0).await;
    service.run(&["settings", "set", "--legacy", "127.0.0.1:9000"]).await;
    let said = service.run(&["apply", "-f", samples]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("+ module analytics_core added"), "{}", said.stdout);
    let mut command = crate::command::command(service.dir.path(), &service.url, &["apply", "-f", "-"]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"kind: flag\nkey: piped\n").await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "+ flag piped added\nrevision 5: 1 change\n");
}

#[tokio::test]
async fn two_revisions_differ_by_what_is_left_of_their_changes() {
    let service = Service::start().await;
    for percentage in [5, 10, 20] {
        service.flag("f", percentage).await;
    }
    service.flag("passing", 0).await;
    service.applied(&["flag", "delete", "passing"]).await;
    for (arguments, code, stdout) in [
        (&["diff", "1"][..], 4, "~ flag f: percentage 5 → 20\n"),
        (&["diff", "0", "1"], 4, "+ flag f added\n"),
        (&["diff", "1", "2"], 4, "~ flag f: percentage 5 → 10\n"),
        (&["diff", "3"], 0, "no difference\n"),
    ] {
        let ran = service.run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), stdout), "{arguments:?} {}", ran.stderr);
    }
    assert_eq!(service.run(&["diff"]).await.code, Some(2));
}

#[tokio::test]
async fn one_flag_goes_back_and_the_others_stay() {
    let service = Service::start().await;
    service.flag("f", 5).await;
    service.flag("g", 5).await;
    service.flag("f", 10).await;
    service.flag("g", 10).await;
    service.applied(&["flag", "kill", "f"]).await;
    let history = service.applied(&["flag", "history", "f"]).await;
    let what: Vec<&str> = history.lines().skip(1).map(|line| &line[..1]).collect();
    assert_eq!(what, ["5", "3", "1"], "{history}");
    assert!(!history.contains("flag g"), "{history}");
    let two: Value = serde_json::from_str(
        &service.applied(&["flag", "history", "f", "--limit", "2", "--output", "json"]).await,
    )
    .unwrap();
    assert_eq!(two["changes"].as_array().unwrap().len(), 2);
    let would = service.applied(&["flag", "revert", "f", "1", "--dry-run"]).await;
    assert!(would.starts_with("not applied"), "{would}");
    let back = |revision: u64, words: &str| format!("revision {revision}: back to revision {words}\n");
    assert_eq!(service.applied(&["flag", "revert", "f"]).await, back(6, "4: flag f: killed true → false"));
    assert_eq!(service.applied(&["flag", "revert", "f", "1"]).await, back(7, "1: flag f: percentage 10 → 5"));
    assert_eq!(service.applied(&["flag", "revert", "f", "7"]).await, "revision 7: nothing to change\n");
    assert_eq!(service.applied(&["flag", "revert", "f", "0"]).await, back(8, "0: flag f removed"));
    assert_eq!(service.applied(&["flag", "revert", "f"]).await, back(9, "7: flag f added"));
    assert_eq!(service.state().flags["g"].percentage.to_string(), "10");
    for arguments in [&["flag", "revert", "nobody"][..], &["flag", "history", "nobody"]] {
        assert_eq!(service.refused(arguments).await, "error: there is no flag `nobody`\n");
    }
    assert_eq!(
        service.refused(&["flag", "revert", "f", "99"]).await,
        "error: there is no revision 99 to go back to\n"
    );
}
