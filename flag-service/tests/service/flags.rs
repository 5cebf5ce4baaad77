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
    let restored = answer(service.write("POST", "/api/v1/flags/f/restore").await).await.ok();
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
async fn a_key_may_hold_a_slash() {
    let service = Service::start().await;
    service.flag("billing%2Fv2", 100).await;
    assert_eq!(service.get("/api/v1/flags/billing%2Fv2").await.ok()["key"], "billing/v2");
    let explained = service.get("/api/v1/flags/billing%2Fv2/explain?organisation=a").await.ok();
    assert_eq!(explained["value"], true);
}

#[tokio::test]
async fn a_mistyped_key_makes_no_flag() {
    let service = Service::start().await;
    service.flag("new-checkout", 25).await;
    service.flag("reports", 25).await;
    let typo =
        service.send("PATCH", "/api/v1/flags/new-chekout", &json!({"percentage": 50})).await.problem(404);
    assert_eq!(
        typo["detail"],
        "there is no flag `new-chekout` (did you mean `new-checkout`?); to make a flag, PUT it, or use `rampart flag \
         create`"
    );
    let far = service.get("/api/v1/flags/billing").await.problem(404);
    assert_eq!(far["detail"], "there is no flag `billing`");
    assert_eq!(service.writer.head().revision, 2);
}

#[tokio::test]
async fn organisations_do_not_change_buckets_under_a_live_flag() {
    let service = Service::start().await;
    let url = "/api/v1/flags/f";
    service.flag("f", 25).await;
    let why = "it decides which organisations are on, and the flag is at 25 %: set it to 0 or 100 first";
    for (method, body) in [("PATCH", json!({})), ("PUT", json!({"percentage": 25}))] {
        for (field, value) in [
            ("bucketing", json!("flagd-v2")),
            ("rollout_group", json!("checkout")),
            ("by", json!("request")),
            ("exclusive_group", json!({"name": "checkout", "from": 10, "to": 60})),
        ] {
            let mut body = body.clone();
            body[field] = value;
            service.send(method, url, &body).await.refuses(field, why);
        }
    }
    service.flag("f", 0).await;
    service.send("PATCH", url, &json!({"rollout_group": "checkout", "percentage": 25})).await.ok();
}
