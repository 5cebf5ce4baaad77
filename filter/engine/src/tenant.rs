//! Which organisation a request is about, where its route says how to tell, held against the one
//! that calls. It knows nothing of tokens: the caller's organisation has been verified before.

use alloc::{borrow::Cow, boxed::Box, format};

use crate::decision::{Reason, Refusal};
use crate::path::Segments;
use crate::policy::compile::Problems;
use crate::policy::wire::{self, Level, TokenSource};
use crate::request::{Headers, alike};
use crate::{route, token_source};

/// Where a request names the organisation that it is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Tenant {
    /// In this segment below the namespace, counted from zero.
    Segment(usize),
    /// In this header.
    Header(Box<str>),
}

impl Tenant {
    /// What a route of this pattern and level is bound to.
    pub(crate) fn compile(
        sent: Option<&wire::Tenant>,
        pattern: &str,
        level: Level,
        at: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        let bound = match sent? {
            wire::Tenant::Any => return None,
            wire::Tenant::Path(name) => match route::parameter(pattern, name) {
                Some(place) => Ok(Self::Segment(place)),
                None => Err(format!(
                    "the pattern `{pattern}` has no parameter `{{{name}}}` of one segment; a route for every organisation says `any`"
                )),
            },
            // The same headers that may hold a token: none that means something else already.
            wire::Tenant::Header(name) => {
                match token_source::normalised(&TokenSource::Header(name.clone())) {
                    Ok(TokenSource::Header(name)) => Ok(Self::Header(name.into())),
                    Ok(_) => return None,
                    Err(problem) => Err(problem.into()),
                }
            }
        };
        problems.check(
            at,
            level != Level::None,
            "the level `none` verifies no organisation that could be compared; such a route says `any`",
        );
        bound.map_err(|problem| problems.add(at, problem)).ok()
    }

    /// Lets a request through that is about the caller's own organisation.
    ///
    /// # Errors
    /// It is about another, or does not say about which.
    pub fn check(
        &self,
        segments: Segments<'_>,
        headers: &impl Headers,
        organisation: Option<&str>,
    ) -> Result<(), Refusal> {
        let named = match self {
            Self::Segment(place) => segments.nth(*place),
            Self::Header(name) => {
                let value = only(headers, name).ok_or_else(|| Refusal::malformed_tenant(name))?;
                Some(Cow::Borrowed(value))
            }
        };
        match (named, organisation) {
            (Some(named), Some(own)) if *named == *own.as_bytes() => Ok(()),
            _ => Err(Refusal::new(Reason::CrossTenant)),
        }
    }
}

/// A header's one value. Repeated, a header reaches some servers as one value joined by a comma and
/// others as its first or last; spelt with underscores, CGI-like servers take it for the same.
fn only<'h>(headers: &'h impl Headers, name: &str) -> Option<&'h [u8]> {
    let mut found = headers.pairs().filter(|(key, _)| alike(key, name.as_bytes()));
    let (key, value) = found.next()?;
    let one = found.next().is_none() && key == name.as_bytes();
    (one && !value.is_empty() && !value.contains(&b',')).then_some(value)
}
