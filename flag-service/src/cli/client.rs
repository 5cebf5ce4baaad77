//! Asks the flag service, and turns its refusals into sentences.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Global;
use super::connection::Connection;
use super::output::{Output, complain, items, text};
use super::wait::settle;

/// What has its place beside the API's other resources, where scripts look for it.
const BESIDE: [&str; 2] = ["disable-all", "restore"];
/// Most warnings that are shown.
const WARNINGS: usize = 20;

/// What to do without a credential.
const NO_KEY: &str = "the flag service asks who you are: put an API key into RAMPART_API_KEY, or its file's name into \
                      RAMPART_API_KEY_FILE (on the flag service's own machine, the user that it runs as needs none; an \
                      admin makes keys with `rampart key create`)";

/// A connection to the flag service.
pub(super) struct Client {
    connection: Connection,
    /// Opened with the first request.
    http: OnceLock<reqwest::Client>,
    base: String,
    /// For whom a change is asked; may be empty.
    pub(super) actor: String,
    /// Why something is asked for; may be empty.
    pub(super) reason: String,
    /// Whether changes are only tried.
    pub(super) dry_run: bool,
    /// Whether a change is made though it leaves others without what they need.
    pub(super) force: bool,
    wait: bool,
    /// How long Envoys are waited for.
    pub(super) patience: Duration,
    /// How answers are written.
    pub(super) output: Output,
}

/// What the service answered, good or bad.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    tag: Option<String>,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service refused, and why.
    Refused(String),
    /// Somebody else was faster.
    Conflict(String),
    /// There are differences, and they are told.
    Different,
    /// The change is made, and not every Envoy has it.
    NotEverywhere(String),
    /// The service cannot be reached.
    Unreachable(String),
    /// Something on this side: a file, a key.
    Local(anyhow::Error),
    /// What was asked was done, and the answer cannot be written.
    Unwritten(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason)
            | Self::Conflict(reason)
            | Self::NotEverywhere(reason)
            | Self::Unreachable(reason) => f.write_str(reason),
            Self::Different => f.write_str("there are differences"),
            Self::Local(error) => write!(f, "{error:#}"),
            Self::Unwritten(error) => {
                write!(
                    f,
                    "the answer cannot be written to stdout (a change that was asked for is made): {error}"
                )
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}

impl Client {
    pub(super) fn new(global: &Global) -> Self {
        Self {
            connection: global.connection.clone(),
            http: OnceLock::new(),
            base: global.api.trim_end_matches('/').to_owned(),
            actor: global.actor.clone(),
            reason: global.reason.clone(),
            dry_run: global.dry_run,
            force: false,
            wait: global.wait,
            patience: Duration::from_secs(global.wait_timeout),
            output: global.output,
        }
    }

