//! Listeners, encrypted or not: certificates come from files and are taken up anew when these change,
//! for connections made from then on. It knows the peer's certificate, and not what follows from it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, ensure};
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time; who comes beyond that waits to be accepted.
const HANDSHAKES: usize = 256;
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long nothing is accepted where the system lacks what a connection takes, such as file handles.
const SHORTAGE: Duration = Duration::from_millis(200);

/// Where certificates are (PEM), and what is asked of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The listener's certificate, and those that lead to its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who may vouch for clients; none where they are not asked.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is taken all the same.
    pub optional: bool,
    /// What is spoken, the preferred first.
    pub protocols: &'static [&'static str],
}

/// Makes ring the process's cryptography, as it is the tests'; libraries ask for the process's.
pub fn use_ring() {
    // An error means that it is so already.
    let _ = ring::default_provider().install_default();
}

/// The certificates of a listener, as they are in its files.
#[derive(Debug)]
pub struct Certificates {
    files: Files,
    /// What was read last and holds.
    read: Vec<Vec<u8>>,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or they do not fit each other.
    pub fn read(files: Files) -> anyhow::Result<Self> {
        let read = contents(&files)?;
        let config = watch::channel(Arc::new(config(&files, &read)?)).0;
        Ok(Self { files, read, config })
    }

    /// Takes up what changes, for as long as it is polled. What does not fit is told once, and the
    /// certificates so far stay.
    pub async fn follow(mut self) {
        let mut every = interval(LOOK);
        let mut seen = self.read.clone();
        loop {
            every.tick().await;
            // A file that is not there for a moment is being replaced.
            let Ok(found) = contents(&self.files) else { continue };
            // Certificate and key are two files: they count once both have stayed as they are.
            let settled = std::mem::replace(&mut seen, found.clone()) == found;
            if !settled || found == self.read {
                continue;
            }
            let cert = self.files.cert.display();
            match config(&self.files, &found) {
                Ok(config) => {
                    self.config.send_replace(Arc::new(config));
                    tracing::info!(%cert, "new certificates are taken up");
                }
                Err(error) => {
                    tracing::error!(%cert, "new certificates are not taken up, and those so far stay: {error:#}");
                }
            }
            self.read = found;
        }
    }
}

fn contents(files: &Files) -> anyhow::Result<Vec<Vec<u8>>> {
    let read = |file: &PathBuf| fs::read(file).with_context(|| file.display().to_string());
    [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()].into_iter().flatten().map(read).collect()
}

fn config(files: &Files, read: &[Vec<u8>]) -> anyhow::Result<ServerConfig> {
    let text = |index: usize| read.get(index).map(Vec::as_slice).unwrap_or_default();
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(text(2), file)? {
                roots.add(certificate).with_context(|| file.display().to_string())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if files.optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(text(1))
        .with_context(|| format!("{} holds no private key (PEM)", files.key.display()))?;
    let mut config = builder
        .with_single_cert(certificates(text(0), &files.cert)?, key)
        .with_context(|| format!("{} and {}", files.cert.display(), files.key.display()))?;
    config.alpn_protocols = files.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

fn certificates(text: &[u8], file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.with_context(|| format!("{} is no PEM", file.display()))?;
    ensure!(!found.is_empty(), "{} holds no certificate (PEM)", file.display());
    Ok(found)
}

/// Accepts connections, and shakes hands first where they are encrypted: beside each other, so that a
/// slow client holds up nobody.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    accepted: mpsc::Receiver<Connection>,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// Takes over a socket; encrypted where there are certificates.
    ///
    /// # Errors
    ///
    /// When the socket has no address.
    pub fn new(socket: TcpListener, certificates: Option<&Certificates>) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let configs = certificates.map(|certificates| certificates.config.subscribe());
        let (sender, accepted) = mpsc::channel(1);
        Ok(Self { address, accepted, accepting: tokio::spawn(accept(socket, configs, sender)) })
    }

    /// The next connection.
    pub async fn next(&mut self) -> Connection {
        match self.accepted.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    /// All connections, as a gRPC server takes them.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        futures::stream::unfold(self, async |mut listener| Some((Ok(listener.next().await), listener)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    socket: TcpListener,
    configs: Option<watch::Receiver<Arc<ServerConfig>>>,
    accepted: mpsc::Sender<Connection>,
) {
    let free = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let (stream, address) = match socket.accept().await {
            Ok(taken) => taken,
            // A client that left at once is no shortage, and waiting as if it were one harms nobody.
            Err(_) => {
                sleep(SHORTAGE).await;
                continue;
            }
        };
        // Small messages are answers that somebody waits for. A socket that refuses is about to end.
        let _ = stream.set_nodelay(true);
        let config = configs.as_ref().map(|configs| Arc::clone(&configs.borrow()));
        let accepted = accepted.clone();
        tokio::spawn(async move {
            if let Some(connection) = shake_hands(stream, address, config).await {
                // Nobody may be listening any more.
                let _ = accepted.send(connection).await;
            }
            drop(permit);
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    config: Option<Arc<ServerConfig>>,
) -> Option<Connection> {
    let Some(config) = config else {
        return Some(Connection { io: Box::new(stream), peer: Peer { address, names: Arc::default() } });
    };
    match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let names = certificate.map(names).unwrap_or_default();
            Some(Connection { io: Box::new(stream), peer: Peer { address, names } })
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, "no TLS connection: {error}");
            None
        }
        Err(_) => None,
    }
}

/// The DNS names and URIs of a certificate that was verified (RFC 5280 §4.2.1.6).
fn names(certificate: &CertificateDer<'_>) -> Arc<[String]> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Arc::default() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The names of its certificate; empty where it showed none.
    pub names: Arc<[String]>,
}

/// A connection, encrypted or not.
pub struct Connection {
    io: Box<dyn Io>,
    /// Who is at the other end.
    pub peer: Peer,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = self.next().await;
        let address = connection.peer.address;
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
