//! What a write must have seen of what it changes, and what is told where that is no longer there.

use serde_json::{Value, json};

use crate::support::{Answer, Service, answer};

/// A service with one of each.
async fn one_of_each() -> Service {
    let service = Service::start().await;
    service.flag("f", 25).await;
    service.module("m", json!({})).await.ok();
    let provider = json!({"issuer": "https://issuer.example", "jwks": {"keys": []}});
    service.send("PUT", "/api/v1/providers/p", &provider).await.ok();
    service
}

async fn ask(service: &Service, method: &str, path: &str, body: &Value, tag: Option<&str>) -> Answer {
    let request = service.request(method, path).json(body);
    answer(if let Some(tag) = tag { request.header("if-match", tag) } else { request }).await
}

#[tokio::test]
async fn what_exists_is_changed_only_by_who_says_what_they_have_seen() {
    let service = one_of_each().await;
    let module = json!({"id": "m", "endpoints": ["127.0.0.1:9002"], "auth": {"level": "none"}});
    let provider = json!({"issuer": "https://other.example", "jwks": {"keys": []}});
    let modules = "/api/v1/module-management/modules";
    let module_m = &format!("{modules}/m");
    // Where its tag is read, the write, and its body.
    for (seen, method, path, body) in [
        ("/api/v1/flags/f", "PUT", "/api/v1/flags/f", json!({"percentage": 30})),
        ("/api/v1/flags/f", "PATCH", "/api/v1/flags/f", json!({"percentage": 40})),
        ("/api/v1/flags/f", "POST", "/api/v1/flags/f/restore", json!({})),
        ("/api/v1/settings", "PUT", "/api/v1/settings", json!({"default": "deny"})),
        (module_m, "POST", modules, module.clone()),
        (module_m, "PUT", module_m, json!({"endpoints": ["127.0.0.1:9003"]})),
        ("/api/v1/providers/p", "PUT", "/api/v1/providers/p", provider),
        ("/api/v1/status", "POST", "/api/v1/revert/3", json!({})),
        ("/api/v1/providers/p", "DELETE", "/api/v1/providers/p", json!({})),
        (module_m, "DELETE", module_m, json!({})),
        ("/api/v1/flags/f", "DELETE", "/api/v1/flags/f", json!({})),
    ] {
        let tag = service.get(seen).await.header("etag").to_owned();
        let before = service.writer.head().revision;
        let refused = ask(&service, method, path, &body, None).await.problem(428);
        let todo = refused["detail"].as_str().unwrap();
        assert!(todo.contains("`If-Match`"), "{method} {path}: {todo}");
        for other in ["\"other\"".to_owned(), format!("W/{tag}"), format!("\"a,b\", W/{tag}")] {
            ask(&service, method, path, &body, Some(&other)).await.problem(409);
        }
        // To try needs nothing; and any of the tags that are named will do.
        ask(&service, method, &format!("{path}?dry_run=true"), &body, None).await.ok();
        assert_eq!(service.writer.head().revision, before, "{method} {path}");
        ask(&service, method, path, &body, Some(&format!("\"other\", {tag}"))).await.ok();
    }
}

#[tokio::test]
async fn nothing_stands_in_the_way_of_a_kill() {
    let service = one_of_each().await;
    let killed = ask(&service, "POST", "/api/v1/flags/f/kill", &json!({}), None).await.ok();
    assert_eq!(killed["resource"]["killed"], true);
    // To take it back, one must have seen it.
    ask(&service, "POST", "/api/v1/flags/f/restore", &json!({}), None).await.problem(428);
}

