//! What every write carries besides its body: who, why, on what basis, whether only to try, and the
//! key under which it may be sent again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::format;
use super::problem::Problem;
use crate::access::{Principal, Role};
use crate::conflict::Basis;
use crate::model::Change;
use crate::writer::{Key, Submission};

/// Longest actor or reason, in bytes; what is longer is cut.
const LONGEST: usize = 1_000;
/// Longest idempotency key, in bytes.
const LONGEST_KEY: usize = 255;

/// See the module.
pub(super) struct Meta {
    actor: String,
    role: Role,
    reason: String,
    source: &'static str,
    address: Option<IpAddr>,
    based_on: Basis,
    /// Whether it is refused where something is there already.
    pub(super) only_new: bool,
    dry_run: bool,
    key: Option<Key>,
}

/// A misspelt wish to try must not become a change.
#[derive(Deserialize, Default, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Switches {
    /// Only say what would change
    #[serde(default)]
    dry_run: bool,
}

impl Meta {
    /// Of whoever does not say what they have seen: whatever is there.
    pub(super) fn whatever(mut self) -> Self {
        if self.based_on == Basis::Unsaid {
            self.based_on = Basis::Existing;
        }
        self
    }

    /// Only to say what would change.
    pub(super) fn trying(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// For this reason, where the body gives one.
    pub(super) fn because(mut self, reason: Option<String>) -> Self {
        if let Some(reason) = reason.filter(|reason| !reason.trim().is_empty()) {
            self.reason = plain(&reason);
        }
        self
    }

    /// Of whoever must not be answered again: the answer holds a secret, which is nowhere else.
    ///
    /// # Errors
    ///
    /// When there is an idempotency key.
    pub(super) fn told_once(self) -> Result<Self, Problem> {
        if self.key.is_some() {
            let detail =
                "an answer that holds a secret is not kept to be given again: leave `Idempotency-Key` away";
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        Ok(self)
    }

    /// Who asks.
    pub(super) fn actor(&self) -> &str {
        &self.actor
    }

    /// Whether a reason is given.
    pub(super) const fn has_reason(&self) -> bool {
        !self.reason.is_empty()
    }

    /// The submission of a change.
    pub(super) fn submit(self, change: Change) -> Submission {
        let Self { actor, role, reason, source, address, based_on, only_new, dry_run, key } = self;
        Submission { change, based_on, only_new, actor, role, source, address, reason, dry_run, key }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Meta {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let Query(switches) =
            Query::<Switches>::try_from_uri(&parts.uri).map_err(|error| bad(error.body_text()))?;
        let Unswitched(meta) = Unswitched::from_request_parts(parts, &()).await?;
        Ok(if switches.dry_run { meta.trying() } else { meta })
    }
}

/// The same where the query is somebody else's to read.
pub(super) struct Unswitched(pub(super) Meta);

impl<S: Send + Sync> FromRequestParts<S> for Unswitched {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let headers = &parts.headers;
        let agent = text(headers, header::USER_AGENT.as_str());
        let based_on = basis(headers).ok_or_else(|| {
            bad("`If-Match` holds the ETag of an earlier answer, such as \"42\", or `*`".to_owned())
        })?;
        let only_new = match headers.get(header::IF_NONE_MATCH).map(HeaderValue::as_bytes) {
            None => false,
            Some(b"*") => true,
            Some(_) => return Err(bad("`If-None-Match` of a write takes only `*`: make it new".to_owned())),
        };
        let principal = parts.extensions.get::<Principal>();
        let principal = principal.ok_or_else(|| bad("nobody in particular changes nothing".to_owned()))?;
        Ok(Self(Meta {
            actor: actor(principal, &text(headers, "x-rampart-actor")),
            role: principal.role,
            reason: text(headers, "x-rampart-reason"),
            source: if agent.starts_with("rampart/") { "cli" } else { "api" },
            // The peer of the connection: what a header claims could be anyone's.
            address: parts
                .extensions
                .get()
                .map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip().to_canonical()),
            based_on,
            only_new,
            dry_run: false,
            key: parts.extensions.get().cloned(),
        }))
    }
}

/// Reads `Idempotency-Key`, and tells by what it is sent with whether it is the same request that is sent
/// again: by method, path, query, body, and the headers that say on what basis and who asks.
pub(super) async fn idempotency_key(mut request: Request, next: Next) -> Result<Response, Problem> {
    let Some(key) = request.headers().get("idempotency-key") else { return Ok(next.run(request).await) };
    let name = key_name(key).ok_or_else(|| {
        let detail = format!(
            "`Idempotency-Key` is 1 to {LONGEST_KEY} visible ASCII characters, with or without quotes"
        );
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let (parts, body) = request.into_parts();
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &())
        .await
        .map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let mut digest = Sha256::new();
    let said = ["content-type", "if-match", "if-none-match", "x-rampart-actor"]
        .map(|name| parts.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default());
    let target = format!("{} {}", parts.method, parts.uri);
    for part in [target.as_bytes(), &body].into_iter().chain(said) {
        // Its length first, so that no two requests read the same.
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    let hash = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    // Whom the guard lets through without a name changes nothing.
    let asker =
        parts.extensions.get().map(|principal: &Principal| principal.name.clone()).unwrap_or_default();
    request = Request::from_parts(parts, body.into());
    request.extensions_mut().insert(Key { name, asker, request: hash });
    Ok(next.run(request).await)
}

/// A string as RFC 8941 writes it, without escapes; or the same without its quotes.
fn key_name(header: &HeaderValue) -> Option<String> {
    let text = header.to_str().ok()?;
    let name = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    ((1..=LONGEST_KEY).contains(&name.len()) && name.bytes().all(plain)).then(|| name.to_owned())
}

/// Who it is, for the history. A key may be used by several people, who say for whom it is; a token
/// names its own.
fn actor(principal: &Principal, claimed: &str) -> String {
    let name = cut(&principal.name);
    if claimed.is_empty() || !name.starts_with("key/") {
        return name.to_owned();
    }
    format!("{name} for {claimed}")
}

/// A header as text for the history: UTF-8, no control characters, not endless.
fn text(headers: &HeaderMap, name: &str) -> String {
    let bytes = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    plain(&String::from_utf8_lossy(bytes))
}

fn plain(text: &str) -> String {
    cut(text).chars().filter(|character| !character.is_control()).collect()
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default()
}

/// RFC 9110 §13.1.1: `*`, or entity tags, of which weak ones never match.
fn basis(headers: &HeaderMap) -> Option<Basis> {
    let mut tags = Vec::new();
    let mut said = headers.get_all(header::IF_MATCH).into_iter().peekable();
    if said.peek().is_none() {
        return Some(Basis::Unsaid);
    }
    for list in said {
        let list = list.to_str().ok()?.trim();
        if list == "*" {
            return Some(Basis::Existing);
        }
        let mut rest = list;
        loop {
            let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
            // A comma may stand within a tag.
            let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
            tags.extend((!weak).then(|| tag.to_owned()));
            match after.trim_start().strip_prefix(',') {
                Some(next) => rest = next.trim_start(),
                None if after.trim().is_empty() => break,
                None => return None,
            }
        }
    }
    Some(Basis::Tags(tags))
}

/// A body, JSON or YAML.
pub(super) struct Body(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::new(error.status(), error.body_text()))?;
        format::read(&headers, &bytes).map(Self)
    }
}

/// A name in the path; any text is a name, whether something has it or not.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Names([name]) = Names::from_request_parts(parts, state).await?;
        Ok(Self(name))
    }
}

