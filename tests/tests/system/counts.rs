//! What Envoy counts of requests by what the filter decided, with and without the flag service.

use anyhow::{Result, ensure};
use rampart_tests::{
    client::Client,
    envoy::Envoy,
    paths,
    ports::Port,
    seed::{EARLY, LATE, ROUTE},
    shipped::{StaticVariant, example_policy},
    stack::Stack,
    upstream::Upstream,
    wait::{SOON, eventually},
    workdir::system_test,
};

/// Waits until a series has this value; it is written when a request has ended.
async fn counted(envoy: &Envoy, series: &str, value: u64) -> Result<()> {
    let series = format!("envoy_rampart_{series} {value}");
    eventually(SOON, &series, async || {
        let text = envoy.admin("/stats/prometheus").await?;
        let near: Vec<&str> = text.lines().filter(|line| line.starts_with("envoy_rampart_")).collect();
        ensure!(near.contains(&&*series), "{}", near.join("\n"));
        Ok(())
    })
    .await
}

#[test]
fn requests_are_counted_by_module_decision_route_and_code() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("50").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        let client = stack.client()?;
        // Waiting has been counted too: this route is asked here only.
        let path = ROUTE.replace("/dashboard/overview", "/analytics/7");
        for (organisation, times) in [(EARLY, 3), (LATE, 2)] {
            let token = stack.token(organisation)?;
            for _ in 0..times {
                let reply = client.get(&path, Some(&token)).await?;
                ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            }
        }
        ensure!(client.get(&path, None).await?.status == 401);
        let series = |decision: &str, code: u16| {
            let route = "route=\"/analytics/{subject}\"";
            format!(
                "requests{{module=\"analytics_core\",decision=\"{decision}\",arm=\"\",{route},code=\"{code}\"}}"
            )
        };
        counted(&stack.envoy, &series("module", 200), 3).await?;
        counted(&stack.envoy, &series("legacy", 200), 2).await?;
        counted(&stack.envoy, &series("", 401), 1).await
    });
}

#[test]
fn requests_are_counted_and_timed_without_the_flag_service() {
    system_test(async |dir| {
        let (upstream, listener) = (Upstream::start("upstream").await?, Port::claim()?);
        let config = StaticVariant {
            listener: listener.address(),
            analytics: upstream.address(),
            legacy: upstream.address(),
            module: &paths::filter()?,
            policy: &example_policy()?,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 1).await?;
        envoy.ready().await?;
        let client = Client::new(listener.address())?;
        for number in 0..3 {
            // Nothing of what a client makes up becomes a series.
            let path = format!("/api/v1/modules/v1/analytics/invented-{number}");
            ensure!(client.get(&path, None).await?.status == 404);
            ensure!(client.get(&format!("/outside/{number}"), None).await?.status == 200);
        }
        let none = r#"module="",decision="#;
        counted(&envoy, &format!(r#"requests{{{none}"",arm="",route="",code="404"}}"#), 3).await?;
        counted(&envoy, &format!(r#"requests{{{none}"pass",arm="",route="",code="200"}}"#), 3).await?;
        counted(&envoy, &format!(r#"duration_count{{{none}"pass",arm=""}}"#), 3).await
    });
}
