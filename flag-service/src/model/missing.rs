//! What is said of something that does not exist: names that were perhaps meant.

use super::{Kind, Refusal, State};

/// Most names that are suggested.
const MOST: usize = 3;
/// How alike a name must be, by Jaro and Winkler: a slip or two, whatever the length.
const ALIKE: f64 = 0.88;
/// A longer name is near to none, and would be costly to compare.
const LONGEST: usize = 128;

impl State {
    /// That there is no such resource, and which names are near.
    #[must_use]
    pub fn missing(&self, kind: Kind, name: &str) -> Refusal {
        let near = match kind {
            Kind::Flag => near(name, self.flags.keys()),
            Kind::Module => near(name, self.modules.keys()),
            Kind::Provider => near(name, self.providers.keys()),
            Kind::Segment => near(name, self.segments.keys()),
            Kind::Key => near(name, self.keys.keys()),
            Kind::OrganisationModule | Kind::Settings | Kind::Set | Kind::KeySet | Kind::Manifest => {
                Vec::new()
            }
        };
        Refusal::Missing { kind, name: name.to_owned(), near }
    }
}

fn near<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Vec<String> {
    if name.len() > LONGEST {
        return Vec::new();
    }
    let rated = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let mut alike: Vec<(f64, &String)> = rated.filter(|(alike, _)| *alike >= ALIKE).collect();
    alike.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    alike.into_iter().take(MOST).map(|(_, known)| known.clone()).collect()
}

/// ` (did you mean …?)`, or nothing.
pub(super) fn suggestion(near: &[String]) -> String {
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { String::new() } else { format!(" (did you mean {}?)", quoted.join(" or ")) }
}
