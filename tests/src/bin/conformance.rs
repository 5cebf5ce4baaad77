//! A target for the public xDS conformance suite (ii/xds-test-harness): the xDS server, and the suite's
//! adapter, which says what it serves. `docs/xds.md` tells how to run the suite.

use anyhow::Result;
use axum::{body::Body, extract::Request, routing::post};
use clap::Parser;
use envoy_types::pb::google::protobuf::{Any, BoolValue};
use futures::future::BoxFuture;
use prost::Message;
use rampart::xds::snapshot::{Kind, Resource, Snapshot};
use rampart_tests::{wait::pause, xds_server::XdsServer};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Mutex};
use tonic::{
    Response, Status,
    server::{Grpc, UnaryService},
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

/// The suite sends a request on its stream and the change that it must come before to the adapter, and
/// does not wait in between.
const HEARD: Duration = Duration::from_millis(200);

/// Serves the xDS server and the adapter until it is killed.
#[derive(Parser)]
struct Options {
    /// Where the suite's client connects
    #[arg(long, default_value = "127.0.0.1:18000")]
    target: SocketAddr,
    /// Where the suite says what is served
    #[arg(long, default_value = "127.0.0.1:17000")]
    adapter: SocketAddr,
}

#[derive(Clone, PartialEq, Message)]
struct SetState {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(message, repeated, tag = "3")]
    resources: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ClearState {
    #[prost(string, tag = "1")]
    node: String,
}

#[derive(Clone, PartialEq, Message)]
struct ClearedState {
    #[prost(string, tag = "1")]
    response: String,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeResource {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    type_url: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    version: String,
}

/// Listeners, clusters, routes and assignments alike have their name first; the version is no field of
/// theirs, and makes the bytes differ.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "15000")]
    version: String,
}

/// What is served.
struct State {
    server: XdsServer,
    revision: u64,
    resources: BTreeMap<Kind, BTreeMap<String, Resource>>,
}

impl State {
    fn set(&mut self, type_url: &str, name: &str, version: &str) -> Result<(), Status> {
        let named = Named { name: name.to_owned(), version: version.to_owned() };
        let body = Any { type_url: type_url.to_owned(), value: named.encode_to_vec() };
        self.of(type_url)?.insert(name.to_owned(), Resource::new(&body));
        Ok(())
    }

    fn of(&mut self, type_url: &str) -> Result<&mut BTreeMap<String, Resource>, Status> {
        let kind = Kind::from_type_url(type_url).ok_or_else(|| Status::invalid_argument(type_url))?;
        Ok(self.resources.entry(kind).or_default())
    }

    fn publish(&mut self, version: &str) {
        self.revision += 1;
        self.server.publish(Snapshot::new(self.revision, self.resources.clone()).told_as(version));
    }
}

/// One method of the adapter.
trait Method: Message + Default + 'static {
    type Answer: Message + 'static;
    fn apply(self, state: &mut State, name: &str) -> Result<Self::Answer, Status>;
}

/// `success = true`.
fn done() -> BoolValue {
    BoolValue { value: true }
}

impl Method for SetState {
    type Answer = BoolValue;

    fn apply(self, state: &mut State, _: &str) -> Result<BoolValue, Status> {
        state.resources.clear();
        for resource in self.resources {
            let named = Named::decode(resource.value.as_slice());
            let name = named.map_err(|error| Status::invalid_argument(error.to_string()))?.name;
            state.set(&resource.type_url, &name, &self.version)?;
        }
        state.publish(&self.version);
        Ok(done())
    }
}

impl Method for ClearState {
    type Answer = ClearedState;

    fn apply(self, state: &mut State, _: &str) -> Result<ClearedState, Status> {
        state.resources.clear();
        state.publish("");
        Ok(ClearedState { response: "cleared".to_owned() })
    }
}

impl Method for ChangeResource {
    type Answer = BoolValue;

    fn apply(self, state: &mut State, method: &str) -> Result<BoolValue, Status> {
        let Self { type_url, name, version, .. } = self;
        match method {
            "RemoveResource" => drop(state.of(&type_url)?.remove(&name)),
            _ => state.set(&type_url, &name, &version)?,
        }
        state.publish(&version);
        Ok(done())
    }
}

/// A method at its path.
#[derive(Clone)]
struct Served(Arc<Mutex<State>>, &'static str);

impl<M: Method> UnaryService<M> for Served {
    type Response = M::Answer;
    type Future = BoxFuture<'static, Result<Response<M::Answer>, Status>>;

    fn call(&mut self, request: tonic::Request<M>) -> Self::Future {
        let Self(state, method) = self.clone();
        Box::pin(async move {
            pause(HEARD).await;
            request.into_inner().apply(&mut *state.lock().await, method).map(Response::new)
        })
    }
}

fn route<M: Method>(routes: &mut Routes, state: &Arc<Mutex<State>>, method: &'static str) {
    let served = Served(Arc::clone(state), method);
    let answer = post(move |request: Request| async move {
        Grpc::new(ProstCodec::<M::Answer, M>::new()).unary(served, request).await.map(Body::new)
    });
    let router = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = router.route(&format!("/adapter.Adapter/{method}"), answer);
}

#[tokio::main]
async fn main() -> Result<()> {
    let Options { target, adapter } = Options::parse();
    let server = XdsServer::start(target).await?;
    let state = Arc::new(Mutex::new(State { server, revision: 0, resources: BTreeMap::new() }));
    let mut routes = Routes::default();
    route::<SetState>(&mut routes, &state, "SetState");
    route::<ClearState>(&mut routes, &state, "ClearState");
    for method in ["UpdateResource", "AddResource", "RemoveResource"] {
        route::<ChangeResource>(&mut routes, &state, method);
    }
    let listener = TcpListener::bind(adapter).await?;
    Ok(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)).await?)
}
