//! A gated path, spelt in every way that clients have tried to get past a gate with. Envoy and the
//! engine read each in one way, or refuse it: `docs/policy.md` says which.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    envoy::Envoy,
    issuer::{AUDIENCE, Issuer},
    paths,
    ports::Port,
    raw::ask_all,
    shipped::{StaticVariant, example_policy},
    upstream::{Echo, Upstream},
    wait::SOON,
    workdir::system_test,
};
use serde_json::json;
use std::net::SocketAddr;

// Targets of a request line; `~` stands for `/api/v1/modules`.

/// The gated path: Envoy puts it into its one form before the filter looks, and so the module sees it.
const SECRET: &[&str] = &[
    "~/v1/m/secret",
    "~/v1/m/secret?x=/../open",
    "http://a~/v1/m/secret",
    // A slash at the end.
    "~/v1/m/secret/",
    "~/v1/m/secre%74/?",
    // Escapes of what needs none.
    "~/v1/m/%73ecret",
    "~/v1/%6d/secret",
    "~/%761/m/secret",
    "/api/v1/%6dodules/v1/m/secret",
    // Doubled slashes.
    "/~/v1/m/secret",
    "~//v1/m/secret",
    "~/v1//m///secret",
    "~/v1/m/secret//",
    // Dot segments.
    "~/v1/./m/./secret",
    "~/v1/m/secret/.",
    "~/v1/m/secret/%2e",
    "~/v1/m/secret/../secret",
    "~/v1/m/open/../secret",
    "~/v1/m/open/x/../../secret",
    "~/v1/m/open/%2e%2e/secret",
    "~/v1/m/open/.%2E/secret",
    "~/v1/m/open/..;/secret",
    "~/v1/m/open/..;x/secret",
    "/outside/..~/v1/m/secret",
    "/..~/v1/m/secret",
    // Backslashes.
    r"~/v1/m\secret",
    r"~\v1\m\secret",
    r"~/v1/m/open/..\secret",
];

/// What can be read in more than one way: 400.
const REFUSED: &[&str] = &[
    // Escaped slashes and backslashes.
    "~/v1/m%2fsecret",
    "~%2fv1/m/secret",
    "~/v1/m%5Csecret",
    "~/v1/m/open/..%2fsecret",
    "~/v1/m/open/..%5csecret",
    "~/v1/m/open/%2e%2e%2fsecret",
    // Parameters.
    "~/v1/m/secret;x=1",
    "~/v1/m/secret;/",
    "~/v1/m/;/secret",
    "~/v1;x/m/secret",
    "~/v1/m/secret%3bx",
    "~/v1/m/open/%2e%2e%3b/secret",
    // Control characters.
    "~/v1/m/secret%00",
    "~/v1/m/secret%00.html",
    "~/v1/m/%00/secret",
    "~/v1/m/secret%09",
    "~/v1/m/secret%0a",
    "~/v1/m/secret%0d%0a",
    "~/v1/m/secret%7f",
    // Escaped twice.
    "~/v1/m/%2573ecret",
    "~/v1/m/open/%252e%252e/secret",
    "~/v1/m/open%252f..%252fsecret",
    // No UTF-8.
    "~/v1/m/open/%c0%ae%c0%ae/secret",
    "~/v1/m/open/..%c0%afsecret",
    "~/v1/m/open/%e0%80%ae%e0%80%ae/secret",
    "~/v1/m/secr%e9t",
    "~/v1/m/sécret",
    // No escapes.
    "~/v1/m/secret%",
    "~/v1/m/secret%7",
    "~/v1/m/secret%zz",
    "~/v1/m/%u0073ecret",
    // No path.
    "~/v1/m/secret#x",
    "m/secret",
    "*",
    // What the legacy application could take for a module's.
    "/API/V1/MODULES/v1/m/secret",
    "/api/V1/modules/v1/m/secret",
    "~;x/v1/m/secret",
    // Undoing the escape, Envoy makes a dot segment of it and lets it stand.
    "/out/%2e%2e;~/v1/m/secret",
    "/out/%2E%2e;x~/v1/m/secret",
    "/out/..%3b~/v1/m/secret",
    "/%2e;~/v1/m/secret",
    "/api/%2e%3b/v1/modules/v1/m/secret",
    "/api;x/v1/modules/v1/m/secret",
    // Nor is it looked at how often something is escaped.
    "/%2561pi/v1/modules/v1/m/secret",
    "/api/v1/modules%25252fv1/m/secret",
    "/out/%252e%252e~/v1/m/secret",
];

