//! Clusters and their endpoints. They know no policy: a cluster is a name and where it runs.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_types::pb::google::protobuf::Any;

use super::{address, ads, pack, seconds};
use crate::published::Upstream;

/// The cluster, and its assignment when it is sent apart.
///
/// Endpoints that are addresses go by EDS, so that they can change without the cluster. EDS takes
/// no names; those stand in the cluster, and Envoy resolves them.
pub(super) fn cluster(upstream: &Upstream) -> (Any, Option<Any>) {
    let assignment = assignment(upstream);
    let mut cluster = Cluster {
        name: upstream.cluster.clone(),
        connect_timeout: seconds(1),
        // Round robin over unequal requests piles them up; the fewest open requests of two picked
        // at random does not. Maglev moves few organisations when endpoints come and go, and picks
        // at random where there is nothing to hash.
        lb_policy: if upstream.hashed { cluster::LbPolicy::Maglev } else { cluster::LbPolicy::LeastRequest }
            .into(),
        ..Cluster::default()
    };
    let kind = |kind: cluster::DiscoveryType| Some(cluster::ClusterDiscoveryType::Type(kind.into()));
    if upstream.endpoints.iter().all(|endpoint| endpoint.host.parse::<IpAddr>().is_ok()) {
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
    let lb_endpoints = upstream
        .endpoints
        .iter()
        .map(|endpoint| LbEndpoint {
            host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                address: Some(address(endpoint.host.clone(), endpoint.port)),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        })
        .collect();
    ClusterLoadAssignment {
        cluster_name: upstream.cluster.clone(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints, ..LocalityLbEndpoints::default() }],
        ..ClusterLoadAssignment::default()
    }
}
