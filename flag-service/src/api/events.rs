//! OFREP's change events: tells clients that hold answers when to ask again, and nothing of the answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Api;
use super::problem::Problem;
use crate::published::{Current, Published};

/// Where clients listen.
pub(super) const PATH: &str = "/ofrep/v1/events";
/// Clients that may listen at a time; one beyond them is told to come again.
const STREAMS: usize = 10_000;
/// After so many seconds out of sight a client hangs up; the protocol's own default.
const INACTIVITY: u32 = 120;
/// How long a request waits for a revision that its client has been told of, by another process on the
/// same database: a little longer than it takes to follow.
const PATIENCE: Duration = Duration::from_secs(3);

/// The protocol's `eventStream`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventStream {
    r#type: &'static str,
    endpoint: Endpoint,
    inactivity_delay_sec: u32,
}

/// Without an origin: it is the one that the client asks already, whatever stands in between.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    request_uri: &'static str,
}

impl Default for EventStream {
    fn default() -> Self {
        Self { r#type: "sse", endpoint: Endpoint { request_uri: PATH }, inactivity_delay_sec: INACTIVITY }
    }
}

/// The places of those who listen.
pub(super) fn places() -> Extension<Arc<Semaphore>> {
    Extension(Arc::new(Semaphore::new(STREAMS)))
}

/// A client that listens.
struct Listener {
    current: Current,
    /// What it has been told of, or knows.
    known: Option<Arc<Published>>,
    _place: OwnedSemaphorePermit,
}

/// Tells of the flags that there are, unless the client has been told of them before it was cut off, and
/// then of each change of them: between a client's question and its listening nothing is missed.
pub(super) async fn events(
    State(api): State<Api>,
    Extension(places): Extension<Arc<Semaphore>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let full = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{STREAMS} clients listen already"));
    let place = places.try_acquire_owned().map_err(full)?;
    let mut current = api.writer.current();
    current.mark_changed();
    let now = current.borrow().clone();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let known = now.filter(|now| last == Some(now.revision));
    let listener = Listener { current, known, _place: place };
    let events = stream::unfold(listener, async |mut listener| {
        Some((Ok::<_, Infallible>(listener.next().await?), listener))
    });
    let mut stopping = api.stopping;
    let events = events.take_until(Box::pin(async move {
        // An error means that the server is gone, which is the same.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }));
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // A proxy that collects a whole answer first would never pass one on.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Listener {
    /// The next change of flags; a change of anything else is nothing to a client.
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.current.changed().await.ok()?;
            let published = self.current.borrow_and_update().clone()?;
            let before = self.known.replace(Arc::clone(&published));
            if before.is_none_or(|before| before.policy.flags != published.policy.flags) {
                let etag = format!("\"{}\"", published.revision);
                let data = json!({"type": "refetchEvaluation", "etag": etag}).to_string();
                return Some(Event::default().event("message").id(published.revision.to_string()).data(data));
            }
        }
    }
}

/// What a client passes on of the event that made it ask.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    flag_config_etag: Option<String>,
}

/// Waits until the revision is here that the client was told of, if it was: by another process on the
/// same database, which may be ahead of this one. It does not wait for long, and not for what is no tag.
pub(super) async fn reached(api: &Api, uri: &Uri) {
    let told = Query::<Told>::try_from_uri(uri).ok().and_then(|Query(told)| told.flag_config_etag);
    let Some(revision) = told.and_then(|tag| tag.trim_matches('"').parse::<u64>().ok()) else { return };
    let mut current = api.writer.current();
    let here = |published: &Option<Arc<Published>>| {
        published.as_ref().is_some_and(|published| published.revision >= revision)
    };
    // What there is by then is the answer, in either case.
    let _ = tokio::time::timeout(PATIENCE, current.wait_for(here)).await;
}
