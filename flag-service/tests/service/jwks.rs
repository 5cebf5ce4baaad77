//! Issuers' keys that are fetched: from a real issuer, which rotates, breaks down and lies.

use std::fs;
use std::path::Path;

use axum::serve::Listener as _;
use rampart::jwks::Keeping;
use rampart::tls::{Certificates, Files, Listener};
use rampart_tests::certificates::Authority;
use rampart_tests::issuer::{Issuer, Key};
use rampart_tests::wait::{SOON, eventually};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::command::run;
use crate::process::serve_with;
use crate::support::{Service, answer};

/// A provider whose keys are fetched from this issuer.
fn provider(issuer: &Issuer, from: Value) -> Value {
    json!({"issuer": issuer.url(), "algorithms": ["RS256", "ES256"], "jwks_from": from})
}

async fn set(service: &Service, body: &Value) {
    service.send("PUT", "/api/v1/providers/main", body).await.ok();
}

async fn refresh(service: &Service) -> Value {
    service.send("POST", "/api/v1/providers/main/keys/refresh", &Value::Null).await.ok()
}

fn kids(now: &Value) -> Vec<&str> {
    now["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect()
}

/// The keys by which filters judge.
fn published(service: &Service) -> Vec<String> {
    let head = service.writer.head();
    let provider = &head.published.policy.providers[0];
    assert_eq!(provider.jwks_from, None, "no filter fetches");
    let keys = &provider.jwks.as_ref().unwrap().keys;
    keys.iter().map(|key| key.kid.clone().unwrap()).collect()
}

#[tokio::test]
async fn keys_are_fetched_where_the_discovery_document_says_and_stand_in_the_history() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    set(&service, &provider(&issuer, json!({}))).await;
    let now = refresh(&service).await;
    assert_eq!(kids(&now), ["p256-1", "rsa-1"]);
    assert_eq!(published(&service), ["p256-1", "rsa-1"]);
    assert!(now["keys"][0]["since"].as_u64().unwrap() > 1_700_000_000, "{now}");
    assert_eq!(now["fetching"]["failures"], 0);
    let history = service.get("/api/v1/history").await.ok();
    let change = &history["changes"][0];
    assert_eq!((&change["actor"], &change["source"]), (&json!("rampart"), &json!("jwks")), "{change}");
    assert_eq!(change["summary"], "key_set main added");

    // What was fetched belongs to no document.
    let export = service.get("/api/v1/export").await.ok();
    assert!(!export.to_string().contains("rsa-1"), "{export}");
    let body = json!({"resources": [{"kind": "key_set", "name": "main"}]});
    let applied = service.request("POST", "/api/v1/apply").json(&body).header("if-match", "*");
    let refused = answer(applied).await.problem(422);
    assert!(refused["errors"][0]["field"] == "resources[0].kind", "{refused}");
}

#[tokio::test]
async fn what_is_unchanged_makes_no_revision_and_is_not_sent_again() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    set(&service, &provider(&issuer, json!({"uri": issuer.jwks_url()}))).await;
    let before = refresh(&service).await;
    // The same keys in another order, which is another document.
    issuer.publish(&[issuer.p256(), issuer.rsa()]);
    let shuffled = refresh(&service).await;
    let again = refresh(&service).await;
    assert_eq!((&shuffled["revision"], &again["revision"]), (&before["revision"], &before["revision"]));
    assert!(issuer.unchanged() > 0, "an issuer that keeps tags is asked by them");
}

#[tokio::test]
async fn a_rotation_overlaps_and_a_withdrawn_key_is_gone_for_good() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    set(&service, &provider(&issuer, json!({"uri": issuer.jwks_url()}))).await;
    let first = refresh(&service).await;
    let old = first["keys"][1].clone();
    let next = Key::p256("next").unwrap();
    issuer.publish(&[issuer.rsa(), &next]);
    let overlap = refresh(&service).await;
    assert_eq!(kids(&overlap), ["next", "rsa-1"]);
    assert_eq!(overlap["keys"][1], old, "a key that stays is as old as it was");
    issuer.publish(&[&next]);
    let after = refresh(&service).await;
    assert_eq!(published(&service), ["next"]);

    // Whoever goes back to a revision of then means what operators set up.
    let to = first["revision"].as_u64().unwrap();
    service.flag("f", 25).await;
    let reverted = service.write("POST", &format!("/api/v1/revert/{to}")).await;
    answer(reverted).await.ok();
    assert!(service.writer.head().state.flags.is_empty());
    assert_eq!(published(&service), ["next"]);
    assert!(service.writer.head().revision > after["revision"].as_u64().unwrap());
}

