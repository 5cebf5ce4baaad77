//! The policy without the flag service: `envoy/static.yaml` as it is shipped, but for ports and
//! keys, decides through the real filter in a real Envoy.

use anyhow::{Result, ensure};
use rampart_engine::bucket::{Bucketing, Generation};
use rampart_tests::{
    client::{Client, Reply, fan_out, raw_status, send_raw},
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer, now, unsigned},
    modules::{NO_OP, TRAPPING},
    paths,
    ports::Port,
    shipped::{StaticVariant, example_policy},
    upstream::Upstream,
    wait::SOON,
    workdir::system_test,
};
use reqwest::Method;
use serde_json::json;
use std::path::{Path, PathBuf};

const REPORTS: &str = "/api/v1/modules/v1/analytics/reports";
const FLAG: &str = "analytics_module";

struct World {
    client: Client,
    issuer: Issuer,
    analytics: Upstream,
    legacy: Upstream,
    listener: Port,
    envoy: Envoy,
}

impl World {
    /// The shipped configuration under this module, with the issuer's keys and a percentage.
    async fn start(dir: &Path, module: PathBuf, percentage: u32) -> Result<Self> {
        let issuer = Issuer::start().await?;
        let analytics = Upstream::start("analytics").await?;
        let legacy = Upstream::start("legacy").await?;
        let listener = Port::claim()?;
        let mut policy = example_policy()?;
        let provider = &mut policy["providers"][0];
        provider["issuer"] = json!(issuer.url());
        provider["audiences"] = json!([AUDIENCE]);
        provider["algorithms"] = json!(["RS256", "ES256"]);
        provider["jwks"] = issuer.jwks();
        ensure!(policy["flags"][0]["key"] == FLAG, "{policy}");
        policy["flags"][0]["percentage"] = json!(percentage);
        let config = StaticVariant {
            listener: listener.address(),
            analytics: analytics.address(),
            legacy: legacy.address(),
            module: &module,
            policy: &policy,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 2).await?;
        envoy.ready().await?;
        envoy.accepts(listener.address()).await?;
        let client = Client::new(listener.address())?;
        Ok(Self { client, issuer, analytics, legacy, listener, envoy })
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Result<Reply> {
        self.client.get(path, token).await
    }
}

/// Whether the engine, natively, puts an organisation among the first `percentage` percent.
fn enrolled(organisation: &str, percentage: u32) -> bool {
    Bucketing::new(FLAG, Generation::default()).bucket(organisation, 100) < percentage
}

/// Some organisation on each side of 25 percent: in, then out.
fn one_of_each() -> [String; 2] {
    let find = |side| (0..).map(|n| format!("org-{n}")).find(|name| enrolled(name, 25) == side);
    [true, false].map(|side| find(side).expect("both sides are inhabited"))
}

#[test]
fn a_request_is_decided_from_token_flag_and_route() {
    system_test(async |dir| {
        let world = World::start(dir, paths::filter()?, 25).await?;
        let [inside, outside] = one_of_each();
        let token = world.issuer.token(&inside, &["analytics:read"])?;
        let echo = world.get(REPORTS, Some(&token)).await?.echo()?;
        ensure!(echo.name == "analytics" && echo.path == REPORTS, "{echo:?}");
        ensure!(echo.header("x-rampart-organisation") == Some(inside.as_str()), "{echo:?}");
        ensure!(echo.header("x-rampart-cluster").is_none(), "routing stays private: {echo:?}");

        let other = world.issuer.token(&outside, &["analytics:read"])?;
        ensure!(world.get(REPORTS, Some(&other)).await?.served_by() == "legacy");
        ensure!(world.get("/outside", None).await?.served_by() == "legacy", "a path outside passes");

        let refused = world.legacy.requests() + world.analytics.requests();
        let poor = world.issuer.token(&inside, &["pricing:read"])?;
        for (path, token, status) in [
            (REPORTS, None, 401),
            (REPORTS, Some(&poor), 403),
            ("/api/v1/modules/v1/nothing/reports", Some(&token), 404),
            ("/api/v1/modules/v1/analytics/nothing", Some(&token), 404),
        ] {
            let reply = world.get(path, token.map(String::as_str)).await?;
            ensure!(reply.status == status, "{path}: {} {}", reply.status, reply.text());
            ensure!(reply.header("content-type") == Some("application/problem+json"), "{reply:?}");
        }
        let deleted = world.client.send(Method::DELETE, REPORTS, &[], vec![]).await?;
        ensure!(deleted.status == 405 && deleted.header("allow").is_some(), "{deleted:?}");
        ensure!(world.legacy.requests() + world.analytics.requests() == refused, "a refusal went through");
        Ok(())
    });
}

#[test]
fn a_forged_token_is_refused() {
    system_test(async |dir| {
        let world = World::start(dir, paths::filter()?, 100).await?;
        let good = world.issuer.claims("acme", &["analytics:read"]);
        let with = |name: &str, value| {
            let mut claims = good.clone();
            claims[name] = value;
            claims
        };
        let (rsa, p256) = (world.issuer.rsa(), world.issuer.p256());
        for key in [rsa, p256] {
            ensure!(world.get(REPORTS, Some(&key.sign(&good)?)).await?.served_by() == "analytics");
        }
        let header = |algorithm, kid| json!({ "alg": algorithm, "kid": kid });
        for (what, token) in [
            ("unsigned", format!("{}.", unsigned(&json!({ "alg": "none" }), &good))),
            ("another key's id", rsa.sign_with_header(&header("RS256", "p256-1"), &good)?),
            ("another algorithm's name", p256.sign_with_header(&header("RS256", "rsa-1"), &good)?),
            ("an unknown key", rsa.sign_with_header(&header("RS256", "gone"), &good)?),
            ("expired", rsa.sign(&with("exp", json!(now() - 3600)))?),
            ("not yet valid", rsa.sign(&with("nbf", json!(now() + 3600)))?),
            ("for another audience", rsa.sign(&with("aud", json!("elsewhere")))?),
            ("from another issuer", rsa.sign(&with("iss", json!("https://elsewhere.example")))?),
            ("cut", rsa.sign(&good)?.split_at(200).0.to_owned()),
        ] {
            let reply = world.get(REPORTS, Some(&token)).await?;
            ensure!(reply.status == 401, "{what}: {} {}", reply.status, reply.text());
            let challenge = reply.header("www-authenticate").unwrap_or_default();
            ensure!(challenge.starts_with("Bearer"), "{what}: {challenge}");
        }
        ensure!(world.analytics.requests() == 2, "{}", world.analytics.requests());
        Ok(())
    });
}

#[test]
fn what_a_client_says_of_itself_is_not_believed() {
    system_test(async |dir| {
        let world = World::start(dir, paths::filter()?, 0).await?;
        let token = world.issuer.token("acme", &["analytics:read"])?;
        let bearer = format!("Bearer {token}");
        let lies = [
            ("authorization", bearer.as_str()),
            ("x-rampart-cluster", "analytics-v1"),
            ("x-rampart-mirror", "analytics-v1"),
            ("x-rampart-organisation", "other"),
            ("x-rampart-invented", "yes"),
        ];
        let echo = world.client.send(Method::GET, REPORTS, &lies, vec![]).await?.echo()?;
        ensure!(echo.name == "legacy", "nobody is enrolled: {echo:?}");
        ensure!(echo.header("x-rampart-organisation") != Some("other"), "{echo:?}");
        ensure!(echo.header("x-rampart-invented").is_none(), "{echo:?}");
        let echo = world.client.send(Method::GET, "/outside", &lies[1..], vec![]).await?.echo()?;
        ensure!(echo.names("x-rampart-").is_empty(), "{echo:?}");
        ensure!(world.analytics.requests() == 0, "no lie chose or mirrored to the module");
        Ok(())
    });
}

#[test]
fn ten_thousand_organisations_are_dealt_as_the_engine_deals_them() {
    system_test(async |dir| {
        let world = World::start(dir, paths::filter()?, 25).await?;
        let names: Vec<String> = (0..10_000).map(|number| format!("organisation-{number}")).collect();
        let tokens = world.issuer.tokens(world.issuer.p256(), &names, &["analytics:read"])?;
        let ask = async |token: String| Ok(world.get(REPORTS, Some(&token)).await?.served_by());
        let served = fan_out(tokens, 32, ask).await?;
        for (name, server) in names.iter().zip(&served) {
            let expected = if enrolled(name, 25) { "analytics" } else { "legacy" };
            ensure!(server == expected, "{name} was served by {server}, not {expected}");
        }
        let share = served.iter().filter(|server| *server == "analytics").count();
        ensure!((2350..=2650).contains(&share), "{share} of 10,000 at 25 %");
        Ok(())
    });
}

#[test]
fn a_header_that_is_not_text_harms_nobody() {
    system_test(async |dir| {
        let world = World::start(dir, paths::filter()?, 100).await?;
        let path = REPORTS.as_bytes();
        let request = |header: &[u8]| {
            let parts: [&[u8]; 5] =
                [b"GET ", path, b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", header, b"\r\n\r\n"];
            parts.concat()
        };
        for header in [&b"authorization: Bearer \xff\xfe"[..], b"x-any: \xff\xfe\x80"] {
            let reply = send_raw(world.listener.address(), &request(header), SOON).await?;
            ensure!(raw_status(&reply)? == 401, "{}", String::from_utf8_lossy(&reply));
        }
        let token = world.issuer.token("acme", &["analytics:read"])?;
        ensure!(world.get(REPORTS, Some(&token)).await?.served_by() == "analytics", "the filter still runs");
        Ok(())
    });
}

/// Every request is answered with `status`, inside the namespace and outside, none passes, and one of
/// these counters has risen.
async fn check_broken(dir: &Path, module: PathBuf, status: u16, counters: &[&str]) -> Result<()> {
    let world = World::start(dir, module, 100).await?;
    let token = world.issuer.token("acme", &["analytics:read"])?;
    for path in [REPORTS, "/outside", REPORTS] {
        let reply = world.get(path, Some(&token)).await?;
        ensure!(reply.status == status, "{path}: {} {}", reply.status, reply.text());
    }
    ensure!(world.analytics.requests() + world.legacy.requests() == 0, "a request passed");
    let stats = world.envoy.stats().await?;
    let counted = counters.iter().filter_map(|name| stats.get(*name)).sum::<u64>();
    ensure!(counted > 0, "{counters:?}: {stats:?}");
    Ok(())
}

#[test]
fn a_module_that_judges_nothing_lets_nothing_pass() {
    let counter = ["http.rampart.rbac.attestation.denied"];
    system_test(async |dir| check_broken(dir, NO_OP.write_to(dir)?, 403, &counter).await);
}

#[test]
fn a_module_that_traps_lets_nothing_pass() {
    // Which one rises depends on how soon after the start the requests come.
    let counters = ["wasm.rampart.vm_reload_success", "wasm.rampart.vm_reload_backoff"];
    system_test(async |dir| check_broken(dir, TRAPPING.write_to(dir)?, 503, &counters).await);
}

#[test]
fn envoy_does_not_start_with_a_policy_that_makes_no_sense() {
    system_test(async |dir| {
        let (upstream, listener) = (Upstream::start("upstream").await?, Port::claim()?);
        let mut policy = example_policy()?;
        policy["modules"][0]["gates"][0]["flag"] = json!("no_such_flag");
        let config = StaticVariant {
            listener: listener.address(),
            analytics: upstream.address(),
            legacy: upstream.address(),
            module: &paths::filter()?,
            policy: &policy,
        };
        let error = Envoy::start(dir, &config.render()?, 1).await.err();
        let error = error.map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(error.contains("gates[0].flag: there is no flag `no_such_flag`"), "{error}");
        Ok(())
    });
}

#[test]
fn envoys_own_cryptography_verifies_signatures() {
    system_test(async |dir| {
        // Pure Rust in WebAssembly would give the same verdicts, forty times as slowly.
        let world = World::start(dir, paths::filter()?, 0).await?;
        let log = world.envoy.log()?;
        ensure!(log.contains("signatures verified by the host"), "{log}");
        ensure!(!log.contains("signatures verified by the filter"), "{log}");
        Ok(())
    });
}
