//! Sample modules: real HTTP servers that answer with what they received, as JSON.

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{self, Request},
    http::StatusCode,
    serve::Listener,
};
use ring::digest;
use serde::{Deserialize, Serialize};
use std::{
    fmt::{Debug, Write as _},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring::default_provider as ring_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};

const BODY_LIMIT: usize = 64 << 20;

/// What an upstream received.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Echo {
    /// The upstream's own name, e.g. `analytics-core v1`.
    pub name: String,
    /// The request's method.
    pub method: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
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
    state: Seen,
}

/// What an upstream was asked, and what it is to fail.
#[derive(Debug, Clone)]
pub(crate) struct Seen(Arc<State>);

#[derive(Debug)]
struct State {
    name: String,
    requests: AtomicUsize,
    failures: AtomicUsize,
}

impl Seen {
    pub(crate) fn new(name: &str) -> Self {
        let (requests, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(State { name: name.to_owned(), requests, failures }))
    }

    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(echo).with_state(self.clone())
    }

    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }
}

impl Upstream {
    /// Starts an upstream on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(name: &str) -> Result<Self> {
        let state = Seen::new(name);
        let server = Server::start(state.router()).await?;
        Ok(Self { server, state })
    }

    /// The same, encrypted: with this certificate and key (PEM files), by HTTP/2 or HTTP/1.1 as the client
    /// prefers. Where authorities are named (PEM file), a client must show a certificate of one of them.
    ///
    /// # Errors
    ///
    /// When the files do not fit, or no port can be bound.
    pub async fn start_encrypted(
        name: &str,
        cert: &Path,
        key: &Path,
        clients: Option<&Path>,
    ) -> Result<Self> {
        // An error means that it is so already.
        let _ = ring_provider().install_default();
        let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
        let verifier = clients.map(|authorities| {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_file_iter(authorities)? {
                roots.add(authority?)?;
            }
            anyhow::Ok(WebPkiClientVerifier::builder(Arc::new(roots)).build()?)
        });
        let config = match verifier.transpose()? {
            Some(verifier) => ServerConfig::builder().with_client_cert_verifier(verifier),
            None => ServerConfig::builder().with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let state = Seen::new(name);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = Server::start_on(state.router(), |listener| Encrypted { listener, acceptor }).await?;
        Ok(Self { server, state })
    }

    /// The name it answers with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.0.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// How many requests it has received since its start.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.requests()
    }

    /// Answers as many requests as this with 503, from the next one on.
    pub fn fail(&self, requests: usize) {
        self.state.0.failures.store(requests, Ordering::SeqCst);
    }
}

async fn echo(
    extract::State(Seen(seen)): extract::State<Seen>,
    request: Request<Body>,
) -> Result<Json<Echo>, StatusCode> {
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
        version: format!("{:?}", head.version),
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
        Self::start_on(app, |listener| listener).await
    }

    async fn start_on<L: Listener<Addr: Debug>>(
        app: Router,
        on: impl FnOnce(TcpListener) -> L,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a free port")?;
        let address = listener.local_addr()?;
        let listener = on(listener);
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

/// Connections that have shaken hands; those that do not are dropped.
struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
