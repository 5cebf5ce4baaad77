//! The harness does what the other tests rely on: what it starts runs, answers, and ends.

use anyhow::{Result, ensure};
use rampart_tests::{
    client::{Client, Reply, fan_out, raw_status, send_raw, tally},
    envoy::{Envoy, Launcher, pinned_version},
    issuer::{Issuer, Key},
    modules::{Module, NO_OP},
    ports::Port,
    process::is_running,
    static_config::{Filter, StaticConfig},
    upstream::{Upstream, sha256},
    wait::SOON,
    workdir::system_test,
};
use reqwest::Method;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::json;
use std::{net::TcpListener, path::Path};
use tokio::process::Command;

/// An Envoy in front of one upstream, with or without a module between them.
async fn envoy_before(upstream: &Upstream, module: Option<Module>, dir: &Path) -> Result<(Envoy, Port)> {
    let listener = Port::claim()?;
    let module = module.map(|module| module.write_to(dir)).transpose()?;
    let config = StaticConfig {
        listener: listener.address(),
        upstream: upstream.address(),
        filter: module.as_deref().map_or(Filter::None, Filter::Module),
        attestation: None,
    };
    let mut envoy = Envoy::start(dir, &config.render(), 2).await?;
    envoy.ready().await?;
    Ok((envoy, listener))
}

#[test]
fn envoy_is_the_pinned_version_and_tells_about_itself() {
    system_test(async |dir| {
        let upstream = Upstream::start("upstream").await?;
        let (envoy, listener) = envoy_before(&upstream, None, dir).await?;
        let info = envoy.admin("/server_info").await?;
        ensure!(info.contains(&format!("/{}/", pinned_version()?)), "{info}");

        let before = envoy.stat("http.main.downstream_rq_2xx").await?;
        Client::new(listener.address())?.get("/", None).await?;
        ensure!(envoy.stat("http.main.downstream_rq_2xx").await? == before + 1);
        ensure!(envoy.stat("no_such_stat").await.is_err());

        let dump = envoy.config_dump().await?.to_string();
        ensure!(dump.contains(&upstream.address().port().to_string()));
        let resident = envoy.resident_kib()?;
        ensure!((10_000..2_000_000).contains(&resident), "{resident} KiB");
        Ok(())
    });
}

#[test]
fn an_upstream_echoes_what_came_through_a_wasm_filter() {
    system_test(async |dir| {
        let upstream = Upstream::start("analytics-core v1").await?;
        let (_envoy, listener) = envoy_before(&upstream, Some(NO_OP), dir).await?;
        let client = Client::new(listener.address())?;
        let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let headers = [("x-twice", "1"), ("x-twice", "2"), ("x-bytes", "caf\u{e9}")];
        let reply = client.send(Method::POST, "/a%20b?c=d&e", &headers, body.clone()).await?;
        ensure!(reply.status == 200, "{}", reply.text());
        let echo = reply.echo()?;
        ensure!((echo.name.as_str(), echo.method.as_str()) == ("analytics-core v1", "POST"), "{echo:?}");
        ensure!((echo.path.as_str(), echo.query.as_deref()) == ("/a%20b", Some("c=d&e")), "{echo:?}");
        ensure!((echo.body_length, &echo.body_sha256) == (body.len(), &sha256(&body)), "{echo:?}");
        let twice: Vec<&str> = echo
            .headers
            .iter()
            .filter(|(name, _)| name == "x-twice")
            .map(|(_, value)| value.as_str())
            .collect();
        ensure!(twice == ["1", "2"], "{twice:?}");
        // Sent as UTF-8; every byte arrives as one character.
        ensure!(echo.header("x-bytes") == Some("caf\u{c3}\u{a9}"), "{echo:?}");
        ensure!(echo.names("x-b") == ["x-bytes"], "{echo:?}");
        ensure!(upstream.requests() == 1, "{}", upstream.requests());
        Ok(())
    });
}

#[test]
fn ten_thousand_requests_keep_their_order_and_are_counted() {
    system_test(async |dir| {
        let upstream = Upstream::start("upstream").await?;
        let (_envoy, listener) = envoy_before(&upstream, Some(NO_OP), dir).await?;
        let client = Client::new(listener.address())?;
        let ask = async |number: usize| client.get(&format!("/{number}"), None).await;
        let replies = fan_out(0..10_000, 32, ask).await?;
        for (number, reply) in replies.iter().enumerate() {
            let path = reply.echo()?.path;
            ensure!(path == format!("/{number}"), "{path} in place of {number}");
        }
        let served: Vec<String> = replies.iter().map(Reply::served_by).collect();
        ensure!(tally(&served) == [("upstream".to_owned(), 10_000)].into());
        ensure!(upstream.requests() == 10_000, "{}", upstream.requests());
        Ok(())
    });
}

#[test]
fn bytes_that_no_library_sends_are_sent() {
    system_test(async |dir| {
        let upstream = Upstream::start("upstream").await?;
        let (_envoy, listener) = envoy_before(&upstream, Some(NO_OP), dir).await?;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nx-bytes: \xff\xfe\r\nconnection: close\r\n\r\n";
        let reply = send_raw(listener.address(), request, SOON).await?;
        ensure!(raw_status(&reply)? == 200);
        ensure!(String::from_utf8_lossy(&reply).contains("\u{ff}\u{fe}"), "every byte is echoed");
        let reply = send_raw(listener.address(), b"not HTTP\r\n\r\n", SOON).await?;
        ensure!(raw_status(&reply)? == 400);
        Ok(())
    });
}

