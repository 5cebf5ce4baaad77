//! `rampart serve`: store, write path, API, xDS and flagd's sync in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::Context as _;
use axum::serve::{Listener as _, ListenerExt as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access::{self, Access, LocalKey};
use crate::api::{self, Api};
use crate::flagd::{self, Door};
use crate::initial;
use crate::jwks::{Client, Keeper};
use crate::registry::{self, Registry};
use crate::store::{Database, Store};
use crate::tls::{self, Certificates, Listener};
use crate::writer::{WriteError, Writer};
use crate::xds;
use crate::xds::fleet::Fleet;
use crate::xds::gate::Gate;
use crate::xds::translate::DataPlane;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the store is.
    pub database: Database,
    /// Where the REST API listens.
    pub http: SocketAddr,
    /// Where Envoys connect.
    pub xds: SocketAddr,
    /// Where applications connect that evaluate flags themselves; nowhere, if not said.
    pub flagd: Option<SocketAddr>,
    /// Authorities that issuers' certificates may be from, beside the machine's: a file of certificates (PEM).
    pub jwks_ca: Option<PathBuf>,
    /// Where modules' manifests are read from; nowhere, if not said.
    pub modules: Option<PathBuf>,
    /// Whether that folder is read unasked.
    pub auto_discover: bool,
    /// What Envoys are told of themselves.
    pub data_plane: DataPlane,
    /// The certificates of the API and of flagd's sync, where they are encrypted.
    pub tls: Option<tls::Files>,
    /// The certificates of the xDS server, where it is encrypted.
    pub xds_tls: Option<tls::Files>,
    /// Whether Envoys must prove who they are.
    pub xds_auth: bool,
    /// Whether applications that evaluate flags themselves must show a credential.
    pub flagd_auth: bool,
}

