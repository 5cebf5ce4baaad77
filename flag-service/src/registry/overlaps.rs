//! Routes of different modules that some path leads to, of which the more specific one wins. None of it is
//! wrong; it is worth knowing. What cannot be told apart, the engine refuses.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Module;

/// Most overlaps that are told.
const TOLD: usize = 1_000;

/// Two routes, of two modules, that some path leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Overlap {
    /// The version that both are of.
    pub version: String,
    /// The namespace that both are in.
    pub namespace: String,
    /// The modules.
    pub modules: [String; 2],
    /// Their routes' patterns.
    pub routes: [String; 2],
}

/// Every overlap, up to a thousand.
pub fn overlaps<'a>(modules: impl Iterator<Item = &'a Module>) -> Vec<Overlap> {
    let mut shared: BTreeMap<(&str, &str), Vec<&Module>> = BTreeMap::new();
    for module in modules {
        for namespace in std::iter::once(&module.namespace).chain(&module.aliases) {
            shared.entry((&module.version, namespace)).or_default().push(module);
        }
    }
    let mut overlaps = Vec::new();
    for ((version, namespace), modules) in shared {
        for (index, one) in modules.iter().enumerate() {
            for other in modules.iter().skip(index + 1) {
                for (a, b) in pairs(one, other) {
                    overlaps.push(Overlap {
                        version: version.to_owned(),
                        namespace: namespace.to_owned(),
                        modules: [one.id.clone(), other.id.clone()],
                        routes: [a, b],
                    });
                    if overlaps.len() >= TOLD {
                        return overlaps;
                    }
                }
            }
        }
    }
    overlaps
}

fn pairs(one: &Module, other: &Module) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (path, methods) in routes(one) {
        for (other_path, other_methods) in routes(other) {
            let methods = methods.is_empty()
                || other_methods.is_empty()
                || methods.iter().any(|method| other_methods.contains(method));
            if methods && meet(&segments(path), &segments(other_path)) {
                pairs.push((path.to_owned(), other_path.to_owned()));
            }
        }
    }
    pairs
}

fn routes(module: &Module) -> Vec<(&str, &[String])> {
    if module.routes.is_empty() {
        return vec![("/{*path}", &[])];
    }
    module.routes.iter().map(|route| (&*route.path, &*route.methods)).collect()
}

fn segments(pattern: &str) -> Vec<&str> {
    pattern.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Whether some path leads to both.
fn meet(one: &[&str], other: &[&str]) -> bool {
    let is_rest = |pattern: &[&str]| pattern.first().is_some_and(|segment| segment.starts_with("{*"));
    if is_rest(one) || is_rest(other) {
        return true;
    }
    match (one.split_first(), other.split_first()) {
        (None, None) => true,
        (Some((a, one)), Some((b, other))) => {
            (a == b || a.starts_with('{') || b.starts_with('{')) && meet(one, other)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::overlaps;
    use crate::model::Module;

    #[test]
    fn routes_that_a_path_leads_to_are_told_once() {
        let module = |id: &str, namespace: &str, path: &str, method: &str| -> Module {
            let manifest = json!({"id": id, "namespace": namespace, "endpoints": ["a:1"],
                                  "routes": [{"path": path, "methods": [method]}]});
            serde_json::from_value(manifest).unwrap()
        };
        let told = |modules: &[Module]| -> Vec<String> {
            overlaps(modules.iter()).into_iter().map(|overlap| overlap.modules.join(" ")).collect()
        };
        let wide = module("wide", "n", "/{*rest}", "GET");
        assert_eq!(told(&[wide.clone(), module("a", "n", "/x", "GET")]), ["wide a"]);
        assert!(told(&[wide.clone(), module("a", "n", "/x", "POST")]).is_empty(), "another method");
        assert!(told(&[wide, module("a", "m", "/x", "GET")]).is_empty(), "another namespace");
        let one = module("one", "n", "/x/{id}", "GET");
        assert_eq!(told(&[one.clone(), module("a", "n", "/{x}/y", "GET")]), ["one a"]);
        assert!(told(&[one, module("a", "n", "/x", "GET")]).is_empty());
    }
}
