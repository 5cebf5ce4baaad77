//! Revisions, refusals, conflicts, reverting.

use std::collections::BTreeSet;
use std::sync::Arc;

use rampart::conflict::Basis;
use rampart::model::{Change, Kind};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Service, answer, open, put, submission};

#[tokio::test]
async fn a_refused_change_leaves_everything_as_it_was() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let before = service.writer.head();
    let current = service.writer.current();
    service.send("PATCH", "/api/v1/flags/f", &json!({"percentage": 130})).await.problem(422);
    service.module("m", json!({"flags": ["nobody"]})).await.problem(422);
    let after = service.writer.head();
    assert_eq!((after.revision, &after.state), (1, &before.state));
    assert!(!current.has_changed().unwrap());
    assert_eq!(service.get("/api/v1/history").await.ok()["changes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_changes_nothing_makes_no_revision() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let answer = service.send("PATCH", "/api/v1/flags/f", &json!({"percentage": 25})).await.ok();
    assert_eq!(answer["revision"], 1);
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let url = "/api/v1/flags/f?dry_run=true";
    let said = service.send("PATCH", url, &json!({"percentage": 50})).await;
    // The revision that it would make may be made by somebody else.
    assert!(!said.headers.contains_key("etag"), "{said:?}");
    let said = said.ok();
    assert_eq!(json!([said["applied"], said["revision"]]), json!([false, 1]));
    assert_eq!(said["summary"], "flag f: percentage 25 → 50");
    assert_eq!(said["resource"]["percentage"], 50);
    service.send("PATCH", url, &json!({"percentage": 130})).await.problem(422);
    assert_eq!(service.get("/api/v1/flags/f").await.ok()["percentage"], 25);
    assert_eq!(service.writer.head().revision, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_writers_make_fifty_revisions_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path()).await;
    let mut writers = JoinSet::new();
    for number in 0..50 {
        let writer = Arc::clone(&writer);
        writers.spawn(async move {
            let change = json!({"organisations": {"on": [format!("org-{number}")]}});
            put(&writer, &format!("f{number}"), change).await.unwrap().head.revision
        });
    }
    let revisions: BTreeSet<u64> = writers.join_all().await.into_iter().collect();
    assert_eq!(revisions, (1..=50).collect());
    assert_eq!(writer.head().state.flags.len(), 50);
    assert_eq!(writer.current().borrow().as_ref().unwrap().revision, 50);
    let history = writer.store().history(u64::MAX, 100).await.unwrap();
    assert!(history.iter().map(|entry| entry.revision).eq((1..=50).rev()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_saw_the_same_revision_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path()).await;
    put(&writer, "f", json!({})).await.unwrap();
    let seen = writer.head().tag(Some((Kind::Flag, "f")));
    let mut writers = JoinSet::new();
    for percentage in 1..=20 {
        let writer = Arc::clone(&writer);
        let change = Change::PatchFlag { key: "f".to_owned(), patch: json!({ "percentage": percentage }) };
        let mut submission = submission(change);
        submission.based_on = Basis::Tags(vec![seen.clone()]);
        writers.spawn(async move { writer.submit(submission).await.is_ok() });
    }
    let won = writers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!((won, writer.head().revision), (1, 2));
}

#[tokio::test]
async fn any_character_of_a_name_is_kept() {
    let service = Service::start().await;
    service.flag("f", 0).await;
    let names = json!(["a\u{0}b", "größe", "\u{1f600}", "'\"\\"]);
    service.send("PATCH", "/api/v1/flags/f", &json!({"organisations": {"on": names}})).await.ok();
    let kept = open(service.dir.path()).await.head();
    assert_eq!(kept.state, service.writer.head().state);
    assert_eq!(service.get("/api/v1/flags/f").await.ok()["organisations"]["on"], names);
    service.writer.store().verify(None).await.unwrap();
}

#[tokio::test]
async fn a_revert_is_a_new_revision_that_the_history_calls_so() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    let then = service.writer.head().state.clone();
    service.flag("f", 20).await;
    service.flag("g", 5).await;
    service.send("PUT", "/api/v1/settings", &json!({"default": "deny"})).await.ok();
    answer(service.write("DELETE", "/api/v1/flags/f").await).await.ok();
    let reverted = answer(service.write("POST", "/api/v1/revert/1").await).await.ok();
    assert_eq!(reverted["revision"], 6);
    assert_eq!(service.writer.head().state, then);
    let newest = &service.get("/api/v1/history?limit=1").await.ok()["changes"][0];
    assert!(newest["summary"].as_str().unwrap().starts_with("back to revision 1: flag f added"), "{newest}");
    // What was undone can be had again.
    answer(service.write("POST", "/api/v1/revert/4").await).await.ok();
    let head = service.writer.head();
    assert_eq!(head.state.flags.keys().collect::<Vec<_>>(), ["f", "g"]);
}

#[tokio::test]
async fn what_must_be_new_replaces_nothing() {
    let service = Service::start().await;
    let create = |url: &str, body: serde_json::Value| {
        answer(service.request("PUT", url).json(&body).header("if-none-match", "*"))
    };
    let flag = "/api/v1/flags/f";
    create(flag, json!({"percentage": 25})).await.ok();
    for percentage in [0, 25] {
        let problem = create(flag, json!({ "percentage": percentage })).await.problem(412);
        let todo = "to change a flag, PATCH it, or use `rampart flag set`";
        assert_eq!(problem["detail"], format!("the flag `f` exists already; {todo}"));
    }
    create("/api/v1/settings", json!({"default": "deny"})).await.problem(412);
    answer(service.request("PUT", flag).json(&json!({})).header("if-none-match", "\"1\"")).await.problem(400);
    assert_eq!(service.writer.head().revision, 1);
}

#[tokio::test]
async fn what_is_odd_is_told_with_the_change_that_makes_it_so_and_stays_to_be_seen() {
    let service = Service::start().await;
    let flag = json!({"organisations": {"on": ["acme", "jürgen"]}});
    let warnings = service.send("PUT", "/api/v1/flags/f", &flag).await.ok()["warnings"].clone();
    assert_eq!(warnings[0]["field"], "organisations.on[1]", "{warnings}");
    assert!(warnings[0]["problem"].as_str().unwrap().starts_with("not ASCII"), "{warnings}");
    // Told once: another change is about something else.
    let next = service.send("PATCH", "/api/v1/flags/f", &json!({"percentage": 5})).await.ok();
    assert_eq!(next["warnings"], json!(null));
    assert_eq!(service.get("/api/v1/status").await.ok()["warnings"], 1);
    let standing = service.get("/api/v1/policy/warnings").await;
    assert_eq!(standing.header("etag"), "\"2\"");
    assert_eq!(standing.ok()["warnings"][0]["field"], "flags[f].organisations.on[1]");
}

#[tokio::test]
async fn a_flag_makes_warnings_refuse_a_change() {
    let service = Service::start().await;
    let odd = |name: &str| json!({"percentage": 50, "organisations": {"on": [name]}});
    service.send("PUT", "/api/v1/flags/old", &odd("café")).await.ok();
    service.flag("FLAG_VALIDATION_ENABLED", 99).await;
    service.send("PUT", "/api/v1/flags/f", &odd("größe")).await.ok();
    service.flag("FLAG_VALIDATION_ENABLED", 100).await;
    let refused = service.send("PUT", "/api/v1/flags/g", &odd("größe")).await.problem(422);
    let error = &refused["errors"][0];
    assert_eq!(error["field"], "organisations.on[0]", "{error}");
    assert!(error["problem"].as_str().unwrap().contains("`FLAG_VALIDATION_ENABLED` is on"), "{error}");
    // What was odd before stands in nobody's way.
    service.send("PATCH", "/api/v1/flags/old", &json!({"percentage": 60})).await.ok();
    answer(service.request("POST", "/api/v1/flags/FLAG_VALIDATION_ENABLED/kill")).await.ok();
    service.send("PUT", "/api/v1/flags/g", &odd("größe")).await.ok();
}
