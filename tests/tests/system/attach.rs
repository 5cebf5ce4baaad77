//! `envoy/attach.yaml`: an Envoy that somebody else configures takes the filter's policy and nothing else.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    client::Client,
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer},
    paths,
    ports::{Port, substitute},
    seed::{EARLY, LATE},
    service::{Service, ServicePorts},
    upstream::Upstream,
    wait::{SOON, eventually},
    workdir::system_test,
};
use serde_json::json;
use std::{fs, net::SocketAddr, path::Path};

const REPORTS: &str = "/api/v1/modules/v1/analytics/reports";
const FLAG: &str = "module_routing_enabled";

/// The shipped configuration with these ports.
fn config(listener: SocketAddr, upstreams: [&Upstream; 2], service: &Service) -> Result<String> {
    let file = paths::repository().join("envoy/attach.yaml");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let [analytics, legacy] = upstreams.map(|upstream| upstream.address().port());
    let xds = service.xds_address().port();
    substitute(&text, &[(9901, 0), (10_000, listener.port()), (9001, analytics), (9000, legacy), (8081, xds)])
}

/// What an operator says: who vouches for callers, a flag, and that these clusters are there.
async fn seed(service: &Service, issuer: &Issuer, dir: &Path) -> Result<()> {
    let (url, jwks) = (issuer.url(), issuer.jwks_url());
    let page = fs::read_to_string(paths::repository().join("docs/attach.md"))?;
    let module = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let manifest = dir.join("analytics.json");
    fs::write(&manifest, module.context("the page has a manifest")?)?;
    let manifest = manifest.display().to_string();
    for command in [
        &["settings", "set", "--cluster", "legacy"][..],
        &["provider", "set", "main", "--issuer", &url, "--audience", AUDIENCE, "--jwks-uri", &jwks],
        &["flag", "create", FLAG, "--percentage", "25"],
    ] {
        service.cli(command).await?.ok()?;
    }
    let register = ["module", "register", &manifest];
    let refused = service.cli(&register).await?.refused()?;
    ensure!(refused.contains("cluster: there is no cluster `analytics-v1`"), "{refused}");
    let shown = "rampart settings set --cluster analytics-v1 --cluster legacy\nrampart module register analytics.json\n";
    ensure!(page.contains(shown), "the page shows other commands");
    let clusters = ["settings", "set", "--cluster", "analytics-v1", "--cluster", "legacy"];
    service.cli(&clusters).await?.ok()?;
    service.cli(&register).await?.ok()?;
    let listed = service.cli(&["module", "list"]).await?.ok()?;
    ensure!(listed.contains("analytics-v1"), "{listed}");
    Ok(())
}

#[test]
fn an_envoy_of_somebody_elses_takes_the_policy_and_nothing_else() {
    system_test(async |dir| {
        let issuer = Issuer::start().await?;
        let (analytics, legacy) = (Upstream::start("analytics").await?, Upstream::start("legacy").await?);
        let listener = Port::claim()?;
        let mut service = Service::new(dir, ServicePorts::free()?);
        service.start().await?;
        seed(&service, &issuer, dir).await?;
        let config = config(listener.address(), [&analytics, &legacy], &service)?;
        let mut envoy = Envoy::start(dir, &config, 2).await?;
        envoy.ready().await?;
        envoy.accepts(listener.address()).await?;
        let client = Client::new(listener.address())?;
        let served = async |organisation: &str, by: &str| {
            let token = issuer.token(organisation, &[])?;
            eventually(SOON, by, async || {
                let served = client.get(REPORTS, Some(&token)).await?.served_by();
                ensure!(served == by, "{organisation}: {served}");
                Ok(())
            })
            .await
        };
        served(EARLY, "analytics").await?;
        served(LATE, "legacy").await?;
        ensure!(client.get(REPORTS, None).await?.status == 401);
        ensure!(client.get("/elsewhere", None).await?.served_by() == "legacy");

        service.cli(&["flag", "set", FLAG, "--percentage", "100", "--wait"]).await?.ok()?;
        served(LATE, "analytics").await?;
        let fleet = service.cli(&["envoys", "--output", "json"]).await?.json()?;
        let types = fleet.pointer("/envoys/0/types").and_then(|types| types.as_object());
        let types: Vec<&String> = types.context("no Envoy")?.keys().collect();
        ensure!(types == ["ecds"], "{fleet:#}");
        let dump = envoy.config_dump().await?.to_string();
        ensure!(!dump.contains("dynamic_active_clusters") && !dump.contains("dynamic_listeners"), "{dump}");
        // It reports as any other.
        eventually(SOON, "its reports", async || {
            let metrics = service.client()?.get("/api/v1/module-management/modules/metrics", None).await?;
            ensure!(metrics.text().contains("/reports"), "{}", metrics.text());
            Ok(())
        })
        .await?;

        let status = service.client()?.get("/api/v1/status", None).await?.json()?;
        ensure!(status.pointer("/health/analytics/status") == Some(&json!("healthy")), "{status:#}");

        service.cli(&["flag", "kill", FLAG]).await?.ok()?;
        served(EARLY, "legacy").await?;
        service.kill()?;
        served(LATE, "legacy").await
    });
}

#[test]
fn its_listener_is_the_static_one_but_for_where_the_filter_comes_from() -> Result<()> {
    let listener = |name: &str| {
        let text = fs::read_to_string(paths::repository().join("envoy").join(name))?;
        let (_, listener) = text.split_once("\n  listeners:\n").context("no listeners")?;
        let (listener, _) = listener.split_once("\n  clusters:\n").context("no clusters")?;
        let (before, after) = listener.split_once("          - name: rampart\n").context("no filter")?;
        let (_, after) = after.split_once("          # The filter marks").context("no guard")?;
        let before = before.lines().filter(|line| !line.trim_start().starts_with('#'));
        anyhow::Ok((before.map(str::to_owned).collect::<Vec<_>>(), after.to_owned()))
    };
    ensure!(listener("attach.yaml")? == listener("static.yaml")?, "they differ");
    Ok(())
}
