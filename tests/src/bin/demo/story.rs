//! The story, step by step. Each step says what it does, what it saw, and fails if that is wrong.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use rampart_engine::flag::{Asker, Flags};
use rampart_tests::{
    client::{Client, Reply, fan_out, tally},
    envoy::Envoy,
    modules::{TRAPPING, WORKER_REFUSING},
    paths,
    ports::Port,
    seed::{EARLY, FLAG, LATE, PERMISSIONS, ROUTE},
    shipped::{StaticVariant, example_policy},
    stack::{First, Options, Stack},
    static_config::{Filter, StaticConfig},
    upstream::Upstream,
    wait::{SOON, eventually},
};
use reqwest::Method;
use serde_json::json;

const ORGANISATIONS: usize = 10_000;
const EDITS: usize = 20;

/// Longest time from the command's return to the first request decided by the new revision.
const IN_FORCE: Duration = Duration::from_secs(1);

macro_rules! saw {
    ($($text:tt)*) => { println!("    {}", format_args!($($text)*)) };
}

fn step(title: &str) {
    println!("\n== {title}");
}

pub(crate) async fn tell(dir: &Path) -> Result<()> {
    step("Envoy starts with its small bootstrap, then the flag service it follows");
    let options = Options { first: First::Envoy, ..Options::default() };
    let mut stack = Stack::start(dir, options).await?;
    stack.seed(dir).await?;
    saw!("Envoy on {} has listener, routes, clusters and policy over ADS", stack.service.listener_address());
    saw!("{}", stack.service.cli(&["status"]).await?.ok()?.replace('\n', "\n    "));

    routing(&stack).await?;
    rollout(&stack).await?;
    edits(&stack).await?;
    refusals(&stack, dir).await?;
    forgery(&stack).await?;
    outage(&mut stack).await?;
    saw!("Envoy's memory, with the filter on 2 workers: {} MiB resident", stack.envoy.resident_kib()? / 1024);
    drop(stack);
    broken_filters(dir).await?;
    static_variant(dir).await
}

/// One request, told in a line; the answer must be the expected one.
async fn ask(client: &Client, what: &str, path: &str, token: Option<&str>, expected: &str) -> Result<Reply> {
    let reply = client.get(path, token).await?;
    let reason = reply.json().ok().and_then(|body| body["reason"].as_str().map(str::to_owned));
    let got = reply.served_by();
    saw!("{what}: {got}{}", reason.map(|reason| format!(" {reason}")).unwrap_or_default());
    ensure!(got == expected, "{what}: {got} instead of {expected}: {}", reply.text());
    Ok(reply)
}

async fn routing(stack: &Stack) -> Result<()> {
    step(&format!("GET {ROUTE} at 50 %"));
    stack.roll_out("50").await?;
    let client = stack.client()?;
    let (early, late) = (stack.token(EARLY)?, stack.token(LATE)?);
    stack.served_by(&early, "analytics-core v1").await?;
    let echo = ask(&client, EARLY, ROUTE, Some(&early), "analytics-core v1").await?.echo()?;
    saw!(
        "  the module was told: {}",
        json!(echo.headers.iter().filter(|(name, _)| name.starts_with("x-rampart")).collect::<Vec<_>>())
    );
    ask(&client, LATE, ROUTE, Some(&late), "legacy").await?;
    ask(&client, "no token", ROUTE, None, "401").await?;
    let poor = stack.issuer.token(EARLY, &PERMISSIONS[..1])?;
    ask(&client, "a token without the permission", ROUTE, Some(&poor), "403").await?;
    let module = "/api/v1/modules";
    ask(&client, "an unknown namespace", &format!("{module}/v1/nobody/x"), Some(&early), "404").await?;
    ask(
        &client,
        "version 2 beside version 1",
        &format!("{module}/v2/analytics-core/x"),
        Some(&early),
        "analytics-core v2",
    )
    .await?;
    let outside =
        ask(&client, "a path outside, with a token that is none", "/app?q=1", Some("junk"), "legacy").await?;
    ensure!(outside.echo()?.names("x-rampart").is_empty(), "it was touched");
    Ok(())
}

