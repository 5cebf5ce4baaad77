//! What an OpenFeature client is answered: OFREP's words for the engine's answer, its refusals, its tags
//! and its events.

use serde_json::{Value, json};

use crate::support::{Answer, Service, answer};

const ALL: &str = "/ofrep/v1/evaluate/flags";
const EVENTS: &str = "/ofrep/v1/events";

/// One of each kind of flag.
async fn service() -> Service {
    let service = Service::start().await;
    for (key, flag) in [
        ("half", json!({"percentage": 50})),
        ("named", json!({"organisations": {"on": ["acme"]}, "subjects": {"off": ["eve"]}})),
        ("killed", json!({"killed": true, "percentage": 100})),
        ("needs", json!({"percentage": 100, "prerequisites": [{"flag": "named"}]})),
        ("colour", json!({"variants": [{"name": "blue", "weight": 1}], "organisations": {"on": ["acme"]}})),
        ("requests", json!({"by": "request", "percentage": 100})),
        ("asks", json!({"percentage": 100, "prerequisites": [{"flag": "requests"}]})),
        ("team/deep", json!({"percentage": 100})),
    ] {
        service.send("PUT", &format!("/api/v1/flags/{}", key.replace('/', "%2F")), &flag).await.ok();
    }
    service
}

/// A failure as the protocol has it: exactly these members, in JSON.
#[track_caller]
fn fails(answer: Answer, status: u16, key: Option<&str>, code: &str, details: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    let mut expected = json!({"errorCode": code, "errorDetails": answer.body["errorDetails"]});
    if let Some(key) = key {
        expected["key"] = json!(key);
    }
    assert_eq!(answer.body, expected);
    let said = answer.body["errorDetails"].as_str().unwrap();
    assert!(said.contains(details), "{said}");
}

#[tokio::test]
async fn each_rule_has_its_value_variant_and_reason() {
    let service = service().await;
    let revision = service.writer.head().revision;
    for (key, context, value, variant, reason) in [
        ("named", json!({"targetingKey": "acme"}), json!(true), "on", "TARGETING_MATCH"),
        ("named", json!({"targetingKey": "acme", "subject": "eve"}), json!(false), "off", "TARGETING_MATCH"),
        ("named", json!({"targetingKey": "wayne", "subject": ""}), json!(false), "off", "SPLIT"),
        ("killed", json!({"targetingKey": "acme", "plan": {"any": [1]}}), json!(false), "off", "DISABLED"),
        ("needs", json!({"targetingKey": "acme"}), json!(true), "on", "SPLIT"),
        ("needs", json!({"targetingKey": "wayne"}), json!(false), "off", "TARGETING_MATCH"),
        ("colour", json!({"targetingKey": "acme"}), json!("blue"), "blue", "TARGETING_MATCH"),
        ("colour", json!({"targetingKey": "wayne"}), json!("off"), "off", "SPLIT"),
        ("requests", json!({"targetingKey": "acme", "requestId": "1"}), json!(true), "on", "SPLIT"),
        ("team/deep", json!({"targetingKey": "acme", "requestId": null}), json!(true), "on", "SPLIT"),
        ("team%2Fdeep", json!({"targetingKey": "acme"}), json!(true), "on", "SPLIT"),
    ] {
        let said = service.send("POST", &format!("{ALL}/{key}"), &json!({"context": context})).await.ok();
        let key = key.replace("%2F", "/");
        let metadata = json!({"revision": revision});
        assert_eq!(
            said,
            json!({"key": key, "value": value, "variant": variant, "reason": reason, "metadata": metadata})
        );
    }
}

