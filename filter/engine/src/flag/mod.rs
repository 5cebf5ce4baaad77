//! Feature flags: [`Flags::evaluate`] is everything that decides about one, in order.
//!
//! It knows nothing of requests and tokens: the flag service evaluates the same flags natively.

pub(crate) mod compile;
mod percentage;

use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;
use hashbrown::HashMap;
use serde::Serialize;

use crate::bucket::Bucketing;
use crate::policy::wire::By;

pub use percentage::{Percentage, PercentageError};

/// All flags of a policy, compiled. Every name in them leads somewhere, and no flag asks itself.
#[derive(Debug, Default)]
pub struct Flags {
    list: Vec<Flag>,
    by_key: HashMap<Box<str>, FlagId>,
    /// Exclusive groups: the organisations that members name `on`, and until when.
    groups: Vec<HashMap<Box<str>, u64>>,
    by_request: bool,
}

/// Which flag of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagId(usize);

/// A flag, compiled.
#[derive(Debug)]
pub struct Flag {
    /// Name.
    pub key: Box<str>,
    /// Killed or disabled: off, whatever else is said.
    off: bool,
    prerequisites: Vec<Prerequisite>,
    subjects: Names,
    organisations: Names,
    by: By,
    no_organisation: bool,
    /// Index of the exclusive group.
    group: Option<usize>,
    bucketing: Bucketing,
    /// The buckets, in thousandths of a percent, in which the flag is on.
    enrolled: Range<u32>,
    variants: Variants,
}

#[derive(Debug)]
struct Prerequisite {
    flag: FlagId,
    value: bool,
    variant: Option<Box<str>>,
}

/// Who is decided by name.
type Names = HashMap<Box<str>, Terms>;

/// Until when a name is on and off: the first second at which it no longer is. 0: it never was.
#[derive(Debug, Default)]
struct Terms {
    on: u64,
    off: u64,
}

/// What a flag can be while it is on.
#[derive(Debug)]
struct Variants {
    /// Salted, so that variants are independent of who is on.
    bucketing: Bucketing,
    /// Name, and the sum of the weights up to and including it.
    up_to: Vec<(Box<str>, u32)>,
}

/// For whom a flag is evaluated, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asker<'a> {
    /// The organisation.
    pub organisation: Option<&'a str>,
    /// The subject.
    pub subject: Option<&'a str>,
    /// `x-request-id`, for flags that go by request.
    pub request_id: Option<&'a str>,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// A flag's value, and which rule gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation<'f> {
    /// Whether the flag is on.
    pub value: bool,
    /// What it is while it is on, where it has variants.
    pub variant: Option<&'f str>,
    /// The rule that decided.
    pub reason: Reason,
}

/// Why a flag has its value, in OpenFeature's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// Killed or disabled.
    Disabled,
    /// The subject or the organisation is named, in this flag or in another of its exclusive group.
    TargetingMatch,
    /// The percentage; at 0 and at 100 too.
    Split,
    /// No rule applies: a prerequisite is not met, or there is no organisation to go by.
    Default,
    /// It cannot be evaluated: it goes by request and the request has no id, or that is so of a
    /// prerequisite.
    Error,
}

impl Flags {
    /// A flag by its key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<FlagId> {
        self.by_key.get(key).copied()
    }

    /// A flag.
    #[must_use]
    pub fn get(&self, id: FlagId) -> Option<&Flag> {
        self.list.get(id.0)
    }

    /// Whether any flag looks at the request's id.
    #[must_use]
    pub const fn by_request(&self) -> bool {
        self.by_request
    }

    /// A flag's value. An exclusion by name beats everything below it, even 100 %.
    #[must_use]
    pub fn evaluate(&self, id: FlagId, asker: &Asker<'_>) -> Evaluation<'_> {
        let off = |reason| Evaluation { value: false, variant: None, reason };
        let Some(flag) = self.get(id) else { return off(Reason::Error) };
        if flag.off {
            return off(Reason::Disabled);
        }
        for needed in &flag.prerequisites {
            let found = self.evaluate(needed.flag, asker);
            if found.reason == Reason::Error {
                return off(Reason::Error);
            }
            let variant_fits = needed.variant.is_none() || needed.variant.as_deref() == found.variant;
            if found.value != needed.value || !variant_fits {
                return off(Reason::Default);
            }
        }
        let organisation = asker.organisation.filter(|organisation| !organisation.is_empty());
        let hashed = match flag.by {
            By::Organisation => organisation,
            By::Request => asker.request_id.filter(|id| !id.is_empty()),
        };
        let named = by_name(&flag.subjects, asker.subject, asker.now)
            .or_else(|| by_name(&flag.organisations, organisation, asker.now));
        let (value, reason) = match (named, hashed, flag.by) {
            (Some(value), ..) => (value, Reason::TargetingMatch),
            (None, None, By::Organisation) => (flag.no_organisation, Reason::Default),
            (None, None, By::Request) => (false, Reason::Error),
            (None, Some(hashed), _) if self.promised_to_another(flag, hashed, asker.now) => {
                (false, Reason::TargetingMatch)
            }
            (None, Some(hashed), _) => (flag.enrolled.contains(&flag.bucket(hashed)), Reason::Split),
        };
        let variant = if value { flag.variants.of(hashed) } else { None };
        Evaluation { value, variant, reason }
    }

    /// Whether the organisation is named in the exclusive group, which is in another flag, since this
    /// one's names have been asked. That flag may be off: what it was promised is not handed on, or
    /// its return would take it from others.
    fn promised_to_another(&self, flag: &Flag, organisation: &str, now: u64) -> bool {
        let group = flag.group.and_then(|group| self.groups.get(group));
        group.and_then(|until| until.get(organisation)).is_some_and(|until| now < *until)
    }
}

impl Flag {
    /// The bucket of an organisation (or of a request's id, where the flag goes by request), in
    /// thousandths of a percent: the flag is on by percentage exactly where [`Flag::enrolled`]
    /// contains it.
    #[must_use]
    pub fn bucket(&self, hashed: &str) -> u32 {
        self.bucketing.bucket(hashed, Percentage::TOTAL)
    }

    /// The buckets in which the flag is on by percentage.
    #[must_use]
    pub fn enrolled(&self) -> Range<u32> {
        self.enrolled.clone()
    }

    /// What the percentage is a share of.
    #[must_use]
    pub const fn by(&self) -> By {
        self.by
    }
}

impl Variants {
    /// The variant of an organisation or request; the first where there is neither.
    fn of(&self, hashed: Option<&str>) -> Option<&str> {
        let (_, total) = self.up_to.last()?;
        let bucket = hashed.map_or(0, |hashed| self.bucketing.bucket(hashed, *total));
        self.up_to.iter().find(|(_, up_to)| bucket < *up_to).map(|(name, _)| &**name)
    }
}

fn by_name(names: &Names, name: Option<&str>, now: u64) -> Option<bool> {
    let terms = names.get(name?)?;
    if now < terms.off { Some(false) } else { (now < terms.on).then_some(true) }
}
