//! Clusters and their endpoints. They know no policy: a cluster is a name and where it runs.

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, endpoint, lb_endpoint,
};
use envoy_types::pb::google::protobuf::Any;

use super::{address, ads, fallback, milliseconds, pack, traffic, transport};
use crate::published::{self, Upstream};

/// How long a connection may take to come about where nobody says.
pub(super) const CONNECT_TIMEOUT_MS: u32 = 1_000;

/// The cluster, and its assignment when it is sent apart.
///
/// Endpoints that are addresses go by EDS, so that they can change without the cluster. EDS takes
/// no names; those stand in the cluster, and Envoy resolves them.
pub(super) fn cluster(upstream: &Upstream) -> (Any, Option<Any>) {
    let assignment = assignment(upstream);
    let (policy, falls_back) = (&upstream.traffic, upstream.fallback.is_some());
    let mut cluster = Cluster {
        name: upstream.own_cluster(),
        connect_timeout: milliseconds(policy.connect_timeout_ms.unwrap_or(CONNECT_TIMEOUT_MS)),
        typed_extension_protocol_options: transport::protocol(policy),
        transport_socket: policy.tls.as_ref().map(|tls| transport::encrypted(tls, policy.protocol)),
        health_checks: policy
            .health_check
            .iter()
            .map(|check| traffic::health_check(check, policy.protocol))
            .collect(),
        outlier_detection: policy
            .outlier_detection
            .as_ref()
            .map(|said| traffic::outlier_detection(said, falls_back)),
        common_lb_config: falls_back.then(fallback::no_panic),
        circuit_breakers: policy.circuit_breakers.as_ref().map(traffic::circuit_breakers),
        // Round robin over unequal requests piles them up; the fewest open requests of two picked
        // at random does not. Maglev moves few organisations when endpoints come and go, and picks
        // at random where there is nothing to hash.
        lb_policy: if upstream.hashed { cluster::LbPolicy::Maglev } else { cluster::LbPolicy::LeastRequest }
            .into(),
        ..Cluster::default()
    };
    let kind = |kind: cluster::DiscoveryType| Some(cluster::ClusterDiscoveryType::Type(kind.into()));
    if upstream.endpoints.iter().all(published::Endpoint::is_address) {
        cluster.cluster_discovery_type = kind(cluster::DiscoveryType::Eds);
        cluster.eds_cluster_config = Some(cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            ..cluster::EdsClusterConfig::default()
        });
        (pack(&cluster), Some(pack(&assignment)))
    } else {
        cluster.cluster_discovery_type = kind(cluster::DiscoveryType::StrictDns);
        // Where a name has both, as `localhost` does, Envoy's default takes IPv6 alone, and a server
        // that listens on IPv4 alone is the more common.
        cluster.dns_lookup_family = cluster::DnsLookupFamily::V4Preferred.into();
        cluster.load_assignment = Some(assignment);
        (pack(&cluster), None)
    }
}

fn assignment(upstream: &Upstream) -> ClusterLoadAssignment {
    let asked = upstream.traffic.health_check.as_ref().is_some_and(|check| check.tcp.is_none());
    let lb_endpoints = upstream
        .endpoints
        .iter()
        .map(|endpoint| LbEndpoint {
            host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                address: Some(address(endpoint.host.clone(), endpoint.port)),
                // Else Envoy asks for the cluster's name, which is no host: servers refuse the request unread.
                health_check_config: asked.then(|| endpoint::HealthCheckConfig {
                    hostname: endpoint.host.clone(),
                    ..endpoint::HealthCheckConfig::default()
                }),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        })
        .collect();
    ClusterLoadAssignment {
        cluster_name: upstream.own_cluster(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints, ..LocalityLbEndpoints::default() }],
        policy: upstream.fallback.as_ref().map(|_| fallback::one_is_enough()),
        ..ClusterLoadAssignment::default()
    }
}
