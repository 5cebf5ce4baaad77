//! Sample modules: real HTTP servers that answer with what they received, as JSON.

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
};
use ring::digest;
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};

const BODY_LIMIT: usize = 64 << 20;

/// What an upstream received.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Echo {
    /// The upstream's own name, e.g. `analytics-core v1`.
    pub name: String,
    /// The request's method.
    pub method: String,
    /// The path as it came, still encoded.
    pub path: String,
    /// The query as it came, without its question mark.
    pub query: Option<String>,
    /// Name and value of every header, one character for each byte of a value, so that none is lost.
    pub headers: Vec<(String, String)>,
    /// The body's length in bytes.
    pub body_length: usize,
    /// The body's SHA-256 in hexadecimal.
    pub body_sha256: String,
}

impl Echo {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The names of all headers that start with `prefix`.
    #[must_use]
    pub fn names(&self, prefix: &str) -> Vec<&str> {
        self.headers.iter().map(|(key, _)| key.as_str()).filter(|key| key.starts_with(prefix)).collect()
    }
}

/// A running upstream; stopped on drop.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    state: Arc<Seen>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    requests: AtomicUsize,
    failures: AtomicUsize,
}

impl Upstream {
    /// Starts an upstream on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(name: &str) -> Result<Self> {
        let (requests, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let state = Arc::new(Seen { name: name.to_owned(), requests, failures });
        let server = Server::start(Router::new().fallback(echo).with_state(Arc::clone(&state))).await?;
        Ok(Self { server, state })
    }

    /// The name it answers with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// How many requests it has received since its start.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Answers as many requests as this with 503, from the next one on.
    pub fn fail(&self, requests: usize) {
        self.state.failures.store(requests, Ordering::SeqCst);
    }
}

async fn echo(State(seen): State<Arc<Seen>>, request: Request<Body>) -> Result<Json<Echo>, StatusCode> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let one_less = |left: usize| left.checked_sub(1);
    if seen.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.map_err(|_| StatusCode::BAD_REQUEST)?;
    let latin1 = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect();
    Ok(Json(Echo {
        name: seen.name.clone(),
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head
            .headers
            .iter()
            .map(|(key, value)| (key.to_string(), latin1(value.as_bytes())))
            .collect(),
        body_length: body.len(),
        body_sha256: sha256(&body),
    }))
}

/// SHA-256 in hexadecimal, to compare a body that was sent with the one an upstream received.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Bytes as text.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// An HTTP server of the harness's own on a free port; stops accepting on drop.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(app: Router) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a free port")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("the server at {address} ended: {error}");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