/// Serves until SIGINT or SIGTERM, then ends streams and connections in good order.
///
/// # Errors
///
/// When the store cannot be read or a port is taken.
pub async fn serve(options: Options) -> anyhow::Result<()> {
    let database = options.database.to_string();
    let place = || format!("--database {database}");
    let store = Store::open(&options.database).await.with_context(place)?;
    let writer = Writer::start(store).await.map_err(explain).with_context(place)?;
    let writer = Arc::new(writer);
    // What the environment gets wrong is no reason not to serve what is there.
    if let Err(error) = initial::seed(&writer, std::env::vars_os()).await {
        tracing::error!("the flags that the environment names are not made: {error}");
    }
    let fleet = Arc::new(Fleet::default());
    let authorities = options.jwks_ca.as_deref().map_or_else(|| Ok(Vec::new()), authorities)?;
    let keeper = Arc::new(Keeper::new(Arc::clone(&writer), Client::new(&authorities)?));
    let registry = Arc::new(Registry::new(options.modules));
    let certificates = |files: Option<tls::Files>| files.map(Certificates::read).transpose();
    let (api_tls, xds_tls) = (certificates(options.tls)?, certificates(options.xds_tls)?);
    let api_listener = Listener::new(bind(options.http, "--http").await?, api_tls.as_ref())?;
    let xds_listener = Listener::new(bind(options.xds, "--xds").await?, xds_tls.as_ref())?;
    let flagd_listener = match options.flagd {
        Some(address) => Some(Listener::new(bind(address, "--flagd").await?, api_tls.as_ref())?),
        None => None,
    };
    let local = local_key(api_listener.local_addr()?.port());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    tracing::info!(
        http = %api_listener.local_addr()?, xds = %xds_listener.local_addr()?, database, revision = writer.head().revision,
        "serving"
    );
    let (stop, stopping) = watch::channel(false);
    let stopped = || {
        let mut stopping = stopping.clone();
        async move {
            // An error means that nobody can say stop any more, which is a way of saying it.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    };
    let access = Arc::new(Access::new(local.as_ref(), Arc::clone(&keeper)));
    let router = api::router(Api {
        writer: Arc::clone(&writer),
        fleet: Arc::clone(&fleet),
        keeper: Arc::clone(&keeper),
        registry: Arc::clone(&registry),
        stopping: stopping.clone(),
        access: Arc::clone(&access),
        encrypted: api_tls.is_some(),
    });
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let api = async {
        // Tapped, since axum tells a peer's address of its own listeners only.
        let served = axum::serve(api_listener.tap_io(|_| {}), router).with_graceful_shutdown(stopped()).await;
        served.context("the API")
    };
    let xds = async {
        let fleet = Arc::clone(&fleet);
        let gate = if options.xds_auth { Gate::guarded(writer.current()) } else { Gate::open() };
        let served = xds::serve(xds_listener, writer.current(), options.data_plane, fleet, gate, stopped());
        let served = served.await;
        served.context("the xDS server")
    };
    let flagd = async {
        let Some(listener) = flagd_listener else { return Ok(()) };
        let door = if options.flagd_auth { Door::guarded(Arc::clone(&writer), access) } else { Door::open() };
        let served = flagd::sync::serve(listener, writer.current(), door, stopped()).await;
        served.context("the flagd sync server")
    };
    let signals = async {
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
        }
        tracing::info!("stopping");
        stop.send_replace(true);
        Ok(())
    };
    let served = tokio::select! {
        served = async { tokio::try_join!(api, xds, flagd, signals) } => served.map(drop),
        () = writer.follow() => Ok(()),
        () = keeper.run() => Ok(()),
        () = fleet.running().unknown_keys(|provider| keeper.unknown_key(provider)) => Ok(()),
        () = follow(api_tls) => Ok(()),
        () = follow(xds_tls) => Ok(()),
        () = registry::watch(&registry, &writer), if options.auto_discover => Ok(()),
        () = fleet.running().write_down_always(writer.store()) => Ok(()),
        () = registry::follow(&registry, &writer, &fleet) => Ok(()),
    };
    if let Err(error) = fleet.running().write_down(writer.store()).await {
        tracing::warn!("how organisations used modules last is not written down: {error}");
    }
    served
}

/// Takes up changed certificates, where there are any.
async fn follow(certificates: Option<Certificates>) {
    match certificates {
        Some(certificates) => certificates.follow().await,
        None => std::future::pending().await,
    }
}

/// Without it, nothing works that has no other key; but those that have one go on.
fn local_key(port: u16) -> Option<LocalKey> {
    let Some(file) = access::local::file(port) else {
        tracing::warn!("no local key is made: neither XDG_STATE_HOME nor HOME names a folder for it");
        return None;
    };
    match LocalKey::create(file.clone()) {
        Ok(key) => {
            tracing::info!(file = %file.display(), "the local key is made");
            Some(key)
        }
        Err(error) => {
            tracing::warn!("no local key is made: {error:#}");
            None
        }
    }
}

fn authorities(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let place = || format!("--jwks-ca {}", file.display());
    let found =
        reqwest::Certificate::from_pem_bundle(&fs::read(file).with_context(place)?).with_context(place)?;
    anyhow::ensure!(!found.is_empty(), "{} holds no certificate (PEM)", place());
    Ok(found)
}

async fn bind(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let todo = match error.kind() {
            io::ErrorKind::AddrInUse => ": end the process that listens there, or name another address",
            io::ErrorKind::AddrNotAvailable => ": name an address of this machine",
            io::ErrorKind::PermissionDenied => ": name a port above 1023",
            _ => "",
        };
        anyhow::anyhow!("{option} {address} cannot be used: {error}{todo}")
    })
}

/// The store's own policy is refused: every reason is worth reading.
fn explain(error: WriteError) -> anyhow::Error {
    match error {
        WriteError::Senseless(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the stored policy makes no sense to this version:\n  {}", problems.join("\n  "))
        }
        other => other.into(),
    }
}
