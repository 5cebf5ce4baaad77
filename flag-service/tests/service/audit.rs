//! The history proves itself: whatever is altered, removed or cut off is found and named.

use rampart::model::Change;
use rampart::store::{Chain, StoreError};
use serde_json::json;
use sqlx::AnyPool;

use crate::support::{Service, execute, on_a_server, open, patch, pool, put, submission};

/// Every column of a row.
const FIELDS: [&str; 9] =
    ["revision", "at_ms", "actor", "source", "address", "reason", "summary", "edits", "hash"];

#[tokio::test]
async fn an_alteration_of_any_field_of_any_row_is_found_and_named() {
    let (service, pool) = five_changes().await;
    execute(&pool, "CREATE TABLE kept AS SELECT * FROM history").await;
    for revision in 1..=5 {
        for field in FIELDS {
            let number = matches!(field, "revision" | "at_ms");
            let other = if number { format!("{field} + 1000") } else { format!("{field} || 'x'") };
            // Bytes in place of a text are the same to the eye; a server does not take them.
            let bytes = (!on_a_server()).then(|| format!("CAST({field} AS BLOB)"));
            for value in [Some(other), bytes].into_iter().flatten() {
                execute(&pool, &format!("UPDATE history SET {field} = {value} WHERE revision = {revision}"))
                    .await;
                let found = altered(&service, None).await;
                assert!(found.starts_with(&format!("revision {revision}: ")), "{field} = {value}: {found}");
                execute(&pool, "DELETE FROM history").await;
                execute(&pool, "INSERT INTO history SELECT * FROM kept").await;
            }
        }
    }
    assert_eq!(service.writer.store().verify(None).await.unwrap().rows, 5);
}

#[tokio::test]
async fn a_row_that_is_removed_or_moved_is_found_and_named() {
    let (service, pool) = five_changes().await;
    execute(&pool, "CREATE TABLE kept AS SELECT * FROM history").await;
    for revision in 1..=5 {
        execute(&pool, &format!("DELETE FROM history WHERE revision = {revision}")).await;
        assert!(altered(&service, None).await.starts_with(&format!("revision {revision}: it is missing")));
        // Closing the gap does not hide it.
        execute(&pool, &format!("UPDATE history SET revision = 1 - revision WHERE revision > {revision}"))
            .await;
        execute(&pool, "UPDATE history SET revision = -revision WHERE revision < 0").await;
        execute(&pool, "UPDATE revision SET revision = 4").await;
        altered(&service, None).await;
        execute(&pool, "DELETE FROM history").await;
        execute(&pool, "INSERT INTO history SELECT * FROM kept").await;
        execute(&pool, "UPDATE revision SET revision = 5").await;
    }
    service.writer.store().verify(None).await.unwrap();
}

#[tokio::test]
async fn what_is_cut_off_is_missed_by_a_head_that_was_written_down() {
    let (service, pool) = five_changes().await;
    let before = service.writer.store().verify(None).await.unwrap();
    service.flag("g", 10).await;
    let after = service.writer.store().verify(Some(&before.head)).await.unwrap();
    assert_eq!(after.rows, 6);
    // The last change is undone without a trace.
    execute(&pool, "DELETE FROM history WHERE revision = 6").await;
    execute(&pool, "UPDATE revision SET revision = 5").await;
    execute(&pool, "DELETE FROM resource WHERE kind = 'flag' AND name = 'g'").await;
    assert_eq!(service.writer.store().verify(None).await.unwrap(), before);
    let found = altered(&service, Some(&after.head)).await;
    assert_eq!(found, format!("no row up to the newest, revision 5, has the hash `{}`", after.head));
    // As an unset variable in a script is.
    altered(&service, Some("")).await;
}

#[tokio::test]
async fn a_state_that_does_not_follow_from_the_changes_is_found() {
    let (service, pool) = five_changes().await;
    let alterations = [
        "UPDATE resource SET body = replace(body, '50', '51') WHERE name = 'f'",
        "DELETE FROM resource WHERE name = 'f'",
        "UPDATE resource SET body = 'x' WHERE name = 'f'",
        "INSERT INTO resource (kind, name, body) VALUES ('flag', 'new', '{}')",
    ];
    execute(&pool, "CREATE TABLE kept AS SELECT * FROM resource").await;
    for (alteration, name) in alterations.into_iter().zip(["f", "f", "f", "new"]) {
        execute(&pool, alteration).await;
        let found = altered(&service, None).await;
        assert_eq!(found, format!("the stored flag `{name}` is not what the changes lead to"));
        execute(&pool, "DELETE FROM resource").await;
        execute(&pool, "INSERT INTO resource SELECT * FROM kept").await;
    }
    service.writer.store().verify(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_holds_while_two_processes_write() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()).await, open(dir.path()).await);
    let write = async |writer, name: &str| {
        for number in 0..10 {
            put(writer, &format!("{name}{number}"), json!({})).await.unwrap();
        }
    };
    let prove = async {
        loop {
            let Chain { rows, .. } = one.store().verify(None).await.unwrap();
            if rows == 20 {
                return;
            }
        }
    };
    tokio::join!(write(&one, "a"), write(&other, "b"), prove);
}

#[tokio::test]
async fn the_command_says_ok_or_what_does_not_fit() {
    let (service, pool) = five_changes().await;
    let Chain { head, .. } = service.writer.store().verify(None).await.unwrap();
    let proof = service.run(&["history", "verify", "--head", &head]).await;
    assert_eq!((proof.code, proof.stdout), (Some(0), format!("OK: 5 rows, head {head}\n")));
    execute(&pool, "UPDATE history SET actor = 'nobody' WHERE revision = 3").await;
    let proof = service.run(&["history", "verify"]).await;
    assert_eq!((proof.code, proof.stdout.as_str()), (Some(1), ""));
    assert!(
        proof.stderr.starts_with("error: the history does not fit: revision 3: hash "),
        "{}",
        proof.stderr
    );
    service.get("/api/v1/history/verify").await.problem(409);
    service.get("/api/v1/history/verify?haed=0").await.problem(400);
}

/// A service with five changes of several kinds, and its database.
async fn five_changes() -> (Service, AnyPool) {
    let service = Service::start().await;
    put(&service.writer, "f", json!({"percentage": 25})).await.unwrap();
    patch(&service.writer, "f", json!({"percentage": 50})).await.unwrap();
    service.send("PUT", "/api/v1/settings", &json!({"legacy": ["127.0.0.1:9000"]})).await.ok();
    service.module("m", json!({"gates": [{"flag": "f", "when_off": "legacy"}]})).await.ok();
    service
        .writer
        .submit(submission(Change::DeleteModule { id: "m".to_owned(), force: false }))
        .await
        .unwrap();
    let pool = pool(service.dir.path()).await;
    (service, pool)
}

/// What does not fit.
async fn altered(service: &Service, head: Option<&str>) -> String {
    match service.writer.store().verify(head).await {
        Err(StoreError::Altered(what)) => what,
        other => panic!("{other:?}"),
    }
}
