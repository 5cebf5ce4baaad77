//! Traffic that is not refused, compared with the same Envoy without the filter: what the upstream
//! receives and what the client gets back is the same, to the byte.

use anyhow::{Context as _, Result, ensure};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Version, request};
use rampart_tests::{
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer},
    paths,
    ports::Port,
    reflector::{Message, Reflector, upgrade},
    shipped::{StaticVariant, example_policy, with_http2},
    wait::SOON,
    workdir::system_test,
};
use serde_json::json;
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::time::timeout;

const OPEN: &str = "/api/v1/modules/v1/echo/open";
const GUARDED: &str = "/api/v1/modules/v1/echo/guarded?q=%20x";
const LARGE: usize = 100 << 20;

/// The shipped configuration in front of a reflector, and the same without filter and guard.
struct Pair {
    filtered: SocketAddr,
    plain: SocketAddr,
    token: String,
    _running: (Envoy, Envoy, Reflector, Issuer, Port, Port),
}

impl Pair {
    async fn start(dir: &Path, upstream_http2: bool) -> Result<Self> {
        let (reflector, issuer) = (Reflector::start().await?, Issuer::start().await?);
        let (filtered, plain) = (Port::claim()?, Port::claim()?);
        let mut policy = example_policy()?;
        let cluster = policy["modules"][0]["cluster"].clone();
        policy["providers"][0] = json!({"name": "main", "issuer": issuer.url(), "audiences": [AUDIENCE],
            "jwks": issuer.jwks()});
        policy["modules"] = json!([{"id": "echo", "version": "v1", "namespace": "echo", "cluster": cluster,
            "routes": [{"path": "/open", "auth": {"level": "none"}}, {"path": "/guarded"}]}]);
        let config = |listener: &Port| {
            let text = StaticVariant {
                listener: listener.address(),
                analytics: reflector.address(),
                legacy: reflector.address(),
                module: &paths::filter()?,
                policy: &policy,
            }
            .render()?;
            anyhow::Ok(if upstream_http2 { with_http2(&text) } else { text })
        };
        let mut first = Envoy::start(&dir.join("filtered"), &config(&filtered)?, 2).await?;
        let mut second = Envoy::start(&dir.join("plain"), &without_filter(&config(&plain)?)?, 2).await?;
        first.ready().await?;
        second.ready().await?;
        let token = issuer.token("acme", &[])?;
        let (filtered_at, plain_at) = (filtered.address(), plain.address());
        let running = (first, second, reflector, issuer, filtered, plain);
        Ok(Self { filtered: filtered_at, plain: plain_at, token, _running: running })
    }

    /// Sends the same both ways; what comes back is the same, and is what was sent.
    async fn compare(&self, what: &str, message: &Message) -> Result<()> {
        let exchange = async |server| {
            let sent = timeout(SOON * 3, message.send(server)).await;
            sent.context("no end")?.with_context(|| what.to_owned())
        };
        let (filtered, plain) = (exchange(self.filtered).await?, exchange(self.plain).await?);
        ensure!(filtered == plain, "{what}:\n{filtered:?}\ninstead of\n{plain:?}");
        ensure!(filtered.headers.contains("x-seen"), "{what}: no upstream answered: {filtered:?}");
        let (length, sha256) = message.digest();
        let expected = if message.head.method == Method::HEAD { 0 } else { length };
        ensure!(filtered.length == expected, "{what}: {filtered:?}");
        ensure!(expected == 0 || filtered.sha256 == sha256, "{what}: {filtered:?}");
        Ok(())
    }

