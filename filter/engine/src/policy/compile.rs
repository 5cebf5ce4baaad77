//! From what was sent to what it means, collecting every problem on the way.

use alloc::{format, string::String, string::ToString, vec::Vec};
use hashbrown::HashSet;

use super::compile_providers::compile_providers;
use super::wire;
use super::{Policy, Problem};
use crate::flag::Flags;
use crate::route::RouteTable;

pub(super) fn compile(sent: &wire::Policy) -> Result<Policy, Vec<Problem>> {
    let mut problems = Problems::default();
    if sent.schema != wire::SCHEMA {
        let problem = format!("this filter reads schema {}, not {}", wire::SCHEMA, sent.schema);
        return Err(Problem::at("schema", &problem));
    }
    let providers = compile_providers(&sent.providers, &sent.denied, &mut problems);
    let flags = Flags::compile(&sent.flags, &mut problems);
    let mut policy = Policy {
        revision: sent.revision,
        providers,
        outside: sent.default,
        legacy_cluster: sent.legacy_cluster.as_deref().map(Into::into),
        admin_roles: sent.admin_roles.clone(),
        flags,
        warnings: Vec::new(),
        modules: Vec::new(),
        route_list: Vec::new(),
        routes: RouteTable::default(),
    };
    if let Some(cluster) = &sent.legacy_cluster {
        problems.check("legacy_cluster", is_name(cluster, CLUSTER), CLUSTER_RULE);
    }
    let mut ids = HashSet::new();
    for module in &sent.modules {
        let at = format!("modules[{}]", module.id);
        problems.check(&format!("{at}.id"), ids.insert(&module.id), "another module has this id");
        policy.add_module(module, &at, sent, &mut problems);
    }
    policy.warnings = problems.refuse()?;
    Ok(policy)
}

pub(crate) const NAME: fn(u8) -> bool =
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
pub(crate) const NAME_RULE: &str = "a name is 1 to 128 letters, digits, `_`, `-` and `.`";
pub(crate) const CLUSTER: fn(u8) -> bool = |byte| NAME(byte) || matches!(byte, b'/' | b':' | b'|');
pub(crate) const CLUSTER_RULE: &str = "a cluster name is 1 to 128 letters, digits and _ - . / : |";

pub(crate) fn is_name(name: &str, allowed: fn(u8) -> bool) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(allowed)
}

/// What is wrong, and what is merely odd, as it is found.
#[derive(Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    pub(crate) fn add(&mut self, field: &str, problem: String) {
        self.found.push(Problem { field: field.to_string(), problem });
    }

    pub(crate) fn check(&mut self, field: &str, holds: bool, problem: &str) {
        if !holds {
            self.add(field, problem.to_string());
        }
    }

    pub(crate) fn warn(&mut self, field: &str, problem: String) {
        self.warnings.push(Problem { field: field.to_string(), problem });
    }

    /// The problems; the warnings, if there is none.
    pub(crate) fn refuse(self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.found.is_empty() { Ok(self.warnings) } else { Err(self.found) }
    }
}