    /// Reads.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        Ok(self.send(Method::GET, path, query, None, None).await?.0)
    }

    /// Has something done that changes nothing an operator set up.
    pub(super) async fn request(&self, path: &[&str]) -> Result<Value, Failure> {
        Ok(self.send(Method::POST, path, &[], None, None).await?.0)
    }

    /// Reads a list, page by page: its items under `member`.
    pub(super) async fn list(&self, path: &[&str], member: &str) -> Result<Value, Failure> {
        let mut all = self.get(path, &[]).await?;
        while let Some(next) = all["next"].as_str().map(str::to_owned) {
            let page = self.get(path, &[("after", &next)]).await?;
            let items = items(&page, member).iter().cloned();
            if let Value::Array(list) = &mut all[member] {
                list.extend(items);
            }
            all["next"] = page["next"].clone();
        }
        Ok(all)
    }

    /// Reads what may not be there; also its entity tag.
    pub(super) async fn find(&self, path: &[&str]) -> Result<Option<(Value, Option<String>)>, Failure> {
        let answer = self.ask(Method::GET, path, &[], None, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some((answer.body, answer.tag))),
            _ => Err(answer.refusal()),
        }
    }

    /// Reads what is to be changed and written back; also its entity tag.
    pub(super) async fn get_tagged(&self, path: &[&str]) -> Result<(Value, Option<String>), Failure> {
        self.send(Method::GET, path, &[], None, None).await
    }

    /// Asks for something that is not there yet; prints what came of it.
    pub(super) async fn create(&self, path: &[&str], body: &Value) -> Result<(), Failure> {
        self.change_if(Method::PUT, path, Some(body), Some(("if-none-match", "*"))).await
    }

    /// Asks for a change of what is read at `seen`, new or not; prints what came of it. Where somebody
    /// else changes it in between, nothing is changed.
    pub(super) async fn change_seen(
        &self,
        method: Method,
        path: &[&str],
        seen: &[&str],
        body: Option<&Value>,
    ) -> Result<(), Failure> {
        let tag = match self.get_tagged(seen).await {
            Ok((_, tag)) => tag,
            // What is wrong with it, the change itself is told.
            Err(Failure::Refused(_)) => None,
            Err(failure) => return Err(failure),
        };
        self.change_based_on(method, path, body, tag.as_deref()).await
    }

    /// Asks for a change that nothing may stand in the way of; prints what came of it.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<(), Failure> {
        self.change_if(method, path, body, None).await
    }

    /// Asks for a change of what was read under this entity tag; prints what came of it.
    pub(super) async fn change_based_on(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        tag: Option<&str>,
    ) -> Result<(), Failure> {
        self.change_if(method, path, body, tag.map(|tag| ("if-match", tag))).await
    }

    async fn change_if(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        condition: Option<(&str, &str)>,
    ) -> Result<(), Failure> {
        let answer = self.submit(method, path, body, condition).await?;
        self.output.show(&answer, done)?;
        self.settled(&answer).await
    }

    /// Asks for a change, or only tries it; what came of it, but for its warnings, is the caller's to show.
    pub(super) async fn submit(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        condition: Option<(&str, &str)>,
    ) -> Result<Value, Failure> {
        let switches = [("dry_run", self.dry_run), ("force", self.force)];
        let query: Vec<_> =
            switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true")).collect();
        let (answer, _) = self.send(method, path, &query, body, condition).await?;
        warn(&answer);
        Ok(answer)
    }

    /// Where it is asked for, waits until every Envoy has the change that this answers.
    pub(super) async fn settled(&self, answer: &Value) -> Result<(), Failure> {
        match answer["revision"].as_u64() {
            Some(revision) if self.wait && !self.dry_run => settle(self, revision).await,
            _ => Ok(()),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        condition: Option<(&str, &str)>,
    ) -> Result<(Value, Option<String>), Failure> {
        let answer = self.ask(method, path, query, body, condition).await?;
        if answer.status.is_success() { Ok((answer.body, answer.tag)) } else { Err(answer.refusal()) }
    }

    fn http(&self) -> Result<&reqwest::Client, Failure> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let http = self.connection.open()?;
        Ok(self.http.get_or_init(|| http))
    }

    /// Asks, and leaves it to the caller what a refusal means.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        condition: Option<(&str, &str)>,
    ) -> Result<Answer, Failure> {
        let unusable =
            |error: &dyn fmt::Display| Failure::Unreachable(format!("`{}` is no URL: {error}", self.base));
        let below = if BESIDE.iter().any(|beside| path == [*beside]) { "" } else { "/api/v1" };
        let url = format!("{}{below}", self.base);
        let mut url = reqwest::Url::parse(&url).map_err(|error| unusable(&error))?;
        // Names are data: whatever they hold, each is one segment. A URL knows no segments of these
        // three: they would lead to another resource.
        if let Some(name) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(anyhow::anyhow!("`{name}` is no name").into());
        }
        url.path_segments_mut().map_err(|()| unusable(&"it has no path"))?.extend(path);
        let credential = self.connection.credential(&self.base)?;
        let known = credential.is_some();
        let mut request = self.http()?.request(method, url).query(query);
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        request = request.header("user-agent", concat!("rampart/", env!("CARGO_PKG_VERSION")));
        for (name, value) in [("x-rampart-actor", &self.actor), ("x-rampart-reason", &self.reason)] {
            if !value.is_empty() {
                // A header is one line; a reason may be pasted with several.
                request = request.header(name, value.replace(char::is_control, " ").into_bytes());
            }
        }
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| {
            Failure::Unreachable(format!(
                "the flag service at {} cannot be reached: {}",
                self.base,
                root_cause(&error)
            ))
        })?;
        let status = answer.status();
        let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = answer.bytes().await.map_err(|error| {
            Failure::Unreachable(format!(
                "the flag service at {} broke off: {}",
                self.base,
                root_cause(&error)
            ))
        })?;
        let value = serde_json::from_slice(&body).map_err(|_| {
            Failure::Unreachable(format!(
                "what answers at {} is no flag service ({status}, no JSON)",
                self.base
            ))
        })?;
        if status == StatusCode::UNAUTHORIZED && !known {
            return Err(Failure::Refused(NO_KEY.to_owned()));
        }
        Ok(Answer { status, body: value, tag })
    }
}

impl Answer {
    /// Why it was refused.
    pub(super) fn refusal(&self) -> Failure {
        let sentence = sentence(&self.body);
        // A history that contradicts a proof is a conflict too, and nobody was faster.
        let faster = self.status == StatusCode::CONFLICT && self.body["conflict"].is_object();
        if faster { Failure::Conflict(sentence) } else { Failure::Refused(sentence) }
    }
}

/// What came of a change.
pub(super) fn done(answer: &Value) -> String {
    let (revision, summary) = (&answer["revision"], answer["summary"].as_str().unwrap_or_default());
    if answer["applied"] == false {
        return format!("not applied, tried at revision {revision}: {summary}");
    }
    format!("revision {revision}: {summary}")
}

/// Tells an answer's warnings: on stderr, so that stdout holds nothing but the answer.
pub(super) fn warn(answer: &Value) {
    let warnings = items(answer, "warnings");
    for warning in warnings.iter().take(WARNINGS) {
        complain(format_args!("warning: {}", line(warning)));
    }
    if let Some(more) = warnings.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
        complain(format_args!("warning: and {more} more: GET /api/v1/policy/warnings"));
    }
}

/// A problem document as lines: one per field, or else its detail.
fn sentence(problem: &Value) -> String {
    let detail = problem["detail"].as_str().unwrap_or("refused without a reason");
    let lines: Vec<String> = items(problem, "errors").iter().map(line).collect();
    if lines.is_empty() { detail.to_owned() } else { lines.join("\n       ") }
}

/// What is wrong, and where.
fn line(problem: &Value) -> String {
    let (field, reason) = (text(&problem["field"]), text(&problem["problem"]));
    if field.is_empty() { reason } else { format!("{field}: {reason}") }
}

/// The last cause says what happened; those before it say that something did.
fn root_cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let cause = causes.last().map(ToString::to_string).unwrap_or_default();
    if cause.ends_with("UnknownIssuer") { cause + ": name who vouches for it with --ca-cert" } else { cause }
}
