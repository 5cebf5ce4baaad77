//! The same flags, asked by applications through real OpenFeature SDKs, by an operator through
//! `explain`, and by a request through Envoy: one answer.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::{Client, fan_out},
    openfeature::{Details, Question, Sdk},
    stack::Stack,
    wait::SOON,
    workdir::system_test,
};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANISATIONS: usize = 20_000;
/// How many of them are asked of by SDKs that send a request for each question.
const REMOTE: usize = 500;
const PATH: &str = "/api/v1/modules/v1/flags/here";

/// Every kind of rule; all but `colour` are on or off.
fn flags() -> [(&'static str, Value); 7] {
    let named = |numbers: std::ops::Range<u32>| -> Vec<String> {
        numbers.map(|number| format!("organisation-{number}")).collect()
    };
    let colours: Vec<Value> = [("red", 1), ("blue", 2), ("green", 1)]
        .map(|(name, weight)| json!({"name": name, "weight": weight}))
        .into();
    let part = |from, to| json!({"name": "checkout", "from": from, "to": to});
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
        (
            "first",
            json!({"percentage": 20, "exclusive_group": part(0, 30), "organisations": {"on": named(50..60)}}),
        ),
        ("second", json!({"percentage": 30, "exclusive_group": part(30, 90)})),
        ("older", json!({"percentage": 25, "bucketing": "flagd-v2"})),
    ]
}

/// A question whose default is what no flag of the test is.
fn question(flag: &str, organisation: &str) -> Question {
    let default = if flag == "colour" { json!("none") } else { json!(true) };
    let context = json!({"targetingKey": organisation, "subject": format!("user@{organisation}")});
    Question { flag: flag.to_owned(), default, context }
}

