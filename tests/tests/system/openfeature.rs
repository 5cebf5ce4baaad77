//! The same flags, asked by an application through a real OpenFeature SDK, by an operator through
//! `explain`, and by a request through Envoy: one answer.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::fan_out,
    openfeature::{Details, Question, ask},
    stack::Stack,
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANISATIONS: usize = 2_000;
const PATH: &str = "/api/v1/modules/v1/flags/here";

/// Every kind of rule; all but `colour` are on or off.
fn flags() -> [(&'static str, Value); 4] {
    let named = |numbers: std::ops::Range<u32>| -> Vec<String> {
        numbers.map(|number| format!("organisation-{number}")).collect()
    };
    let colours: Vec<Value> = [("red", 1), ("blue", 2), ("green", 1)]
        .map(|(name, weight)| json!({"name": name, "weight": weight}))
        .into();
    [
        ("few", json!({"percentage": 12.345})),
        (
            "named",
            json!({
                "percentage": 50, "organisations": {"on": named(0..20), "off": named(15..40)},
                "subjects": {"off": ["user@organisation-3"]},
            }),
        ),
        ("colour", json!({"percentage": 75, "variants": colours})),
        ("needs", json!({"percentage": 90, "prerequisites": [{"flag": "colour", "variant": "blue"}]})),
    ]
}

/// A question whose default is what no flag of the test is.
fn question(flag: &str, organisation: &str) -> Question {
    let default = if flag == "colour" { json!("none") } else { json!(true) };
    let context = json!({"targetingKey": organisation, "subject": format!("user@{organisation}")});
    Question { flag: flag.to_owned(), default, context }
}

/// What a request was told in `x-rampart-flags`, in OpenFeature's terms.
fn told(header: &str, flag: &str) -> Value {
    let on: BTreeMap<&str, Option<&str>> = header
        .split(',')
        .map(|told| told.split_once('=').map_or((told, None), |(key, variant)| (key, Some(variant))))
        .collect();
    let variant = on.get(flag).copied();
    if flag == "colour" { json!(variant.flatten().unwrap_or("off")) } else { json!(variant.is_some()) }
}

/// What `explain` says, in OpenFeature's terms.
fn explained(said: &Value) -> (Value, Value, Value) {
    let switch = json!(if said["value"] == true { "on" } else { "off" });
    let variant = said.get("variant").cloned().unwrap_or(switch);
    let value = if said["flag"] == "colour" { variant.clone() } else { said["value"].clone() };
    // OFREP has no word for a prerequisite that is not met.
    let reason = if said["reason"] == "DEFAULT" { json!("TARGETING_MATCH") } else { said["reason"].clone() };
    (value, variant, reason)
}

/// A stack whose module is told every flag of the test.
async fn stack(dir: &std::path::Path) -> Result<Stack> {
    let stack = Stack::seeded(dir).await?;
    let api = stack.service.client()?;
    for (key, flag) in flags() {
        let path = format!("/api/v1/flags/{key}");
        let reply = api.send(Method::PUT, &path, &[], flag.to_string().into_bytes()).await?;
        ensure!(reply.status == 200, "{key}: {}", reply.text());
    }
    let module = json!({
        "id": "flags", "endpoints": [stack.upstreams.pricing.address().to_string()],
        "flags": flags().map(|(key, _)| key),
    });
    stack.register(dir, &module).await?.ok()?;
    let token = stack.token("organisation-0")?;
    let asked = async || Ok(stack.client()?.get(PATH, Some(&token)).await?.status);
    stack.on_every_worker("the module", 200, asked).await?;
    Ok(stack)
}

#[test]
fn sdk_explain_and_envoy_give_one_answer() {
    system_test(async |dir| {
        let stack = stack(dir).await?;
        let organisations: Vec<String> = (0..ORGANISATIONS).map(|n| format!("organisation-{n}")).collect();
        let tokens = stack.issuer.tokens(stack.issuer.p256(), &organisations, &[])?;
        let (envoy, api) = (stack.client()?, stack.service.client()?);
        let headers = fan_out(&tokens, 32, async |token: &String| {
            let echo = envoy.get(PATH, Some(token)).await?.echo()?;
            Ok(echo.header("x-rampart-flags").unwrap_or_default().to_owned())
        });
        let headers = headers.await?;
        for (key, _) in flags() {
            let questions: Vec<_> = organisations.iter().map(|name| question(key, name)).collect();
            let answers = ask(stack.service.api_address(), &questions).await?;
            let explain = async |organisation: &String| {
                let who = format!("organisation={organisation}&subject=user@{organisation}");
                api.get(&format!("/api/v1/flags/{key}/explain?{who}"), None).await?.json()
            };
            let explanations = fan_out(&organisations, 32, explain).await?;
            let mut values = BTreeMap::new();
            for (((organisation, sdk), said), header) in
                organisations.iter().zip(&answers).zip(&explanations).zip(&headers)
            {
                let Details { value, variant, reason, error, revision } = sdk;
                let sdk = (value.clone(), json!(variant), json!(reason));
                ensure!(sdk == explained(said), "{key} for {organisation}: {sdk:?}, explained {said}");
                ensure!(*value == told(header, key), "{key} for {organisation}: {value}, Envoy {header}");
                ensure!(error.is_none() && json!(revision) == said["revision"], "{error:?} at {revision:?}");
                *values.entry(value.to_string()).or_insert(0) += 1;
            }
            let kinds = if key == "colour" { 4 } else { 2 };
            ensure!(values.len() == kinds && values.values().all(|count| *count > 100), "{key}: {values:?}");
        }
        Ok(())
    });
}

#[test]
fn an_sdk_sees_the_kill_at_once_and_is_told_what_is_wrong() {
    system_test(async |dir| {
        let stack = stack(dir).await?;
        let named = |context: Value| Question { context, ..question("named", "") };
        let questions = [
            named(json!({"targetingKey": "organisation-0"})),
            named(json!({})),
            named(json!({"targetingKey": "organisation-0", "subject": 7})),
            question("colours", "organisation-0"),
            Question { default: json!("none"), ..question("named", "organisation-0") },
        ];
        let service = stack.service.api_address();
        let answers = ask(service, &questions).await?;
        let errors: Vec<_> = answers.iter().map(|answer| answer.error.as_deref()).collect();
        let expected = ["TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "TYPE_MISMATCH"];
        ensure!(errors[0].is_none() && errors[1..] == expected.map(Some), "{answers:?}");
        ensure!(answers[0].value == true, "{answers:?}");

        stack.service.cli(&["flag", "kill", "named"]).await?.ok()?;
        let killed = ask(service, &questions[..1]).await?;
        let killed = killed.first().context("one answer")?;
        // The application's default is true: what is killed is off all the same.
        ensure!(killed.value == false && killed.reason == "DISABLED", "{killed:?}");
        Ok(())
    });
}
