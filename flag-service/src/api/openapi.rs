//! The OpenAPI document: its frame, and what many operations have in common. Each operation describes
//! itself, beside its handler; shapes are derived from what is read and written.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, ContentBuilder, OpenApi, Ref, RefOr, Required, ResponseBuilder, response};
use utoipa::{IntoResponses, OpenApi as _};

use super::format::NEGOTIATED;
use super::problem::Problem;
use crate::access::right::ROUTES;
use crate::model::Kind;

/// What the document calls a credential.
const BEARER: &str = "bearer";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Rampart",
        description = "Flags, modules and providers, as operators change them and Envoys follow. docs/api.md says \
                       what holds for every operation.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    tags(
        (name = "flags", description = "Feature flags: who has them, and why"),
        (name = "features", description = "Flags as plain switches"),
        (name = "modules", description = "Modules: who serves which routes"),
        (name = "providers", description = "Token issuers and their keys"),
        (name = "segments", description = "Named lists of organisations, for flags to name"),
        (name = "keys", description = "API keys: who may ask, and for what"),
        (name = "policy", description = "The settings, and what filters decide by"),
        (name = "history", description = "What was changed, and its way back"),
        (name = "openfeature", description = "OFREP 0.3, for OpenFeature SDKs; docs/openfeature.md describes it"),
        (name = "service", description = "The service itself, and the Envoys that follow it"),
    )
)]
struct Frame;

/// The document without its operations.
pub(super) fn frame() -> OpenApi {
    Frame::openapi()
}

/// The document, once all operations are in it.
pub(super) fn complete(mut api: OpenApi) -> Document {
    for (path, item) in &mut api.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("PUT", &mut item.put),
            ("POST", &mut item.post),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                describe(path, operation);
                guarded(method, path, operation);
            }
        }
    }
    // A route's wildcard: OpenAPI has no word for a name that may hold slashes.
    let paths = std::mem::take(&mut api.paths.paths);
    api.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    if let Some(components) = &mut api.components {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("An API key, or a token of an issuer that the settings name"));
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer.build()));
        for (resource, kind) in [
            ("Flag", Kind::Flag),
            ("Provider", Kind::Provider),
            ("Module", Kind::Module),
            ("Segment", Kind::Segment),
            ("OrganisationModule", Kind::OrganisationModule),
        ] {
            if let Some(schema) = components.schemas.get(resource).map(|schema| unnamed(schema, kind)) {
                components.schemas.insert(format!("Unnamed{resource}"), schema);
            }
        }
        if let Some(patch) = components.schemas.get("Flag").map(patch) {
            components.schemas.insert("FlagPatch".to_owned(), patch);
        }
    }
    Document(api.to_json().unwrap_or_default().into())
}

/// What is the same for each operation, and what cannot be derived.
fn describe(path: &str, operation: &mut Operation) {
    // Named after its handler, which is unique within its tag.
    let tag = operation.tags.iter().flatten().next().map_or("", |tag| tag.as_str());
    operation.operation_id = operation.operation_id.take().map(|handler| format!("{tag}_{handler}"));
    for parameter in operation.parameters.iter_mut().flatten() {
        // A parameter may be left out. There is no way to send one that is null.
        let RefOr::T(parameter) = parameter else { continue };
        if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
            && let SchemaType::Array(types) = &schema.schema_type
        {
            let named = types.iter().find(|kind| **kind != Type::Null).cloned();
            schema.schema_type = named.map_or(SchemaType::AnyValue, SchemaType::Type);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.required = Some(Required::True);
        if path.starts_with(NEGOTIATED) {
            let yaml = in_yaml(body.content.iter());
            body.content.extend(yaml);
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && path.starts_with(NEGOTIATED)
        {
            let yaml = in_yaml(response.content.iter());
            response.content.extend(yaml);
        }
    }
    if let Some(RefOr::T(done)) = operation.responses.responses.get_mut("200") {
        done.description = operation.summary.clone().unwrap_or_default();
    }
}

/// Who may ask, and what everybody else is told.
fn guarded(method: &str, path: &str, operation: &mut Operation) {
    let row = ROUTES.iter().find(|(of, at, _)| (*of, *at) == (method, path));
    let Some((.., Some(right))) = row else { return };
    operation.security = Some(vec![SecurityRequirement::new(BEARER, [""; 0])]);
    let least = format!("Asks for the role `{}`.", right.least());
    let described = operation.description.take();
    operation.description =
        Some(described.map_or_else(|| least.clone(), |text| format!("{text}\n\n{least}")));
    for (status, refusal) in refusals(&[NOBODY, NOT_ALLOWED, TOO_MANY]) {
        operation.responses.responses.entry(status).or_insert(refusal);
    }
}

/// What is JSON may be YAML as well.
fn in_yaml<'a>(
    content: impl Iterator<Item = (&'a String, &'a RefOr<Content>)>,
) -> Vec<(String, RefOr<Content>)> {
    let as_json = content.filter(|(name, _)| name.ends_with("json"));
    as_json.map(|(name, content)| (name.replace("json", "yaml"), content.clone())).collect()
}

/// A resource whose name is in the path: it need not be in the body.
fn unnamed(schema: &RefOr<Schema>, kind: Kind) -> RefOr<Schema> {
    let mut schema = schema.clone();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.required.retain(|required| !kind.name_members().contains(&&**required));
    }
    schema
}

