//! What survives a restart, a second process and an asker who hangs up.

use std::sync::Arc;
use std::time::Duration;

use rampart::conflict::Basis;
use rampart::model::{Change, Kind};
use rampart::store::Store;
use rampart::writer::Submission;
use serde_json::json;
use sqlx::AnyPool;
use tokio::runtime::Handle;

use crate::support::{Service, answer, database, execute, open, patch, pool, put, submission};

#[tokio::test]
async fn a_restart_keeps_everything() {
    let service = Service::start().await;
    service.send("PUT", "/api/v1/settings", &json!({"legacy": ["127.0.0.1:9000"]})).await.ok();
    service.flag("f", 25).await;
    service.module("m", json!({"gates": [{"flag": "f", "when_off": "legacy"}]})).await.ok();
    let provider = json!({"issuer": "https://issuer.example", "jwks": {"keys": []}});
    service.send("PUT", "/api/v1/providers/main", &provider).await.ok();
    let before = service.writer.head();
    let after = open(service.dir.path()).await.head();
    assert_eq!(after.revision, 4);
    assert_eq!(after.state, before.state);
    assert_eq!(after.published, before.published);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_database_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()).await, open(dir.path()).await);
    let write = |writer, name: &'static str| async move {
        for number in 0..10 {
            put(&writer, &format!("{name}{number}"), json!({})).await.unwrap();
        }
    };
    tokio::join!(write(Arc::clone(&one), "a"), write(Arc::clone(&other), "b"));
    let head = open(dir.path()).await.head();
    assert_eq!((head.revision, head.state.flags.len()), (20, 20));
}

#[tokio::test]
async fn a_revert_undoes_what_another_process_wrote_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()).await, open(dir.path()).await);
    put(&one, "f", json!({"percentage": 10})).await.unwrap();
    patch(&other, "f", json!({"percentage": 20})).await.unwrap();
    put(&other, "g", json!({})).await.unwrap();
    put(&one, "h", json!({})).await.unwrap();
    put(&other, "i", json!({})).await.unwrap();
    one.submit(submission(Change::Revert(1))).await.unwrap();
    let head = open(dir.path()).await.head();
    assert_eq!(head.state.flags.keys().collect::<Vec<_>>(), ["f"]);
    assert_eq!(head.state.flags["f"].percentage.thousandths(), 10_000);
}

#[tokio::test]
async fn a_change_is_judged_by_what_another_process_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()).await, open(dir.path()).await);
    put(&other, "f", json!({"percentage": 10})).await.unwrap();
    let change = Change::PatchFlag { key: "f".to_owned(), patch: json!({"percentage": 20}) };
    let based_on_newest = Submission {
        based_on: Basis::Tags(vec![other.head().tag(Some((Kind::Flag, "f")))]),
        dry_run: true,
        ..submission(change)
    };
    let tried = one.submit(based_on_newest).await.unwrap();
    assert_eq!(tried.summary, "flag f: percentage 10 → 20");
    assert_eq!(one.head().revision, 1);
}

