//! How many requests a module takes, from each organisation and from all together. Each Envoy counts for itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::Refusal;
use super::super::change::malformed;

/// Most requests in one period.
const MOST: u32 = 10_000_000;
/// Most organisations that have a limit of their own.
const NAMED: usize = 10_000;

/// How many requests a module takes; what is more gets 429.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// From each organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_organisation: Option<Rate>,
    /// From these organisations, in place of `per_organisation`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub organisations: BTreeMap<String, Rate>,
    /// From all together, whoever they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Rate>,
}

/// A number of requests and the time they may be made in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many, evenly over the time.
    pub requests: u32,
    /// In which time.
    pub per: Per,
    /// How many at once, after a while without any. Unset: as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// A time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
}

impl Per {
    /// How long it is.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

pub(super) fn check(limit: &RateLimit) -> Result<(), Refusal> {
    let RateLimit { per_organisation, organisations, total } = limit;
    if per_organisation.is_none() && organisations.is_empty() && total.is_none() {
        let problem = "at least one of `per_organisation`, `organisations` and `total` is expected";
        return Err(malformed("rate_limit", problem));
    }
    if organisations.len() > NAMED {
        return Err(malformed(
            "rate_limit.organisations",
            "at most 10,000 organisations have one of their own",
        ));
    }
    let named = organisations.iter().map(|(name, limit)| (format!("organisations.{name}"), limit));
    let all = [("per_organisation", per_organisation), ("total", total)].into_iter();
    let all = all.filter_map(|(member, limit)| Some((member.to_owned(), limit.as_ref()?)));
    for (member, Rate { requests, burst, .. }) in all.chain(named) {
        let allowed = 1..=MOST;
        if !(allowed.contains(requests) && burst.is_none_or(|burst| allowed.contains(&burst))) {
            let problem = "`requests` and `burst` are 1 to 10,000,000: who may not call at all is disabled";
            return Err(malformed(&format!("rate_limit.{member}"), problem));
        }
    }
    Ok(())
}
