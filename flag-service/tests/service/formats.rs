//! JSON and YAML, in and out: what is read, what is refused and where, and what is answered.

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::{Service, answer};

const FLAG: &str = "/api/v1/flags/f";

async fn put(service: &Service, media_type: &str, body: &str) -> crate::support::Answer {
    let request = service.write("PUT", FLAG).await.body(body.to_owned());
    answer(if media_type.is_empty() { request } else { request.header("content-type", media_type) }).await
}

async fn get(service: &Service, path: &str, accept: &str) -> Response {
    service.request("GET", path).header("accept", accept).send().await.unwrap()
}

#[tokio::test]
async fn a_body_is_read_as_what_it_claims_to_be() {
    let service = Service::start().await;
    let yaml = "# as a file has it\npercentage: 12.5\norganisations:\n  on: [acme, 'no']\n";
    for media_type in ["application/yaml", "text/yaml; charset=utf-8", "Application/X-YAML"] {
        let flag = put(&service, media_type, yaml).await.ok()["resource"].clone();
        assert_eq!(flag["percentage"], 12.5);
        assert_eq!(flag["organisations"]["on"], json!(["acme", "no"]));
    }
    for media_type in ["", "application/json", "application/merge-patch+json"] {
        put(&service, media_type, r#"{"percentage": 5}"#).await.ok();
    }
    let other = put(&service, "application/x-www-form-urlencoded", "percentage=5").await.problem(415);
    let todo =
        "`application/x-www-form-urlencoded` is not read here: send `application/json` or `application/yaml`";
    assert_eq!(other["detail"], todo);
}

#[tokio::test]
async fn what_does_not_read_is_refused_with_line_and_column() {
    let service = Service::start().await;
    for (media_type, body, line, column) in [
        ("application/json", "{\n  \"percentage\": }", 2, 17),
        ("application/json", "", 1, 0),
        ("application/yaml", "percentage: 5\npercentage: 100\n", 2, 1),
        ("application/yaml", "a: &a {x: 1}\nb:\n  <<: *a\n", 3, 3),
        ("application/yaml", "a: [1, 2\n", 1, 4),
        // Some readers take it for a switch, and others for a text.
        ("application/yaml", "enabled: no\n", 1, 10),
    ] {
        let problem = put(&service, media_type, body).await.problem(400);
        let error = &problem["errors"][0];
        assert_eq!(json!([error["line"], error["column"]]), json!([line, column]), "{body}: {problem}");
        assert!(!problem["detail"].as_str().unwrap().contains('\n'), "{problem}");
    }
    let two = put(&service, "application/yaml", "percentage: 5\n---\npercentage: 6\n").await.problem(400);
    assert_eq!(two["errors"][0]["problem"], "it is several documents, and a body is one");
    // Depth is no way to bring the service down.
    for opening in ["[", "{a: ", "- "] {
        put(&service, "application/yaml", &opening.repeat(100_000)).await.problem(400);
    }
    put(&service, "application/yaml", &format!("{}{}", "[".repeat(64), "]".repeat(64))).await.problem(422);
    put(&service, "application/yaml", &"- ".repeat(64)).await.problem(422);
    // A thousand million values in 400 bytes.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    put(&service, "application/yaml", &bomb).await.problem(400);
    assert_eq!(service.writer.head().revision, 0);
}

#[tokio::test]
async fn an_answer_is_yaml_for_whoever_prefers_it() {
    let service = Service::start().await;
    service.send("PUT", FLAG, &json!({"description": "no", "percentage": 25})).await.ok();
    for (accept, media_type) in [
        ("application/yaml", "application/yaml"),
        ("application/yaml, */*;q=0.1", "application/yaml"),
        ("application/json, application/yaml;q=0.9", "application/json"),
        ("application/yaml;q=0", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
    ] {
        let answer = get(&service, FLAG, accept).await;
        assert_eq!(answer.headers()["content-type"], media_type, "{accept}");
        assert_eq!(answer.headers()["vary"], "accept");
        assert!(answer.headers().contains_key("etag"));
    }
    let text = get(&service, FLAG, "application/yaml").await.text().await.unwrap();
    // Readers of YAML 1.1 must not take the text for a switch.
    assert!(text.contains("percentage: 25\n") && text.contains("description: \"no\"\n"), "{text}");
    // What is answered can be sent.
    let back = put(&service, "application/yaml", &text).await.ok();
    assert_eq!(back["summary"], "nothing to change");
    let refusal = get(&service, "/api/v1/flags/nobody", "application/yaml").await;
    assert_eq!(
        (refusal.status().as_u16(), &refusal.headers()["content-type"]),
        (404, &"application/problem+yaml".parse().unwrap())
    );
    assert!(refusal.text().await.unwrap().contains("status: 404\n"));
}

#[tokio::test]
async fn lists_come_in_pages_that_changes_do_not_shift() {
    let service = Service::start().await;
    for key in ["b", "a", "c/1", "c/2", "d"] {
        service.flag(&key.replace('/', "%2F"), 0).await;
    }
    let list = async |query: &str| {
        let body = service.get(&format!("/api/v1/flags?{query}")).await.ok();
        let keys = body["flags"].as_array().unwrap().iter().map(|flag| flag["key"].clone());
        (Value::Array(keys.collect()), body["next"].clone())
    };
    assert_eq!(list("").await, (json!(["a", "b", "c/1", "c/2", "d"]), json!(null)));
    assert_eq!(list("limit=2").await, (json!(["a", "b"]), json!("b")));
    // The one that the page ended with is gone, and one before it is new.
    answer(service.write("DELETE", "/api/v1/flags/b").await).await.ok();
    service.flag("aa", 0).await;
    assert_eq!(list("limit=2&after=b").await, (json!(["c/1", "c/2"]), json!("c/2")));
    assert_eq!(list("limit=2&after=c/2").await, (json!(["d"]), json!(null)));
    assert_eq!(list("prefix=c/").await, (json!(["c/1", "c/2"]), json!(null)));
    assert_eq!(list("prefix=c/&limit=1").await, (json!(["c/1"]), json!("c/1")));
    assert_eq!(list("prefix=c/&after=c/1").await, (json!(["c/2"]), json!(null)));
    assert_eq!(list("prefix=x").await, (json!([]), json!(null)));
    for query in ["limit=0", "limit=1001", "limit=x", "perfix=c"] {
        service.get(&format!("/api/v1/flags?{query}")).await.problem(400);
        service.get(&format!("/api/v1/providers?{query}")).await.problem(400);
        service.get(&format!("/api/v1/module-management/modules?{query}")).await.problem(400);
    }
}
