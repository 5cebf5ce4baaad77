//! How the flag service is reached, and which credential the command comes with: the one it is given,
//! or the local key of a flag service on this machine. Never one from the command line, which every user
//! of the machine can read.

use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use reqwest::{Certificate, Identity, Url};

use super::client::Failure;
use crate::access::local;
use crate::tls;

/// Options of every command that asks.
#[derive(Debug, Clone, Args)]
pub(super) struct Connection {
    /// A file that holds the API key, or a token. Without it, RAMPART_API_KEY is used, or the local key of
    /// a flag service on this machine that runs as the same user
    #[arg(long, global = true, env = "RAMPART_API_KEY_FILE", value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Certificates (PEM) of who may vouch for the flag service, besides the system's
    #[arg(long, global = true, env = "RAMPART_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// A certificate and its key (PEM, in one file), where the flag service asks for one
    #[arg(long, global = true, env = "RAMPART_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
}

impl Connection {
    /// A client of flag services.
    pub(super) fn open(&self) -> Result<reqwest::Client, Failure> {
        tls::use_ring();
        let mut client = reqwest::Client::builder();
        if let Some(file) = &self.ca_cert {
            let added = Certificate::from_pem_bundle(&read(file)?);
            client = client.tls_certs_merge(added.with_context(|| format!("--ca-cert {}", file.display()))?);
        }
        if let Some(file) = &self.client_cert {
            let identity = Identity::from_pem(&read(file)?);
            client = client.identity(identity.with_context(|| format!("--client-cert {}", file.display()))?);
        }
        Ok(client.build().context("no connection can be made")?)
    }

    /// The credential for the flag service at `api`, or none where there is none.
    pub(super) fn credential(&self, api: &str) -> Result<Option<String>, Failure> {
        if let Some(key) = env::var("RAMPART_API_KEY").ok().filter(|key| !key.trim().is_empty()) {
            return Ok(Some(key.trim().to_owned()));
        }
        if let Some(file) = &self.api_key_file {
            return Ok(Some(String::from_utf8_lossy(&read(file)?).trim().to_owned()));
        }
        // The local key goes to nobody but this machine.
        let url = Url::parse(api).ok().filter(is_here);
        let file = url.and_then(|url| local::file(url.port_or_known_default()?));
        Ok(file.and_then(|file| fs::read_to_string(file).ok()).map(|key| key.trim().to_owned()))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    Ok(fs::read(file).with_context(|| file.display().to_string())?)
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn the_local_key_goes_to_nobody_but_this_machine() {
        let is_here = |url: &str| is_here(&url.parse().unwrap());
        for here in ["http://127.0.0.1:8080", "http://localhost", "https://[::1]:8443", "http://127.0.0.2"] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in
            ["http://192.0.2.1:8080", "http://localhost.example", "http://127.0.0.1.example", "https://[::2]"]
        {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
