//! What somebody is said to get, and why: the engine's answer, and the rule that decided in words.

use rampart_engine::flag::Asker;
use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn explain_agrees_with_the_percentage() {
    let service = Service::start().await;
    service.flag("f", 50).await;
    let mut on = 0;
    for organisation in 0..40 {
        let path = format!("/api/v1/flags/f/explain?organisation=org-{organisation}");
        let said = service.get(&path).await.ok();
        assert_eq!(said["value"], said["bucket"].as_f64().unwrap() < 50.0, "{said}");
        assert_eq!(said["reason"], "SPLIT");
        on += u32::from(said["value"] == true);
    }
    assert!((5..35).contains(&on), "{on} of 40");
    let nobody = service.get("/api/v1/flags/f/explain").await.ok();
    assert_eq!(json!([nobody["value"], nobody["reason"], nobody["bucket"]]), json!([false, "DEFAULT", null]));
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

#[tokio::test]
async fn an_explanation_is_the_engines_answer_in_words() {
    let service = Service::start().await;
    let exclusive = |from: u32, on: &str| json!({"exclusive_group": {"name": "g", "from": from, "to": from + 50}, "organisations": {"on": [on]}});
    let flags = [
        ("at", json!({"percentage": 100})),
        (
            "lists",
            json!({
                "organisations": {"on": ["acme", ""], "off": ["evil"]}, "subjects": {"off": ["eve"]}, "percentage": 50,
            }),
        ),
        ("anyone", json!({"no_organisation": true})),
        ("one", exclusive(0, "acme")),
        ("two", exclusive(50, "wayne")),
        ("requests", json!({"by": "request", "percentage": 100})),
        ("killed", json!({"killed": true})),
        ("disabled", json!({"enabled": false})),
        (
            "needs",
            json!({"percentage": 100, "prerequisites": [{"flag": "lists"}, {"flag": "killed", "value": false}]}),
        ),
        (
            "coloured",
            json!({"percentage": 100, "variants": [{"name": "blue", "weight": 1}, {"name": "red", "weight": 0}]}),
        ),
        ("without", json!({"percentage": 100, "prerequisites": [{"flag": "at", "value": false}]})),
        ("red", json!({"percentage": 100, "prerequisites": [{"flag": "coloured", "variant": "red"}]})),
        ("asks", json!({"percentage": 100, "prerequisites": [{"flag": "requests"}]})),
    ];
    for (key, flag) in &flags {
        service.send("PUT", &format!("/api/v1/flags/{key}"), flag).await.ok();
    }
    let nobody = "no organisation was named, and without one the flag is";
    for (key, organisation, subject, request_id, why) in [
        ("at", "", "", "", format!("{nobody} off")),
        ("anyone", "", "", "", format!("{nobody} on")),
        ("lists", "", "", "", format!("{nobody} off")),
        ("lists", "acme", "", "", "organisation `acme` is named `on`".to_owned()),
        ("lists", "evil", "", "", "organisation `evil` is named `off`".to_owned()),
        ("lists", "acme", "eve", "", "subject `eve` is named `off`".to_owned()),
        ("lists", "wayne", "", "", "bucket {bucket} of 100, the flag is at 50 %".to_owned()),
        (
            "one",
            "wayne",
            "",
            "",
            "organisation `wayne` is named `on` in `two`, of the same exclusive group".to_owned(),
        ),
        ("two", "initech", "", "", "bucket {bucket} of 100, the flag is at 0 %, counted from 50".to_owned()),
        ("requests", "acme", "", "", "the flag goes by request, and no request id was named".to_owned()),
        ("requests", "acme", "", "id", "bucket {bucket} of 100, the flag is at 100 % of requests".to_owned()),
        ("killed", "acme", "", "", "the flag is killed".to_owned()),
        ("disabled", "acme", "", "", "the flag is disabled".to_owned()),
        ("needs", "evil", "", "", "its prerequisite `lists` is off and must be on".to_owned()),
        ("needs", "", "", "", "its prerequisite `lists` is off and must be on".to_owned()),
        ("without", "acme", "", "", "its prerequisite `at` is on and must be off".to_owned()),
        (
            "red",
            "acme",
            "",
            "",
            "its prerequisite `coloured` is on as `blue` and must be on as `red`".to_owned(),
        ),
        ("asks", "acme", "", "", "its prerequisite `requests` cannot be evaluated".to_owned()),
    ] {
        let who = format!("organisation={organisation}&subject={subject}&request_id={request_id}");
        let said = service.get(&format!("/api/v1/flags/{key}/explain?{who}")).await.ok();
        let why = why.replace("{bucket}", &said["bucket"].to_string());
        assert_eq!(said["why"], why, "{key}: {said}");
        let head = service.writer.head();
        let flags = &head.policy.flags;
        // As a token without a claim, or a request without an id, is asked for.
        let some = |name: &'static str| Some(name).filter(|name| !name.is_empty());
        let (organisation, subject, request_id) = (some(organisation), some(subject), some(request_id));
        let asker = Asker { organisation, subject, request_id, now: 1_800_000_000 };
        let found = flags.evaluate(flags.find(key).unwrap(), &asker);
        assert_eq!(
            json!([said["value"], said["reason"]]),
            json!([found.value, found.reason]),
            "{key}: {said}"
        );
        let hashed = if key == "requests" { request_id } else { organisation };
        assert_eq!(said["bucket"].is_number(), hashed.is_some(), "nothing has no bucket: {said}");
    }
}
