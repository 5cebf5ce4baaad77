//! From a published revision to Envoy resources. Pure: no clock, no file and no network; equal
//! input gives equal bytes, in every process.

mod clusters;
mod extension;
mod fallback;
mod guard;
mod headers;
mod limits;
mod listener;
mod logs;
mod routes;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address, config_source,
    socket_address,
};
use envoy_types::pb::google::protobuf::{Any, Duration};
use prost::{Message, Name};

use super::snapshot::{Kind, Resource, Snapshot};
use crate::published::Published;

pub use extension::CAPABILITIES;

/// Name of the listener for clients, the route configuration and the filter.
const NAME: &str = "rampart";
/// Name of the listener for modules that call one another.
const INTERNAL: &str = "rampart_internal";

/// What the data plane is told that no revision says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPlane {
    /// Where Envoy listens for requests.
    pub listen: SocketAddr,
    /// Where it listens for modules that call one another; nowhere, if not said.
    pub internal: Option<SocketAddr>,
    /// The filter's module, as a path on Envoy's machine. A new build needs a new path: Envoy reads
    /// the file again with every change, so a file replaced in place starts a new VM unasked.
    pub filter: String,
    /// Identity of the VM. Another value starts fresh VMs, which is the cure when an Envoy refuses
    /// policies that are good.
    pub vm_id: String,
}

impl Default for DataPlane {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 10000)),
            internal: None,
            filter: "/etc/rampart/rampart.wasm".to_owned(),
            vm_id: NAME.to_owned(),
        }
    }
}

/// The resources of one revision.
#[must_use]
pub fn translate(published: &Published, data_plane: &DataPlane) -> Snapshot {
    let one = |body: Any| BTreeMap::from([(NAME.to_owned(), Resource::new(&body))]);
    let mut clusters = BTreeMap::new();
    let mut endpoints = BTreeMap::new();
    for upstream in &published.upstreams {
        let (cluster, assignment) = clusters::cluster(upstream);
        clusters.insert(upstream.own_cluster(), Resource::new(&cluster));
        endpoints.extend(assignment.map(|body| (upstream.own_cluster(), Resource::new(&body))));
        let falling = upstream.fallback.as_ref().map(|fallback| fallback::cluster(upstream, fallback));
        clusters.extend(falling.map(|body| (upstream.cluster.clone(), Resource::new(&body))));
    }
    Snapshot::new(
        published.revision,
        BTreeMap::from([
            (Kind::Cluster, clusters),
            (Kind::Endpoints, endpoints),
            (Kind::Listener, listeners(data_plane)),
            (Kind::Route, one(routes::routes(published))),
            (Kind::Extension, one(extension::extension(&published.policy, data_plane))),
        ]),
    )
}

/// One for clients, and one for modules that call one another: they differ by name and address alone.
fn listeners(data_plane: &DataPlane) -> BTreeMap<String, Resource> {
    let addresses = [(NAME, Some(data_plane.listen)), (INTERNAL, data_plane.internal)];
    let listeners = addresses.into_iter().filter_map(|(name, address)| {
        Some((name.to_owned(), Resource::new(&listener::listener(name, address?))))
    });
    listeners.collect()
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Packs a message together with the entries of its map, each given as a message that holds
/// nothing else: messages written one after another are merged by whoever reads them.
///
/// A map written at once comes out in an order that differs from call to call, so that a listener
/// would drain and the filter start anew though nothing had changed.
fn pack_with_entries<M: Message + Name>(message: &M, entries: impl IntoIterator<Item = M>) -> Any {
    let mut any = pack(message);
    for entry in entries {
        any.value.extend(entry.encode_to_vec());
    }
    any
}

/// "From the stream that brought this."
fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn address(host: String, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host,
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

const fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

#[expect(clippy::unnecessary_wraps, reason = "every field that takes it is optional")]
fn milliseconds(milliseconds: u32) -> Option<Duration> {
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    // Below a second there are fewer nanoseconds than an i32 holds.
    let nanos = i32::try_from(rest).unwrap_or_default() * 1_000_000;
    Some(Duration { seconds: seconds.into(), nanos })
}