/// All flags of each of these organisations, one organisation after another.
fn questions(organisations: &[String]) -> Vec<Question> {
    organisations.iter().flat_map(|name| flags().map(|(key, _)| question(key, name))).collect()
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

/// What `explain` says, in OpenFeature's terms: value, variant, reason.
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

/// All flags of an organisation, as a provider asks for them that keeps them.
async fn all_flags(api: &Client, organisation: &str) -> Result<BTreeMap<String, Value>> {
    let asked = json!({"context": question("", organisation).context}).to_string().into_bytes();
    let reply = api.send(Method::POST, "/ofrep/v1/evaluate/flags", &[], asked).await?.json()?;
    let flags = reply["flags"].as_array().context("flags")?;
    Ok(flags.iter().map(|flag| (flag["key"].as_str().unwrap_or_default().to_owned(), flag.clone())).collect())
}

#[test]
fn sdks_explain_and_envoy_give_one_answer() {
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
        let answers = fan_out(&organisations, 32, async |name: &String| all_flags(&api, name).await).await?;
        let mut expected = Vec::new();
        for (key, _) in flags() {
            let explain = async |organisation: &String| {
                let who = format!("organisation={organisation}&subject=user@{organisation}");
                api.get(&format!("/api/v1/flags/{key}/explain?{who}"), None).await?.json()
            };
            let explanations = fan_out(&organisations, 32, explain).await?;
            let mut values = BTreeMap::new();
            for (((organisation, said), header), all) in
                organisations.iter().zip(&explanations).zip(&headers).zip(&answers)
            {
                let (value, variant, reason) = explained(said);
                let answer = all.get(key).context("every flag is there")?;
                let revision = json!({"revision": said["revision"]});
                let same =
                    answer["value"] == value && answer["variant"] == variant && answer["reason"] == reason;
                ensure!(same && answer["metadata"] == revision, "{key}: {answer}, explained {said}");
                ensure!(value == told(header, key), "{key} for {organisation}: {value}, Envoy {header}");
                *values.entry(value.to_string()).or_insert(0) += 1;
            }
            let kinds = if key == "colour" { 4 } else { 2 };
            ensure!(
                values.len() == kinds && values.values().all(|count| *count > 1_000),
                "{key}: {values:?}"
            );
            expected.push(explanations.iter().map(explained).collect::<Vec<_>>());
        }
        let expected = |at: usize| &expected[at % flags().len()][at / flags().len()];

        // SDKs that evaluate the definitions themselves, as they were pushed: all organisations, and each
        // generation where it is at home.
        let all = questions(&organisations);
        for (sdk, generation) in [(Sdk::PythonFlagd, "flagd-v3"), (Sdk::NodeFlagd, "flagd-v2")] {
            let answers = sdk.ask(&stack.service, &all).await?;
            let mut elsewhere = BTreeMap::new();
            for (at, (question, details)) in all.iter().zip(&answers).enumerate() {
                let (value, variant, _) = expected(at);
                let Question { flag, context, .. } = question;
                ensure!(details.error.is_none(), "{sdk:?}: {flag} for {context}: {details:?}");
                let same = details.value == *value && json!(details.variant) == *variant;
                if details.generation.as_deref() == Some(generation) {
                    ensure!(same, "{sdk:?}: {flag} for {context}: {details:?} instead of {value}");
                } else if !same {
                    *elsewhere.entry(flag.as_str()).or_insert(0) += 1;
                }
            }
            // The table of docs/openfeature.md: of another generation, an SDK agrees by chance only.
            let foreign = if generation == "flagd-v3" { 1 } else { flags().len() - 1 };
            ensure!(
                elsewhere.len() == foreign && elsewhere.values().all(|count| *count > 1_000),
                "{elsewhere:?}"
            );
        }

        // SDKs that ask for each question, or for all flags of each organisation.
        let some = questions(&organisations[..REMOTE]);
        for sdk in [Sdk::PythonOfrep, Sdk::NodeOfrep, Sdk::Web] {
            let answers = sdk.ask(&stack.service, &some).await?;
            ensure!(answers.len() == some.len());
            for (at, Details { value, variant, reason, error, revision, .. }) in answers.iter().enumerate() {
                let said = (value.clone(), json!(variant), json!(reason));
                ensure!(
                    said == *expected(at) && error.is_none(),
                    "{sdk:?}: {:?} {said:?} {error:?}",
                    some[at]
                );
                ensure!(*revision == answers[0].revision && revision.is_some(), "{sdk:?}: {revision:?}");
            }
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
        let service = &stack.service;
        let expected = ["TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "TYPE_MISMATCH"];
        for sdk in [Sdk::PythonOfrep, Sdk::NodeOfrep] {
            let answers = sdk.ask(service, &questions).await?;
            let errors: Vec<_> = answers.iter().map(|answer| answer.error.as_deref()).collect();
            ensure!(errors[0].is_none() && errors[1..] == expected.map(Some), "{answers:?}");
            ensure!(answers[0].value == true, "{answers:?}");
        }
        // Those that keep answers or definitions, and are told when they are no longer so.
        let mut running = Vec::new();
        for sdk in [Sdk::PythonFlagd, Sdk::NodeFlagd, Sdk::Web] {
            let mut application = sdk.start(service, &questions[..1]).await?;
            let [first] = &application.answers().await?[..] else { anyhow::bail!("{sdk:?}: one answer") };
            ensure!(first.value == true, "{sdk:?}: {first:?}");
            running.push((sdk, application));
        }
        stack.service.cli(&["flag", "kill", "named"]).await?.ok()?;
        for sdk in [Sdk::PythonOfrep, Sdk::NodeOfrep] {
            let killed = sdk.ask(service, &questions[..1]).await?;
            let killed = killed.first().context("one answer")?;
            // The application's default is true: what is killed is off all the same.
            ensure!(killed.value == false && killed.reason == "DISABLED", "{killed:?}");
        }
        for (sdk, mut application) in running {
            let killed = async {
                while application.answers().await?.first().is_none_or(|answer| answer.value != false) {}
                anyhow::Ok(())
            };
            let soon = tokio::time::timeout(SOON, killed).await;
            soon.with_context(|| format!("{sdk:?} is not told of the kill"))??;
            application.stop().await?;
        }
        Ok(())
    });
}
