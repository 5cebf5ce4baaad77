//! The sample policy, as an operator would set it up: with the `rampart` command and the manifests
//! that Rampart ships.

use crate::{
    issuer::AUDIENCE,
    paths,
    service::CliOutput,
    stack::{Options, Ports, Stack},
    wait::{SOON, eventually},
};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// The flag in front of `analytics-core v1`.
pub const FLAG: &str = "module_routing_enabled";

/// A route of `analytics-core v1`, behind [`FLAG`].
pub const ROUTE: &str = "/api/v1/modules/v1/analytics-core/dashboard/overview";

/// An organisation that [`FLAG`] takes early: its bucket is 13.110 %.
pub const EARLY: &str = "wayne";

/// An organisation that [`FLAG`] takes late: its bucket is 93.990 %.
pub const LATE: &str = "cyberdyne";

/// The permissions that [`ROUTE`] asks for.
pub const PERMISSIONS: [&str; 2] = ["read_analytics", "view_dashboard"];

/// How many fresh connections must agree before a change counts as in force: each of Envoy's
/// workers takes its share of connections, and each takes up a new policy for itself.
const WITNESSES: usize = 12;

impl Stack {
    /// A stack that serves the sample policy.
    ///
    /// # Errors
    ///
    /// When something does not start or a command is refused.
    pub async fn seeded(dir: &Path) -> Result<Self> {
        let mut stack = Self::start(dir, Options::default()).await?;
        stack.seed(dir).await?;
        Ok(stack)
    }

    /// The stack that the README's tour and the demo start from: the sample policy at 25 %, and an
    /// issuer for tokens made by hand.
    ///
    /// # Errors
    ///
    /// When something does not start or a command is refused.
    pub async fn for_people(dir: &Path, ports: Ports) -> Result<Self> {
        let mut stack = Self::start(dir, Options { ports, ..Options::default() }).await?;
        stack.seed(dir).await?;
        stack.add_development_issuer(dir).await?;
        stack.roll_out("25").await?;
        stack.served_by(&stack.token(EARLY)?, "analytics-core v1").await?;
        stack.workers_follow(1).await?;
        Ok(stack)
    }

