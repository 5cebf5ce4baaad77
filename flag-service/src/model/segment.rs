//! Segments: named lists of organisations. A flag names one as `segment:NAME`, among organisations; filters
//! know of none, since a policy holds the organisations themselves.

use rampart_engine::policy::Problem;
use rampart_engine::policy::wire::{Flag, Named, Overrides, Term};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::State;

/// What a segment's name begins with where a flag names it. No organisation is called so.
const PREFIX: &str = "segment:";

/// A named list of organisations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// What it is for. Nothing depends on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who belongs to it.
    pub organisations: Vec<String>,
}

impl State {
    /// A flag's organisations with segments' members in their places.
    pub(super) fn resolved(&self, names: &Overrides) -> Overrides {
        let resolve = |list: &[Named]| list.iter().flat_map(|named| self.members(named)).collect();
        Overrides { on: resolve(&names.on), off: resolve(&names.off) }
    }

    /// Whom a name stands for: itself, or a segment's members for as long as it counts.
    fn members(&self, named: &Named) -> Vec<Named> {
        let Some(segment) = segment(named.name()) else { return vec![named.clone()] };
        let members = self.segments.get(segment).map(|segment| segment.organisations.as_slice());
        let member = |name: &String| match named {
            Named::Always(_) => Named::Always(name.clone()),
            Named::Until(term) => Named::Until(Term { name: name.clone(), until: term.until }),
        };
        members.unwrap_or_default().iter().map(member).collect()
    }

    /// Segments that flags name and that do not exist, each with its place.
    pub(crate) fn unknown_segments(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for Flag { key, organisations, subjects, .. } in self.flags.values().map(|flag| &**flag) {
            for (list, names) in [("on", &organisations.on), ("off", &organisations.off)] {
                for (number, named) in names.iter().enumerate() {
                    let unknown = segment(named.name()).filter(|name| !self.segments.contains_key(*name));
                    problems.extend(unknown.map(|name| Problem {
                        field: format!("flags[{key}].organisations.{list}[{number}]"),
                        problem: format!("there is no segment `{name}`"),
                    }));
                }
            }
            for (list, names) in [("on", &subjects.on), ("off", &subjects.off)] {
                for (number, _) in
                    names.iter().enumerate().filter(|(_, named)| segment(named.name()).is_some())
                {
                    problems.push(Problem {
                        field: format!("flags[{key}].subjects.{list}[{number}]"),
                        problem: "a segment is of organisations".to_owned(),
                    });
                }
            }
        }
        problems
    }

    /// The segment by which one of these names an organisation, if it is not named itself.
    #[must_use]
    pub fn segment_of<'a>(&'a self, list: &'a [Named], organisation: &str, now: u64) -> Option<&'a str> {
        let counts = list.iter().filter(|named| now < named.until());
        let segments = counts.filter_map(|named| segment(named.name()));
        let mut its = segments.filter(|name| {
            let segment = self.segments.get(*name);
            segment.is_some_and(|segment| segment.organisations.iter().any(|member| member == organisation))
        });
        its.next()
    }
}

fn segment(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}
