//! What the filter counts: refusals by reason, tokens of unknown keys by provider, requests for which a flag
//! could not be evaluated, and those of organisations of which the policy says something. Any other request
//! that is served as it should be counts nothing and costs nothing.
//!
//! Names are as many as there are reasons, providers and such organisations: nothing that a client sends
//! becomes part of one, since an organisation is counted by the name that the policy has.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use rampart_engine::decision::Reason;

use crate::host;

thread_local! {
    /// Metrics of this VM that the host knows, by the word that they count. Envoy 1.40 gives a new
    /// number whenever a metric is defined, the same one or not, and keeps them all: each is
    /// defined once in the life of a VM, when it first counts, and survives any change of policy.
    static DEFINED: Cell<Vec<(Cow<'static, str>, u32)>> = const { Cell::new(Vec::new()) };

    /// The same, of modules and organisations: there may be many. By order and not by hash, for which
    /// the host would be asked for random numbers.
    static USED: Cell<BTreeMap<String, u32>> = const { Cell::new(BTreeMap::new()) };
}

/// Most metrics of one VM: policies that follow one another may each name other providers.
const MOST: usize = 256;

/// Most pairs of a module and an organisation that one VM counts; Envoy tells of each, each second.
const MOST_USED: usize = 10_000;

/// Counts a refusal, as `rampart.refused.{reason}`.
pub(crate) fn refused(reason: Reason) {
    let word = reason.as_str();
    increment(Cow::Borrowed(word), || format!("rampart.refused.{word}"));
}

/// Counts a token signed with a key that its provider does not have, as `rampart.unknown_key.{provider}`.
pub(crate) fn unknown_key(provider: &str) {
    let name = format!("rampart.unknown_key.{provider}");
    increment(Cow::Owned(name.clone()), || name);
}

/// Counts a request that asked a flag which could not be evaluated, as `rampart.flag_error`.
pub(crate) fn flag_error() {
    increment(Cow::Borrowed("flag_error"), || "rampart.flag_error".to_owned());
}

/// Counts a request that a module serves, as `rampart.usage.{module}/{organisation}`. Both names are the
/// policy's.
pub(crate) fn used(module: &str, organisation: &str) {
    let pair = format!("{module}/{organisation}");
    let mut used = USED.take();
    let metric = used.get(&pair).copied().or_else(|| {
        if used.len() >= MOST_USED {
            return None;
        }
        let metric = host::define_counter(&format!("rampart.usage.{pair}"))?;
        used.insert(pair, metric);
        Some(metric)
    });
    USED.set(used);
    if let Some(metric) = metric {
        host::increment(metric);
    }
}

fn increment(word: Cow<'static, str>, name: impl FnOnce() -> String) {
    let mut defined = DEFINED.take();
    let known = defined.iter().find(|(known, _)| *known == word).map(|(_, metric)| *metric);
    let metric = known.or_else(|| {
        if defined.len() >= MOST {
            return None;
        }
        let metric = host::define_counter(&name())?;
        defined.push((word, metric));
        Some(metric)
    });
    DEFINED.set(defined);
    if let Some(metric) = metric {
        host::increment(metric);
    }
}
