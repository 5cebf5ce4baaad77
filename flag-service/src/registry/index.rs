//! The routes of all modules as one OpenAPI document: where they are, and what they ask of a caller. What a
//! request holds, and what comes back, is each module's own to say. Pure.

use std::collections::BTreeMap;

use rampart_engine::policy::wire::{Auth, Gate, Level, Route, Tenant};
use rampart_engine::route::EVERYTHING;
use serde_json::{Map, Value, json};

use crate::model::Module;

/// What a route serves that names no method, in OpenAPI's words.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// The document (OpenAPI 3.1) of these modules at a revision.
pub fn index<'a>(modules: impl Iterator<Item = &'a Module>, revision: u64) -> Value {
    let mut paths = Paths::default();
    let mut tags = Vec::new();
    let everything = [Route { path: EVERYTHING.to_owned(), ..Route::default() }];
    for module in modules {
        tags.push(tag(module));
        let routes = if module.routes.is_empty() { &everything[..] } else { &module.routes };
        for namespace in std::iter::once(&module.namespace).chain(&module.aliases) {
            for route in routes {
                paths.add(module, namespace, route);
            }
        }
    }
    let refusal = |description: &str| {
        json!({"description": description, "content": {"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"}}}})
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Modules",
            "description": "The routes of all modules that are registered, and what each asks of a caller.",
            "version": revision.to_string(),
        },
        "tags": tags,
        "paths": paths.items,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {
                "Unauthenticated": refusal("There is no token, or none that counts"),
                "Forbidden": refusal("The token is not for this"),
            },
            "schemas": {"Problem": {"type": "object", "description": "RFC 9457", "properties": {
                "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                "reason": {"type": "string"}, "detail": {"type": "string"},
            }}},
        },
    })
}

fn tag(module: &Module) -> Value {
    let mut tag = json!({"name": module.id, "description": module.description});
    if module.title() != module.id {
        tag["x-displayName"] = json!(module.title());
    }
    if !module.documentation.is_empty() {
        tag["externalDocs"] = json!({"url": module.documentation});
    }
    tag
}

/// Paths as the document has them: of those that differ by the names of parameters alone, it may have one.
#[derive(Default)]
struct Paths {
    items: BTreeMap<String, Map<String, Value>>,
    /// The path that was first, by what it looks like without names.
    first: BTreeMap<String, String>,
}

impl Paths {
    fn add(&mut self, module: &Module, namespace: &str, route: &Route) {
        let below = format!("/api/v1/modules/{}/{namespace}", module.version);
        let own: Vec<&str> = route.path.split('/').map(named).collect();
        let path = format!("{below}{}", own.join("/"));
        let nameless: Vec<&str> =
            own.iter().map(|segment| if segment.starts_with('{') { "{}" } else { *segment }).collect();
        let path = self.first.entry(format!("{below}{}", nameless.join("/"))).or_insert(path).clone();
        let operation = operation(module, route, &path);
        let item = self.items.entry(path).or_default();
        let methods = route.methods.iter().map(|method| method.to_ascii_lowercase());
        let all = METHODS.iter().map(|method| (*method).to_owned());
        let methods: Vec<String> = if route.methods.is_empty() { all.collect() } else { methods.collect() };
        // OpenAPI has no others.
        for method in methods.into_iter().filter(|method| METHODS.contains(&&**method)) {
            item.insert(method, operation.clone());
        }
    }
}

/// A segment without the mark of a rest, which OpenAPI does not know.
fn named(segment: &str) -> &str {
    if segment.starts_with("{*") { "{rest}" } else { segment }
}

fn operation(module: &Module, route: &Route, path: &str) -> Value {
    let auth = route.auth.as_ref().unwrap_or(&module.auth);
    let mut operation = json!({
        "tags": [module.id],
        "parameters": parameters(module, route, path),
        "security": security(auth),
        "responses": {"default": {"description": "What the module answers"}},
        "x-rampart-level": auth.level,
    });
    if auth.level != Level::None {
        operation["responses"]["401"] = json!({"$ref": "#/components/responses/Unauthenticated"});
        operation["responses"]["403"] = json!({"$ref": "#/components/responses/Forbidden"});
    }
    if !auth.roles.is_empty() {
        operation["x-rampart-roles"] = json!(auth.roles);
    }
    let gates: Vec<&Gate> = module.gates.iter().chain(&route.gates).collect();
    if !gates.is_empty() {
        operation["x-rampart-gates"] = json!(gates);
    }
    operation
}

