//! `flagd.sync.v1`, as it is on the wire: its messages and its methods. The protocol is these few lines,
//! so that nothing is generated for it; it knows nothing of flags.
//! <https://github.com/open-feature/flagd-schemas/blob/main/protobuf/flagd/sync/v1/sync.proto>

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::http;
use envoy_types::pb::google::protobuf::Struct;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic_prost::ProstCodec;

/// Of both `SyncFlags` and `FetchAllFlags`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct FlagsRequest {
    #[prost(string, tag = "1")]
    pub(super) provider_id: String,
    /// Of clients that do not know the header `flagd-selector`.
    #[prost(string, tag = "2")]
    pub(super) selector: String,
}

/// Of both `SyncFlags`, which may add a context, and `FetchAllFlags`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct FlagsResponse {
    #[prost(string, tag = "1")]
    pub(super) flag_configuration: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct GetMetadataRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetMetadataResponse {
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<Struct>,
}

/// What serves the methods, as tonic has them.
#[derive(Clone)]
pub(super) struct FlagSyncService<S>(pub(super) S);

impl<S> NamedService for FlagSyncService<S> {
    const NAME: &'static str = "flagd.sync.v1.FlagSyncService";
}

impl<S, F, G, H> Service<http::Request<Body>> for FlagSyncService<S>
where
    S: ServerStreamingService<
            FlagsRequest,
            Response = FlagsResponse,
            ResponseStream: Send + 'static,
            Future = F,
        >,
    S: UnaryService<FlagsRequest, Response = FlagsResponse, Future = G>,
    S: UnaryService<GetMetadataRequest, Response = GetMetadataResponse, Future = H>,
    S: Clone + Send + 'static,
    F: Send,
    G: Send,
    H: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            Ok(match method {
                "SyncFlags" => flags().server_streaming(service, request).await,
                "FetchAllFlags" => flags().unary(service, request).await,
                "GetMetadata" => {
                    let codec: ProstCodec<GetMetadataResponse, GetMetadataRequest> = ProstCodec::default();
                    Grpc::new(codec).unary(service, request).await
                }
                other => Status::unimplemented(format!("there is no method {other}")).into_http(),
            })
        })
    }
}

fn flags() -> Grpc<ProstCodec<FlagsResponse, FlagsRequest>> {
    Grpc::new(ProstCodec::default())
}
