//! Who a verified token speaks of, and when it counts.

use alloc::{boxed::Box, vec::Vec};

use crate::decision::Reason;

/// Who a token speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The organisation, where the token names one.
    pub organisation: Option<Box<str>>,
    /// The subject, where the token names one.
    pub subject: Option<Box<str>>,
    /// Roles.
    pub roles: List,
    /// Permissions; scopes among them, where the provider maps them.
    pub permissions: List,
}

/// A verified token: who, and when it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Who it speaks of.
    pub identity: Identity,
    /// First second at which it counts, leeway included.
    pub valid_from: u64,
    /// First second at which it no longer counts, leeway included.
    pub valid_until: u64,
    /// Whether the upstream gets to see the token.
    pub forward: bool,
}

/// Short names joined by commas: compact to keep, ready to be a header value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(Box<str>);

impl Verified {
    /// Whether the token counts at `now` (Unix seconds).
    ///
    /// # Errors
    /// Why it does not.
    pub fn check_time(&self, now: u64) -> Result<(), Reason> {
        if now < self.valid_from {
            Err(Reason::TokenNotYetValid)
        } else if now >= self.valid_until {
            Err(Reason::ExpiredToken)
        } else {
            Ok(())
        }
    }
}

impl List {
    /// A name that could not be told apart in a header (empty, with a comma, a control character or a
    /// blank at an end) is left out: the caller loses it, and can gain nothing by it.
    pub(crate) fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let clear = |name: &&str| !name.is_empty() && !name.contains(',') && is_header_value(name);
        let names: Vec<&str> = names.filter(clear).collect();
        Self(names.join(",").into())
    }

    /// The names joined by commas.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is listed.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.split(',').any(|listed| listed == name) && !name.is_empty()
    }
}

/// Whether a header carries it as it is: RFC 9110 §5.5 has blanks at its ends removed.
#[must_use]
pub fn is_header_value(text: &str) -> bool {
    is_header_safe(text) && text.trim_ascii().len() == text.len()
}

/// No control characters: nothing that could end a header line or a log line.
pub(crate) fn is_header_safe(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
