//! One revision as the rest of the process sees it: the seam between the write path, which
//! produces it, and the xDS server, which turns it into resources. It knows neither.

use std::sync::Arc;

use rampart_engine::policy::wire;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{ObjectBuilder, RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

use crate::access::Key;
use crate::model::upstream::{RateLimit, TrafficPolicy};

/// A revision that the engine accepted and the store has made durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The store's revision; also `policy.revision`.
    pub revision: u64,
    /// What every filter decides by.
    pub policy: wire::Policy,
    /// Every cluster the policy names, and where it runs. Sorted by name.
    pub upstreams: Vec<Upstream>,
    /// How many requests modules take that have a limit, by their ids. Sorted by id.
    pub limits: Vec<(String, RateLimit)>,
    /// The API keys that Envoys may come with.
    pub keys: Vec<Arc<Key>>,
}

/// A cluster and its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Envoy cluster name, made from identity and never from position.
    pub cluster: String,
    /// Where it runs; never empty.
    pub endpoints: Vec<Endpoint>,
    /// Whether an organisation keeps its endpoint.
    pub hashed: bool,
    /// The cluster that serves while no endpoint can.
    pub fallback: Option<String>,
    /// How it is reached, and how much it bears.
    pub traffic: TrafficPolicy,
}

impl Upstream {
    /// What is added to the cluster's name for its endpoints alone, where there is a fallback besides.
    pub const ENDPOINTS: &str = "/endpoints";

    /// The cluster of the endpoints alone.
    #[must_use]
    pub fn own_cluster(&self) -> String {
        let own = if self.fallback.is_some() { Self::ENDPOINTS } else { "" };
        format!("{}{own}", self.cluster)
    }
}

/// A host (IP address or DNS name) and port, written `host:port`; `[::1]:80` for IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// IP address (without brackets) or DNS name.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

/// What the process holds: nothing until the store has been read once, then the newest revision.
/// An empty policy and "not loaded yet" must never be confused (an empty CDS answer deletes every
/// cluster of a running Envoy).
pub type Current = tokio::sync::watch::Receiver<Option<Arc<Published>>>;

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("`{text}` is no endpoint: write host:port, such as 127.0.0.1:8000 or [::1]:8000");
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)?;
        let name_like = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let (host, valid) = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => (inside, inside.parse::<std::net::Ipv6Addr>().is_ok()),
            None => (host, host.chars().all(name_like)),
        };
        if host.is_empty() || host.len() > 253 || !valid {
            return Err(refuse());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Endpoint {
    /// Whether its host is an address and no name.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl PartialSchema for Endpoint {
    fn schema() -> RefOr<schema::Schema> {
        let text = ObjectBuilder::new().schema_type(schema::Type::String);
        text.pattern(Some(r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}$")).into()
    }
}

impl ToSchema for Endpoint {}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        for text in ["127.0.0.1:8000", "[::1]:8000", "analytics.internal:80"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", "localhost", ":80", "host:0", "host:99999", "::1:80", "[::1:80", "[x]:1", "a b:1"] {
            assert!(text.parse::<Endpoint>().unwrap_err().contains("no endpoint"), "{text}");
        }
    }
}