    fn message(
        &self,
        method: Method,
        path: &str,
        version: Version,
        headers: &[(&'static str, &str)],
    ) -> Message {
        let mut head = Request::builder().method(method).uri(path).version(version);
        head = head.header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        let (head, ()): (request::Parts, ()) = head.body(()).expect("a well-formed request").into_parts();
        Message { head, frames: Vec::new(), trailers: HeaderMap::new() }
    }
}

/// The configuration with neither filter nor guard, and every route to the reflector.
fn without_filter(yaml: &str) -> Result<String> {
    let (before, rest) = yaml.split_once("          http_filters:\n").context("no filters")?;
    let router = rest.find("          - name: envoy.filters.http.router").context("no router")?;
    let text = format!("{before}          http_filters:\n{}", &rest[router..]);
    let text = text.replace("cluster_header: x-rampart-cluster", "cluster: analytics-v1");
    let condition = "                  headers:\n                  - name: x-rampart-cluster\n                    present_match: true\n";
    ensure!(text.contains(condition), "the routes look otherwise");
    Ok(text.replace(condition, ""))
}

#[test]
fn requests_and_answers_pass_as_without_the_filter() {
    system_test(async |dir| {
        let pair = Pair::start(dir, false).await?;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            for path in [OPEN, GUARDED] {
                let message = |method, headers| pair.message(method, path, version, headers);
                let encoded = [
                    ("x-reply-content-encoding", "gzip"),
                    ("accept-encoding", "br"),
                    ("x-a", "1"),
                    ("x-a", "2"),
                ];
                for (what, method, headers, frames) in [
                    ("a GET without a body", Method::GET, &[][..], vec![]),
                    ("a HEAD", Method::HEAD, &[], vec![]),
                    (
                        "a body of a known length",
                        Method::POST,
                        &[("content-length", "70000")],
                        vec![1, 69_999],
                    ),
                    ("a body in chunks", Method::PUT, &[], vec![1, 0, 65_536, 7, 200_000]),
                    ("what claims to be compressed", Method::POST, &encoded, vec![1_000]),
                    ("an error of the upstream's own", Method::DELETE, &[("x-reply-x-error", "1")], vec![]),
                    ("expect: 100-continue", Method::POST, &[("expect", "100-continue")], vec![10]),
                ] {
                    let message = Message { frames, ..message(method, headers) };
                    pair.compare(&format!("{what}, {path}, {version:?}"), &message).await?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_hundred_megabytes_are_streamed_both_ways() {
    system_test(async |dir| {
        let pair = Pair::start(dir, false).await?;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let frames = vec![1 << 20; LARGE >> 20];
            let message = Message { frames, ..pair.message(Method::POST, GUARDED, version, &[]) };
            pair.compare(&format!("{LARGE} bytes, {version:?}"), &message).await?;
        }
        Ok(())
    });
}

#[test]
fn grpc_passes_with_its_trailers() {
    system_test(async |dir| {
        let pair = Pair::start(dir, true).await?;
        let headers = [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-reply-content-type", "application/grpc"),
        ];
        for (what, frames) in [("a unary call", vec![25]), ("a stream", vec![5; 200])] {
            let mut message =
                Message { frames, ..pair.message(Method::POST, GUARDED, Version::HTTP_2, &headers) };
            message.trailers.insert("grpc-status", HeaderValue::from_static("0"));
            message.trailers.insert("x-detail-bin", HeaderValue::from_static("AAEC"));
            let transcript = message.send(pair.filtered).await?;
            ensure!(transcript.trailers == "grpc-status=0 x-detail-bin=AAEC", "{transcript:?}");
            pair.compare(what, &message).await?;
        }
        Ok(())
    });
}

#[test]
fn websockets_pass() {
    system_test(async |dir| {
        let pair = Pair::start(dir, false).await?;
        let pieces: [&[u8]; 3] = [b"\x82\x03\x00\xff\x80", &[0x42; 70_000], b"\x88\x00"];
        let sent = pieces.concat();
        let headers = format!("authorization: Bearer {}\r\n", pair.token);
        for server in [pair.filtered, pair.plain] {
            let exchange = upgrade(server, GUARDED, &headers, &pieces);
            let back = timeout(Duration::from_secs(20), exchange).await.context("no end")??;
            ensure!(back == sent, "{} bytes came back", back.len());
        }
        let refused = upgrade(pair.filtered, GUARDED, "", &pieces).await;
        ensure!(format!("{:#}", refused.err().context("no token was asked for")?).contains("401"));
        Ok(())
    });
}
