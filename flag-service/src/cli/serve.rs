//! `rampart serve`

use std::io::{IsTerminal as _, stderr};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::backup::DatabaseOption;
use super::client::Failure;
use crate::serve::{Options, serve};
use crate::tls::Files;
use crate::xds::translate::DataPlane;

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    database: DatabaseOption,
    /// Where the REST API listens. Other than on loopback, it asks for --tls-cert
    #[arg(long, env = "RAMPART_HTTP", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    http: SocketAddr,
    /// The API's certificate (PEM); read again when it changes
    #[arg(long, env = "RAMPART_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The API's private key (PEM)
    #[arg(long, env = "RAMPART_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Clients of the API must show a certificate of one of these authorities (PEM), besides their key
    #[arg(long, env = "RAMPART_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Where Envoys connect. Other than on loopback, it asks for --xds-tls-cert
    #[arg(long, env = "RAMPART_XDS", default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    xds: SocketAddr,
    /// The xDS server's certificate (PEM); read again when it changes
    #[arg(long, env = "RAMPART_XDS_TLS_CERT", value_name = "FILE", requires = "xds_tls_key")]
    xds_tls_cert: Option<PathBuf>,
    /// The xDS server's private key (PEM)
    #[arg(long, env = "RAMPART_XDS_TLS_KEY", value_name = "FILE", requires = "xds_tls_cert")]
    xds_tls_key: Option<PathBuf>,
    /// An Envoy may prove by a certificate of one of these authorities (PEM) which node it is
    #[arg(long, env = "RAMPART_XDS_CLIENT_CA", value_name = "FILE", requires = "xds_tls_cert")]
    xds_client_ca: Option<PathBuf>,
    /// Whether Envoys must prove which node they are, by certificate or API key [default: required, but for
    /// a plain connection on loopback]
    #[arg(long, env = "RAMPART_XDS_AUTH", value_enum)]
    xds_auth: Option<Proof>,
    /// Where applications connect whose OpenFeature SDK evaluates flags itself, by `flagd.sync.v1`; such as
    /// 127.0.0.1:8015, where they look by default. Encrypted where the API is. Not served if not given
    #[arg(long, env = "RAMPART_FLAGD", value_name = "ADDRESS")]
    flagd: Option<SocketAddr>,
    /// Whether these applications must show an API key or a token [default: required, but for a plain
    /// connection on loopback]
    #[arg(long, env = "RAMPART_FLAGD_AUTH", value_enum)]
    flagd_auth: Option<Proof>,
    /// Listen beyond loopback without encryption: something in front of the flag service sees to it
    #[arg(long, env = "RAMPART_INSECURE")]
    insecure: bool,
    /// Authorities (PEM) that may vouch for the servers that issuers' keys are fetched from, beside the
    /// machine's own
    #[arg(long, env = "RAMPART_JWKS_CA", value_name = "FILE")]
    jwks_ca: Option<PathBuf>,
    /// The folder that modules' manifests are read from (*.json, *.yaml), and that is followed
    #[arg(long, visible_alias = "modules-path", env = "RAMPART_MODULES", value_name = "FOLDER")]
    modules: Option<PathBuf>,
    /// Whether the folder is read at the start and followed, or only on request
    #[arg(long, env = "RAMPART_AUTO_DISCOVER", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    auto_discover: bool,
    /// Where Envoys are told to listen for requests
    #[arg(long, env = "RAMPART_LISTEN", default_value = "127.0.0.1:10000", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where Envoys are told to listen for modules that call one another. Nowhere if not given
    #[arg(long, env = "RAMPART_INTERNAL_LISTEN", value_name = "ADDRESS")]
    internal_listen: Option<SocketAddr>,
    /// The filter, as a path on Envoy's machine; a new build needs a new path
    #[arg(long, env = "RAMPART_FILTER", default_value = "/etc/rampart/rampart.wasm", value_name = "PATH")]
    filter: String,
    /// Identity of the filter's VM on Envoys. Another value starts fresh ones: the cure where an Envoy
    /// goes on refusing policies that are good
    #[arg(long, env = "RAMPART_VM_ID", default_value = "rampart", value_name = "NAME")]
    vm_id: String,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal())
            // A log that cannot be written is no reason to fail: nor to say so where it cannot be said.
            .log_internal_errors(false)
            .init();
        Ok(serve(self.options()?).await?)
    }

    fn options(self) -> anyhow::Result<Options> {
        let Self {
            database,
            http,
            xds,
            flagd,
            jwks_ca,
            modules,
            auto_discover,
            listen,
            internal_listen: internal,
            filter,
            vm_id,
            insecure,
            ..
        } = self;
        let files = |cert: Option<_>, key: Option<_>, client_ca, optional, protocols| {
            let (cert, key) = cert.zip(key)?;
            Some(Files { cert, key, client_ca, optional, protocols })
        };
        let tls = files(self.tls_cert, self.tls_key, self.client_ca, false, &["h2", "http/1.1"]);
        // Envoys without a certificate may come with a key.
        let xds_tls = files(self.xds_tls_cert, self.xds_tls_key, self.xds_client_ca, true, &["h2"]);
        let beyond = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
        for (address, option, tls, prefix, what) in [
            (Some(http), "--http", &tls, "--", "API keys would pass the network in clear text"),
            (Some(xds), "--xds", &xds_tls, "--xds-", "the policy would pass the network in clear text"),
            (flagd, "--flagd", &tls, "--", "flags and API keys would pass the network in clear text"),
        ] {
            let Some(address) = address else { continue };
            ensure!(
                insecure || tls.is_some() || !beyond(address),
                "{option} {address} is reached from other machines, and {what}: give {prefix}tls-cert and \
                 {prefix}tls-key, or --insecure where something in front encrypts",
            );
        }
        let must_prove = |proof: Option<Proof>, address: SocketAddr, encrypted: bool| match proof {
            None => beyond(address) || encrypted,
            Some(proof) => proof == Proof::Required,
        };
        let xds_auth = must_prove(self.xds_auth, xds, xds_tls.is_some());
        let flagd_auth = flagd.is_some_and(|flagd| must_prove(self.flagd_auth, flagd, tls.is_some()));
        if !xds_auth && beyond(xds) {
            tracing::warn!(
                "--xds-auth open: whoever reaches {xds} gets the policy, and is listed as any node"
            );
        }
        if let Some(flagd) = flagd.filter(|flagd| !flagd_auth && beyond(*flagd)) {
            tracing::warn!("--flagd-auth open: whoever reaches {flagd} gets all flags, and whom they name");
        }
        ensure!(internal != Some(listen), "--internal-listen {listen} is --listen: name another address");
        let data_plane = DataPlane { listen, internal, filter, vm_id };
        let database = database.database;
        Ok(Options {
            database,
            http,
            xds,
            flagd,
            jwks_ca,
            modules,
            auto_discover,
            data_plane,
            tls,
            xds_tls,
            xds_auth,
            flagd_auth,
        })
    }
}

/// What whoever connects must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Proof {
    /// Who it is
    Required,
    /// Nothing
    Open,
}