async fn rollout(stack: &Stack) -> Result<()> {
    step(&format!(
        "The share of {ORGANISATIONS} organisations, through Envoy, each with an RS256 token of its own"
    ));
    let organisations: Vec<String> = (0..ORGANISATIONS).map(|n| format!("organisation-{n}")).collect();
    let tokens = stack.issuer.tokens(stack.issuer.rsa(), &organisations, &PERMISSIONS)?;
    let client = stack.client()?;
    stack.roll_out("0").await?;
    stack.served_by(&stack.token(EARLY)?, "legacy").await?;
    let mut before = vec![false; ORGANISATIONS];
    for percentage in [25, 50, 75, 100] {
        let sent = json!([{"key": FLAG, "percentage": percentage}]);
        let flags = Flags::new(&serde_json::from_value::<Vec<_>>(sent)?).map_err(|why| anyhow!("{why:?}"))?;
        let flag = flags.find(FLAG).context("it was just made")?;
        let on = |n: &usize| {
            let organisation = organisations.get(*n).map(String::as_str);
            flags.evaluate(flag, &Asker { organisation, ..Asker::default() }).value
        };
        let joins =
            (0..ORGANISATIONS).find(|n| on(n) && before.get(*n) == Some(&false)).context("nobody joins")?;
        stack.roll_out(&percentage.to_string()).await?;
        let in_force = stack.served_by(&tokens[joins], "analytics-core v1").await?;
        let asked = async |token: &String| Ok(client.get(ROUTE, Some(token)).await?.served_by());
        let served = fan_out(&tokens, 32, asked).await?;
        let now: Vec<bool> = served.iter().map(|name| name == "analytics-core v1").collect();
        let share = now.iter().filter(|on| **on).count() as f64 * 100.0 / ORGANISATIONS as f64;
        let lost = before.iter().zip(&now).filter(|(before, now)| **before && !**now).count();
        saw!(
            "{percentage} %: {share:.2} % are served by the module, {lost} lost it; in force after {in_force:.1?}"
        );
        ensure!(
            tally(&served).len() <= 2 && (share - f64::from(percentage)).abs() <= 1.5,
            "{:?}",
            tally(&served)
        );
        ensure!(lost == 0 && in_force < IN_FORCE, "{lost} lost, {in_force:?}");
        before = now;
    }
    let summary =
        stack.service.cli(&["flag", "kill", FLAG, "--reason", "end of the demo's rollout"]).await?.ok()?;
    let in_force = stack.served_by(&tokens[0], "legacy").await?;
    let asked = async |token: &String| Ok(client.get(ROUTE, Some(token)).await?.served_by());
    let served = tally(&fan_out(&tokens, 32, asked).await?);
    saw!("kill: {served:?}; in force after {in_force:.1?} ({})", summary.trim());
    ensure!(served == [("legacy".to_owned(), ORGANISATIONS)].into() && in_force < IN_FORCE, "{served:?}");
    stack.service.cli(&["flag", "restore", FLAG]).await?.ok()?;
    stack.served_by(&tokens[0], "analytics-core v1").await?;
    Ok(())
}

async fn edits(stack: &Stack) -> Result<()> {
    step(&format!(
        "{EDITS} edits: from the command's return to the first request decided by the new revision"
    ));
    let token = stack.token(LATE)?;
    let mut times = Vec::new();
    for edit in 0..EDITS {
        let (percentage, name) = if edit % 2 == 0 { ("50", "legacy") } else { ("100", "analytics-core v1") };
        stack.roll_out(percentage).await?;
        times.push(stack.served_by(&token, name).await?);
    }
    times.sort_unstable();
    let (median, longest) = (times[EDITS / 2], times[EDITS - 1]);
    saw!("median {median:.1?}, longest {longest:.1?}");
    ensure!(longest < IN_FORCE, "{times:?}");
    Ok(())
}

async fn refusals(stack: &Stack, dir: &Path) -> Result<()> {
    step("Changes that make no sense are refused, and traffic goes on under the old policy");
    let revision = async || {
        let status = stack.service.cli(&["status", "--output", "json"]).await?.json()?;
        anyhow::Ok(status["revision"].clone())
    };
    let before = revision().await?;
    let gate = |flag: &str| json!([{"flag": flag, "when_off": "legacy"}]);
    let module = |id: &str, path: &str, gates: serde_json::Value| {
        json!({"id": id, "namespace": "analytics-core", "endpoints": ["127.0.0.1:1"],
               "routes": [{"methods": ["GET"], "path": path, "gates": gates}]})
    };
    let manifest = |name: &str, module: serde_json::Value| {
        let file = dir.join(name);
        std::fs::write(&file, module.to_string())?;
        anyhow::Ok(file.display().to_string())
    };
    let usurper = manifest("usurper.json", module("usurper", "/dashboard/overview", json!([])))?;
    let hopeful = manifest("hopeful.json", module("hopeful", "/new", gate("no_such_flag")))?;
    for command in [
        &["flag", "set", FLAG, "--percentage", "130"][..],
        &["module", "register", &usurper],
        &["module", "register", &hopeful],
    ] {
        let refusal = stack.service.cli(command).await?.refused()?;
        saw!("rampart {}: {}", command[..2].join(" "), refusal.trim());
    }
    ensure!(revision().await? == before, "a refused change raised the revision");
    ask(&stack.client()?, LATE, ROUTE, Some(&stack.token(LATE)?), "analytics-core v1").await?;
    Ok(())
}

