//! What only a server does: it tells, it encrypts, it refuses, and it goes away and comes back.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rampart::store::{Database, Store};
use rampart_tests::postgres::{PASSWORD, Postgres};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::command::run;
use crate::support::{Service, open, put, server};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_change_is_told_to_others_also_after_their_connection_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()).await, open(dir.path()).await);
    let told = Notify::new();
    let changes = async {
        // Told once when it listens.
        told.notified().await;
        put(&other, "f", json!({})).await.unwrap();
        told.notified().await;
        let listeners =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN \"rampart\"'";
        let database = one.store().database().to_string();
        let database = database.rsplit('/').next().unwrap();
        let ended =
            server().execute(database, &format!("{listeners} AND datname = current_database()")).unwrap();
        assert_eq!(ended, "t");
        // What is written until it listens again is not told.
        for number in 0.. {
            put(&other, &format!("f{number}"), json!({})).await.unwrap();
            if timeout(Duration::from_millis(100), told.notified()).await.is_ok() {
                return;
            }
        }
    };
    tokio::select! {
        () = one.store().listen(&told) => {}
        done = timeout(SOON, changes) => done.expect("told in time"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_reads_go_on_and_writes_are_refused_until_it_is_back() {
    let mut server = Postgres::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("url"), server.database().unwrap()).unwrap();
    let service = Service::start_in(dir).await;
    service.flag("f", 25).await;
    let writer = Arc::clone(&service.writer);
    tokio::spawn(async move { writer.follow().await });

    server.stop().unwrap();
    let change = json!({"percentage": 50});
    let began = Instant::now();
    let mut refused = JoinSet::new();
    for _ in 0..8 {
        refused
            .spawn(service.request("PATCH", "/api/v1/flags/f").header("if-match", "*").json(&change).send());
    }
    for answer in refused.join_all().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 503);
        let problem: serde_json::Value = answer.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("the database does not answer") || detail.contains("the database cannot be used"),
            "{detail}"
        );
    }
    // One after another, they would have waited eight times as long as one.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    service.get("/ready").await.problem(503);
    assert_eq!(service.get("/api/v1/flags/f").await.ok()["percentage"], 25);
    assert_eq!(service.writer.current().borrow().as_ref().unwrap().revision, 1);

    server.restart().unwrap();
    let again = async { while service.send("PATCH", "/api/v1/flags/f", &change).await.status != 200 {} };
    timeout(SOON, again).await.expect("it recovers by itself");
    service.get("/ready").await.ok();
    assert_eq!(service.writer.store().verify(None).await.unwrap().rows, 2);
}

#[tokio::test]
async fn a_connection_is_as_secure_as_the_url_says() {
    let url = server().database().unwrap();
    let name = url.rsplit('/').next().unwrap();
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let certificate = server().certificate().display().to_string();
    let trusted = format!("sslmode=verify-full&sslrootcert={certificate}");
    for (parameters, is_encrypted) in [("sslmode=disable", "f"), ("sslmode=require", "t"), (&trusted, "t")] {
        let database = Database::Server(format!("{url}?{parameters}"));
        let store = Store::open(&database).await.unwrap();
        assert_eq!(server().execute(name, encrypted).unwrap(), is_encrypted, "{parameters}");
        store.close().await;
    }
    // Nobody vouches for the certificate.
    let refused = Store::open(&Database::Server(format!("{url}?sslmode=verify-full"))).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[tokio::test]
async fn what_keeps_it_from_a_server_is_said_and_no_password_is() {
    let dir = tempfile::tempdir().unwrap();
    let url = server().database().unwrap();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let wrong = url.replace(PASSWORD, "another-secret");
    let missing = url.replace(&name, "nowhere");
    let closed = "postgres://rampart:another-secret@127.0.0.1:1/nowhere";
    let unknown = format!("{url}?sslmode=sometimes");
    for (url, said) in [
        (wrong.as_str(), "password authentication failed for user \"rampart\": name a user and a password"),
        (&missing, "database \"nowhere\" does not exist: create it"),
        (closed, "postgres://rampart@127.0.0.1:1/nowhere: the database does not answer"),
        (&unknown, "sometimes"),
        ("mysql://rampart:another-secret@127.0.0.1/x", "that is no database: name a file, or postgres://"),
        ("postgres://rampart:another-secret@[/x", "postgres://…: the database cannot be used"),
    ] {
        let arguments = ["serve", "--http", "127.0.0.1:0", "--xds", "127.0.0.1:0", "--database", url];
        let ran = run(dir.path(), "", &arguments).await;
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        for secret in [PASSWORD, "another-secret"] {
            assert!(!ran.stderr.contains(secret), "{}", ran.stderr);
        }
    }
    // The environment is not shown by the help either.
    let help = run(dir.path(), "", &["serve", "--help"]).await;
    assert!(help.stdout.contains("RAMPART_DATABASE") && !help.stdout.contains(PASSWORD), "{}", help.stdout);
}
