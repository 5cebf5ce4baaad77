//! The names that reports may use: the policy's. Whatever else they hold is dropped, so that nothing that
//! claims to be an Envoy makes this process keep what no operator has named.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rampart_engine::decision::{Arm, PASS};
use rampart_engine::route::EVERYTHING;

use crate::published::Published;

/// The names of one revision.
#[derive(Debug, Default)]
pub(super) struct Names {
    modules: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// The module of each cluster that is a module's.
    clusters: HashMap<Arc<str>, Option<Arc<str>>>,
    arms: HashSet<Arc<str>>,
    providers: HashSet<Arc<str>>,
}

impl Names {
    pub(super) fn of(published: &Published) -> Self {
        let policy = &published.policy;
        let name = |name: &str| Arc::<str>::from(name);
        let mut modules = HashMap::from([(name(""), HashSet::from([name("")]))]);
        let mut clusters: HashMap<_, _> =
            published.upstreams.iter().map(|upstream| (name(&upstream.cluster), None)).collect();
        let mut arms: HashSet<_> = ["", PASS, Arm::Module.as_str(), Arm::Legacy.as_str()].map(name).into();
        for module in &policy.modules {
            let id = name(&module.id);
            let routes = module.routes.iter().map(|route| name(&route.path));
            let everything = module.routes.is_empty().then(|| name(EVERYTHING));
            modules.insert(Arc::clone(&id), routes.chain(everything).collect());
            clusters.insert(name(&module.cluster), Some(id));
            let effects = module.routes.iter().flat_map(|route| &route.effects).chain(&module.effects);
            arms.extend(effects.filter_map(|effect| effect.when_on.cluster.as_deref()).map(name));
        }
        let providers = policy.providers.iter().map(|provider| name(&provider.name)).collect();
        Self { modules, clusters, arms, providers }
    }

    /// A module and its route, or neither.
    pub(super) fn place(&self, module: &str, route: &str) -> Option<(Arc<str>, Arc<str>)> {
        let (module, routes) = self.modules.get_key_value(module)?;
        Some((Arc::clone(module), Arc::clone(routes.get(route)?)))
    }

    pub(super) fn module(&self, module: &str) -> Option<Arc<str>> {
        self.modules.get_key_value(module).map(|(module, _)| Arc::clone(module))
    }

    /// What serves a request: the filter's word, or the cluster that an effect names.
    pub(super) fn arm(&self, arm: &str) -> Option<Arc<str>> {
        self.arms.get(arm).cloned()
    }

    pub(super) fn cluster(&self, cluster: &str) -> Option<Arc<str>> {
        self.clusters.get_key_value(cluster).map(|(cluster, _)| Arc::clone(cluster))
    }

    pub(super) fn provider(&self, provider: &str) -> Option<Arc<str>> {
        self.providers.get(provider).cloned()
    }

    /// The clusters that modules run in, by module.
    pub(super) fn clusters_of_modules(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let of_modules =
            self.clusters.iter().filter_map(|(cluster, module)| Some((module.clone()?, cluster)));
        of_modules.map(|(module, cluster)| (module, Arc::clone(cluster))).collect()
    }
}