/// RFC 7396: any of the members, and `null` for its default.
fn patch(schema: &RefOr<Schema>) -> RefOr<Schema> {
    let mut schema = unnamed(schema, Kind::Flag);
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.required.clear();
        object.description = Some("Members to set; `null` restores a member's default (RFC 7396)".to_owned());
        for member in object.properties.values_mut() {
            let null = ObjectBuilder::new().schema_type(Type::Null);
            *member = AnyOfBuilder::new().item(member.clone()).item(null).into();
        }
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    }
    schema
}

/// The document, as it is served.
#[derive(Debug, Clone)]
pub(super) struct Document(Arc<str>);

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses((status = 200, body = Object)))]
pub(super) async fn openapi(Extension(Document(text)): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
}

/// What a request that only reads may be refused with.
pub(super) struct Reading;

/// The same, about something that may not exist.
pub(super) struct Finding;

/// What a write may be refused with.
pub(super) struct Writing;

/// What OFREP is refused with, in its own words.
pub(super) struct Failing;

const NOBODY: (StatusCode, &str) =
    (StatusCode::UNAUTHORIZED, "There is no API key and no token, or none that counts");
const NOT_ALLOWED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "The asker's role may not ask for it");
const TOO_MANY: (StatusCode, &str) =
    (StatusCode::TOO_MANY_REQUESTS, "Too many wrong credentials came from this address");
const MALFORMED: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "The request does not read");
const ABSENT: (StatusCode, &str) = (StatusCode::NOT_FOUND, "There is no such thing, perhaps a near one");
const AWAY: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "The store cannot be used now");
const UNPROVEN: (StatusCode, &str) = (StatusCode::CONFLICT, "What is in the store contradicts itself");

impl IntoResponses for Reading {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refusals(&[MALFORMED, UNPROVEN, AWAY])
    }
}

impl IntoResponses for Finding {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refusals(&[MALFORMED, ABSENT, UNPROVEN, AWAY])
    }
}

impl IntoResponses for Writing {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refusals(&[
            MALFORMED,
            (StatusCode::FORBIDDEN, "The asker's role may not do it, or a page of another site asks"),
            ABSENT,
            (StatusCode::CONFLICT, "Somebody else has changed it since it was read: both sides are told"),
            (StatusCode::PRECONDITION_FAILED, "It exists already and was to be new, or the other way round"),
            (StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 8 MiB"),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is neither JSON nor YAML"),
            (StatusCode::UNPROCESSABLE_ENTITY, "It makes no sense: each field with what is wrong"),
            (StatusCode::PRECONDITION_REQUIRED, "It exists, and `If-Match` does not say which one was read"),
            AWAY,
        ])
    }
}

impl IntoResponses for Failing {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        let failure =
            |what: &str| ResponseBuilder::new().description(what).content("application/json", object());
        let list = [
            ("400", "The context does not do"),
            ("404", "There is no such flag"),
            ("413", "It is too large"),
        ];
        list.into_iter().map(|(status, what)| (status.to_owned(), failure(what).build().into())).collect()
    }
}

fn object() -> Content {
    ContentBuilder::new().schema(Some(ObjectBuilder::new())).build()
}

fn refusals(list: &[(StatusCode, &str)]) -> BTreeMap<String, RefOr<response::Response>> {
    let problem = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let refusal =
        |what: &str| ResponseBuilder::new().description(what).content("application/problem+json", problem());
    list.iter().map(|(status, what)| (status.as_str().to_owned(), refusal(what).build().into())).collect()
}

/// What every write may carry besides its body.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by `Meta`, and described here")]
pub(super) struct WriteHeaders {
    /// The entity tag of what was read, or `*` for whatever is there; must be given to change what exists
    #[param(required = false, rename = "If-Match", example = "\"42\"")]
    if_match: String,
    /// Only make what is new
    #[param(required = false, rename = "If-None-Match", inline)]
    if_none_match: Anything,
    /// A text of one's own, new for each change: the same request under the same key is answered as before
    #[param(required = false, rename = "Idempotency-Key", max_length = 255, pattern = r"^[!#-\[\]-~]+$")]
    idempotency_key: String,
    /// For whom the bearer of an API key asks, for the history
    #[param(required = false, rename = "X-Rampart-Actor")]
    actor: String,
    /// Why, for the history
    #[param(required = false, rename = "X-Rampart-Reason")]
    reason: String,
}

/// What a write may carry whose answer holds a secret: it is not answered a second time.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by `Meta`, and described here")]
pub(super) struct SecretHeaders {
    /// For whom the bearer of an API key asks, for the history
    #[param(required = false, rename = "X-Rampart-Actor")]
    actor: String,
    /// Why, for the history
    #[param(required = false, rename = "X-Rampart-Reason")]
    reason: String,
}

/// Whatever there is.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is described here only")]
enum Anything {
    #[schema(rename = "*")]
    Anything,
}
