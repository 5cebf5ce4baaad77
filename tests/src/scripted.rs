//! An upstream that misbehaves on request: the query says which endpoint answers late or with an
//! error, so that one URL shows what Envoy makes of an endpoint that is slow, failing or gone.

use anyhow::Result;
use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use std::{
    future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

use crate::upstream::Server;

/// Where health checks look.
const HEALTH: &str = "/health";

/// A running endpoint; stopped on drop.
#[derive(Debug)]
pub struct Scripted {
    server: Server,
    state: Arc<Endpoint>,
}

#[derive(Debug)]
struct Endpoint {
    name: &'static str,
    healthy: AtomicBool,
    requests: AtomicUsize,
    probes: AtomicUsize,
}

/// What the query asks of endpoints: `fail` and `slow` name the one that is meant, or `all`.
#[derive(Debug, Deserialize)]
struct Script {
    fail: Option<String>,
    #[serde(default = "unavailable")]
    status: u16,
    slow: Option<String>,
    #[serde(default)]
    milliseconds: u64,
}

fn unavailable() -> u16 {
    503
}

impl Scripted {
    /// Starts an endpoint on a free port. It answers with its name.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(name: &'static str) -> Result<Self> {
        let (requests, probes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let state = Arc::new(Endpoint { name, healthy: AtomicBool::new(true), requests, probes });
        let server = Server::start(Router::new().fallback(answer).with_state(Arc::clone(&state))).await?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// How many requests it has received, probes not counted.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many health checks it has received.
    #[must_use]
    pub fn probes(&self) -> usize {
        self.state.probes.load(Ordering::SeqCst)
    }

    /// What it answers health checks with from now on; requests are served all the same.
    pub fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::SeqCst);
    }
}

async fn answer(State(endpoint): State<Arc<Endpoint>>, Query(script): Query<Script>, uri: Uri) -> Response {
    if uri.path() == HEALTH {
        endpoint.probes.fetch_add(1, Ordering::SeqCst);
        let healthy = endpoint.healthy.load(Ordering::SeqCst);
        return if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }.into_response();
    }
    endpoint.requests.fetch_add(1, Ordering::SeqCst);
    let meant =
        |whom: &Option<String>| whom.as_deref().is_some_and(|whom| whom == endpoint.name || whom == "all");
    if meant(&script.slow) {
        let late = timeout(Duration::from_millis(script.milliseconds), future::pending::<()>()).await;
        debug_assert!(late.is_err(), "what is pending never ends");
    }
    if meant(&script.fail) {
        return StatusCode::from_u16(script.status).unwrap_or(StatusCode::BAD_REQUEST).into_response();
    }
    endpoint.name.into_response()
}
