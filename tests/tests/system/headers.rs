//! Headers that only Rampart may set, sent by a client.

use anyhow::ensure;
use rampart_tests::{
    client::Client,
    envoy::Envoy,
    modules::ATTESTING,
    ports::Port,
    seed::{EARLY, ROUTE},
    shipped::{StaticVariant, example_policy},
    stack::Stack,
    upstream::Upstream,
    workdir::system_test,
};
use reqwest::Method;

const FORGED: [(&str, &str); 10] = [
    ("x-rampart-cluster", "module/analytics_core_v2/v2"),
    ("x-rampart-mirror", "legacy"),
    ("x-rampart-organisation", "victim"),
    ("X-Rampart-Roles", "admin"),
    ("x-rampart-permissions", "everything"),
    ("x-rampart-anything-else", "1"),
    ("x-rampart-", "1"),
    ("x_rampart_organisation", "victim"),
    ("x-rampart_organisation", "victim"),
    ("X_Rampart-Roles", "admin"),
];

#[test]
fn client_sent_private_headers_reach_neither_decision_nor_upstream() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("50").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        let client = stack.client()?;
        let bearer = format!("Bearer {}", stack.token(EARLY)?);
        for path in [ROUTE, "/outside"] {
            let mut headers = FORGED.to_vec();
            headers.push(("authorization", &bearer));
            let echo = client.send(Method::GET, path, &headers, Vec::new()).await?.echo()?;
            ensure!(!format!("{:?}", echo.headers).contains("victim"), "{echo:?}");
            if path == ROUTE {
                ensure!(echo.name == "analytics-core v1", "{echo:?}");
                ensure!(echo.header("x-rampart-organisation") == Some(EARLY), "{echo:?}");
                ensure!(echo.header("x-rampart-roles").is_none(), "{echo:?}");
            } else {
                ensure!(echo.names("x-rampart").is_empty(), "{echo:?}");
                ensure!(echo.names("x_rampart").is_empty(), "{echo:?}");
            }
        }
        ensure!(
            stack.upstreams.legacy.requests() > 0,
            "the upstream that would have been mirrored to is alive"
        );
        Ok(())
    });
}

#[test]
fn private_headers_are_removed_where_the_filter_is_absent() {
    system_test(async |dir| {
        let upstream = Upstream::start("upstream").await?;
        let listener = Port::claim()?;
        // A stand-in that lets everything pass the guard and touches no header.
        let filter = ATTESTING.write_to(dir)?;
        let config = StaticVariant {
            listener: listener.address(),
            analytics: upstream.address(),
            legacy: upstream.address(),
            module: &filter,
            policy: &example_policy()?,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 1).await?;
        envoy.ready().await?;
        let client = Client::new(listener.address())?;
        let echo = client.send(Method::GET, "/", &FORGED, Vec::new()).await?.echo()?;
        ensure!(echo.names("x-rampart").is_empty(), "{echo:?}");
        ensure!(echo.names("x_rampart").is_empty(), "{echo:?}");
        let reply = client.send(Method::GET, ROUTE, &FORGED, Vec::new()).await?;
        ensure!(reply.status == 503, "a client named the cluster: {} {}", reply.status, reply.text());
        Ok(())
    });
}
