//! Which Envoy clusters modules and effects may name: those that the flag service pushes, and those that the
//! operator says Envoy's bootstrap defines. A request for any other would get 503.

use std::collections::HashSet;

use rampart_engine::policy::{Problem, wire};

use super::{Module, State};
use crate::published::Published;

impl State {
    /// Clusters that effects name and nobody provides, each with its place.
    #[must_use]
    pub fn unprovided(&self, published: &Published) -> Vec<Problem> {
        let pushed = published.upstreams.iter().map(|upstream| &upstream.cluster);
        let provided: HashSet<&String> = pushed.chain(&self.settings.clusters).collect();
        let mut problems = Vec::new();
        for (id, cluster) in
            self.modules.values().filter_map(|module| Some((&module.id, module.cluster.as_ref()?)))
        {
            if !provided.contains(cluster) {
                let field = format!("modules[{id}].cluster");
                problems.push(Problem { field, problem: explain(cluster) });
            }
        }
        for (at, effect) in published.policy.modules.iter().flat_map(effects) {
            let changes = &effect.when_on;
            let mirror = changes.mirror.as_ref().map(|mirror| &mirror.cluster);
            for (member, cluster) in [("cluster", changes.cluster.as_ref()), ("mirror.cluster", mirror)] {
                if let Some(cluster) = cluster.filter(|cluster| !provided.contains(cluster)) {
                    problems
                        .push(Problem { field: format!("{at}.when_on.{member}"), problem: explain(cluster) });
                }
            }
        }
        problems
    }
}

/// A module's effects and its routes', each with its place.
fn effects(module: &wire::Module) -> impl Iterator<Item = (String, &wire::Effect)> {
    let at = format!("modules[{}]", module.id);
    let of_routes = module.routes.iter().enumerate();
    let of_routes = of_routes.map(|(number, route)| (format!(".routes[{number}]"), &route.effects));
    let lists = std::iter::once((String::new(), &module.effects)).chain(of_routes);
    lists.flat_map(move |(within, effects)| {
        let at = format!("{at}{within}");
        let numbered = effects.iter().enumerate();
        numbered.map(move |(number, effect)| (format!("{at}.effects[{number}]"), effect))
    })
}

fn explain(cluster: &str) -> String {
    let known = "known are `legacy` where it is set, `module/{id}/{version}` of registered modules, and what the \
                 settings' `clusters` say Envoy's bootstrap defines";
    match Module::of_cluster(cluster) {
        Some((id, version)) => {
            format!(
                "there is no cluster `{cluster}`, for want of module `{id}` in version {version}: {known}"
            )
        }
        None => format!("there is no cluster `{cluster}`: {known}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::change::read;
    use super::*;

    fn state(clusters: &[&str], module: serde_json::Value) -> State {
        let mut state = State::default();
        let module: Module = read(module).unwrap();
        state.modules.insert(module.id.clone(), Arc::new(module));
        Arc::make_mut(&mut state.settings).clusters =
            clusters.iter().map(|name| (*name).to_owned()).collect();
        state
    }

    #[test]
    fn a_module_of_anothers_cluster_is_sent_there_and_no_cluster_is_pushed() {
        let state = state(&["theirs", "legacy"], json!({"id": "m", "cluster": "theirs"}));
        let published = state.published(1);
        assert_eq!(published.upstreams, []);
        assert_eq!(published.policy.modules[0].cluster, "theirs");
        assert_eq!(published.policy.legacy_cluster.as_deref(), Some("legacy"));
        assert_eq!(state.unprovided(&published), []);
    }

    #[test]
    fn a_cluster_that_nobody_vouches_for_is_told_with_its_place() {
        let state = state(&["other"], json!({"id": "m", "cluster": "theirs"}));
        let told = state.unprovided(&state.published(1));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].field, "modules[m].cluster");
    }
}
