//! Parts that come late, go away and come back.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::{fan_out, tally},
    seed::{EARLY, LATE, ROUTE},
    stack::{First, Options, Stack},
    wait::{SOON, eventually},
    workdir::system_test,
};
use serde_json::Value;

/// Envoy's answer to the newest revision, as the service knows it.
async fn node(stack: &Stack) -> Result<Value> {
    let status = stack.service.cli(&["status", "--output", "json"]).await?.json()?;
    let node = status.pointer("/envoys/0").with_context(|| status.to_string())?;
    Ok(node.clone())
}

#[test]
fn envoy_may_start_before_the_service() {
    system_test(async |dir| {
        let mut stack = Stack::start(dir, Options { first: First::Envoy, ..Options::default() }).await?;
        stack.seed(dir).await?;
        stack.roll_out("100").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        Ok(())
    });
}

#[test]
fn envoy_serves_on_without_the_service_and_takes_up_where_it_was() {
    system_test(async |dir| {
        let mut stack = Stack::seeded(dir).await?;
        stack.roll_out("50").await?;
        let (on, off) = (stack.token(EARLY)?, stack.token(LATE)?);
        stack.served_by(&on, "analytics-core v1").await?;
        let updates = |stats: &std::collections::BTreeMap<String, u64>| {
            let counts = [
                "listener_manager.lds.update_success",
                "cluster_manager.cds.update_success",
                "http.rampart.rds.rampart.update_success",
            ];
            counts.map(|name| stats.get(name).copied())
        };
        let before = updates(&stack.envoy.stats().await?);
        ensure!(before.iter().all(Option::is_some), "{before:?}");

        stack.service.kill()?;
        let client = stack.client()?;
        let ask = async |n: usize| {
            let token = if n.is_multiple_of(2) { &on } else { &off };
            Ok(client.get(ROUTE, Some(token)).await?.served_by())
        };
        let answers = tally(&fan_out(0..200, 8, ask).await?);
        ensure!(answers == [("analytics-core v1".into(), 100), ("legacy".into(), 100)].into(), "{answers:?}");

        stack.service.start().await?;
        let reconnected = async || {
            let node = node(&stack).await?;
            ensure!(node["connected"] == true, "{node}");
            Ok(())
        };
        eventually(SOON, "Envoy to reconnect", reconnected).await?;
        let answers = tally(&fan_out(0..200, 8, ask).await?);
        ensure!(answers == [("analytics-core v1".into(), 100), ("legacy".into(), 100)].into(), "{answers:?}");
        let after = updates(&stack.envoy.stats().await?);
        ensure!(before == after, "nothing had changed, so nothing is sent again: {before:?} {after:?}");

        stack.roll_out("100").await?;
        stack.served_by(&off, "analytics-core v1").await?;
        Ok(())
    });
}
