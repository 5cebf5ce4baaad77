//! Headers that only Rampart may set, sent by a client.

use anyhow::{Result, ensure};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use rampart_tests::{
    client::Client,
    envoy::Envoy,
    modules::ATTESTING,
    paths,
    ports::Port,
    reflector::{Message, Reflector, open},
    seed::{EARLY, ROUTE},
    shipped::{StaticVariant, example_policy, with_http2},
    stack::Stack,
    upstream::Upstream,
    workdir::system_test,
};
use reqwest::Method;
use serde_json::json;
use std::path::Path;

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

/// The shipped configuration in front of a reflector that is spoken to by HTTP/2 or not, and with a
/// route that asks for nothing.
async fn reflected(dir: &Path, http2: bool) -> Result<(Envoy, Reflector, Port)> {
    let reflector = Reflector::start().await?;
    let listener = Port::claim()?;
    let mut policy = example_policy()?;
    policy["modules"][0]["auth"] = json!({"level": "none"});
    policy["modules"][0]["gates"] = json!([]);
    let config = StaticVariant {
        listener: listener.address(),
        analytics: reflector.address(),
        legacy: reflector.address(),
        module: &paths::filter()?,
        policy: &policy,
    };
    let yaml = config.render()?;
    let mut envoy = Envoy::start(dir, &if http2 { with_http2(&yaml) } else { yaml }, 1).await?;
    envoy.ready().await?;
    Ok((envoy, reflector, listener))
}

const OPEN: [&str; 2] = ["/api/v1/modules/v1/analytics/reports", "/outside"];

#[test]
fn private_trailers_do_not_reach_the_upstream() {
    system_test(async |dir| {
        let (_envoy, _reflector, listener) = reflected(dir, true).await?;
        for path in OPEN {
            let mut trailers = HeaderMap::from_iter([trailer("x-checksum", "7")]);
            let forged = FORGED.iter().map(|(name, value)| trailer(&name.to_ascii_lowercase(), value));
            trailers.extend(forged.chain([trailer("x-envoy-original-path", "/forged")]));
            let head = Request::builder().method(Method::GET).uri(path).version(Version::HTTP_2);
            let (head, ()) = head.body(())?.into_parts();
            let answer = Message { head, frames: vec![3], trailers }.send(listener.address()).await?;
            ensure!(answer.trailers == "x-checksum=7", "{path}: {answer:?}");
        }
        Ok(())
    });
}

fn trailer(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().expect("a name"), value.parse().expect("a value"))
}

/// On an upgrade Envoy passes `connection` on, and the next hop drops what it names.
#[test]
fn a_client_cannot_have_the_next_hop_drop_private_headers() {
    system_test(async |dir| {
        let (_envoy, _reflector, listener) = reflected(dir, false).await?;
        for path in OPEN {
            for (named, seen) in [
                ("x-rampart-organisation, X-RAMPART-ROLES,x_rampart_x", "connection=upgrade "),
                ("x-envoy-original-path , keep-alive", "connection=upgrade, keep-alive "),
                ("keep-alive ,x", "connection=upgrade,keep-alive ,x "),
            ] {
                let headers = format!("connection: {named}\r\n");
                let (_stream, head) = open(listener.address(), path, &headers).await?;
                ensure!(head.contains(seen), "{path}, {named}: {head}");
            }
        }
        Ok(())
    });
}