/// Another path, which this module does not have: 404.
const UNKNOWN: &[&str] = &[
    "~/v1/m/SECRET",
    "~/v1/m/Secret",
    "~/v1/M/secret",
    "~/V1/m/secret",
    "~/v1/m/secret.",
    "~/v1/m/secret...",
    "~/v1/m/secret%2e",
    "~/v1/m/secret.json",
    "~/v1/m/secret%20",
    "~/v1/m/secret%3f",
    "~/v1/m/secret%23",
    "~/v1/m/secret|x",
    r#"~/v1/m/"secret""#,
    "~/v1/m/secret`",
    "~/v1/m/secret^",
    "~/v1/m/<secret>",
    "~/v1/m/secret/x",
    "~/v1/m/%EF%BD%93ecret",
];

async fn ask(server: SocketAddr, target: &str, token: Option<&str>) -> Result<(u16, Option<Echo>)> {
    let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n{bearer}\r\n");
    let answers = ask_all(server, &[request.into_bytes()], SOON).await?;
    let answer = answers.first().context("no answer")?;
    Ok((answer.status, serde_json::from_slice(&answer.body).ok()))
}

#[test]
fn no_spelling_of_a_gated_path_gets_past_its_gate() {
    system_test(async |dir| {
        let issuer = Issuer::start().await?;
        let (module, legacy) = (Upstream::start("module").await?, Upstream::start("legacy").await?);
        let listener = Port::claim()?;
        let mut policy = example_policy()?;
        let cluster = policy["modules"][0]["cluster"].clone();
        policy["providers"][0] =
            json!({"name": "main", "issuer": issuer.url(), "audiences": [AUDIENCE], "jwks": issuer.jwks()});
        policy["flags"] = json!([{"key": "open", "organisations": {"on": ["insider"]}}]);
        // The routes beside the gated one ask for nothing: who is taken to be there gets through.
        policy["modules"] = json!([{
            "id": "m", "version": "v1", "namespace": "m", "cluster": cluster, "auth": {"level": "none"},
            "routes": [
                {"path": "/secret", "auth": {"level": "basic"},
                 "gates": [{"flag": "open", "when_off": "forbidden"}]},
                {"path": "/open"},
                {"path": "/open/{*rest}"}
            ]
        }]);
        let config = StaticVariant {
            listener: listener.address(),
            analytics: module.address(),
            legacy: legacy.address(),
            module: &paths::filter()?,
            policy: &policy,
        };
        let mut envoy = Envoy::start(dir, &config.render()?, 1).await?;
        envoy.ready().await?;
        envoy.accepts(listener.address()).await?;
        let (insider, outsider) = (issuer.token("insider", &[])?, issuer.token("outsider", &[])?);

        let spellings = [(SECRET, 200), (REFUSED, 400), (UNKNOWN, 404)];
        let spellings =
            spellings.iter().flat_map(|(list, status)| list.iter().map(move |one| (one, *status)));
        let spellings: Vec<_> =
            spellings.map(|(one, status)| (one.replace('~', "/api/v1/modules"), status)).collect();

        for (target, status) in &spellings {
            for (token, gated) in [(None, 401), (Some(&*outsider), 403)] {
                let (seen, _) = ask(listener.address(), target, token).await?;
                let wanted = if *status == 200 { gated } else { *status };
                ensure!(seen == wanted, "{target}: {seen}, not {wanted}");
            }
        }
        let (module_saw, legacy_saw) = (module.requests(), legacy.requests());
        ensure!(
            (module_saw, legacy_saw) == (0, 0),
            "{module_saw} and {legacy_saw} requests got past the gate"
        );

        // For whom the gate is open, the module sees the path that was judged.
        for (target, status) in &spellings {
            let (seen, echo) = ask(listener.address(), target, Some(&insider)).await?;
            ensure!(seen == *status, "{target}: {seen}, not {status}");
            if seen == 200 {
                let echo = echo.context("no echo")?;
                let path = echo.path.strip_suffix('/').unwrap_or(&echo.path);
                ensure!(echo.name == "module" && path == "/api/v1/modules/v1/m/secret", "{target}: {echo:?}");
            }
        }
        Ok(())
    });
}
