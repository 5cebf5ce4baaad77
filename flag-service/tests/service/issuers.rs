//! Issuers of the API whose keys are fetched: what their tokens open while they rotate, break down and
//! are made up.

use rampart_tests::issuer::{AUDIENCE, Issuer, Key};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Service, answer};

const REFRESH: &str = "/api/v1/providers/issuers%2Fcorporate/keys/refresh";

/// Settings that take this issuer's tokens, with keys from there.
fn settings(issuer: &Issuer, from: Value) -> Value {
    let provider = json!({
        "name": "corporate", "issuer": issuer.url(), "audiences": [AUDIENCE],
        "claims": {"roles": "permissions"}, "jwks_from": from,
    });
    json!({"issuers": [{"provider": provider, "roles": {"viewer": ["staff"]}}]})
}

async fn set_up(from: Value) -> (Service, Issuer) {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    service.send("PUT", "/api/v1/settings", &settings(&issuer, from)).await.ok();
    (service, issuer)
}

/// What a token of this issuer opens that is signed by this key.
async fn ask(service: &Service, issuer: &Issuer, key: &Key) -> Answer {
    let token = key.sign(&issuer.claims("acme", &["staff"])).unwrap();
    answer(service.anonymous("GET", "/api/v1/flags").bearer_auth(token)).await
}

async fn refresh(service: &Service) -> Value {
    service.send("POST", REFRESH, &Value::Null).await.ok()
}

fn kids(keys: &Value) -> Vec<&str> {
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_rotation_overlaps_is_taken_up_at_once_and_ends_the_withdrawn_key() {
    let (service, issuer) = set_up(json!({})).await;
    // The first does not come too early: it waits for the fetch that is under way.
    ask(&service, &issuer, issuer.rsa()).await.ok();
    let next = Key::p256("next").unwrap();
    issuer.publish(&[issuer.rsa(), &next]);
    ask(&service, &issuer, &next).await.ok();
    ask(&service, &issuer, issuer.rsa()).await.ok();
    issuer.publish(&[&next]);
    let now = refresh(&service).await;
    assert_eq!(kids(&now), ["next"]);
    let refused = ask(&service, &issuer, issuer.rsa()).await.problem(401);
    let said = "the token is not accepted (unknown_key): none of the keys that the issuer `corporate` of the settings \
                publishes fits it";
    assert_eq!(refused["detail"], said);
    ask(&service, &issuer, &next).await.ok();

    let history = service.get("/api/v1/history").await.ok();
    assert_eq!(history["changes"][0]["summary"], "key_set issuers/corporate: keys changed");
    for place in ["/api/v1/policy", "/api/v1/export"] {
        let told = service.get(place).await.ok().to_string();
        assert!(!told.contains("\"next\""), "{place} is for others: {told}");
    }
    // Back at a revision of then, they are what the issuer says now.
    let to = now["revision"].as_u64().unwrap() - 1;
    service.flag("f", 25).await;
    answer(service.write("POST", &format!("/api/v1/revert/{to}")).await).await.ok();
    ask(&service, &issuer, issuer.rsa()).await.problem(401);
    ask(&service, &issuer, &next).await.ok();
    service.send("PUT", "/api/v1/settings", &json!({})).await.ok();
    ask(&service, &issuer, &next).await.problem(401);
    assert!(service.writer.head().state.key_sets.is_empty());
    assert_eq!(service.keeper.keeping("issuers/corporate"), None);
}

#[tokio::test]
async fn while_the_issuer_is_away_its_known_keys_open_over_a_restart_too() {
    let (service, issuer) = set_up(json!({})).await;
    ask(&service, &issuer, issuer.p256()).await.ok();
    issuer.break_down(true);
    refresh(&service).await;
    ask(&service, &issuer, issuer.p256()).await.ok();
    let Service { dir, writer, .. } = service;
    drop(writer);
    let service = Service::start_in(dir).await;
    ask(&service, &issuer, issuer.p256()).await.ok();
    let unknown = ask(&service, &issuer, &Key::p256("next").unwrap()).await;
    assert_eq!(unknown.header("retry-after"), "10");
    let said = "the keys of the issuer `corporate` of the settings cannot be fetched, so this token cannot be judged: \
                `rampart status` says why; an API key is taken meanwhile";
    assert_eq!(unknown.problem(503)["detail"], said);
    let status = service.get("/api/v1/status").await.ok();
    let error = status["jwks"]["issuers/corporate"]["error"].as_str().unwrap();
    assert!(error.ends_with("answers 500 Internal Server Error"), "{error}");
    let metrics = service.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    let line = "rampart_jwks_keys{provider=\"issuers/corporate\"} 2";
    assert!(metrics.lines().any(|found| found == line), "no `{line}` in {metrics}");
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_keeps_nobody_else_out() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    issuer.break_down(true);
    service.send("PUT", "/api/v1/settings", &settings(&issuer, json!({}))).await.ok();
    // More than may be wrong: nobody knows whether these are.
    for _ in 0..25 {
        ask(&service, &issuer, issuer.rsa()).await.problem(503);
    }
    service.get("/api/v1/flags").await.ok();
    issuer.break_down(false);
    refresh(&service).await;
    ask(&service, &issuer, issuer.rsa()).await.ok();
}

#[tokio::test]
async fn a_flood_of_made_up_keys_has_them_fetched_once() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    service.send("PUT", "/api/v1/settings", &settings(&issuer, json!({"uri": issuer.jwks_url()}))).await.ok();
    refresh(&service).await;
    let asked = issuer.asked();
    let mut flood = JoinSet::new();
    for number in 0..15 {
        let made_up = Key::p256(&format!("made-up-{number}")).unwrap();
        let token = made_up.sign(&issuer.claims("acme", &["staff"])).unwrap();
        flood.spawn(answer(service.anonymous("GET", "/api/v1/flags").bearer_auth(token)));
    }
    for answer in flood.join_all().await {
        answer.problem(401);
    }
    assert_eq!(issuer.asked(), asked + 1);
    // They are guesses, and their share is soon used up.
    let mut last = 401;
    for _ in 0..6 {
        last = ask(&service, &issuer, &Key::p256("made-up").unwrap()).await.status;
    }
    assert_eq!((last, issuer.asked()), (429, asked + 1));
}

