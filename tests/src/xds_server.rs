//! The xDS server of the flag service over resources of a test's own, and a gRPC backend: for clients
//! that are no Envoys and want what no policy is made of.

use anyhow::{Context as _, Result};
use axum::{body::Body, extract::Request, routing::post};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster},
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, Locality, SocketAddress, address,
                config_source, socket_address,
            },
            endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
            listener::v3::{ApiListener, Listener},
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action,
                route_match,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
            },
        },
    },
    google::protobuf::{Any, StringValue, UInt32Value},
};
use prost::{Message, Name};
use rampart::{
    tls,
    xds::{
        fleet::Fleet,
        serve_snapshots,
        snapshot::{Kind, Resource, Snapshot},
    },
};
use std::{
    collections::BTreeMap,
    future::{self, Ready},
    net::SocketAddr,
    sync::Arc,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{
    Response, Status,
    server::{Grpc, UnaryService},
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

/// What gRPC clients dial, as `xds:///echo`.
pub const SERVICE: &str = "echo";

/// The backend's only method.
pub const METHOD: &str = "/test.Echo/Who";

/// A server within this process, stopped on drop.
#[derive(Debug)]
pub struct XdsServer {
    /// What is known of its clients.
    pub fleet: Arc<Fleet>,
    publish: watch::Sender<Option<Arc<Snapshot>>>,
    _stop: oneshot::Sender<()>,
    _server: Aborted,
}

impl XdsServer {
    /// Serves nothing yet.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        let socket = TcpListener::bind(address).await.with_context(|| address.to_string())?;
        let listener = tls::Listener::new(socket, None)?;
        let (publish, snapshots) = watch::channel(None);
        let (stop, stopped) = oneshot::channel::<()>();
        let fleet = Arc::new(Fleet::default());
        let served = serve_snapshots(listener, snapshots, Arc::clone(&fleet), async { drop(stopped.await) });
        let server = Aborted(tokio::spawn(async { drop(served.await) }));
        Ok(Self { fleet, publish, _stop: stop, _server: server })
    }

    /// Serves this from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        self.publish.send_replace(Some(Arc::new(snapshot)));
    }
}

/// What a gRPC client needs to reach [`SERVICE`]: a listener for clients, its routes, a cluster of that
/// name and its endpoints.
#[must_use]
pub fn proxyless(revision: u64, cluster: &str, endpoints: &[SocketAddr]) -> Snapshot {
    let one = |name: &str, body: Any| BTreeMap::from([(name.to_owned(), Resource::new(&body))]);
    Snapshot::new(
        revision,
        BTreeMap::from([
            (Kind::Listener, one(SERVICE, listener())),
            (Kind::Route, one(SERVICE, routes(cluster))),
            (Kind::Cluster, one(cluster, eds_cluster(cluster))),
            (Kind::Endpoints, one(cluster, assignment(cluster, endpoints))),
        ]),
    )
}

fn listener() -> Any {
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: SERVICE.to_owned(),
        })),
        http_filters: vec![HttpFilter {
            name: "router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    };
    pack(&Listener {
        name: SERVICE.to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(pack(&manager)) }),
        ..Listener::default()
    })
}

fn routes(cluster: &str) -> Any {
    let to = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..RouteAction::default()
    };
    let everything = RouteMatch {
        path_specifier: Some(route_match::PathSpecifier::Prefix(String::new())),
        ..RouteMatch::default()
    };
    pack(&RouteConfiguration {
        name: SERVICE.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: SERVICE.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![Route {
                r#match: Some(everything),
                action: Some(route::Action::Route(to)),
                ..Route::default()
            }],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    })
}

fn eds_cluster(name: &str) -> Any {
    pack(&Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds.into())),
        eds_cluster_config: Some(cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            ..cluster::EdsClusterConfig::default()
        }),
        lb_policy: cluster::LbPolicy::RoundRobin.into(),
        ..Cluster::default()
    })
}

fn assignment(cluster: &str, endpoints: &[SocketAddr]) -> Any {
    let endpoint = |address: &SocketAddr| LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(Address {
                address: Some(address::Address::SocketAddress(SocketAddress {
                    address: address.ip().to_string(),
                    port_specifier: Some(socket_address::PortSpecifier::PortValue(address.port().into())),
                    ..SocketAddress::default()
                })),
            }),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    pack(&ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            // gRPC passes over a locality without a name and a weight.
            locality: Some(Locality { region: "here".to_owned(), ..Locality::default() }),
            load_balancing_weight: Some(UInt32Value { value: 1 }),
            lb_endpoints: endpoints.iter().map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    })
}

fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// A gRPC server that answers [`METHOD`] with its name; stopped on drop.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    _server: Aborted,
}

impl Backend {
    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn start(name: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut routes = Routes::default();
        let answer = post(move |request: Request| async move {
            let mut grpc = Grpc::new(ProstCodec::<StringValue, StringValue>::new());
            grpc.unary(Named(name), request).await.map(Body::new)
        });
        let router = std::mem::take(routes.axum_router_mut());
        *routes.axum_router_mut() = router.route(METHOD, answer);
        let server = Server::builder().add_routes(routes);
        let server = server.serve_with_incoming(TcpIncoming::from(listener));
        Ok(Self { address, _server: Aborted(tokio::spawn(async { drop(server.await) })) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Named(&'static str);

impl UnaryService<StringValue> for Named {
    type Response = StringValue;
    type Future = Ready<Result<Response<StringValue>, Status>>;

    fn call(&mut self, _: tonic::Request<StringValue>) -> Self::Future {
        future::ready(Ok(Response::new(StringValue { value: self.0.to_owned() })))
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
