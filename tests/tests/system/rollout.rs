//! A percentage, raised and killed: who is on, through a real Envoy, for ten thousand organisations.

use anyhow::{Context as _, Result, anyhow, ensure};
use rampart_engine::flag::{Asker, Flags};
use rampart_tests::{
    client::fan_out,
    seed::{FLAG, PERMISSIONS, ROUTE},
    stack::Stack,
    workdir::system_test,
};
use serde_json::json;

const ORGANISATIONS: usize = 10_000;

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
