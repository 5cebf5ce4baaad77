//! What an application gets that evaluates flags itself: flagd's definitions, pushed when they change.

use std::sync::Arc;

use axum::http::uri::PathAndQuery;
use rampart::access::Access;
use rampart::flagd::{Door, export, sync};
use rampart::tls::Listener;
use rampart::writer::Writer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::support::{Service, answer};

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct FlagsRequest {
    #[prost(string, tag = "1")]
    provider_id: String,
    #[prost(string, tag = "2")]
    selector: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct FlagsResponse {
    #[prost(string, tag = "1")]
    flag_configuration: String,
}

/// A client of a server of the service's flags.
struct Application {
    grpc: Grpc<Channel>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Application {
    async fn start(service: &Service, door: Door) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", socket.local_addr().unwrap())).unwrap();
        let listener = Listener::new(socket, None).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap() };
        let server = tokio::spawn(sync::serve(listener, service.writer.current(), door, stopped));
        Self { grpc: Grpc::new(endpoint.connect().await.unwrap()), stop, server }
    }

    async fn sync(
        &mut self,
        request: Request<FlagsRequest>,
    ) -> Result<tonic::Streaming<FlagsResponse>, Status> {
        self.grpc.ready().await.unwrap();
        let codec = ProstCodec::<FlagsRequest, FlagsResponse>::default();
        Ok(self.grpc.server_streaming(request, path("SyncFlags"), codec).await?.into_inner())
    }

    async fn fetch(&mut self, request: Request<FlagsRequest>) -> Result<FlagsResponse, Status> {
        self.grpc.ready().await.unwrap();
        let codec = ProstCodec::<FlagsRequest, FlagsResponse>::default();
        Ok(self.grpc.unary(request, path("FetchAllFlags"), codec).await?.into_inner())
    }
}

fn path(method: &str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/flagd.sync.v1.FlagSyncService/{method}")).unwrap()
}

fn definition(writer: &Writer) -> Value {
    export(&writer.head().published.policy.flags).document
}

fn read(response: &FlagsResponse) -> Value {
    serde_json::from_str(&response.flag_configuration).unwrap()
}

#[tokio::test]
async fn a_stream_brings_the_definition_and_each_change_of_it_and_nothing_else() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let mut application = Application::start(&service, Door::open()).await;
    let mut stream = application.sync(Request::new(FlagsRequest::default())).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(read(&first), definition(&service.writer));
    assert_eq!(application.fetch(with(None)).await.unwrap(), first);
    // Neither changes what the flag decides.
    service.send("PUT", "/api/v1/settings", &json!({"legacy": ["127.0.0.1:9000"]})).await.ok();
    service.send("PATCH", "/api/v1/flags/f", &json!({"description": "What it is for."})).await.ok();
    service.flag("g", 50).await;
    let next = read(&stream.message().await.unwrap().unwrap());
    assert_eq!(next, definition(&service.writer));
    assert!(next["flags"].get("g").is_some());

    application.stop.send(()).unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable, "clients connect again");
    drop((stream, application.grpc));
    application.server.await.unwrap().unwrap();
}

/// A request with this credential.
fn with(credential: Option<&str>) -> Request<FlagsRequest> {
    let mut request = Request::new(FlagsRequest::default());
    if let Some(credential) = credential {
        let bearer = format!("Bearer {credential}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

#[tokio::test]
async fn who_must_show_a_key_gets_the_definition_as_long_as_the_key_counts() {
    let service = Service::start().await;
    service.flag("f", 25).await;
    let (evaluator, envoy) = (service.key("checkout", "evaluator").await, service.key("edge", "envoy").await);
    let access = Arc::new(Access::new(Some(&service.local), Arc::clone(&service.keeper)));
    let door = Door::guarded(Arc::clone(&service.writer), access);
    let mut application = Application::start(&service, door).await;
    for (credential, code) in [
        (None, Code::Unauthenticated),
        (Some("rampart_00000000_00"), Code::Unauthenticated),
        (Some(envoy.as_str()), Code::PermissionDenied),
    ] {
        let refused = application.sync(with(credential)).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), code, "{credential:?}: {refused}");
        let refused = application.fetch(with(credential)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{credential:?}: {refused}");
    }
    application.fetch(with(Some(service.local.secret()))).await.unwrap();
    let mut stream = application.sync(with(Some(&evaluator))).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(read(&first), definition(&service.writer));
    // Another's key ends nothing.
    answer(service.request("DELETE", "/api/v1/keys/edge")).await.ok();
    service.flag("g", 50).await;
    assert_eq!(read(&stream.message().await.unwrap().unwrap()), definition(&service.writer));
    answer(service.request("DELETE", "/api/v1/keys/checkout")).await.ok();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_selector_that_would_select_nothing_is_refused() {
    let service = Service::start().await;
    let mut application = Application::start(&service, Door::open()).await;
    for (header, field, fine) in [
        (None, "", true),
        (Some("flagSetId=rampart"), "", true),
        (None, "flagSetId=rampart", true),
        (Some("flagSetId=rampart"), "outdated", true),
        (Some("flagSetId=other"), "", false),
        (None, "flagSetId=other", false),
    ] {
        let mut request = Request::new(FlagsRequest { selector: field.to_owned(), ..Default::default() });
        if let Some(header) = header {
            request.metadata_mut().insert("flagd-selector", header.parse().unwrap());
        }
        match application.sync(request).await {
            Ok(_) => assert!(fine, "{header:?} {field}"),
            Err(status) => {
                assert_eq!((fine, status.code()), (false, Code::InvalidArgument), "{header:?} {field}");
                assert!(status.message().contains("select `flagSetId=rampart`"), "{status}");
            }
        }
    }
    application.grpc.ready().await.unwrap();
    let codec = ProstCodec::<FlagsRequest, FlagsResponse>::default();
    let missing = application.grpc.unary(Request::new(FlagsRequest::default()), path("Missing"), codec).await;
    assert_eq!(missing.unwrap_err().code(), Code::Unimplemented);
}
