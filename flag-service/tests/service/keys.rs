//! Writes that are sent again: made once, answered as often as it is asked.

use std::sync::Arc;

use rampart::model::Change;
use rampart::writer::{Key, Submission, WriteError, Writer};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Service, answer, execute, open, patch, pool, put, submission};

const FLAG: &str = "/api/v1/flags/f";

#[tokio::test]
async fn what_is_sent_again_is_answered_as_before_and_not_made_again() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    let odd = json!({"percentage": 25, "organisations": {"on": ["jürgen"]}});
    let first = keyed(&service, "PUT", FLAG, "\"8e03978e\"", &odd).await;
    // Others go on meanwhile: the answer is of its own revision.
    service.send("PATCH", FLAG, &json!({"percentage": 50})).await.ok();
    let again = keyed(&service, "PUT", FLAG, "8e03978e", &odd).await;
    assert_eq!(first.header("etag"), again.header("etag"));
    let (first, again) = (first.ok(), again.ok());
    assert_eq!(first, again);
    assert_eq!((&again["revision"], &again["resource"]["percentage"]), (&json!(2), &json!(25)));
    assert_eq!(again["warnings"][0]["field"], "organisations.on[0]");
    assert_eq!(service.writer.head().revision, 3);
    // Also after another process has made anew what was removed.
    let removed = keyed(&service, "DELETE", FLAG, "removal", &json!(null)).await.ok();
    put(&open(service.dir.path()).await, "f", json!({})).await.unwrap();
    assert_eq!(keyed(&service, "DELETE", FLAG, "removal", &json!(null)).await.ok(), removed);
    assert_eq!(service.writer.head().state.flags.len(), 1);
}

#[tokio::test]
async fn another_request_under_a_used_key_is_refused() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    let body = json!({"percentage": 20});
    keyed(&service, "PATCH", FLAG, "k", &body).await.ok();
    let others = [
        ("PATCH", FLAG, json!({"percentage": 21})),
        ("PUT", FLAG, body.clone()),
        ("PATCH", "/api/v1/flags/g", body.clone()),
    ];
    for (method, path, other) in others {
        let refused = keyed(&service, method, path, "k", &other).await.problem(422);
        let said = "the idempotency key `k` was used for another request: a new request takes a new key";
        assert_eq!(refused["detail"], said, "{method} {path} {other}");
    }
    let request = service.request("PATCH", FLAG).json(&body).header("idempotency-key", "k");
    answer(request.header("if-match", "*").header("x-rampart-actor", "somebody else")).await.problem(422);
    assert_eq!(service.writer.head().revision, 2);
}

#[tokio::test]
async fn what_was_answered_is_answered_again_to_whoever_asked_and_to_nobody_else() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    let body = json!({"percentage": 20});
    keyed(&service, "PATCH", FLAG, "k", &body).await.ok();
    let ask = |key: &str| {
        let request = service.anonymous("PATCH", FLAG).bearer_auth(key).json(&json!({"percentage": 30}));
        answer(request.header("if-match", "*").header("idempotency-key", "k"))
    };
    // Who may not change flags is not told what came of it either.
    ask(&service.key("reader", "viewer").await).await.problem(403);
    // Another may choose the same key, for something else.
    let other = service.key("oncall", "operator").await;
    assert_eq!(ask(&other).await.ok()["summary"], "flag f: percentage 20 → 30");
    assert_eq!(keyed(&service, "PATCH", FLAG, "k", &body).await.ok()["revision"], 2);
}

#[tokio::test]
async fn an_answer_that_holds_a_secret_is_not_kept() {
    let service = Service::start().await;
    let made = async |method: &str, path: &str, body: Value| {
        let request = service.request(method, path).json(&body).header("idempotency-key", "k");
        let refused = answer(request).await.problem(400);
        assert!(refused["detail"].as_str().unwrap().contains("leave `Idempotency-Key` away"), "{refused}");
    };
    made("PUT", "/api/v1/keys/ci", json!({"role": "viewer"})).await;
    service.key("ci", "viewer").await;
    made("POST", "/api/v1/keys/ci/rotate", json!({})).await;
    assert_eq!(service.writer.head().revision, 1);
}