#[tokio::test]
async fn what_another_process_writes_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()).await, open(dir.path()).await);
    let mut current = one.current();
    current.mark_unchanged();
    put(&other, "f", json!({"percentage": 10})).await.unwrap();
    tokio::select! {
        () = one.follow() => {}
        changed = tokio::time::timeout(Duration::from_secs(10), current.changed()) => changed.unwrap().unwrap(),
    }
    assert_eq!(current.borrow().as_ref().unwrap().revision, 1);
    assert_eq!(one.head().state.flags["f"].percentage.thousandths(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_open_one_new_database_at_once_all_get_it() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let database = database(dir.path());
        let opened = (0..8).map(|_| {
            let database = database.clone();
            tokio::task::spawn_blocking(move || Handle::current().block_on(Store::open(&database)).map(drop))
        });
        for opened in futures::future::join_all(opened).await {
            opened.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_change_is_finished_when_its_asker_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path()).await;
    let mut current = writer.current();
    current.mark_unchanged();
    let change = Change::PutFlag(serde_json::from_value(json!({"key": "f"})).unwrap());
    let new = Submission { based_on: Basis::Unsaid, ..submission(change) };
    {
        let mut asking = std::pin::pin!(writer.submit(new));
        assert!(futures::poll!(&mut asking).is_pending(), "too late to hang up");
    }
    tokio::time::timeout(Duration::from_secs(10), current.changed()).await.expect("published").unwrap();
    assert_eq!(current.borrow().as_ref().unwrap().revision, 1);
}

#[tokio::test]
async fn a_store_that_fails_refuses_writes_and_readers_do_not_notice() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let pool = pool(service.dir.path()).await;
    // Neither written nor read again: what readers see is what was there before.
    execute(&pool, "ALTER TABLE history RENAME TO hidden").await;
    execute(&pool, "ALTER TABLE revision RENAME TO hidden_revision").await;
    service.send("PATCH", "/api/v1/flags/f", &json!({"percentage": 50})).await.problem(503);
    service.get("/ready").await.problem(503);
    assert_eq!(service.get("/api/v1/flags/f").await.ok()["percentage"], 25);
    assert_eq!(service.writer.current().borrow().as_ref().unwrap().revision, 1);
    execute(&pool, "ALTER TABLE hidden RENAME TO history").await;
    execute(&pool, "ALTER TABLE hidden_revision RENAME TO revision").await;
    let answer = service.send("PATCH", "/api/v1/flags/f", &json!({"percentage": 50})).await.ok();
    assert_eq!(answer["revision"], 2);
    service.get("/ready").await.ok();
}

#[tokio::test]
async fn a_change_is_written_whole_or_not_at_all() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let pool = pool(service.dir.path()).await;
    // The last statement of the transaction fails.
    execute(&pool, "ALTER TABLE history RENAME TO hidden").await;
    service.send("PATCH", "/api/v1/flags/f", &json!({"percentage": 50})).await.problem(503);
    let head = open(service.dir.path()).await.head();
    assert_eq!((head.revision, head.state.flags["f"].percentage.thousandths()), (1, 25_000));
}

#[tokio::test]
async fn a_cluster_that_nobody_provides_from_before_that_was_asked_stands_in_no_ones_way() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    service.module("m", json!({})).await.ok();
    let mut module = serde_json::to_value(&*service.writer.head().state.modules["m"]).unwrap();
    module["effects"] = json!([{"flag": "f", "when_on": {"cluster": "own"}}]);
    let pool = pool(service.dir.path()).await;
    write_behind(&pool, "UPDATE resource SET body = $1 WHERE kind = 'module'", &module.to_string()).await;
    answer(service.request("POST", "/api/v1/flags/f/kill")).await.ok();
    assert_eq!(service.writer.head().revision, 4);
    let standing = service.get("/api/v1/policy/warnings").await.ok();
    assert_eq!(standing["warnings"][0]["field"], "modules[m].effects[0].when_on.cluster", "{standing}");
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_not_written_over() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let pool = pool(service.dir.path()).await;
    let flag = json!({"key": "f", "prerequisites": [{"flag": "nobody"}]}).to_string();
    write_behind(&pool, "UPDATE resource SET body = $1 WHERE kind = 'flag'", &flag).await;
    let refused = service.send("PATCH", "/api/v1/flags/f", &json!({"percentage": 50})).await.problem(503);
    assert!(refused["detail"].as_str().unwrap().contains("run the same version"), "{refused}");
    // What ran goes on running.
    assert_eq!(service.get("/api/v1/flags/f").await.ok()["percentage"], 25);
}

/// Writes to the database as another process would.
async fn write_behind(pool: &AnyPool, statement: &'static str, value: &str) {
    sqlx::query(statement).bind(value.to_owned()).execute(pool).await.unwrap();
    execute(pool, "UPDATE revision SET revision = revision + 1").await;
}
