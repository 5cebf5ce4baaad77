//! The registry: in which state modules are, how they came there, and what stands against a manifest.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::meta::{Body, Meta, Name, Parameters, within};
use super::modules::{open, standings};
use super::openapi::{Finding, Reading, Writing};
use super::problem::{FieldProblem, Problem};
use super::system::NEWEST;
use super::{Api, tagged};
use crate::access::Role;
use crate::model::{Change, Kind, Lifecycle, Refusal, manifest};
use crate::registry::{self, Discovery, Overlap, overlaps};
use crate::running::HealthStatus;
use crate::store::Event;
use crate::writer::{Submission, WriteError};

/// Most events in one answer.
const PAGE: u32 = 1_000;

/// A module's state and health.
#[derive(Serialize, ToSchema)]
struct Status {
    module_id: String,
    state: Lifecycle,
    metadata: Metadata,
    health: ModuleHealth,
}

#[derive(Serialize, ToSchema)]
struct Metadata {
    /// What people call it
    name: String,
    /// Its own version, not that of its paths
    version: String,
    module_type: String,
}

#[derive(Serialize, ToSchema)]
struct ModuleHealth {
    /// `unknown` where no Envoy reports it
    status: HealthStatus,
    /// When that was reported (RFC 3339, UTC); none where it was not
    last_check: Option<String>,
}

/// A module's state and health.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules/{id}/status", tag = "modules",
    params(("id" = String, Path, description = "The module's id")),
    responses((status = 200, body = Status), Finding),
)]
pub(super) async fn status(State(api): State<Api>, Name(id): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let mut standings = standings(&api).await;
    let (state, manifest) = match standings.remove(&id) {
        Some(standing) => (standing.state, standing.manifest),
        None => {
            let last = api.writer.store().lifecycle(Some(&id), NEWEST, 1).await?;
            let last = last.first().filter(|event| event.to == Lifecycle::Unregistered);
            (last.ok_or_else(|| head.state.missing(Kind::Module, &id))?.to, None)
        }
    };
    let module = head.state.modules.get(&id).map(|module| &**module).or(manifest.as_ref());
    let health = api.fleet.running().health().remove(&id);
    let status = health.as_ref().map_or(HealthStatus::Unknown, |health| health.status);
    let last_check = health.and_then(|health| i64::try_from(health.last_check_ms?).ok());
    let time = |at| jiff::Timestamp::from_millisecond(at).unwrap_or_default().to_string();
    let status = Status {
        metadata: Metadata {
            name: module.map_or(&*id, |module| module.title()).to_owned(),
            version: module.map(|module| module.release.clone()).unwrap_or_default(),
            module_type: module.map(|module| module.module_type.clone()).unwrap_or_default(),
        },
        module_id: id,
        state,
        health: ModuleHealth { status, last_check: last_check.map(time) },
    };
    Ok(axum::Json(status).into_response())
}

#[derive(Serialize, ToSchema)]
struct Discovered {
    /// The folder; none where the service reads none
    folder: Option<String>,
    #[serde(flatten)]
    discovery: Discovery,
    revision: u64,
}