#[tokio::test]
async fn what_changed_nothing_changes_nothing_later_either() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    let same = json!({"percentage": 10});
    let first = keyed(&service, "PATCH", FLAG, "k", &same).await.ok();
    assert_eq!((&first["revision"], &first["summary"]), (&json!(1), &json!("nothing to change")));
    service.send("PATCH", FLAG, &json!({"percentage": 20})).await.ok();
    assert_eq!(keyed(&service, "PATCH", FLAG, "k", &same).await.ok(), first);
    assert_eq!(service.get(FLAG).await.ok()["percentage"], 20);
}

#[tokio::test]
async fn what_was_refused_or_tried_only_may_be_sent_again() {
    let service = Service::start().await;
    keyed(&service, "PATCH", FLAG, "k", &json!({"percentage": 20})).await.problem(404);
    service.flag("f", 10).await;
    let tried =
        keyed(&service, "PATCH", &format!("{FLAG}?dry_run=true"), "k", &json!({"percentage": 20})).await.ok();
    assert_eq!(tried["applied"], false);
    let made = keyed(&service, "PATCH", FLAG, "k", &json!({"percentage": 20})).await.ok();
    assert_eq!(made["revision"], 2);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let service = Service::start().await;
    service.flag("f", 10).await;
    for key in ["", "\"\"", "a b", "a\"b", &"k".repeat(256)] {
        let refused = keyed(&service, "PUT", FLAG, key, &json!({})).await.problem(400);
        assert!(refused["detail"].as_str().unwrap().contains("1 to 255 visible ASCII"), "{refused}");
    }
    keyed(&service, "PUT", FLAG, &"k".repeat(255), &json!({})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_are_sent_at_once_to_two_processes_one_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let writers = [open(dir.path()).await, open(dir.path()).await];
    put(&writers[0], "f", json!({})).await.unwrap();
    for percentage in 1..=10 {
        let mut asking = JoinSet::new();
        for writer in writers.iter().chain(&writers) {
            asking.spawn(raise(Arc::clone(writer), percentage, percentage.to_string()));
        }
        let revisions: Vec<u64> = asking.join_all().await.into_iter().map(Result::unwrap).collect();
        assert_eq!(revisions, [u64::from(percentage) + 1; 4]);
    }
    assert_eq!(writers[0].head().revision.max(writers[1].head().revision), 11);
}

#[tokio::test]
async fn answers_are_kept_for_a_day_and_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path()).await;
    put(&writer, "f", json!({})).await.unwrap();
    let pool = pool(dir.path()).await;
    for percentage in 1..=3 {
        raise(Arc::clone(&writer), percentage, format!("k{percentage}")).await.unwrap();
    }
    let day = 24 * 60 * 60 * 1_000;
    execute(&pool, &format!("UPDATE answer SET at_ms = at_ms - {day} WHERE idempotency_key = 'test k1'"))
        .await;
    // A day is over: another request may have the key, and keeps it.
    assert_eq!(raise(Arc::clone(&writer), 4, "k1".to_owned()).await.unwrap(), 5);
    let used = raise(Arc::clone(&writer), 5, "k1".to_owned()).await;
    assert!(matches!(used, Err(WriteError::KeyReused(_))), "{used:?}");
    // As if 10,000 had come since the second.
    execute(&pool, "UPDATE answer SET number = number + 9999 WHERE idempotency_key = 'test k1'").await;
    raise(Arc::clone(&writer), 6, "k6".to_owned()).await.unwrap();
    let kept: Vec<(String,)> =
        sqlx::query_as("SELECT idempotency_key FROM answer ORDER BY number").fetch_all(&pool).await.unwrap();
    assert_eq!(kept, ["test k1", "test k6"].map(|key| (key.to_owned(),)));
    patch(&writer, "f", json!({"percentage": 7})).await.unwrap();
}

async fn keyed(service: &Service, method: &str, path: &str, key: &str, body: &Value) -> Answer {
    let request = service.request(method, path).json(body).header("if-match", "*");
    answer(request.header("idempotency-key", key)).await
}

/// Raises the flag `f` under a key; the revision that is answered.
async fn raise(writer: Arc<Writer>, percentage: u32, name: String) -> Result<u64, WriteError> {
    let change = Change::PatchFlag { key: "f".to_owned(), patch: json!({ "percentage": percentage }) };
    let key = Some(Key { name, asker: "test".to_owned(), request: percentage.to_string() });
    Ok(writer.submit(Submission { key, ..submission(change) }).await?.head.revision)
}