/// As many names as the path has.
pub(super) struct Names<const N: usize>(pub(super) [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Names<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<Vec<String>>::from_request_parts(parts, state).await;
        let axum::extract::Path(names) =
            path.map_err(|error| Problem::new(error.status(), error.body_text()))?;
        names
            .try_into()
            .map(Self)
            .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "the path has other names"))
    }
}

/// A revision in the path.
pub(super) fn revision(name: &str) -> Result<u64, Problem> {
    let no_number = |_| format!("`{name}` is no revision: a number is expected");
    name.parse().map_err(no_number).map_err(|detail| Problem::new(StatusCode::BAD_REQUEST, detail))
}

/// Query parameters.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: for<'de> Deserialize<'de>> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(parameters)| Self(parameters))
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    /// Only names that begin so
    #[serde(default)]
    prefix: String,
    /// Only names behind this one: `next` of the page before
    after: Option<String>,
    /// At most so many
    #[param(default = 1000, minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Most items of one page.
const PAGE: u64 = 1_000;

impl Listing {
    pub(super) const fn new(prefix: String, after: Option<String>, limit: Option<u64>) -> Self {
        Self { prefix, after, limit }
    }

    /// The same, of names that begin with this and go on as the listing says.
    pub(super) fn below(self, within: &str) -> Self {
        let Self { prefix, after, limit } = self;
        Self::new(format!("{within}{prefix}"), after.map(|after| format!("{within}{after}")), limit)
    }

    /// The items of this page in the order of their names, and the name to go on behind; none on the last.
    pub(super) fn page<'a, T>(
        &self,
        all: &'a BTreeMap<String, Arc<T>>,
    ) -> Result<(Vec<&'a T>, Option<&'a str>), Problem> {
        let limit = self.limit.unwrap_or(PAGE);
        within("limit", limit, 1, PAGE)?;
        let start = match &self.after {
            Some(after) if *after >= self.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(self.prefix.as_str()),
        };
        let mut rest = all.range::<str, _>((start, Bound::Unbounded));
        let mut rest = rest.by_ref().take_while(|(name, _)| name.starts_with(&self.prefix)).peekable();
        let (mut items, mut last) = (Vec::new(), None);
        while items.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            let Some((name, item)) = rest.next() else { break };
            items.push(&**item);
            last = Some(name.as_str());
        }
        let more = rest.peek().is_some();
        Ok((items, last.filter(|_| more)))
    }
}

/// Refuses a number that is out of its range: taken for another, it would surprise.
pub(super) fn within(name: &str, number: u64, least: u64, most: u64) -> Result<(), Problem> {
    if (least..=most).contains(&number) {
        return Ok(());
    }
    let detail = format!("{name}: {number} is not within {least} to {most}");
    Err(Problem::new(StatusCode::BAD_REQUEST, detail))
}
