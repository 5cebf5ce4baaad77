//! Pushes the definition of all flags to the applications that evaluate it themselves, whenever its text
//! changes. It never changes a flag, and never blocks the one who publishes.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Struct;
use futures::{Stream, stream};
use tokio::sync::{Semaphore, watch};
use tonic::server::{ServerStreamingService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::door::{Caller, Door};
use super::proto::{FlagSyncService, FlagsRequest, FlagsResponse, GetMetadataRequest, GetMetadataResponse};
use super::{FLAG_SET, LeftOut, export};
use crate::published::Current;
use crate::tls::Listener;

/// Streams taken; one per application instance, which meets the refusal beyond it with its back-off.
const STREAMS: usize = 10_000;
/// A client that does not answer a ping in time is gone.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `flagd.sync.v1` on `listener`, to those whom the door lets in, until `shutdown` completes, then
/// ends every stream; applications go on with what they have.
///
/// # Errors
///
/// When the server itself fails; never because of a client.
pub async fn serve(
    listener: Listener,
    mut current: Current,
    door: Door,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let (publish, definitions) = watch::channel(None);
    let (stop, stopping) = watch::channel(false);
    let sync = Sync { definitions, door, stopping, free: Arc::new(Semaphore::new(STREAMS)) };
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(FlagSyncService(sync))
        .serve_with_incoming_shutdown(listener.incoming(), async {
            shutdown.await;
            // An open stream would hold the server, which waits for all of them.
            let _ = stop.send(true);
        });
    // Written once, whoever is connected; a revision that is overtaken is skipped, and one that changes
    // no definition is not sent.
    let write = async {
        let mut told = Vec::new();
        loop {
            let published = current.borrow_and_update().clone();
            if let Some(published) = published {
                let definition = export(&published.policy.flags);
                tell(&definition.left_out, &mut told);
                let text: Arc<str> = definition.document.to_string().into();
                publish.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&text);
                    *known = Some(text);
                    changed
                });
            }
            if current.changed().await.is_err() {
                // Nobody will publish again; what is there is still served.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        served = server => served,
        () = write => Ok(()),
    }
}

/// Logs what applications do not get, once for as long as it lasts.
fn tell(left_out: &[LeftOut], told: &mut Vec<LeftOut>) {
    for LeftOut { flag, reason } in left_out.iter().filter(|left| !told.contains(left)) {
        tracing::warn!(flag, reason, "a flag has no flagd definition, so applications do not get it");
    }
    *told = left_out.to_vec();
}

/// The newest definition; `None` until there is one.
type Definitions = watch::Receiver<Option<Arc<str>>>;

#[derive(Clone)]
struct Sync {
    definitions: Definitions,
    door: Door,
    /// Turns true, or closes, when the server stops.
    stopping: watch::Receiver<bool>,
    free: Arc<Semaphore>,
}

type Updates = Pin<Box<dyn Stream<Item = Result<FlagsResponse, Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

impl Sync {
    fn updates(&self, caller: Caller) -> Result<Updates, Status> {
        let place = Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted(format!("this server already has {STREAMS} streams")))?;
        let (mut definitions, mut stopping) = (self.definitions.clone(), self.stopping.clone());
        // What there is already is the first that a client waits for.
        definitions.mark_changed();
        // Clients take an error, and not every one of them an end, as a reason to connect again.
        let end = async move {
            tokio::select! {
                // An error means that the server is gone, which is the same.
                _ = stopping.wait_for(|stopping| *stopping) => stops(),
                status = caller.leaves() => status,
            }
        };
        let open = Some((definitions, Box::pin(end), place));
        Ok(Box::pin(stream::unfold(open, async |open| {
            let (mut definitions, mut end, place) = open?;
            let ended = tokio::select! {
                Some(update) = next(&mut definitions) => return Some((Ok(update), Some((definitions, end, place)))),
                status = &mut end => status,
                else => stops(),
            };
            Some((Err(ended), None))
        })))
    }
}

fn stops() -> Status {
    Status::unavailable("the flag service stops")
}

/// The next definition that a client has not seen; `None` when there will be none.
async fn next(definitions: &mut Definitions) -> Option<FlagsResponse> {
    loop {
        definitions.changed().await.ok()?;
        if let Some(text) = definitions.borrow_and_update().as_deref() {
            return Some(FlagsResponse { flag_configuration: text.to_owned() });
        }
    }
}

/// Refuses a selector of anything but the one set there is: an empty set of flags would quietly leave an
/// application with its defaults.
fn select(request: &Request<FlagsRequest>) -> Result<(), Status> {
    let header = request.metadata().get("flagd-selector").map(|selector| selector.to_str().unwrap_or("?"));
    let selector = header.unwrap_or(&request.get_ref().selector);
    if selector.is_empty() || selector == format!("flagSetId={FLAG_SET}") {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "there is no set of flags `{selector}`: leave the selector out, or select `flagSetId={FLAG_SET}`"
    )))
}

impl ServerStreamingService<FlagsRequest> for Sync {
    type Response = FlagsResponse;
    type ResponseStream = Updates;
    type Future = Answer<Updates>;

    fn call(&mut self, request: Request<FlagsRequest>) -> Self::Future {
        let (sync, admitted) = (self.clone(), self.door.admit(&request));
        Box::pin(async move {
            let caller = admitted.await?;
            select(&request)?;
            sync.updates(caller).map(Response::new)
        })
    }
}

impl UnaryService<FlagsRequest> for Sync {
    type Response = FlagsResponse;
    type Future = Answer<FlagsResponse>;

    fn call(&mut self, request: Request<FlagsRequest>) -> Self::Future {
        let mut definitions = self.definitions.clone();
        definitions.mark_changed();
        let admitted = self.door.admit(&request);
        Box::pin(async move {
            admitted.await?;
            select(&request)?;
            next(&mut definitions).await.map(Response::new).ok_or_else(stops)
        })
    }
}

impl UnaryService<GetMetadataRequest> for Sync {
    type Response = GetMetadataResponse;
    type Future = Ready<Result<Response<GetMetadataResponse>, Status>>;

    /// Deprecated, and called all the same: some clients do not begin without an answer.
    fn call(&mut self, _: Request<GetMetadataRequest>) -> Self::Future {
        ready(Ok(Response::new(GetMetadataResponse { metadata: Some(Struct::default()) })))
    }
}
