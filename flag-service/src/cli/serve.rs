//! `rampart serve`

use std::io::{IsTerminal as _, stderr};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::backup::DatabaseOption;
use super::client::Failure;
use crate::serve::{Options, serve};
use crate::xds::translate::DataPlane;

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    database: DatabaseOption,
    /// Where the REST API listens. It has no access control yet: keep it on loopback
    #[arg(long, env = "RAMPART_HTTP", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    http: SocketAddr,
    /// Where Envoys connect
    #[arg(long, env = "RAMPART_XDS", default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    xds: SocketAddr,
    /// Where applications connect whose OpenFeature SDK evaluates flags itself, by `flagd.sync.v1`; such as
    /// 127.0.0.1:8015, where they look by default. Not served if not given
    #[arg(long, env = "RAMPART_FLAGD", value_name = "ADDRESS")]
    flagd: Option<SocketAddr>,
    /// Authorities (PEM) that may vouch for the servers that issuers' keys are fetched from, beside the
    /// machine's own
    #[arg(long, env = "RAMPART_JWKS_CA", value_name = "FILE")]
    jwks_ca: Option<PathBuf>,
    /// Where Envoys are told to listen for requests
    #[arg(long, env = "RAMPART_LISTEN", default_value = "127.0.0.1:10000", value_name = "ADDRESS")]
    listen: SocketAddr,
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
        let Self { database, http, xds, flagd, jwks_ca, listen, filter, vm_id } = self;
        let data_plane = DataPlane { listen, filter, vm_id };
        let database = database.database;
        Ok(serve(Options { database, http, xds, flagd, jwks_ca, data_plane }).await?)
    }
}
