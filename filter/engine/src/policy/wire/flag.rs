//! A flag as it is sent.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::bucket::Generation;
use crate::flag::Percentage;

/// A feature flag, rolled out to a percentage of organisations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// Name; letters, digits, `_`, `-`, `.` and `/`, at most 128.
    pub key: String,
    /// What it is for. Nothing depends on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A disabled flag is off.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// A killed flag is off, whatever else is said here.
    #[serde(default)]
    pub killed: bool,
    /// Whether it stays as it is when everything is disabled at once. A filter does not look at it.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub safety: bool,
    /// What must be true of other flags; while it is not, this one is off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prerequisites: Vec<Prerequisite>,
    /// Share of organisations that are on, 0 to 100 in steps of 0.001.
    #[serde(default)]
    pub percentage: Percentage,
    /// What the percentage is a share of.
    #[serde(default, skip_serializing_if = "By::is_organisation")]
    pub by: By,
    /// How organisations are hashed into buckets. Never changed under a live flag.
    #[serde(default)]
    pub bucketing: Generation,
    /// Flags that name the same group enrol the same organisations. Unset: the flag's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_group: Option<String>,
    /// Of the flags of one exclusive group, an organisation has at most one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_group: Option<Exclusive>,
    /// What the flag can be while it is on. Empty: just on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// The value for a request without an organisation.
    #[serde(default)]
    pub no_organisation: bool,
    /// Organisations decided by name, before the percentage is looked at.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub organisations: Overrides,
    /// Subjects decided by name, before their organisation is looked at.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub subjects: Overrides,
}

/// What must be true of another flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Prerequisite {
    /// Key of the other flag.
    pub flag: String,
    /// The value it must have.
    #[serde(default = "super::yes", skip_serializing_if = "is_true")]
    pub value: bool,
    /// The variant it must be on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What a percentage is a share of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Organisations: one has the same value at every request.
    #[default]
    Organisation,
    /// Requests, by their `x-request-id`: nobody keeps a value from one request to the next.
    Request,
}

impl By {
    /// Whether it is the default.
    #[must_use]
    pub const fn is_organisation(&self) -> bool {
        matches!(self, Self::Organisation)
    }
}

/// A flag's part of an exclusive group's organisations. It grows from `from` on within its part, so
/// that no flag of the group ever takes an organisation from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Exclusive {
    /// The group's name.
    pub name: String,
    /// Where the flag's part begins, in percent of all organisations.
    pub from: Percentage,
    /// Where it ends. The flag's percentage is at most the difference.
    pub to: Percentage,
}

/// What a flag can be while it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Name, unique within the flag.
    pub name: String,
    /// Its share of those who are on, in relation to the other weights.
    pub weight: u32,
}

/// Who is on and who is off by name. Off wins over on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// On even at 0 %.
    pub on: Vec<Named>,
    /// Off even at 100 %.
    pub off: Vec<Named>,
}

impl Overrides {
    /// Whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.on.is_empty() && self.off.is_empty()
    }
}

/// Somebody named: for good (`"acme"`) or for a time (`{"name": "acme", "until": 1800000000}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged, expecting = "expected a name, or an object of `name` and `until` (seconds since 1970)")]
pub enum Named {
    /// For good.
    Always(String),
    /// Until a moment.
    Until(Term),
}

/// Somebody named for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Who.
    pub name: String,
    /// The first second, since the Unix epoch, at which the name no longer counts.
    pub until: u64,
}

impl Named {
    /// Who is named.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Always(name) | Self::Until(Term { name, .. }) => name,
        }
    }

    /// The first second at which the name no longer counts.
    #[must_use]
    pub const fn until(&self) -> u64 {
        match self {
            Self::Always(_) => u64::MAX,
            Self::Until(term) => term.until,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_true(value: &bool) -> bool {
    *value
}