#[tokio::test]
async fn each_failure_has_its_status_and_code() {
    let service = service().await;
    let body = |text: &str| text.to_owned();
    let acme = r#"{"context": {"targetingKey": "acme"}}"#;
    for (text, code, details) in [
        (body("{"), "PARSE_ERROR", "no JSON"),
        (body(""), "PARSE_ERROR", "no JSON"),
        (body("[]"), "PARSE_ERROR", "no JSON object"),
        (body("{}"), "TARGETING_KEY_MISSING", "name the organisation"),
        (body(r#"{"context": {"targetingKey": ""}}"#), "TARGETING_KEY_MISSING", "name the organisation"),
        (body(r#"{"context": null}"#), "INVALID_CONTEXT", "`context`"),
        (body(r#"{"context": {"targetingKey": 7}}"#), "INVALID_CONTEXT", "`targetingKey`"),
        (acme.replace("}}", r#", "subject": []}}"#), "INVALID_CONTEXT", "`subject`"),
        (acme.replace("}}", r#", "requestId": 1}}"#), "INVALID_CONTEXT", "`requestId`"),
    ] {
        let one = service.request("POST", &format!("{ALL}/half")).body(text.clone());
        fails(answer(one).await, 400, Some("half"), code, details);
        fails(answer(service.request("POST", ALL).body(text)).await, 400, None, code, details);
    }
    let acme: Value = serde_json::from_str(acme).unwrap();
    for key in ["requests", "asks"] {
        let said = service.send("POST", &format!("{ALL}/{key}"), &acme).await;
        fails(said, 400, Some(key), "INVALID_CONTEXT", "`requestId`");
    }
    let said = service.send("POST", &format!("{ALL}/halv"), &acme).await;
    fails(said, 404, Some("halv"), "FLAG_NOT_FOUND", "did you mean `half`?");
    let huge = service.request("POST", ALL).body(" ".repeat((8 << 20) + 1));
    fails(answer(huge).await, 413, None, "GENERAL", "length limit");
    service.send("GET", &format!("{ALL}/half"), &acme).await.problem(405);
}

#[tokio::test]
async fn all_flags_are_what_each_one_is() {
    let service = service().await;
    let context = json!({"context": {"targetingKey": "acme", "subject": "eve"}});
    let all = service.send("POST", ALL, &context).await.ok();
    let stream = json!({"type": "sse", "endpoint": {"requestUri": EVENTS}, "inactivityDelaySec": 120});
    assert_eq!(all["eventStreams"], json!([stream]));
    let all = all["flags"].as_array().unwrap();
    assert_eq!(all.len(), 8);
    for flag in all {
        let key = flag["key"].as_str().unwrap();
        let one = service.send("POST", &format!("{ALL}/{key}"), &context).await;
        assert_eq!(&one.body, flag);
    }
}

#[tokio::test]
async fn a_tag_is_good_for_one_answer() {
    let service = service().await;
    let ask = async |organisation: &str, tag: &str| {
        let body = json!({"context": {"targetingKey": organisation}});
        let asked = service.request("POST", ALL).header("if-none-match", tag).json(&body);
        let answer = asked.send().await.unwrap();
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), tag, answer.bytes().await.unwrap())
    };
    let (status, tag, body) = ask("acme", "\"other\"").await;
    assert_eq!((status, body.is_empty()), (200, false));
    for held in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        assert_eq!(ask("acme", &held).await, (304, tag.clone(), "".into()), "{held}");
    }
    let (status, other, _) = ask("wayne", &tag).await;
    assert_eq!(status, 200, "somebody else's answer is another");
    assert_ne!(other, tag);
    service.flag("half", 60).await;
    assert_eq!(ask("acme", &tag).await.0, 200, "a change is another answer");
}

/// A client that listens to events.
struct Listening(reqwest::Response, String);

impl Listening {
    async fn start(service: &Service, last: Option<u64>) -> Self {
        let mut request = service.request("GET", EVENTS);
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response, String::new())
    }

    /// The next event's id, which is the revision; `None` at the end.
    async fn next(&mut self) -> Option<u64> {
        while !self.1.contains("\n\n") {
            self.1 += std::str::from_utf8(&self.0.chunk().await.unwrap()?).unwrap();
        }
        let event = self.1.split_off(self.1.find("\n\n")? + 2);
        let event = std::mem::replace(&mut self.1, event);
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let revision: u64 = field("id:").parse().unwrap();
        let data: Value = serde_json::from_str(field("data:")).unwrap();
        assert_eq!(field("event:"), "message");
        assert_eq!(data, json!({"type": "refetchEvaluation", "etag": format!("\"{revision}\"")}));
        Some(revision)
    }
}

#[tokio::test]
async fn who_listens_is_told_of_each_change_of_a_flag_and_of_nothing_else() {
    let service = service().await;
    let revision = service.writer.head().revision;
    let mut new = Listening::start(&service, None).await;
    assert_eq!(new.next().await, Some(revision), "what was changed while it connected is not missed");
    let mut cut_off = Listening::start(&service, Some(revision)).await;
    let mut behind = Listening::start(&service, Some(revision - 1)).await;
    assert_eq!(behind.next().await, Some(revision));
    let settings = json!({"legacy": ["127.0.0.1:9000"]});
    service.send("PUT", "/api/v1/settings", &settings).await.ok();
    service.flag("half", 60).await;
    for listening in [&mut new, &mut cut_off, &mut behind] {
        assert_eq!(listening.next().await, Some(revision + 2));
    }
    service.running.send_replace(true);
    assert_eq!(new.next().await, None, "a server that stops waits for nobody");
}

#[tokio::test]
async fn an_answer_is_no_older_than_the_event_that_asked_for_it() {
    let service = service().await;
    let next = service.writer.head().revision + 1;
    let body = json!({"context": {"targetingKey": "acme"}});
    let asked = async {
        let path = format!("{ALL}?flagConfigEtag=%22{next}%22&flagConfigLastModified=1771622898");
        service.send("POST", &path, &body).await.ok()
    };
    let (answer, ()) = tokio::join!(asked, service.flag("half", 60));
    let half = answer["flags"].as_array().unwrap().iter().find(|flag| flag["key"] == "half").unwrap();
    assert_eq!(half["metadata"]["revision"], next);
    let path = format!("{ALL}?flagConfigEtag=anything");
    assert_eq!(
        service.send("POST", &path, &body).await.ok(),
        answer,
        "what is no tag of ours is passed over"
    );
}