async fn forgery(stack: &Stack) -> Result<()> {
    step("A client sends x-rampart-* headers of its own");
    let bearer = format!("Bearer {}", stack.token(EARLY)?);
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-rampart-cluster", "legacy"),
        ("x-rampart-organisation", "victim"),
        ("x-rampart-roles", "admin"),
    ];
    let echo = stack.client()?.send(Method::GET, ROUTE, &headers, Vec::new()).await?.echo()?;
    saw!(
        "served by {}, for {:?}, with roles {:?}",
        echo.name,
        echo.header("x-rampart-organisation"),
        echo.header("x-rampart-roles")
    );
    ensure!(
        echo.name == "analytics-core v1" && echo.header("x-rampart-organisation") == Some(EARLY),
        "{echo:?}"
    );
    ensure!(echo.header("x-rampart-roles").is_none(), "{echo:?}");
    Ok(())
}

async fn outage(stack: &mut Stack) -> Result<()> {
    step("The flag service is killed, and comes back");
    stack.roll_out("50").await?;
    let (early, late) = (stack.token(EARLY)?, stack.token(LATE)?);
    stack.served_by(&late, "legacy").await?;
    let before = stack.service.cli(&["status", "--output", "json"]).await?.json()?["revision"].clone();
    stack.service.kill()?;
    let client = stack.client()?;
    let asked = async |n: usize| {
        Ok(client.get(ROUTE, Some(if n.is_multiple_of(2) { &early } else { &late })).await?.served_by())
    };
    let answers = tally(&fan_out(0..1_000, 16, asked).await?);
    saw!("while it is away: {answers:?}");
    ensure!(answers == [("analytics-core v1".into(), 500), ("legacy".into(), 500)].into(), "{answers:?}");
    stack.service.start().await?;
    let reconnected = async || {
        let status = stack.service.cli(&["status", "--output", "json"]).await?.json()?;
        ensure!(status["envoys"][0]["connected"] == true, "{status}");
        Ok(status["revision"].clone())
    };
    let after = eventually(SOON, "Envoy to reconnect", reconnected).await?;
    let answers = tally(&fan_out(0..1_000, 16, asked).await?);
    saw!("back: revision {after} as before ({before}), {answers:?}");
    ensure!(after == before && answers.values().all(|count| *count == 500), "{answers:?}");
    Ok(())
}

async fn broken_filters(dir: &Path) -> Result<()> {
    step("Filters that are broken or missing: nothing passes");
    for (what, module) in [
        ("traps on every request", Some(TRAPPING)),
        ("failed on its worker", Some(WORKER_REFUSING)),
        ("is missing", None),
    ] {
        let (upstream, listener) = (Upstream::start("upstream").await?, Port::claim()?);
        let module = module.map(|module| module.write_to(dir)).transpose()?;
        let config = StaticConfig {
            listener: listener.address(),
            upstream: upstream.address(),
            filter: module.as_deref().map_or(Filter::None, Filter::Module),
            attestation: Some("wasm.rampart.decision"),
        };
        let mut envoy = Envoy::start(dir, &config.render(), 2).await?;
        envoy.ready().await?;
        let client = Client::new(listener.address())?;
        let answers = tally(&fan_out(0..20, 4, async |_| Ok(client.get("/", None).await?.status)).await?);
        saw!("a filter that {what}: {answers:?}, {} reached the upstream", upstream.requests());
        ensure!(answers.keys().all(|status| status == "403" || status == "503"), "{answers:?}");
        ensure!(upstream.requests() == 0, "{} reached the upstream", upstream.requests());
    }
    Ok(())
}

async fn static_variant(dir: &Path) -> Result<()> {
    step("The same filter without the flag service: envoy/static.yaml");
    let (module, legacy) = (Upstream::start("module").await?, Upstream::start("legacy").await?);
    let listener = Port::claim()?;
    let config = StaticVariant {
        listener: listener.address(),
        analytics: module.address(),
        legacy: legacy.address(),
        module: &paths::filter()?,
        policy: &example_policy()?,
    };
    let mut envoy = Envoy::start(dir, &config.render()?, 2).await?;
    envoy.ready().await?;
    let client = Client::new(listener.address())?;
    ask(&client, "a path outside", "/", None, "legacy").await?;
    ask(&client, "a module's path without a token", "/api/v1/modules/v1/analytics/reports", None, "401")
        .await?;
    Ok(())
}