    /// Waits until the flag service has heard of at least so many workers, and all of them decide by the
    /// newest revision.
    ///
    /// # Errors
    ///
    /// When they do not in time.
    pub async fn workers_follow(&self, least: usize) -> Result<()> {
        eventually(SOON, "workers that decide by the newest revision", async || {
            // Each takes its share of connections.
            for _ in 0..8 {
                self.client()?.get("/outside", None).await?;
            }
            let body: Value = self.service.client()?.get("/api/v1/envoys", None).await?.json()?;
            let told = body.pointer("/envoys/0/running/workers").and_then(Value::as_array);
            let told = told.context("nothing is reported")?;
            let follows =
                |worker: &Value| worker["revision"] == body["revision"] && worker["state"] == "current";
            ensure!(told.len() >= least && told.iter().all(follows), "{body:#}");
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Sets up provider, flags, modules and the legacy application, with [`FLAG`] at 0 %, and waits
    /// until Envoy serves.
    ///
    /// # Errors
    ///
    /// When a command is refused, or Envoy gets no listener in time.
    pub async fn seed(&mut self, dir: &Path) -> Result<()> {
        let legacy = self.upstreams.legacy.address().to_string();
        let (issuer, jwks) = (self.issuer.url(), self.issuer.jwks_url());
        let commands: [&[&str]; 4] = [
            &["settings", "set", "--legacy", &legacy],
            &[
                "provider",
                "set",
                "main",
                "--issuer",
                &issuer,
                "--audience",
                AUDIENCE,
                "--algorithm",
                "RS256",
                "--algorithm",
                "ES256",
                "--jwks-uri",
                &jwks,
            ],
            &["flag", "create", FLAG, "--percentage", "0"],
            &["flag", "create", "analytics_core_enabled", "--percentage", "100"],
        ];
        for command in commands {
            self.service.cli(command).await?.ok()?;
        }
        let upstreams = &self.upstreams;
        for (manifest, upstream) in [
            ("analytics-core-v1", &upstreams.analytics_v1),
            ("analytics-core-v2", &upstreams.analytics_v2),
            ("pricing-intelligence-v1", &upstreams.pricing),
        ] {
            let file = paths::repository().join(format!("envoy/samples/{manifest}.json"));
            let text = fs::read(&file).with_context(|| file.display().to_string())?;
            let mut module: Value = serde_json::from_slice(&text)?;
            module["endpoints"] = json!([upstream.address().to_string()]);
            self.register(dir, &module).await?.ok()?;
        }
        self.ready().await?;
        // What was registered last is the sign that everything is in force.
        let last = "/api/v1/modules/v1/pricing-intelligence/analyze/market";
        let asked = async || Ok(self.client()?.send(Method::POST, last, &[], Vec::new()).await?.status);
        self.on_every_worker("the sample policy", 401, asked).await?;
        Ok(())
    }

    /// Registers a module by a manifest, with its file in `dir`.
    ///
    /// # Errors
    ///
    /// When the command cannot be run.
    pub async fn register(&self, dir: &Path, manifest: &Value) -> Result<CliOutput> {
        let file = dir.join(format!("{}.json", manifest["id"].as_str().context("no id")?));
        fs::write(&file, manifest.to_string())?;
        self.service.cli(&["module", "register", &file.display().to_string()]).await
    }

    /// Adds the issuer `https://development.example`, whose key lies in `dir` for
    /// `rampart token issue`.
    ///
    /// # Errors
    ///
    /// When a command is refused.
    async fn add_development_issuer(&self, dir: &Path) -> Result<()> {
        let (out, jwks) = (dir.display().to_string(), dir.join("jwks.json").display().to_string());
        self.service.cli(&["token", "key", "--out", &out]).await?.ok()?;
        let issuer = "https://development.example";
        let set = ["provider", "set", "development", "--issuer", issuer, "--jwks", &jwks];
        self.service.cli(&set).await?.ok()?;
        Ok(())
    }

    /// Sets [`FLAG`]'s percentage.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn roll_out(&self, percentage: &str) -> Result<()> {
        self.service.cli(&["flag", "set", FLAG, "--percentage", percentage]).await?.ok()?;
        Ok(())
    }

    /// Waits until [`ROUTE`] is served by `name` for the bearer of `token`, on every worker; how
    /// long it took until it was for the first time.
    ///
    /// # Errors
    ///
    /// When it is not in time.
    pub async fn served_by(&self, token: &str, name: &str) -> Result<Duration> {
        self.served_within(SOON, token, name).await
    }

    /// The same, by a deadline of one's own.
    ///
    /// # Errors
    ///
    /// When it is not in time.
    pub async fn served_within(&self, deadline: Duration, token: &str, name: &str) -> Result<Duration> {
        let asked = async || Ok(self.client()?.get(ROUTE, Some(token)).await?.served_by());
        self.agreed(deadline, &format!("{name} to serve"), name.to_owned(), asked).await
    }

    /// Waits until every worker answers `wanted`; how long it took until one did.
    ///
    /// # Errors
    ///
    /// When one does not in time.
    pub async fn on_every_worker<T: PartialEq + Debug>(
        &self,
        what: &str,
        wanted: T,
        ask: impl AsyncFn() -> Result<T>,
    ) -> Result<Duration> {
        self.agreed(SOON, what, wanted, ask).await
    }

    async fn agreed<T: PartialEq + Debug>(
        &self,
        deadline: Duration,
        what: &str,
        wanted: T,
        ask: impl AsyncFn() -> Result<T>,
    ) -> Result<Duration> {
        let start = Instant::now();
        let mut first = None;
        let everywhere = async || {
            for _ in 0..WITNESSES {
                let answer = ask().await?;
                ensure!(answer == wanted, "{answer:?}");
                first.get_or_insert_with(|| start.elapsed());
            }
            Ok(())
        };
        eventually(deadline, what, everywhere).await?;
        first.context("nobody was asked")
    }

    /// A token with which [`ROUTE`] may be called.
    ///
    /// # Errors
    ///
    /// When it cannot be signed.
    pub fn token(&self, organisation: &str) -> Result<String> {
        self.issuer.token(organisation, &PERMISSIONS)
    }
}
