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
    /// By the name that Envoy reports.
    clusters: HashMap<Arc<str>, Cluster>,
    /// The policy's cluster of each module.
    of_modules: BTreeMap<Arc<str>, Arc<str>>,
    arms: HashSet<Arc<str>>,
    providers: HashSet<Arc<str>>,
    /// Organisations of which something is said, by module.
    recorded: HashMap<Arc<str>, HashSet<Box<str>>>,
}

/// What is reported under a cluster's name.
#[derive(Debug)]
struct Cluster {
    /// The policy's name of it.
    name: Arc<str>,
    /// Whether the endpoints of that name are its own: where there is a fallback besides, they are those of
    /// another name, while answers are told under its own.
    has_endpoints: bool,
}

impl Names {
    pub(super) fn of(published: &Published) -> Self {
        let policy = &published.policy;
        let name = |name: &str| Arc::<str>::from(name);
        let mut modules = HashMap::from([(name(""), HashSet::from([name("")]))]);
        let (mut clusters, mut of_modules) = (HashMap::new(), BTreeMap::new());
        for upstream in &published.upstreams {
            let [cluster, own] = [&upstream.cluster, &upstream.own_cluster()].map(|cluster| name(cluster));
            clusters
                .insert(Arc::clone(&cluster), Cluster { name: Arc::clone(&cluster), has_endpoints: false });
            clusters.insert(own, Cluster { name: cluster, has_endpoints: true });
        }
        let mut recorded = HashMap::new();
        let mut arms: HashSet<_> = ["", PASS, Arm::Module.as_str(), Arm::Legacy.as_str()].map(name).into();
        for module in &policy.modules {
            let id = name(&module.id);
            let routes = module.routes.iter().map(|route| name(&route.path));
            let everything = module.routes.is_empty().then(|| name(EVERYTHING));
            modules.insert(Arc::clone(&id), routes.chain(everything).collect());
            // It may be one that nobody pushes.
            let cluster = name(&module.cluster);
            let own = Cluster { name: Arc::clone(&cluster), has_endpoints: true };
            clusters.entry(Arc::clone(&cluster)).or_insert(own);
            if !module.organisations.is_empty() {
                let its = module.organisations.iter().map(|said| said.organisation.as_str().into());
                recorded.insert(Arc::clone(&id), its.collect());
            }
            of_modules.insert(id, cluster);
            let effects = module.routes.iter().flat_map(|route| &route.effects).chain(&module.effects);
            arms.extend(effects.filter_map(|effect| effect.when_on.cluster.as_deref()).map(name));
        }
        let providers = policy.providers.iter().map(|provider| name(&provider.name)).collect();
        Self { modules, clusters, of_modules, arms, providers, recorded }
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

    /// The policy's cluster that something is told of.
    pub(super) fn cluster(&self, reported: &str) -> Option<Arc<str>> {
        self.clusters.get(reported).map(|cluster| Arc::clone(&cluster.name))
    }

    /// The policy's cluster whose endpoints these are.
    pub(super) fn endpoints(&self, reported: &str) -> Option<Arc<str>> {
        let cluster = self.clusters.get(reported).filter(|cluster| cluster.has_endpoints)?;
        Some(Arc::clone(&cluster.name))
    }

    /// Whether something is said of the organisation and the module.
    pub(super) fn is_recorded(&self, module: &str, organisation: &str) -> bool {
        self.recorded.get(module).is_some_and(|its| its.contains(organisation))
    }

    pub(super) fn provider(&self, provider: &str) -> Option<Arc<str>> {
        self.providers.get(provider).cloned()
    }

    /// The policy's clusters that modules run in, by module.
    pub(super) const fn clusters_of_modules(&self) -> &BTreeMap<Arc<str>, Arc<str>> {
        &self.of_modules
    }
}