/// Looks at the folder of manifests now: registers what is new or changed, and what was removed otherwise.
#[utoipa::path(
    post, path = "/api/v1/module-management/modules/discover", tag = "modules",
    responses((status = 200, body = Discovered), Writing),
)]
pub(super) async fn discover(State(api): State<Api>) -> Result<Response, Problem> {
    open(&api)?;
    let unreadable = |trouble: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, trouble);
    let discovery = api.registry.look(&api.writer, true).await.map_err(unreadable)?;
    let folder = api.registry.folder().map(|folder| folder.display().to_string());
    let discovered = Discovered { folder, discovery, revision: api.writer.head().revision };
    Ok(axum::Json(discovered).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only what became of this module
    module: Option<String>,
    /// Only events before this number: `next` of the page before
    before: Option<u64>,
    /// At most so many
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
struct RegistrationHistory {
    events: Vec<Event>,
    /// `before` of the next page; none on the last
    next: Option<u64>,
}

/// States that modules entered, newest first.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules/registration-history", tag = "modules",
    params(Wanted),
    responses((status = 200, body = RegistrationHistory), Reading),
)]
pub(super) async fn history(
    State(api): State<Api>,
    Parameters(Wanted { module, before, limit }): Parameters<Wanted>,
) -> Result<Response, Problem> {
    let (before, limit) = (before.unwrap_or(NEWEST), limit.unwrap_or(100));
    within("before", before, 0, NEWEST)?;
    within("limit", u64::from(limit), 1, u64::from(PAGE))?;
    let mut events = api.writer.store().lifecycle(module.as_deref(), before, limit + 1).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| more).map(|event| event.number);
    Ok(axum::Json(RegistrationHistory { events, next }).into_response())
}

/// The routes of all modules, and what each asks of a caller: an OpenAPI document.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules/openapi.json", tag = "modules",
    responses((status = 200, body = Object), Reading),
)]
pub(super) async fn index(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let modules = head.state.modules.values().map(|module| &**module);
    tagged(head.revision, &registry::index(modules, head.revision))
}

#[derive(Serialize, ToSchema)]
struct Conflicts {
    /// Manifests that claim what another module has; nothing in conflict is ever registered
    conflicts: Vec<Claim>,
    /// Routes of different modules that some path leads to: the more specific one wins
    overlaps: Vec<Overlap>,
    revision: u64,
}

/// A claim to what another module has.
#[derive(Serialize, ToSchema)]
struct Claim {
    /// The file in the folder
    file: String,
    #[serde(flatten)]
    problem: FieldProblem,
}

/// Claims to routes that other modules have, and routes that overlap.
#[utoipa::path(
    get, path = "/api/v1/module-management/routing/conflicts", tag = "modules",
    responses((status = 200, body = Conflicts), Reading),
)]
pub(super) async fn conflicts(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let mut conflicts = Vec::new();
    for (file, flaws) in api.registry.refused() {
        for flaw in flaws.into_iter().filter(|flaw| is_claim(&flaw.problem)) {
            let problem =
                FieldProblem { field: flaw.field, problem: flaw.problem, line: flaw.line, column: None };
            conflicts.push(Claim { file: file.clone(), problem });
        }
    }
    let overlaps = overlaps(head.state.modules.values().map(|module| &**module));
    tagged(head.revision, &Conflicts { conflicts, overlaps, revision: head.revision })
}

/// What came of trying a manifest.
#[derive(Serialize, ToSchema)]
struct Checked {
    /// Whether it would be registered
    valid: bool,
    /// Claims to what other modules have
    conflicts: Vec<FieldProblem>,
    /// What else is wrong
    errors: Vec<FieldProblem>,
    /// What may not be meant
    warnings: Vec<FieldProblem>,
    revision: u64,
}

/// Tries a manifest, and changes nothing. What does not even read as one is refused.
#[utoipa::path(
    post, path = "/api/v1/module-management/routing/conflicts", tag = "modules",
    request_body(content = crate::model::Module),
    responses((status = 200, body = Checked), Writing),
)]
pub(super) async fn check(State(api): State<Api>, meta: Meta, Body(body): Body) -> Result<Response, Problem> {
    let revision = api.writer.head().revision;
    let module = manifest::read(body)?;
    let submission = meta.trying().submit(Change::PutModule(Box::new(module)));
    // Whoever may read everything may try anything: nothing comes of it.
    let tried = api.writer.submit(Submission { role: Role::Admin, ..submission }).await;
    let fields = |problems: Vec<rampart_engine::policy::Problem>| {
        problems.into_iter().map(FieldProblem::from).collect::<Vec<_>>()
    };
    let (problems, warnings) = match tried {
        Ok(accepted) => (Vec::new(), fields(accepted.warnings)),
        Err(WriteError::Senseless(problems) | WriteError::Refused(Refusal::Several(problems))) => {
            (fields(problems), Vec::new())
        }
        Err(WriteError::Refused(Refusal::Malformed { field, problem })) => {
            (fields(vec![rampart_engine::policy::Problem { field, problem }]), Vec::new())
        }
        Err(error) => return Err(error.into()),
    };
    let (conflicts, errors): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|problem| is_claim(&problem.problem));
    let valid = conflicts.is_empty() && errors.is_empty();
    Ok(axum::Json(Checked { valid, conflicts, errors, warnings, revision }).into_response())
}

