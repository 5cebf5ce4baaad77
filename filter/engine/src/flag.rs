//! Feature flags: `evaluate(flag, organisation, subject) -> {value, reason}`.
//!
//! It knows nothing of requests and tokens: the flag service evaluates the same flags natively.

use alloc::{boxed::Box, string::String};
use core::fmt;
use hashbrown::HashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::bucket::Bucketing;
use crate::policy::wire;

/// A flag, compiled.
#[derive(Debug)]
pub struct Flag {
    /// Name.
    pub key: Box<str>,
    /// Killed or disabled: off, whatever else is said.
    off: bool,
    percentage: Percentage,
    bucketing: Bucketing,
    no_organisation: bool,
    organisations: Named,
    subjects: Named,
}

/// Values by name.
type Named = HashMap<Box<str>, bool>;

/// A flag's value, and which rule gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the flag is on.
    pub value: bool,
    /// The rule that decided.
    pub reason: Reason,
}

/// Why a flag has its value, in OpenFeature's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// Killed or disabled.
    Disabled,
    /// The subject or the organisation is named.
    TargetingMatch,
    /// The percentage.
    Split,
    /// There is no organisation to go by.
    Default,
}

impl Flag {
    /// Compiles what was sent. Any shape-valid flag can be compiled.
    #[must_use]
    pub fn new(flag: &wire::Flag) -> Self {
        Self {
            key: flag.key.as_str().into(),
            off: flag.killed || !flag.enabled,
            percentage: flag.percentage,
            bucketing: Bucketing::new(flag.rollout_group.as_ref().unwrap_or(&flag.key), flag.bucketing),
            no_organisation: flag.no_organisation,
            organisations: named(&flag.organisations),
            subjects: named(&flag.subjects),
        }
    }

    /// The flag's value. An exclusion by name beats everything below it, even 100 %.
    #[must_use]
    pub fn evaluate(&self, organisation: Option<&str>, subject: Option<&str>) -> Evaluation {
        if self.off {
            return Evaluation { value: false, reason: Reason::Disabled };
        }
        let by_name = |names: &Named, name: Option<&str>| names.get(name?).copied();
        let named = by_name(&self.subjects, subject).or_else(|| by_name(&self.organisations, organisation));
        if let Some(value) = named {
            return Evaluation { value, reason: Reason::TargetingMatch };
        }
        match organisation.filter(|organisation| !organisation.is_empty()) {
            None => Evaluation { value: self.no_organisation, reason: Reason::Default },
            Some(organisation) => Evaluation {
                value: self.bucket(organisation) < self.percentage.thousandths(),
                reason: Reason::Split,
            },
        }
    }

    /// The organisation's bucket, in thousandths of a percent: the flag is on for it by percentage
    /// exactly when this is below the percentage.
    #[must_use]
    pub fn bucket(&self, organisation: &str) -> u32 {
        self.bucketing.bucket(organisation, Percentage::TOTAL)
    }
}

/// Off is inserted last, so that it wins over on.
fn named(overrides: &wire::Overrides) -> Named {
    let value = |names: &[String], value| {
        names.iter().map(move |name| (name.as_str().into(), value)).collect::<Named>()
    };
    let mut named = value(&overrides.on, true);
    named.extend(value(&overrides.off, false));
    named
}

/// A share of organisations, in thousandths of a percent: 0 to 100,000.
///
/// Written and read as a number of percent with at most three decimals, such as `12.5`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(u32);

impl Percentage {
    /// Nobody.
    pub const ZERO: Self = Self(0);
    /// Everybody.
    pub const FULL: Self = Self(Self::TOTAL);
    /// The number of buckets: 100 % in thousandths of a percent.
    pub const TOTAL: u32 = 100_000;

    /// From a number of percent.
    ///
    /// # Errors
    /// The reason, for people, if it is not within 0 to 100 or has more than three decimals.
    pub fn from_percent(percent: f64) -> Result<Self, PercentageError> {
        let thousandths = percent * 1000.0;
        let rounded = (thousandths + 0.5) as u32;
        if !(0.0..=100.0).contains(&percent) {
            return Err(PercentageError::OutOfRange(percent));
        }
        if (thousandths - f64::from(rounded)).abs() > 1e-6 {
            return Err(PercentageError::TooFine(percent));
        }
        Ok(Self(rounded))
    }

    /// In thousandths of a percent, 0 to 100,000.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }
}

/// Why a number is no percentage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PercentageError {
    /// Below 0, above 100, or not a number.
    OutOfRange(f64),
    /// More than three decimals.
    TooFine(f64),
}

impl core::error::Error for PercentageError {}

impl fmt::Display for PercentageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange(value) => write!(f, "{value} is not a percentage: 0 to 100 is allowed"),
            Self::TooFine(value) => {
                write!(f, "{value} has more than three decimals: steps of 0.001 are the finest")
            }
        }
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl Serialize for Percentage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u32(self.0 / 1000)
        } else {
            serializer.serialize_f64(f64::from(self.0) / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Percentage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        Self::from_percent(percent).map_err(D::Error::custom)
    }
}
