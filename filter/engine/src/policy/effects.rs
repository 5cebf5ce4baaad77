//! What flags change about requests, compiled: gates and effects.

use alloc::{boxed::Box, format, vec::Vec};

use super::compile::{CLUSTER, CLUSTER_RULE, Problems, is_name};
use super::wire::{self, Gate};
use super::{Asked, Policy};
use crate::flag::{FlagId, compile::check_variant};

/// The request headers that an effect may set, and whether their value is a number: what Envoy's
/// router reads about timeouts, retries and hedging, and nothing that says where a request goes or
/// who sent it.
const HEADERS: [(&str, bool); 9] = [
    ("x-envoy-hedge-on-per-try-timeout", false),
    ("x-envoy-max-retries", true),
    ("x-envoy-retriable-header-names", false),
    ("x-envoy-retriable-status-codes", false),
    ("x-envoy-retry-grpc-on", false),
    ("x-envoy-retry-on", false),
    ("x-envoy-upstream-rq-per-try-timeout-ms", true),
    ("x-envoy-upstream-rq-timeout-ms", true),
    ("x-envoy-upstream-stream-duration-ms", true),
];

/// What changes about a request while a flag is on.
#[derive(Debug)]
pub struct Effect {
    /// The flag.
    pub flag: FlagId,
    /// Only with this variant.
    pub variant: Option<Box<str>>,
    /// The cluster that serves in the module's place.
    pub cluster: Option<Box<str>>,
    /// Headers for Envoy's router.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The cluster that gets a copy.
    pub mirror: Option<Box<str>>,
}

impl Policy {
    pub(super) fn gates(&self, gates: &[Gate], at: &str, problems: &mut Problems) -> Vec<Asked> {
        let asked = gates.iter().enumerate().filter_map(|(index, gate)| {
            let flag = self.known_flag(&gate.flag, &format!("{at}[{index}].flag"), problems)?;
            Some(Asked { flag, when_off: Some(gate.when_off) })
        });
        asked.collect()
    }

    pub(super) fn effects(
        &self,
        effects: &[wire::Effect],
        flags: &[wire::Flag],
        at: &str,
        problems: &mut Problems,
    ) -> Vec<Effect> {
        let effects = effects.iter().enumerate().filter_map(|(index, effect)| {
            let at = format!("{at}[{index}]");
            check(effect, &at, problems);
            let flag = self.known_flag(&effect.flag, &format!("{at}.flag"), problems)?;
            let sent = flags.iter().find(|sent| sent.key == effect.flag);
            if let (Some(variant), Some(sent)) = (&effect.variant, sent) {
                check_variant(sent, variant, &at, problems);
            }
            let changes = &effect.when_on;
            Some(Effect {
                flag,
                variant: effect.variant.as_deref().map(Into::into),
                cluster: changes.cluster.as_deref().map(Into::into),
                headers: changes.headers.iter().map(|(name, value)| (&**name, &**value)).map(boxed).collect(),
                mirror: changes.mirror.as_ref().map(|mirror| mirror.cluster.as_str().into()),
            })
        });
        effects.collect()
    }

    pub(super) fn known_flag(&self, key: &str, at: &str, problems: &mut Problems) -> Option<FlagId> {
        let id = self.flags.find(key);
        problems.check(at, id.is_some(), &format!("there is no flag `{key}`"));
        id
    }
}

fn boxed((name, value): (&str, &str)) -> (Box<str>, Box<str>) {
    (name.into(), value.into())
}

fn check(effect: &wire::Effect, at: &str, problems: &mut Problems) {
    let at = format!("{at}.when_on");
    let wire::WhenOn { cluster, headers, mirror } = &effect.when_on;
    let something = cluster.is_some() || mirror.is_some() || !headers.is_empty();
    problems.check(&at, something, "an effect says what changes: `cluster`, `headers` or `mirror`");
    let mirror = mirror.as_ref().map(|mirror| &mirror.cluster);
    for (cluster, member) in [(cluster.as_ref(), "cluster"), (mirror, "mirror.cluster")] {
        let sound = cluster.is_none_or(|cluster| is_name(cluster, CLUSTER));
        problems.check(&format!("{at}.{member}"), sound, CLUSTER_RULE);
    }
    for (name, value) in headers {
        let at = format!("{at}.headers[{name}]");
        let Some((_, number)) = HEADERS.iter().find(|(known, _)| known == name) else {
            let known = HEADERS.map(|(name, _)| name).join(", ");
            problems.add(&at, format!("an effect sets no such header, but {known}"));
            continue;
        };
        if *number {
            let digits = is_name(value, |byte| byte.is_ascii_digit()) && value.len() <= 9;
            problems.check(&at, digits, "its value is a number of at most nine digits");
        } else {
            let listed = is_name(value, |byte| byte.is_ascii_alphanumeric() || b",-_".contains(&byte));
            problems.check(&at, listed, "its value is words or numbers, joined by commas");
        }
    }
}