#[test]
fn what_was_started_is_ended() {
    system_test(async |dir| {
        let upstream = Upstream::start("upstream").await?;
        let (envoy, listener) = envoy_before(&upstream, None, dir).await?;
        let processes = [envoy.id(), envoy.launcher_id()];
        // Through func-e there are two of them, and Envoy is the inner one.
        let launched = matches!(Launcher::find()?, Launcher::FuncE { .. });
        ensure!((processes[0] != processes[1]) == launched, "{processes:?}");
        ensure!(processes.iter().all(|id| is_running(*id)), "{processes:?}");
        drop(envoy);
        ensure!(!processes.iter().any(|id| is_running(*id)), "{processes:?}");
        ensure!(TcpListener::bind(listener.address()).is_ok(), "the port is free again");
        Ok(())
    });
}

#[test]
fn an_envoy_killed_through_its_launcher_leaves_no_orphan() {
    system_test(async |dir| {
        let upstream = Upstream::start("upstream").await?;
        for _ in 0..2 {
            // The second is started in the same folder and must not find the first one's traces.
            let (mut envoy, _listener) = envoy_before(&upstream, None, dir).await?;
            let processes = [envoy.id(), envoy.launcher_id()];
            envoy.kill()?;
            ensure!(!processes.iter().any(|id| is_running(*id)), "{processes:?}");
        }
        Ok(())
    });
}

#[test]
fn an_envoy_that_refuses_its_configuration_says_why() {
    system_test(async |dir| {
        let error = Envoy::start(dir, "admin: { no_such_field: 1 }", 1).await.unwrap_err();
        ensure!(format!("{error:#}").contains("no_such_field"), "{error:#}");
        Ok(())
    });
}

#[test]
fn the_issuers_tokens_verify_under_the_keys_it_serves() {
    system_test(async |_| {
        let issuer = Issuer::start().await?;
        let address = issuer.url().trim_start_matches("http://").parse()?;
        let served = Client::new(address)?.get("/.well-known/jwks.json", None).await?.json()?;
        ensure!(served == issuer.jwks(), "{served}");
        ensure!(served["keys"][0]["kty"] == "RSA" && served["keys"][1]["crv"] == "P-256", "{served}");

        let claims = issuer.claims("acme", &["analytics:read"]);
        for key in [issuer.rsa(), issuer.p256()] {
            let token = key.sign(&claims)?;
            ensure!(verifies(key, &token)?);
            ensure!(!verifies(key, &format!("{token}A"))?, "a changed signature");
            let forged = key.sign_with_header(&json!({ "alg": "none" }), &json!({}))?;
            ensure!(forged.starts_with("eyJhbGciOiJub25lIn0.e30."), "{forged}");
        }
        let fresh = Key::rsa("rsa-2")?;
        issuer.publish(&[&fresh]);
        ensure!(issuer.jwks()["keys"][0]["kid"] == "rsa-2");
        ensure!(!verifies(&fresh, &issuer.token("acme", &[])?)?, "signed by another key");
        Ok(())
    });
}

#[test]
fn tokens_for_many_organisations_keep_their_order() {
    system_test(async |_| {
        let issuer = Issuer::start().await?;
        let organisations: Vec<String> = (0..7).map(|number| format!("org-{number}")).collect();
        let tokens = issuer.tokens(issuer.p256(), &organisations, &["analytics:read"])?;
        ensure!(tokens.len() == organisations.len());
        for (organisation, token) in organisations.iter().zip(&tokens) {
            ensure!(verifies(issuer.p256(), token)?);
            let claims = issuer.claims(organisation, &["analytics:read"]);
            ensure!(decode(token.split('.').nth(1).unwrap())?["org_id"] == claims["org_id"]);
        }
        Ok(())
    });
}

fn verifies(key: &Key, token: &str) -> Result<bool> {
    let (text, signature) = token.rsplit_once('.').unwrap();
    let jwk = key.jwk();
    let field = |name: &str| base64url(jwk[name].as_str().unwrap());
    let Ok(signature) = base64url(signature) else { return Ok(false) };
    Ok(if jwk["kty"] == "RSA" {
        let public = ring::rsa::PublicKeyComponents { n: field("n")?, e: field("e")? };
        public.verify(&RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), &signature).is_ok()
    } else {
        let point = [vec![4], field("x")?, field("y")?].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text.as_bytes(), &signature).is_ok()
    })
}

fn decode(part: &str) -> Result<serde_json::Value> {
    Ok(serde_json::from_slice(&base64url(part)?)?)
}

fn base64url(text: &str) -> Result<Vec<u8>> {
    use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Decoder as _};
    Ok(Base64UrlSafeNoPadding::decode_to_vec(text, None)?)
}

#[test]
fn what_measures_a_swarm_and_what_size_costs_still_does() {
    system_test(async |_| {
        for (program, arguments, told) in [
            (
                env!("CARGO_BIN_EXE_swarm"),
                &["--streams", "8", "--pushes", "2", "--modules", "3"][..],
                "| all back at once, ready in |",
            ),
            (env!("CARGO_BIN_EXE_scale"), &["--modules", "1,2", "--edits", "2"], "| memory of Envoy |"),
        ] {
            let output = Command::new(program).args(arguments).kill_on_drop(true).output().await?;
            let [said, complained] =
                [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
            ensure!(output.status.success() && said.contains(told), "{program}: {said}{complained}");
        }
        Ok(())
    });
}
