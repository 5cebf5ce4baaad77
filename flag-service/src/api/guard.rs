//! The door of the API: every request is held against the one table of rights before any handler sees
//! it, and every answer leaves with the headers that keep browsers from making something of it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use super::{Api, now};
use crate::access::right::ROUTES;
use crate::access::{Denial, Principal, credential};

// Challenges (RFC 6750 §3): nothing was sent, something that is not believed, or not enough.
const REALM: &str = "Bearer realm=\"rampart\"";
const INVALID: &str = "Bearer realm=\"rampart\", error=\"invalid_token\"";
const INSUFFICIENT: &str = "Bearer realm=\"rampart\", error=\"insufficient_scope\"";

/// Lets a request pass whose sender may ask for it; the handler finds the [`Principal`] among its
/// extensions.
pub(super) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) else {
        // There is nothing, and whoever asks may know.
        return next.run(request).await;
    };
    // HEAD is GET without the answer's body (RFC 9110 §9.3.2).
    let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    let mut there = ROUTES.iter().filter(|(_, of, _)| *of == path);
    let Some((.., right)) = there.clone().find(|(of, ..)| *of == method) else {
        if there.next().is_some() {
            return not_allowed(path);
        }
        tracing::error!("{path} is in no row of the table of rights, so it is answered to nobody");
        return Problem::new(StatusCode::FORBIDDEN, "nobody may ask for this").into_response();
    };
    let Some(right) = right else { return next.run(request).await };
    let address = request.extensions().get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    let principal = match identify(&api, request.headers(), address).await {
        Ok(principal) => principal,
        Err(denial) => return refuse(&denial),
    };
    if !principal.role.may(*right) {
        let Principal { name, role } = principal;
        let detail = format!("`{name}` has the role {role}, which may not {method} {path}: ask an admin");
        return challenge(StatusCode::FORBIDDEN, &detail, INSUFFICIENT);
    }
    request.extensions_mut().insert(principal);
    next.run(request).await
}

async fn identify(api: &Api, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Principal, Denial> {
    let credential = credential(headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes))?;
    api.access.judge(credential, address, now()).await
}

/// What was wrong with what was sent, and what to send.
fn refuse(denial: &Denial) -> Response {
    let detail = denial.to_string();
    match denial {
        Denial::Missing => challenge(StatusCode::UNAUTHORIZED, &detail, REALM),
        Denial::NoRole(_) => challenge(StatusCode::FORBIDDEN, &detail, INSUFFICIENT),
        Denial::TooMany => {
            let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            response
        }
        Denial::Unfetched(_) => {
            let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            response
        }
        _ => challenge(StatusCode::UNAUTHORIZED, &detail, INVALID),
    }
}

fn challenge(status: StatusCode, detail: &str, challenge: &'static str) -> Response {
    let mut response = Problem::new(status, detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

fn not_allowed(path: &str) -> Response {
    let methods = ROUTES.iter().filter(|(_, of, _)| *of == path).map(|(method, ..)| *method);
    let methods = methods.flat_map(|method| if method == "GET" { vec!["GET", "HEAD"] } else { vec![method] });
    let methods = methods.collect::<Vec<_>>().join(",");
    let detail = "this path takes other methods only";
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    if let Ok(methods) = HeaderValue::try_from(methods) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

/// Sets what is not set: an answer is no page, no frame, no script and nothing to keep, unless its
/// handler says so.
pub(super) async fn harden(State(encrypted): State<bool>, request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = next.run(request).await;
    let hsts = (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    for (name, value) in HEADERS.into_iter().chain(encrypted.then_some(hsts)) {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::{Api, guard};
    use crate::access::{Access, LocalKey};
    use crate::jwks::{Client, Keeper};
    use crate::store::{Database, Store};
    use crate::tls;
    use crate::writer::Writer;
    use crate::xds::fleet::Fleet;

    #[tokio::test]
    async fn a_route_that_is_in_no_row_is_answered_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Database::File(dir.path().join("rampart.db"))).await.unwrap();
        let local = LocalKey::create(dir.path().join("key")).unwrap();
        let writer = Arc::new(Writer::start(store).await.unwrap());
        let keeper = Arc::new(Keeper::new(Arc::clone(&writer), Client::new(&[]).unwrap()));
        let api = Api {
            registry: Arc::new(crate::registry::Registry::new(None)),
            access: Arc::new(Access::new(Some(&local), Arc::clone(&keeper))),
            keeper,
            writer,
            fleet: Arc::new(Fleet::default()),
            stopping: watch::channel(false).1,
            encrypted: false,
        };
        let routes = Router::new().route("/forgotten", get(async || "secret"));
        let routes = routes.route("/health", get(async || "healthy").post(async || "forgotten"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = routes.layer(from_fn_with_state(api, guard));
        tokio::spawn(async { axum::serve(listener, routes).await });
        tls::use_ring();
        let client = reqwest::Client::new();
        for (request, status) in [
            (client.get(format!("{url}/forgotten")), 403),
            (client.get(format!("{url}/health")), 200),
            (client.post(format!("{url}/health")), 405),
        ] {
            let answer = request.bearer_auth(local.secret()).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{}", answer.url());
        }
    }
}
