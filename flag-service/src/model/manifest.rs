//! A manifest as teams write it, in the words that module systems before Rampart used: each is turned into
//! the one that it means here. It does not judge what they say.

use serde_json::{Map, Value, json};

use super::change::{self, malformed};
use super::{Module, Refusal};

/// Reads a module's manifest.
///
/// # Errors
///
/// [`Refusal::Malformed`], with the field's path; also where one thing is said in two ways.
pub(crate) fn read(mut body: Value) -> Result<Module, Refusal> {
    if let Value::Object(manifest) = &mut body {
        module(manifest)?;
    }
    change::read(body)
}

/// The same, of a manifest whose id is in the path of the request.
pub(crate) fn named(mut body: Value, id: &str) -> Result<Module, Refusal> {
    if let Value::Object(manifest) = &mut body {
        module(manifest)?;
    }
    change::named(body, "id", id)
}

fn module(manifest: &mut Map<String, Value>) -> Result<(), Refusal> {
    rename(manifest, "", "module_id", "id")?;
    rename(manifest, "", "module_version", "release")?;
    // `v1` is of the paths, `1.4.2` the module's own.
    if manifest.get("version").and_then(Value::as_str).is_some_and(|version| version.contains('.')) {
        rename(manifest, "", "version", "release")?;
    }
    if let Some(Value::String(name)) = manifest.get_mut("module_type") {
        name.make_ascii_lowercase();
    }
    if let Some(Value::String(status)) = manifest.get_mut("status") {
        status.make_ascii_lowercase();
    }
    if let Some(place) = manifest.remove("entry_point") {
        say(manifest, "", "entry_point", "endpoints", json!([place]))?;
    }
    access(manifest, "")?;
    for (index, route) in
        manifest.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten().enumerate()
    {
        if let Value::Object(route) = route {
            access(route, &format!("routes[{index}]."))?;
        }
    }
    Ok(())
}

/// `auth_level` and `permissions` are an `auth`; `feature_flags` are gates, without which nobody is let in.
fn access(within: &mut Map<String, Value>, at: &str) -> Result<(), Refusal> {
    let (level, permissions) = (within.remove("auth_level"), within.remove("permissions"));
    let listed = permissions.as_ref().is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty()));
    if level.is_some() || listed {
        let level = match level {
            Some(Value::String(level)) => json!(level.to_ascii_lowercase()),
            Some(other) => other,
            None => json!("permission"),
        };
        let mut auth = json!({ "level": level });
        if let Some(permissions) = permissions {
            auth["permissions"] = permissions;
        }
        say(within, at, "auth_level", "auth", auth)?;
    }
    if let Some(flags) = within.remove("feature_flags") {
        let gates = match flags {
            Value::Array(flags) => {
                flags.into_iter().map(|flag| json!({"flag": flag, "when_off": "forbidden"})).collect()
            }
            other => other,
        };
        say(within, at, "feature_flags", "gates", gates)?;
    }
    Ok(())
}

fn rename(within: &mut Map<String, Value>, at: &str, word: &str, ours: &str) -> Result<(), Refusal> {
    match within.remove(word) {
        Some(value) => say(within, at, word, ours, value),
        None => Ok(()),
    }
}

fn say(
    within: &mut Map<String, Value>,
    at: &str,
    word: &str,
    ours: &str,
    value: Value,
) -> Result<(), Refusal> {
    if within.insert(ours.to_owned(), value).is_some() {
        return Err(malformed(
            &format!("{at}{word}"),
            &format!("it says what `{ours}` says: keep one of them"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::read;

    #[test]
    fn the_words_of_others_are_read_as_ours() {
        let theirs = json!({
            "module_id": "analytics_core", "name": "Analytics Core", "version": "1.4.2", "author": "Team A",
            "module_type": "ANALYTICS", "status": "DEVELOPMENT", "entry_point": "127.0.0.1:9001",
            "permissions": ["read_analytics"], "feature_flags": ["analytics_core_enabled"],
            "routes": [{"path": "/open", "auth_level": "NONE"},
                       {"path": "/data", "auth_level": "permission", "permissions": ["view"], "feature_flags": ["f"]}]
        });
        let module = read(theirs).unwrap();
        let ours = json!({
            "id": "analytics_core", "name": "Analytics Core", "description": "", "author": "Team A",
            "module_type": "analytics", "release": "1.4.2", "version": "v1", "namespace": "analytics-core",
            "endpoints": ["127.0.0.1:9001"],
            "auth": {"level": "permission", "permissions": ["read_analytics"], "roles": []},
            "gates": [{"flag": "analytics_core_enabled", "when_off": "forbidden"}], "flags": [],
            "routes": [
                {"methods": [], "path": "/open", "auth": {"level": "none", "permissions": [], "roles": []}, "gates": []},
                {"methods": [], "path": "/data", "auth": {"level": "permission", "permissions": ["view"], "roles": []},
                 "gates": [{"flag": "f", "when_off": "forbidden"}]}]
        });
        assert_eq!(serde_json::to_value(module).unwrap(), ours);
    }

    #[test]
    fn what_is_said_twice_or_wrong_is_told_by_its_place() {
        let refused = |manifest: Value| read(manifest).unwrap_err().to_string();
        let twice = refused(json!({"id": "a", "endpoints": [], "routes": [
            {"path": "/", "auth": {}, "auth_level": "basic"}]}));
        assert_eq!(twice, "routes[0].auth_level: it says what `auth` says: keep one of them");
        let level =
            refused(json!({"id": "a", "endpoints": [], "routes": [{"path": "/", "auth_level": "some"}]}));
        assert!(level.starts_with("routes[0].auth.level: unknown variant `some`"), "{level}");
    }
}
