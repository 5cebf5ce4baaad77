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

#[tokio::test]
async fn an_explanation_follows_the_rule_that_decided() {
    let service = Service::start().await;
    let flag = json!({
        "percentage": 30, "exclusive_group": {"name": "checkout", "from": 70, "to": 100},
        "organisations": {"on": [{"name": "past", "until": 1}, {"name": "lasting", "until": 99_999_999_999_u64}]},
        "variants": [{"name": "blue", "weight": 1}],
    });
    let stored = service.send("PUT", "/api/v1/flags/f", &flag).await.ok();
    assert_eq!(stored["resource"]["organisations"]["on"], flag["organisations"]["on"]);
    service.send("PUT", "/api/v1/flags/r", &json!({"by": "request", "percentage": 100})).await.ok();
    let explain =
        async |flag: &str, who: &str| service.get(&format!("/api/v1/flags/{flag}/explain?{who}")).await.ok();
    let lasting = explain("f", "organisation=lasting").await;
    assert_eq!(
        json!([lasting["value"], lasting["variant"], lasting["reason"]]),
        json!([true, "blue", "TARGETING_MATCH"])
    );
    let past = explain("f", "organisation=past").await;
    let on = past["bucket"].as_f64().unwrap() >= 70.0;
    assert_eq!(json!([past["value"], past["reason"], past["from"]]), json!([on, "SPLIT", 70]));
    assert_eq!(explain("r", "organisation=a").await["reason"], "ERROR");
    assert_eq!(explain("r", "request_id=1").await["value"], true);
}
