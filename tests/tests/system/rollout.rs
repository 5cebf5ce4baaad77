//! A percentage, raised and killed: who is on, through a real Envoy, for ten thousand organisations.

use anyhow::{Context as _, Result, anyhow, ensure};
use rampart_engine::flag::{Asker, Flags};
use rampart_tests::{
    client::fan_out,
    seed::{EARLY, FLAG, PERMISSIONS, ROUTE},
    stack::Stack,
    workdir::system_test,
};
use reqwest::Method;
use serde_json::json;

const ORGANISATIONS: usize = 10_000;
const REQUESTS: usize = 4_000;

/// Who is on by the engine's own word, natively.
fn expected(organisations: &[String], percentage: f64) -> Result<Vec<bool>> {
    let sent = json!([{"key": FLAG, "percentage": percentage}]);
    let flags = Flags::new(&serde_json::from_value::<Vec<_>>(sent)?).map_err(|why| anyhow!("{why:?}"))?;
    let flag = flags.find(FLAG).context("it was just made")?;
    let on = |organisation: &String| {
        flags.evaluate(flag, &Asker { organisation: Some(organisation), ..Asker::default() }).value
    };
    Ok(organisations.iter().map(on).collect())
}

#[test]
fn every_organisation_gets_from_envoy_what_the_engine_says() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let organisations: Vec<String> = (0..ORGANISATIONS).map(|n| format!("organisation-{n}")).collect();
        let tokens = stack.issuer.tokens(stack.issuer.p256(), &organisations, &PERMISSIONS)?;
        let client = stack.client()?;
        let mut before = vec![false; ORGANISATIONS];
        for percentage in [25.0, 50.0, 75.0, 100.0] {
            let engine = expected(&organisations, percentage)?;
            let joins = (0..ORGANISATIONS).find(|n| engine[*n] && !before[*n]).context("nobody joins")?;
            stack.roll_out(&percentage.to_string()).await?;
            stack.served_by(&tokens[joins], "analytics-core v1").await?;
            let ask = async |token: &String| Ok(client.get(ROUTE, Some(token)).await?.served_by());
            let served = fan_out(&tokens, 32, ask).await?;
            for ((organisation, served), on) in organisations.iter().zip(&served).zip(&engine) {
                let name = if *on { "analytics-core v1" } else { "legacy" };
                ensure!(served == name, "{organisation} at {percentage} %: {served} instead of {name}");
            }
            let share = engine.iter().filter(|on| **on).count() as f64 / ORGANISATIONS as f64 * 100.0;
            ensure!((share - percentage).abs() <= 1.5, "{share} % of organisations at {percentage} %");
            ensure!(before.iter().zip(&engine).all(|(before, after)| !before || *after), "somebody lost it");
            before = engine;
        }
        Ok(())
    });
}

#[test]
fn a_share_of_requests_is_dealt_by_their_ids_whoever_gave_them() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let sent = json!({"key": FLAG, "by": "request", "percentage": 25});
        let flags = Flags::new(&[serde_json::from_value(sent.clone())?]).map_err(|why| anyhow!("{why:?}"))?;
        let flag = flags.find(FLAG).context("it was just made")?;
        let on = |id: &str| flags.evaluate(flag, &Asker { request_id: Some(id), ..Asker::default() }).value;
        let (api, path) = (stack.service.client()?, format!("/api/v1/flags/{FLAG}"));
        let put = api.send(Method::PUT, &path, &[("if-match", "*")], sent.to_string().into_bytes()).await?;
        ensure!(put.status == 200, "{}", put.text());
        let (client, bearer) = (stack.client()?, format!("Bearer {}", stack.token(EARLY)?));
        // The clients' own are no UUIDs, and Envoy leaves them as they are.
        let own = (0..REQUESTS).map(|number| Some(format!("request-{number}")));
        let first_on = (0..).map(|number| format!("first-{number}")).find(|id| on(id)).unwrap_or_default();
        let served = async |id: Option<String>| {
            let id = id.as_deref().map(|id| ("x-request-id", id));
            let headers: Vec<_> = [("authorization", &*bearer)].into_iter().chain(id).collect();
            let echo = client.send(Method::GET, ROUTE, &headers, vec![]).await?.echo()?;
            let told = echo.header("x-request-id").context("no id")?.to_owned();
            ensure!(id.is_none_or(|(_, own)| own == told), "{id:?} became {told}");
            Ok((told, echo.name))
        };
        let module = async || Ok(served(Some(first_on.clone())).await?.1);
        stack.on_every_worker("the share", "analytics-core v1".to_owned(), module).await?;
        for ids in [own.collect(), vec![None; REQUESTS]] {
            let answers = fan_out(ids, 32, served).await?;
            for (id, served) in &answers {
                let name = if on(id) { "analytics-core v1" } else { "legacy" };
                ensure!(served == name, "{id}: {served} instead of {name}");
            }
            let share = answers.iter().filter(|(id, _)| on(id)).count() as f64 / REQUESTS as f64 * 100.0;
            ensure!((share - 25.0).abs() <= 3.0, "{share} % of requests at 25 %");
        }
        Ok(())
    });
}