#[tokio::test]
async fn a_provider_of_the_policy_may_have_the_same_name_and_opens_nothing() {
    let (service, issuer) = set_up(json!({})).await;
    let other = Issuer::start().await.unwrap();
    other.publish(&[&Key::p256("other").unwrap(), other.p256()]);
    let provider = json!({"issuer": other.url(), "jwks_from": {}});
    service.send("PUT", "/api/v1/providers/corporate", &provider).await.ok();
    let theirs = service.send("POST", "/api/v1/providers/corporate/keys/refresh", &Value::Null).await.ok();
    assert_eq!(kids(&theirs), ["other", "p256-1"]);
    ask(&service, &issuer, issuer.rsa()).await.ok();
    ask(&service, &other, other.p256()).await.problem(401);
    for verb in ["keys", "refresh"] {
        let told = service.run(&["provider", verb, "issuers/corporate"]).await;
        assert!(told.stdout.contains("rsa-1") && !told.stdout.contains("other"), "{}", told.stderr);
    }
}

#[tokio::test]
async fn a_source_that_others_could_change_is_refused() {
    let (service, issuer) = (Service::start().await, Issuer::start().await.unwrap());
    for (from, member, problem) in [
        (json!({"uri": "http://id.example/jwks"}), "jwks_from.uri", "keys are fetched by https"),
        (json!({"refresh_seconds": 0}), "jwks_from.refresh_seconds", "1 to 86400"),
    ] {
        let refused = service.send("PUT", "/api/v1/settings", &settings(&issuer, from)).await.problem(422);
        let error = &refused["errors"][0];
        assert_eq!(error["field"], format!("issuers[corporate].provider.{member}"), "{refused}");
        assert!(error["problem"].as_str().unwrap().contains(problem), "{refused}");
    }
    let mut both = settings(&issuer, json!({}));
    both["issuers"][0]["provider"]["jwks"] = json!({"keys": []});
    let refused = service.send("PUT", "/api/v1/settings", &both).await.problem(422);
    assert_eq!(refused["errors"][0]["field"], "issuers[corporate].provider.jwks_from", "{refused}");
}
