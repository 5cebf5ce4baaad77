//! Modules that call one another, through the same Envoy and by the same rules.

use anyhow::{Result, ensure};
use axum::{Router, extract::State, http::HeaderMap, routing::get};
use rampart_tests::{
    client::Client,
    ports::Port,
    seed::{EARLY, ROUTE},
    stack::Stack,
    wait::{SOON, eventually},
    workdir::system_test,
};
use reqwest::Method;
use serde_json::json;
use std::net::SocketAddr;

/// A module that asks another before it answers, with its caller's token where it got one.
async fn asking(internal: SocketAddr) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let ask = async |State(internal): State<SocketAddr>, headers: HeaderMap| {
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|bearer| bearer.strip_prefix("Bearer ")).map(str::to_owned);
        let asked = async { Client::new(internal)?.get(ROUTE, token.as_deref()).await };
        match asked.await {
            Ok(reply) => {
                let told = reply
                    .echo()
                    .ok()
                    .and_then(|echo| echo.header("x-rampart-organisation").map(str::to_owned));
                format!("{} {} {}", reply.status, reply.served_by(), told.unwrap_or_default())
            }
            Err(error) => format!("{error:#}"),
        }
    };
    let router = Router::new().route("/api/v1/modules/v1/asking/{*path}", get(ask)).with_state(internal);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

#[test]
fn a_module_calls_another_for_its_caller() {
    system_test(async |dir| {
        let port = Port::claim()?;
        let mut stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        stack.service.kill()?;
        stack.service.set("--internal-listen", &port.address().to_string());
        stack.service.start().await?;
        stack.envoy.accepts(port.address()).await?;

        let asking = asking(port.address()).await?;
        let manifest = json!({
            "id": "asking", "endpoints": [asking.to_string()],
            "routes": [{"path": "/basic"}, {"path": "/open", "auth": {"level": "none"}}]
        });
        stack.register(dir, &manifest).await?.ok()?;
        let token = stack.token(EARLY)?;
        let answers = async |path: &str, wanted: &str| {
            let path = format!("/api/v1/modules/v1/asking/{path}");
            eventually(SOON, wanted, async || {
                let reply = stack.client()?.get(&path, Some(&token)).await?;
                ensure!(reply.text() == wanted, "{} {}", reply.status, reply.text());
                Ok(())
            })
            .await
        };
        answers("basic", &format!("200 analytics-core v1 {EARLY}")).await?;

        // Whoever comes there is judged as everybody is, and makes up nothing.
        let internal = Client::new(port.address())?;
        let refused = internal.get(ROUTE, None).await?;
        ensure!(refused.status == 401 && refused.text().contains("missing_token"), "{}", refused.text());
        let bearer = format!("Bearer {token}");
        let forged = [
            ("authorization", &*bearer),
            ("x-rampart-organisation", "somebody"),
            ("x-rampart-cluster", "legacy"),
        ];
        let reply = internal.send(Method::GET, ROUTE, &forged, Vec::new()).await?;
        ensure!(reply.served_by() == "analytics-core v1", "{}", reply.text());
        ensure!(reply.echo()?.header("x-rampart-organisation") == Some(EARLY), "{}", reply.text());
        let stats = stack.envoy.stats().await?;
        let count = stats.get("http.rampart_internal.downstream_rq_completed").copied().unwrap_or_default();
        ensure!(count >= 3, "{count}");

        // Said no more, it is gone, and clients do not notice.
        stack.service.kill()?;
        stack.service.unset("--internal-listen");
        stack.service.start().await?;
        eventually(SOON, "the listener to go", async || {
            ensure!(internal.get(ROUTE, None).await.is_err(), "it is still there");
            Ok(())
        })
        .await?;
        stack.served_by(&token, "analytics-core v1").await?;
        Ok(())
    });
}