/// Permissions stand where OpenAPI has room for what a scheme asks.
fn security(auth: &Auth) -> Value {
    if auth.level == Level::None { json!([]) } else { json!([{"token": auth.permissions}]) }
}

fn parameters(module: &Module, route: &Route, path: &str) -> Vec<Value> {
    let is_rest = route.path.contains("{*");
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if let Some(rest) = parameters.last_mut().filter(|_| is_rest) {
        rest["description"] = json!("The rest of the path, with its slashes; it may be empty");
    }
    if let Some(Tenant::Header(name)) = route.tenant.as_ref().or(module.tenant.as_ref()) {
        let description = "The organisation that the request is about: the token's";
        parameters.push(json!({"name": name, "in": "header", "required": true,
                               "description": description, "schema": {"type": "string"}}));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::index;
    use crate::model::Module;

    fn module(manifest: Value) -> Module {
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn a_route_is_told_with_what_it_asks_of_a_caller() {
        let orders = module(json!({
            "id": "orders", "name": "Orders", "description": "Who buys what", "version": "v2", "aliases": ["o"],
            "documentation": "https://docs.example/orders", "endpoints": ["a:1"],
            "auth": {"level": "role", "roles": ["buyer"], "permissions": ["read"]},
            "gates": [{"flag": "shop", "when_off": "forbidden"}], "tenant": {"header": "x-org"},
            "routes": [
                {"path": "/of/{id}", "methods": ["GET", "PURGE"]},
                {"path": "/open/{*all}", "auth": {"level": "none"}, "tenant": "any"}
            ]
        }));
        let document = index([orders].iter(), 7);
        assert_eq!(document["info"]["version"], "7");
        let tag = json!({"name": "orders", "description": "Who buys what", "x-displayName": "Orders",
                         "externalDocs": {"url": "https://docs.example/orders"}});
        assert_eq!(document["tags"], json!([tag]));
        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let [by_alias, by_namespace] = ["o", "orders"].map(|name| format!("/api/v1/modules/v2/{name}"));
        let below = |base: &str| [format!("{base}/of/{{id}}"), format!("{base}/open/{{rest}}")];
        assert_eq!(paths, [below(&by_alias), below(&by_namespace)].as_flattened().iter().collect::<Vec<_>>());
        let string = json!({"type": "string"});
        let organisation = "The organisation that the request is about: the token's";
        let told = json!({"get": {
            "tags": ["orders"],
            "parameters": [
                {"name": "id", "in": "path", "required": true, "schema": string},
                {"name": "x-org", "in": "header", "required": true, "schema": string, "description": organisation}
            ],
            "security": [{"token": ["read"]}],
            "responses": {
                "default": {"description": "What the module answers"},
                "401": {"$ref": "#/components/responses/Unauthenticated"},
                "403": {"$ref": "#/components/responses/Forbidden"}
            },
            "x-rampart-level": "role", "x-rampart-roles": ["buyer"],
            "x-rampart-gates": [{"flag": "shop", "when_off": "forbidden"}]
        }});
        assert_eq!(document["paths"][&format!("{by_namespace}/of/{{id}}")], told);
        let open = &document["paths"][&format!("{by_alias}/open/{{rest}}")];
        assert_eq!(open.as_object().unwrap().len(), 8, "every method");
        assert_eq!(open["trace"]["security"], json!([]));
        assert_eq!(open["trace"]["parameters"].as_array().unwrap().len(), 1);
        assert!(open["trace"]["responses"].get("401").is_none());
    }

    #[test]
    fn paths_that_differ_by_names_alone_are_one() {
        let share = |id: &str, path: &str, method: &str| {
            module(json!({"id": id, "namespace": "n", "endpoints": ["a:1"],
                          "routes": [{"path": path, "methods": [method]}]}))
        };
        let modules = [share("one", "/x/{id}/y", "GET"), share("two", "/x/{name}/y", "POST")];
        let document = index(modules.iter(), 1);
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.keys().collect::<Vec<_>>(), ["/api/v1/modules/v1/n/x/{id}/y"]);
        let item = &paths["/api/v1/modules/v1/n/x/{id}/y"];
        assert_eq!((&item["get"]["tags"][0], &item["post"]["tags"][0]), (&json!("one"), &json!("two")));
        assert_eq!(item["post"]["parameters"][0]["name"], "id");
    }

    #[test]
    fn a_module_without_routes_has_one_for_everything() {
        let document = index([module(json!({"id": "all", "endpoints": ["a:1"]}))].iter(), 1);
        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths, ["/api/v1/modules/v1/all/{rest}"]);
    }
}