#[tokio::test]
async fn where_a_fetch_fails_the_keys_stay_and_everyone_is_told() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    set(&service, &provider(&issuer, json!({}))).await;
    refresh(&service).await;
    let private = json!({"kty": "OKP", "crv": "Ed25519", "kid": "oops", "x": "AA", "d": "c2VjcmV0"});
    for (set, broken, named, error) in [
        (issuer.jwks(), true, None, "answers 500"),
        (json!({"keys": []}), false, None, "no key that can be used"),
        (json!({"keys": [private]}), false, None, "keys[oops]: this is a private key"),
        (json!("token=secret"), false, None, "answers no JSON Web Key Set"),
        (json!({"keys": "x".repeat(300_000)}), false, None, "more than 256 KiB"),
        (issuer.jwks(), false, Some("https://else.example"), "issuer `https://else.example`"),
    ] {
        issuer.publish_set(set);
        issuer.break_down(broken);
        issuer.call_itself(named.unwrap_or(&issuer.url()));
        let now = refresh(&service).await;
        let told = now["fetching"]["error"].as_str().unwrap_or_else(|| panic!("{error}: {now}"));
        assert!(told.contains(error) && told.contains(&issuer.url()), "{told}");
        assert!(!now.to_string().contains("secret") && !now.to_string().contains("c2VjcmV0"), "{now}");
        assert_eq!(published(&service), ["p256-1", "rsa-1"], "{error}");
    }
    let status = service.get("/api/v1/status").await.ok();
    assert!(status["jwks"]["main"]["failures"].as_u64().unwrap() >= 6, "{status}");
    let metrics = service.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "rampart_jwks_keys{provider=\"main\"} 2",
        "rampart_jwks_fetches_total{provider=\"main\",outcome=\"changed\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no `{line}` in {metrics}");
    }
    issuer.publish(&[issuer.p256()]);
    issuer.call_itself(&issuer.url());
    let now = refresh(&service).await;
    assert_eq!((kids(&now), &now["fetching"]["failures"]), (vec!["p256-1"], &json!(0)));
}

#[tokio::test]
async fn an_unknown_key_has_them_fetched_at_once_and_made_up_ones_not_each_time() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    set(&service, &provider(&issuer, json!({"uri": issuer.jwks_url()}))).await;
    refresh(&service).await;
    let next = Key::p256("next").unwrap();
    issuer.publish(&[&next, issuer.rsa()]);
    let asked = issuer.asked();
    for _ in 0..1000 {
        service.keeper.unknown_key("main");
        service.keeper.unknown_key("another");
    }
    let fetched = async || {
        let keys = published(&service);
        anyhow::ensure!(keys == ["next", "rsa-1"], "{keys:?}");
        Ok(())
    };
    eventually(SOON, "the new key", fetched).await.unwrap();
    assert_eq!(issuer.asked(), asked + 1);
}

#[tokio::test]
async fn another_source_takes_nothing_along() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    let other = Issuer::start().await.unwrap();
    other.publish(&[&Key::p256("other").unwrap()]);
    set(&service, &provider(&issuer, json!({}))).await;
    refresh(&service).await;
    other.break_down(true);
    set(&service, &provider(&other, json!({}))).await;
    assert_eq!(published(&service), [""; 0], "the keys of one issuer are not another's");
    other.break_down(false);
    refresh(&service).await;
    assert_eq!(published(&service), ["other"]);
    service.write("DELETE", "/api/v1/providers/main").await.send().await.unwrap();
    assert!(service.writer.head().state.key_sets.is_empty());
    assert_eq!(service.keeper.keeping("main"), None::<Keeping>);
}

#[tokio::test]
async fn keys_are_there_after_a_restart_though_the_issuer_is_away() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    set(&service, &provider(&issuer, json!({}))).await;
    let before = refresh(&service).await;
    issuer.break_down(true);
    let Service { dir, writer, .. } = service;
    drop(writer);
    let service = Service::start_in(dir).await;
    assert_eq!(published(&service), ["p256-1", "rsa-1"]);
    let after = refresh(&service).await;
    assert_eq!(after["keys"], before["keys"]);
    assert_eq!(after["fetching"]["fetched_at_ms"], Value::Null, "not since the start");
}

