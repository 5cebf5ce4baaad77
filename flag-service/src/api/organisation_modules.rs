//! Organisations and modules: who may use which, how a module is set up for whom, and how often it was used.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use rampart_engine::policy::wire::EnabledFor;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::meta::{Body, Listing, Meta, Name, Names, Parameters, Switches};
use super::openapi::{Finding, Reading, WriteHeaders, Writing};
use super::problem::Problem;
use super::{Api, Written, tagged, written};
use crate::model::change::named;
use crate::model::{Change, Kind, OrganisationModule, tag};
use crate::store::{Pair, Usage};

#[derive(Serialize, ToSchema)]
#[schema(as = OrganisationModules)]
struct List<'a> {
    organisations: Vec<Told<'a>>,
    /// `after` of the next page; none on the last
    next: Option<&'a str>,
    revision: u64,
}

/// What is said of an organisation and a module, and how often it was used.
#[derive(Serialize, ToSchema)]
#[schema(as = ToldOrganisationModule)]
struct Told<'a> {
    #[serde(flatten)]
    record: &'a OrganisationModule,
    /// Requests of the organisation that the module served since something is said of the two
    access_count: u64,
    /// When the last of them was reported (RFC 3339, UTC); none where there was none
    last_accessed_at: Option<String>,
}

/// The modules, as an organisation may use them.
#[derive(Serialize, ToSchema)]
struct ModulesOf<'a> {
    modules: Vec<ModuleOf<'a>>,
    revision: u64,
}

/// A module, as an organisation may use it.
#[derive(Serialize, ToSchema)]
struct ModuleOf<'a> {
    module: &'a str,
    /// Whether the organisation may use it
    enabled: bool,
    /// What is said of the two; none where the module's `enabled_for` decides
    said: Option<Told<'a>>,
}

/// Organisations of which something is said, of one module, in the order of their names.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules/{id}/organisations", tag = "modules",
    params(("id" = String, Path, description = "The module's id"), Listing),
    responses((status = 200, body = List), Finding),
)]
pub(super) async fn organisations(
    State(api): State<Api>,
    Name(id): Name,
    Parameters(listing): Parameters<Listing>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    if !head.state.modules.contains_key(&id) {
        return Err(head.state.missing(Kind::Module, &id).into());
    }
    let within = OrganisationModule::name(&id, "");
    let (records, next) = listing.below(&within).page(&head.state.organisation_modules)?;
    let usage = used(&api, api.writer.store().usage_of_module(&id).await?);
    let organisations = records.into_iter().map(|record| told(record, &usage)).collect();
    let next = next.and_then(|next| next.strip_prefix(&within));
    Ok(tagged(head.revision, &List { organisations, next, revision: head.revision }))
}

/// Every module, and whether an organisation may use it.
#[utoipa::path(
    get, path = "/api/v1/module-management/organisations/{organisation}/modules", tag = "modules",
    params(("organisation" = String, Path, description = "The organisation")),
    responses((status = 200, body = ModulesOf), Reading),
)]
pub(super) async fn modules(State(api): State<Api>, Name(organisation): Name) -> Result<Response, Problem> {
    let head = api.writer.head();
    let usage = used(&api, api.writer.store().usage_of_organisation(&organisation).await?);
    let modules = head.state.modules.values().map(|module| {
        let name = OrganisationModule::name(&module.id, &organisation);
        let record = head.state.organisation_modules.get(&name);
        ModuleOf {
            module: &module.id,
            enabled: record.map_or(module.enabled_for == EnabledFor::All, |record| record.enabled),
            said: record.map(|record| told(record, &usage)),
        }
    });
    Ok(tagged(head.revision, &ModulesOf { modules: modules.collect(), revision: head.revision }))
}

/// What is said of an organisation and a module.
#[utoipa::path(
    get, path = "/api/v1/module-management/modules/{id}/organisations/{organisation}", tag = "modules",
    params(
        ("id" = String, Path, description = "The module's id"),
        ("organisation" = String, Path, description = "The organisation")
    ),
    responses((status = 200, body = Told), Finding),
)]
pub(super) async fn get(
    State(api): State<Api>,
    Names([id, organisation]): Names<2>,
) -> Result<Response, Problem> {
    let head = api.writer.head();
    let name = OrganisationModule::name(&id, &organisation);
    let record = head.state.organisation_modules.get(&name);
    let record = record.ok_or_else(|| head.state.missing(Kind::OrganisationModule, &name))?;
    let usage = used(&api, api.writer.store().usage_of_module(&id).await?);
    Ok(tagged(tag(&**record), &told(record, &usage)))
}

/// Sets what is said of an organisation and a module, new or not.
#[utoipa::path(
    put, path = "/api/v1/module-management/modules/{id}/organisations/{organisation}", tag = "modules",
    params(
        ("id" = String, Path, description = "The module's id"),
        ("organisation" = String, Path, description = "The organisation"),
        WriteHeaders, Switches
    ),
    request_body(content = ref("#/components/schemas/UnnamedOrganisationModule")),
    responses((status = 200, body = Written<OrganisationModule>), Writing),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Names([id, organisation]): Names<2>,
    meta: Meta,
    Body(body): Body,
) -> Result<Response, Problem> {
    let body: Value = named(body, "module", &id)?;
    let mut record: OrganisationModule = named(body, "organisation", &organisation)?;
    record.created_by = Some(meta.actor().to_owned());
    record.created_at = Some(jiff::Timestamp::now().to_string());
    let name = OrganisationModule::name(&id, &organisation);
    submit(&api, meta, &name.clone(), Change::PutOrganisationModule { name, record }).await
}

/// Says nothing more of an organisation and a module: its `enabled_for` decides.
#[utoipa::path(
    delete, path = "/api/v1/module-management/modules/{id}/organisations/{organisation}", tag = "modules",
    params(
        ("id" = String, Path, description = "The module's id"),
        ("organisation" = String, Path, description = "The organisation"),
        WriteHeaders, Switches
    ),
    responses((status = 200, body = Written<OrganisationModule>), Writing),
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Names([id, organisation]): Names<2>,
    meta: Meta,
) -> Result<Response, Problem> {
    let name = OrganisationModule::name(&id, &organisation);
    submit(&api, meta, &name.clone(), Change::DeleteOrganisationModule(name)).await
}

async fn submit(api: &Api, meta: Meta, name: &str, change: Change) -> Result<Response, Problem> {
    let accepted = api.writer.submit(meta.submit(change)).await?;
    let record = accepted.head.state.organisation_modules.get(name).cloned();
    Ok(written(accepted, record.as_deref()))
}

/// What is written down, and what is not yet.
fn used(api: &Api, mut written: BTreeMap<Pair, Usage>) -> BTreeMap<Pair, Usage> {
    for (pair, usage) in api.fleet.running().usages() {
        written.entry(pair).or_default().add(usage);
    }
    written
}

fn told<'a>(record: &'a OrganisationModule, usage: &BTreeMap<Pair, Usage>) -> Told<'a> {
    let usage = usage.get(&(record.module.clone(), record.organisation.clone()));
    let at = usage.and_then(|usage| i64::try_from(usage.last_ms).ok());
    let at = at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    Told {
        record,
        access_count: usage.map_or(0, |usage| usage.requests),
        last_accessed_at: at.map(|at| at.to_string()),
    }
}
