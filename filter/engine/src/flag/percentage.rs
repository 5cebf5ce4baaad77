//! A percentage as it is written, read and counted.

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A share of organisations, in thousandths of a percent: 0 to 100,000.
///
/// Written and read as a number of percent with at most three decimals, such as `12.5`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = f64, minimum = 0.0, maximum = 100.0))]
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