#[tokio::test]
async fn a_source_that_others_could_change_is_refused() {
    let service = Service::start().await;
    let issuer = Issuer::start().await.unwrap();
    for (from, field, problem) in [
        (json!({"uri": "http://id.example/jwks"}), "jwks_from.uri", "keys are fetched by https"),
        (json!({"uri": "https://a:b@id.example"}), "jwks_from.uri", "password"),
        (json!({"refresh_seconds": 0}), "jwks_from.refresh_seconds", "1 to 86400"),
    ] {
        let refused =
            service.send("PUT", "/api/v1/providers/main", &provider(&issuer, from)).await.problem(422);
        let error = &refused["errors"][0];
        assert!(error["field"] == field && error["problem"].as_str().unwrap().contains(problem), "{refused}");
    }
    for body in [
        json!({"issuer": "https://id.example"}),
        json!({"issuer": "https://id.example", "jwks": {"keys": []}, "jwks_from": {}}),
        json!({"issuer": "http://id.example", "jwks_from": {}}),
    ] {
        service.send("PUT", "/api/v1/providers/main", &body).await.problem(422);
    }
}

/// Where this issuer's keys are by TLS, with a certificate of this authority.
async fn encrypted(issuer: &Issuer, authority: &Authority, dir: &Path) -> String {
    let [cert, key] = ["issuer-cert.pem", "issuer-key.pem"].map(|file| dir.join(file));
    authority.issue("localhost", &cert, &key).unwrap();
    let files = Files { cert, key, client_ca: None, optional: false, protocols: &["http/1.1"] };
    let certificates = Certificates::read(files).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut listener = Listener::new(socket, Some(&certificates)).unwrap();
    let place = issuer.jwks_url().replace("http://127.0.0.1:", "");
    let (port, path) = place.split_once('/').unwrap();
    let url = format!("https://localhost:{}/{path}", listener.local_addr().unwrap().port());
    let plain = format!("127.0.0.1:{port}");
    tokio::spawn(async move {
        loop {
            let (mut asked, _) = listener.accept().await;
            let mut answers = TcpStream::connect(&plain).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut asked, &mut answers).await });
        }
    });
    url
}

#[tokio::test]
async fn an_authority_of_ones_own_vouches_for_an_issuer_where_it_is_named_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (issuer, authority) = (Issuer::start().await.unwrap(), Authority::new().unwrap());
    authority.write(&dir.join("ca.pem")).unwrap();
    Authority::new().unwrap().write(&dir.join("other.pem")).unwrap();
    let url = encrypted(&issuer, &authority, dir).await;
    let serve = serve_with(dir, &["--jwks-ca", "ca.pem"]).await;
    let set = ["provider", "set", "main", "--issuer", "https://id.example", "--jwks-uri", &url];
    let set = run(dir, &serve.url, &set).await;
    assert_eq!((set.code, set.stderr.as_str()), (Some(0), ""));
    let keys = run(dir, &serve.url, &["provider", "keys", "main"]).await.stdout;
    assert!(keys.contains("rsa-1") && keys.contains("p256-1"), "{keys}");
    serve.stop().await;

    issuer.publish(&[&Key::p256("not-theirs").unwrap()]);
    for options in [&["--jwks-ca", "other.pem"][..], &[]] {
        let serve = serve_with(dir, options).await;
        let refreshed =
            run(dir, &serve.url, &["provider", "refresh", "main", "--output", "json"]).await.stdout;
        let now: Value = serde_json::from_str(&refreshed).unwrap();
        let error = now["fetching"]["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("{url} cannot be reached: ")), "{options:?}: {error}");
        let todo = ": name who vouches for it with `rampart serve --jwks-ca`";
        assert!(error.ends_with(todo), "{options:?}: {error}");
        assert_eq!(kids(&now), ["p256-1", "rsa-1"], "{options:?}");
        serve.stop().await;
    }
    fs::write(dir.join("none.pem"), "").unwrap();
    for (file, problem) in [("missing.pem", ": No such file"), ("none.pem", " holds no certificate (PEM)")] {
        let serve = ["serve", "--http", "127.0.0.1:0", "--xds", "127.0.0.1:0", "--jwks-ca", file];
        let refused = run(dir, "http://127.0.0.1:1", &serve).await;
        let said = format!("error: --jwks-ca {file}{problem}");
        assert!(refused.code == Some(1) && refused.stderr.starts_with(&said), "{}", refused.stderr);
    }
}
