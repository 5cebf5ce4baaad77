//! Kill, restore, and what must not change under a live flag.

use serde_json::json;

use crate::support::{Service, answer};

#[tokio::test]
async fn a_kill_wins_over_everything_and_restore_brings_everything_back() {
    let service = Service::start().await;
    let before = json!({"percentage": 100, "organisations": {"on": ["a"], "off": ["b"]}});
    let before = service.send("PUT", "/api/v1/flags/f", &before).await.ok()["resource"].clone();
    let value = async |organisation: &str| {
        let path = format!("/api/v1/flags/f/explain?organisation={organisation}");
        service.get(&path).await.ok()["value"].clone()
    };
    assert_eq!([value("a").await, value("b").await, value("c").await], [true, false, true]);
    answer(service.request("POST", "/api/v1/flags/f/kill")).await.ok();
    assert_eq!([value("a").await, value("b").await, value("c").await], [false, false, false]);
    let restored = answer(service.request("POST", "/api/v1/flags/f/restore")).await.ok();
    assert_eq!(restored["resource"], before);
    assert_eq!([value("a").await, value("b").await, value("c").await], [true, false, true]);
}

#[tokio::test]
async fn a_put_does_not_take_a_kill_back() {
    let service = Service::start().await;
    service.flag("f", 50).await;
    answer(service.request("POST", "/api/v1/flags/f/kill")).await.ok();
    let answer = service.send("PUT", "/api/v1/flags/f", &json!({"percentage": 75})).await.ok();
    assert_eq!(json!([answer["resource"]["killed"], answer["resource"]["percentage"]]), json!([true, 75]));
}

#[tokio::test]
async fn what_is_patched_into_being_is_on_for_nobody() {
    let service = Service::start().await;
    let flag = service.send("PATCH", "/api/v1/flags/f", &json!({"description": "d"})).await.ok();
    assert_eq!(flag["resource"]["percentage"], 0);
    let said = service.get("/api/v1/flags/f/explain?organisation=a").await.ok();
    assert_eq!(said["value"], false);
}

#[tokio::test]
async fn organisations_do_not_change_buckets_under_a_live_flag() {
    let service = Service::start().await;
    let url = "/api/v1/flags/f";
    service.flag("f", 25).await;
    let why = "it decides which organisations are on, and the flag is at 25 %: set it to 0 or 100 first";
    for (method, body) in [("PATCH", json!({})), ("PUT", json!({"percentage": 25}))] {
        for (field, value) in [("bucketing", "flagd-v2"), ("rollout_group", "checkout")] {
            let mut body = body.clone();
            body[field] = json!(value);
            service.send(method, url, &body).await.refuses(field, why);
        }
    }
    service.flag("f", 0).await;
    service.send("PATCH", url, &json!({"rollout_group": "checkout", "percentage": 25})).await.ok();
}
