//! Everything at once: issuer, sample modules, flag service and an Envoy that follows it.

use crate::{
    client::Client,
    envoy::Envoy,
    issuer::Issuer,
    paths,
    ports::substitute,
    service::{Service, ServicePorts},
    upstream::Upstream,
};
use anyhow::{Context as _, Result};
use std::{fs, path::Path};

/// Envoy's admin port in the bootstrap that Rampart ships.
const ADMIN: u16 = 9901;

/// What is started first; the other must cope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Envoy finds the service when it looks.
    Service,
    /// Envoy looks for a service that is not there yet.
    Envoy,
}

/// Which ports a stack uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Free ones, so that stacks run side by side.
    Free,
    /// Those that documents name, for people to try what they read.
    Documented,
}

/// How a stack is to be started.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What comes first.
    pub first: First,
    /// Which ports service and Envoy use.
    pub ports: Ports,
    /// Envoy's worker threads. Two by default, since one worker hides what workers disagree on.
    pub concurrency: u32,
    /// The module that the service tells Envoy of. The built filter by default.
    pub filter: Option<&'static str>,
    /// Whether the service reads manifests from the folder `modules`.
    pub manifests: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { first: First::Service, ports: Ports::Free, concurrency: 2, filter: None, manifests: false }
    }
}

/// A running stack, with a service that knows nothing yet: what it serves is the operator's to say.
///
/// Fields are dropped, and so stopped, from Envoy towards what it depends on.
#[derive(Debug)]
pub struct Stack {
    /// The Envoy under test.
    pub envoy: Envoy,
    /// The flag service.
    pub service: Service,
    /// Who mints the tokens.
    pub issuer: Issuer,
    /// The sample modules.
    pub upstreams: Upstreams,
}

/// The sample modules, each a real HTTP server.
#[derive(Debug)]
pub struct Upstreams {
    /// `analytics-core v1`
    pub analytics_v1: Upstream,
    /// `analytics-core v2`
    pub analytics_v2: Upstream,
    /// `pricing-intelligence v1`
    pub pricing: Upstream,
    /// `legacy`, the application that modules replace.
    pub legacy: Upstream,
}

impl Upstreams {
    /// Starts all of them.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        Ok(Self {
            analytics_v1: Upstream::start("analytics-core v1").await?,
            analytics_v2: Upstream::start("analytics-core v2").await?,
            pricing: Upstream::start("pricing-intelligence v1").await?,
            legacy: Upstream::start("legacy").await?,
        })
    }
}

impl Stack {
    /// Starts a stack with its files in `dir`; returns when service and Envoy both run. Envoy has
    /// no listener until the service has a policy to give it.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(dir: &Path, options: Options) -> Result<Self> {
        let issuer = Issuer::start().await?;
        let upstreams = Upstreams::start().await?;
        let (ports, admin) = match options.ports {
            Ports::Free => (ServicePorts::free()?, 0),
            Ports::Documented => (ServicePorts::documented()?, ADMIN),
        };
        let mut service = Service::new(dir, ports);
        if options.ports == Ports::Documented {
            service.share_local_key();
        }
        if let Some(filter) = options.filter {
            service.set("--filter", filter);
        }
        if options.manifests {
            service.set("--modules", &dir.join("modules").display().to_string());
        }
        let config = bootstrap(&service, admin)?;
        if options.first == First::Service {
            service.start().await?;
        }
        let envoy = Envoy::start(dir, &config, options.concurrency).await?;
        if options.first == First::Envoy {
            service.start().await?;
        }
        Ok(Self { envoy, service, issuer, upstreams })
    }

    /// Waits until Envoy has its configuration and serves traffic.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub async fn ready(&mut self) -> Result<()> {
        self.envoy.ready().await?;
        self.envoy.accepts(self.service.listener_address()).await
    }

    /// A client of the data plane.
    ///
    /// # Errors
    ///
    /// When the HTTP library cannot be set up.
    pub fn client(&self) -> Result<Client> {
        Client::new(self.service.listener_address())
    }
}

/// The bootstrap that Rampart ships, pointed at this service.
fn bootstrap(service: &Service, admin: u16) -> Result<String> {
    let file = paths::repository().join("envoy/bootstrap.yaml");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    substitute(&text, &[(ADMIN, admin), (8081, service.xds_address().port())]).context("envoy/bootstrap.yaml")
}
