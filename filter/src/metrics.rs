//! What the filter counts: refusals by reason, tokens of unknown keys by provider, and requests for which a
//! flag could not be evaluated. A request that is served as it should be counts nothing and costs nothing.
//!
//! Names are as many as there are reasons and providers: nothing that a client sends becomes part of one.

use std::borrow::Cow;
use std::cell::Cell;

use rampart_engine::decision::Reason;

use crate::host;

thread_local! {
    /// Metrics of this VM that the host knows, by the word that they count. Envoy 1.40 gives a new
    /// number whenever a metric is defined, the same one or not, and keeps them all: each is
    /// defined once in the life of a VM, when it first counts, and survives any change of policy.
    static DEFINED: Cell<Vec<(Cow<'static, str>, u32)>> = const { Cell::new(Vec::new()) };
}

/// Most metrics of one VM: policies that follow one another may each name other providers.
const MOST: usize = 256;

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
