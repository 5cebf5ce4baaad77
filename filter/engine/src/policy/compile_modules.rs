//! Modules and their routes, from what was sent to what it means.

use alloc::{format, string::String, vec::Vec};

use super::compile::{CLUSTER, CLUSTER_RULE, NAME, NAME_RULE, Problems, is_name};
use super::upstream::{check_retry, check_timeout, retry_idempotent, rewrite, router_headers};
use super::wire::{self, Auth, Level, WhenOff};
use super::{Asked, Effect, Module, Policy, Route};
use crate::enablement::Enablement;
use crate::route::{EVERYTHING, PatternError};
use crate::tenant::Tenant;

impl Policy {
    pub(super) fn add_module(
        &mut self,
        module: &wire::Module,
        at: &str,
        sent: &wire::Policy,
        problems: &mut Problems,
    ) {
        problems.check(&format!("{at}.id"), is_name(&module.id, NAME), NAME_RULE);
        problems.check(
            &format!("{at}.version"),
            is_version(&module.version),
            "a version is `v` and a number, such as v1",
        );
        let namespaces = check_namespaces(module, at, problems);
        problems.check(&format!("{at}.cluster"), is_name(&module.cluster, CLUSTER), CLUSTER_RULE);
        check_auth(&module.auth, &format!("{at}.auth"), problems);
        check_timeout(module.timeout_ms, at, problems);
        check_retry(module.retry.as_ref(), at, problems);
        let told = module.flags.iter().enumerate().filter_map(|(index, key)| {
            let flag = self.known_flag(key, &format!("{at}.flags[{index}]"), problems)?;
            Some(Asked { flag, when_off: None })
        });
        let told: Vec<Asked> = told.collect();
        let index = self.modules.len();
        let effects = self.effects(&module.effects, &sent.flags, &format!("{at}.effects"), problems);
        let of_effects = |effects: &[Effect]| -> Vec<Asked> {
            effects.iter().map(|effect| Asked { flag: effect.flag, when_off: None }).collect()
        };
        let shared = of_effects(&effects);
        self.modules.push(Module {
            id: module.id.as_str().into(),
            cluster: module.cluster.as_str().into(),
            enablement: Enablement::compile(module, at, problems),
            rewrite: rewrite(module.rewrite.as_ref(), &format!("{at}.rewrite"), problems),
            effects,
            mirror_unsafe: module.mirror_unsafe,
            hash_by: module.hash_by,
        });

        let everything = [wire::Route { path: EVERYTHING.into(), ..wire::Route::default() }];
        let routes = if module.routes.is_empty() { &everything[..] } else { &module.routes };
        let gates = self.gates(&module.gates, &format!("{at}.gates"), problems);
        for (number, route) in routes.iter().enumerate() {
            let at = format!("{at}.routes[{number}]");
            check_route(module, route, &at, sent, problems);
            let own = self.gates(&route.gates, &format!("{at}.gates"), problems);
            let effects = self.effects(&route.effects, &sent.flags, &format!("{at}.effects"), problems);
            let mut asked: Vec<Asked> = Vec::new();
            for next in gates.iter().chain(&own).chain(&told).chain(&shared).chain(&of_effects(&effects)) {
                if asked.iter().all(|known| known.flag != next.flag) {
                    asked.push(Asked { ..*next });
                }
            }
            for namespace in &namespaces {
                self.claim(module, namespace, route, &at, sent, problems);
            }
            let auth = route.auth.as_ref().unwrap_or(&module.auth);
            let tenant = route.tenant.as_ref().or(module.tenant.as_ref());
            let tenant = Tenant::compile(tenant, &route.path, auth.level, &format!("{at}.tenant"), problems);
            let timeout = route.timeout_ms.or(module.timeout_ms);
            let retry = route.retry.as_ref().or(module.retry.as_ref());
            self.route_list.push(Route {
                module: index,
                pattern: route.path.as_str().into(),
                auth: auth.clone(),
                tenant,
                headers: router_headers(timeout, retry, &route.methods, &at, problems),
                retry_idempotent: retry_idempotent(retry),
                flags: asked,
                effects,
            });
        }
    }