#[tokio::test]
async fn what_is_not_there_needs_no_tag_and_has_none() {
    let service = one_of_each().await;
    ask(&service, "PUT", "/api/v1/flags/new", &json!({}), None).await.ok();
    let absent = ask(&service, "PUT", "/api/v1/flags/other", &json!({}), Some("*")).await.problem(412);
    assert_eq!(absent["detail"], "there is no flag `other` to be changed: leave `If-Match` away to make it");
    ask(&service, "PUT", "/api/v1/flags/other", &json!({}), Some("\"seen\"")).await.problem(409);
    ask(&service, "PATCH", "/api/v1/flags/other", &json!({}), Some("*")).await.problem(404);
    ask(&service, "PATCH", "/api/v1/flags/f", &json!({"percentage": 5}), Some("*")).await.ok();
}

#[tokio::test]
async fn a_change_of_one_flag_stands_in_the_way_of_no_other() {
    let service = one_of_each().await;
    let read = service.get("/api/v1/flags/f").await;
    service.flag("g", 10).await;
    let written =
        ask(&service, "PATCH", "/api/v1/flags/f", &json!({"percentage": 50}), Some(read.header("etag")))
            .await;
    // A write answers the tag for the next one.
    let tag = written.header("etag").to_owned();
    assert_eq!(service.get("/api/v1/flags/f").await.header("etag"), tag);
    // What was taken back is what it was.
    let back = ask(&service, "PATCH", "/api/v1/flags/f", &json!({"percentage": 25}), Some(&tag)).await;
    assert_eq!(back.header("etag"), read.header("etag"));
}

#[tokio::test]
async fn a_conflict_tells_both_sides_and_who_made_the_difference() {
    let service = one_of_each().await;
    let read = service.get("/api/v1/flags/f").await;
    let tag = read.header("etag").to_owned();
    let change = service.request("PATCH", "/api/v1/flags/f").json(&json!({"percentage": 50}));
    let change = change.header("if-match", &tag).header("x-rampart-actor", "amina");
    answer(change.header("x-rampart-reason", "all is well")).await.ok();

    let mine = json!({"organisations": {"on": ["acme"]}});
    let problem = ask(&service, "PATCH", "/api/v1/flags/f", &mine, Some(&tag)).await.problem(409);
    let conflict = &problem["conflict"];
    assert_eq!(conflict["subject"], json!({"kind": "flag", "name": "f"}));
    assert_eq!(conflict["based_on"], read.body);
    assert_eq!(conflict["now"]["percentage"], 50);
    let yours = &conflict["yours"];
    assert_eq!(json!([yours["percentage"], yours["organisations"]["on"]]), json!([25, ["acme"]]));
    assert_eq!(conflict["difference"], "flag f: percentage 25 → 50");
    assert_eq!(conflict["changes"].as_array().unwrap().len(), 1);
    let made = &conflict["changes"][0];
    assert_eq!(
        json!([made["revision"], made["actor"], made["reason"]]),
        json!([4, "key/local for amina", "all is well"])
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("flag f: percentage 25 → 50 (last changed by key/local for amina at 20"),
        "{detail}"
    );

    // What is gone, and what never was.
    ask(&service, "DELETE", "/api/v1/flags/f", &json!({}), Some("*")).await.ok();
    let gone = ask(&service, "PUT", "/api/v1/flags/f", &mine, Some(&tag)).await.problem(409);
    assert_eq!(
        json!([gone["conflict"]["now"], gone["conflict"]["difference"]]),
        json!([null, "flag f removed"])
    );
    let unknown = ask(&service, "PUT", "/api/v1/providers/p", &mine, Some("\"never\"")).await;
    assert_eq!(unknown.status, 422, "the body is looked at first");
    let of_all = ask(&service, "POST", "/api/v1/revert/1", &json!({}), Some("\"3\"")).await.problem(409);
    assert_eq!(of_all["conflict"]["difference"], "revision 3 → 5");
    assert_eq!(of_all["conflict"]["changes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_if_match_cannot_hold_is_refused() {
    let service = one_of_each().await;
    for tag in ["yesterday", "\"open", "\"a\" \"b\"", "\"a\",", "w/\"a\"", ""] {
        ask(&service, "PATCH", "/api/v1/flags/f", &json!({}), Some(tag)).await.problem(400);
    }
}