/// Whether the engine's words are about a route that is claimed twice.
fn is_claim(problem: &str) -> bool {
    problem.contains(" is claimed ")
}

/// How the module system is.
#[derive(Serialize, ToSchema)]
struct SystemHealth {
    /// The worst of its components
    status: Level,
    components: Components,
    revision: u64,
}

#[derive(Serialize, ToSchema)]
struct Components {
    store: Component,
    envoys: Component,
    modules: Component,
    registry: Component,
}

#[derive(Serialize, ToSchema)]
struct Component {
    status: Level,
    /// What there is, or what is wrong
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[schema(as = HealthLevel)]
#[serde(rename_all = "lowercase")]
enum Level {
    Healthy,
    Degraded,
    Unhealthy,
}

/// How the module system is: the worst of the store, the Envoys, the modules and the registry.
#[utoipa::path(
    get, path = "/api/v1/module-management/system/health", tag = "modules",
    responses((status = 200, body = SystemHealth), Reading),
)]
pub(super) async fn health(State(api): State<Api>) -> Response {
    let head = api.writer.head();
    let component = |status, detail: String| Component { status, detail };
    let store = match api.writer.store().revision().await {
        Ok(revision) => component(Level::Healthy, format!("revision {revision}")),
        // Envoys serve on, and nothing can be changed.
        Err(error) => component(Level::Unhealthy, error.to_string()),
    };
    let nodes = api.fleet.nodes();
    let connected: Vec<_> = nodes.iter().filter(|node| node.connected).collect();
    let refusing = connected.iter().filter(|node| node.types.values().any(|status| status.nacked.is_some()));
    let envoys = match (connected.len(), refusing.count()) {
        (0, _) => component(Level::Degraded, "no Envoy is connected to this process".to_owned()),
        (all, 0) => component(Level::Healthy, format!("{all} connected")),
        (all, some) => component(Level::Degraded, format!("{some} of {all} refuse what they are sent")),
    };
    let standings = standings(&api).await;
    let health = api.fleet.running().health();
    let unhealthy = |id| health.get(id).is_some_and(|health| health.status == HealthStatus::Unhealthy);
    let wrong: Vec<&str> = standings
        .iter()
        .filter(|(id, standing)| standing.state == Lifecycle::Error || unhealthy(*id))
        .map(|(id, _)| &**id)
        .collect();
    let registered = head.state.modules.len();
    let modules = match wrong.split_first() {
        None => component(Level::Healthy, format!("{registered} registered")),
        Some((first, others)) => {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            component(Level::Degraded, format!("{registered} registered; `{first}`{more} in trouble"))
        }
    };
    let registry = match (api.registry.trouble(), api.registry.folder()) {
        (Some(trouble), _) => component(Level::Degraded, trouble),
        (None, Some(folder)) => component(Level::Healthy, format!("reads {}", folder.display())),
        (None, None) => component(Level::Healthy, "reads no folder".to_owned()),
    };
    let components = Components { store, envoys, modules, registry };
    let Components { store, envoys, modules, registry } = &components;
    let worst = [store, envoys, modules, registry].into_iter().map(|component| component.status).max();
    let status = worst.unwrap_or(Level::Healthy);
    axum::Json(SystemHealth { status, components, revision: head.revision }).into_response()
}
