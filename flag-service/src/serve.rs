//! `rampart serve`: store, write path, API, xDS and flagd's sync in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, Api};
use crate::flagd;
use crate::jwks::{Client, Keeper};
use crate::store::{Database, Store};
use crate::writer::{WriteError, Writer};
use crate::xds;
use crate::xds::fleet::Fleet;
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
    /// What Envoys are told of themselves.
    pub data_plane: DataPlane,
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
    let fleet = Arc::new(Fleet::default());
    let authorities = options.jwks_ca.as_deref().map_or_else(|| Ok(Vec::new()), authorities)?;
    let keeper = Arc::new(Keeper::new(Arc::clone(&writer), Client::new(&authorities)?));
    let api_listener = bind(options.http, "--http").await?;
    let xds_listener = bind(options.xds, "--xds").await?;
    let flagd_listener = match options.flagd {
        Some(address) => Some(bind(address, "--flagd").await?),
        None => None,
    };
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
    let router = api::router(Api {
        writer: Arc::clone(&writer),
        fleet: Arc::clone(&fleet),
        keeper: Arc::clone(&keeper),
        stopping: stopping.clone(),
    });
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    // Small answers leave at once instead of waiting for the acknowledgement of the last.
    let api_listener = api_listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("a connection delays what is small: {error}");
        }
    });
    let api = async {
        let served = axum::serve(api_listener, router).with_graceful_shutdown(stopped()).await;
        served.context("the API")
    };
    let xds = async {
        let served = xds::serve(xds_listener, writer.current(), options.data_plane, fleet, stopped()).await;
        served.context("the xDS server")
    };
    let flagd = async {
        let Some(listener) = flagd_listener else { return Ok(()) };
        let served = flagd::sync::serve(listener, writer.current(), stopped()).await;
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
    tokio::select! {
        served = async { tokio::try_join!(api, xds, flagd, signals) } => served.map(drop),
        () = writer.follow() => Ok(()),
        () = keeper.run() => Ok(()),
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