    /// Claims a route's path below one of the module's namespaces.
    fn claim(
        &mut self,
        module: &wire::Module,
        namespace: &str,
        route: &wire::Route,
        at: &str,
        sent: &wire::Policy,
        problems: &mut Problems,
    ) {
        let id = u32::try_from(self.route_list.len()).unwrap_or(u32::MAX);
        let problem = match self.routes.insert(&module.version, namespace, &route.path, &route.methods, id) {
            Ok(()) => return,
            Err(PatternError::Malformed(problem)) => {
                format!("`{}` is no route pattern: {problem}", route.path)
            }
            Err(PatternError::Taken { by, method }) => {
                let owner = self.place(by);
                let (owner, pattern) =
                    owner.map_or(("?", "?"), |place| (&*place.module.id, &*place.route.pattern));
                let method = method.unwrap_or_else(|| "every method".into());
                let (id, version, path) = (&module.id, &module.version, &route.path);
                let claimed = format!("{method} /api/v1/modules/{version}/{namespace}{path}");
                let by_alias = |owner: &str| {
                    let owner = sent.modules.iter().find(|module| module.id == owner);
                    owner.is_some_and(|owner| owner.namespace != namespace)
                };
                let alias = if by_alias(id) { format!(" (alias `{namespace}`)") } else { String::new() };
                let other = if by_alias(owner) { format!(", alias `{namespace}`") } else { String::new() };
                if owner == id.as_str() {
                    format!("{claimed} is claimed twice by module `{id}`{alias} (as `{pattern}` before)")
                } else {
                    format!(
                        "{claimed} of module `{id}`{alias} is claimed already by module `{owner}` (as `{pattern}`{other})"
                    )
                }
            }
        };
        problems.add(&format!("{at}.path"), problem);
    }
}

fn check_route(
    module: &wire::Module,
    route: &wire::Route,
    at: &str,
    sent: &wire::Policy,
    problems: &mut Problems,
) {
    for (index, method) in route.methods.iter().enumerate() {
        let token = is_name(method, |byte| byte.is_ascii_uppercase() || byte == b'-');
        problems.check(
            &format!("{at}.methods[{index}]"),
            token,
            "a method is upper-case letters, such as GET",
        );
    }
    let mut gates = module.gates.iter().chain(&route.gates);
    if sent.legacy_cluster.is_none() && gates.any(|gate| gate.when_off == WhenOff::Legacy) {
        problems.add(&format!("{at}.gates"), "`when_off: legacy` needs a `legacy_cluster`".into());
    }
    if let Some(auth) = &route.auth {
        check_auth(auth, &format!("{at}.auth"), problems);
    }
    check_timeout(route.timeout_ms, at, problems);
    check_retry(route.retry.as_ref(), at, problems);
}

/// The module's own namespace and its aliases, each once.
fn check_namespaces<'m>(module: &'m wire::Module, at: &str, problems: &mut Problems) -> Vec<&'m str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let aliases = module.aliases.iter().enumerate();
    let aliases = aliases.map(|(index, alias)| (format!("{at}.aliases[{index}]"), alias));
    let mut namespaces: Vec<&str> = Vec::new();
    for (at, namespace) in core::iter::once((format!("{at}.namespace"), &module.namespace)).chain(aliases) {
        let sound = is_name(namespace, allowed);
        problems.check(&at, sound, "a namespace is 1 to 128 lower-case letters, digits and `-`");
        if namespaces.contains(&&**namespace) {
            problems.add(&at, format!("the module has the namespace `{namespace}` already"));
        } else {
            namespaces.push(namespace);
        }
    }
    namespaces
}

/// A list that its level does not look at would be a false promise.
fn check_auth(auth: &Auth, at: &str, problems: &mut Problems) {
    let roles = format!("{at}.roles");
    let permissions = format!("{at}.permissions");
    match auth.level {
        Level::None => problems.check(
            &permissions,
            auth.permissions.is_empty(),
            "the level `none` checks no permissions",
        ),
        Level::Permission => {
            problems.check(
                &permissions,
                !auth.permissions.is_empty(),
                "the level `permission` needs at least one",
            );
        }
        Level::Role => problems.check(&roles, !auth.roles.is_empty(), "the level `role` needs at least one"),
        Level::Basic | Level::Admin => {}
    }
    if auth.level != Level::Role {
        problems.check(&roles, auth.roles.is_empty(), "only the level `role` checks roles");
    }
    for (list, at) in [(&auth.permissions, &permissions), (&auth.roles, &roles)] {
        let printable = |name: &String| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'"' | b'\\'))
        };
        problems.check(
            at,
            list.iter().all(printable),
            "a name is visible ASCII without comma, quote and backslash",
        );
    }
}

fn is_version(version: &str) -> bool {
    let number = version.strip_prefix('v').unwrap_or_default();
    (1..=6).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}
