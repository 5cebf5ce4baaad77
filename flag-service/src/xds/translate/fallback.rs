//! A module and who serves in its place: an aggregate cluster, of the module's endpoints first and the
//! fallback's after them.

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{self, CommonLbConfig};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment;
use envoy_types::pb::envoy::config::route::v3::{RetryPolicy, retry_policy};
use envoy_types::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::Any;

use super::clusters::CONNECT_TIMEOUT_MS;
use super::traffic::number;
use super::{milliseconds, pack, transport};
use crate::published::Upstream;

/// How many requests may be tried again at once where the manifest does not say: as many as there may be. When
/// the endpoints go, all that are open then are the fallback's.
const MAX_RETRIES: u32 = 1_024;

pub(super) fn cluster(upstream: &Upstream, fallback: &str) -> Any {
    let aggregate = ClusterConfig { clusters: vec![upstream.own_cluster(), fallback.to_owned()] };
    // Of the limits, only that of retries is this cluster's to keep; the others are its members'.
    let retries = upstream.traffic.circuit_breakers.as_ref().and_then(|said| said.max_retries);
    pack(&Cluster {
        name: upstream.cluster.clone(),
        connect_timeout: milliseconds(CONNECT_TIMEOUT_MS),
        lb_policy: cluster::LbPolicy::ClusterProvided.into(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::ClusterType(
            cluster::CustomClusterType {
                name: "envoy.clusters.aggregate".to_owned(),
                typed_config: Some(pack(&aggregate)),
            },
        )),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_retries: number(retries.unwrap_or(MAX_RETRIES)),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        }),
        typed_extension_protocol_options: transport::options(&elsewhere()),
        ..Cluster::default()
    })
}

/// What is tried again is tried with the fallback, though nobody has found out yet that an endpoint is gone.
/// When it is tried again, the filter says.
fn elsewhere() -> HttpProtocolOptions {
    let previous = PreviousPrioritiesConfig { update_frequency: 1 };
    let spoken = ProtocolConfig::HttpProtocolOptions(Default::default());
    HttpProtocolOptions {
        retry_policy: Some(RetryPolicy {
            retry_priority: Some(retry_policy::RetryPriority {
                name: "envoy.retry_priorities.previous_priorities".to_owned(),
                config_type: Some(retry_policy::retry_priority::ConfigType::TypedConfig(pack(&previous))),
            }),
            ..RetryPolicy::default()
        }),
        // Required, and of no effect: what is spoken is the chosen member's.
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(spoken),
        })),
        ..HttpProtocolOptions::default()
    }
}

/// Where there is a fallback, no request goes to who is not well.
pub(super) fn no_panic() -> CommonLbConfig {
    CommonLbConfig { healthy_panic_threshold: Some(Percent { value: 0.0 }), ..CommonLbConfig::default() }
}

/// As long as one endpoint in a hundred is well, the module serves: Envoy would let the fallback have a part
/// of the requests as soon as less than five in seven are.
pub(super) fn one_is_enough() -> cluster_load_assignment::Policy {
    cluster_load_assignment::Policy {
        overprovisioning_factor: number(10_000),
        ..cluster_load_assignment::Policy::default()
    }
}
