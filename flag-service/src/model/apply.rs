//! Many resources, set as one. It knows neither the files they were read from nor who compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rampart_engine::policy::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::change::{forget, malformed, put_flag, put_module, put_provider, put_settings, read};
use super::{Kind, Refusal, Segment, State, manifest};

/// Longest name of a set, in bytes.
const LONGEST: usize = 128;

/// Resources to set. All of them are set, or none.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The resources: `kind`, and the members that the resource has elsewhere.
    #[schema(value_type = Vec<Object>)]
    pub resources: Vec<Map<String, Value>>,
    /// The name under which it is kept what was applied; none: it is not kept.
    #[serde(default)]
    pub set: Option<String>,
    /// Whether what was applied under this name before, and is not among the resources, is removed.
    #[serde(default)]
    pub prune: bool,
}

/// What was applied under one name: by kind, the resources' names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set(BTreeMap<Kind, BTreeSet<String>>);

impl Apply {
    /// The state after all of it.
    pub(super) fn to(&self, state: &State) -> Result<State, Refusal> {
        if self.resources.is_empty() {
            return Err(malformed("resources", "there is nothing to apply"));
        }
        let mut next = state.clone();
        let mut given = BTreeSet::new();
        let mut problems = Vec::new();
        for (index, resource) in self.resources.iter().enumerate() {
            let put = identify(index, resource.clone()).and_then(|(kind, name, body)| {
                if !given.insert((kind, name.clone())) {
                    return Err(at(kind, &name, "", "it is there twice"));
                }
                put(&mut next, kind, &name, body).map_err(|refusal| match refusal {
                    Refusal::Malformed { field, problem } => at(kind, &name, &field, &problem),
                    other => at(kind, &name, "", &other.to_string()),
                })
            });
            problems.extend(put.err());
        }
        let records = given.iter().filter(|(kind, _)| *kind == Kind::OrganisationModule);
        problems.extend(records.filter_map(|(kind, name)| {
            // Its module may stand behind it among the documents.
            let unknown = next.known_module(name.split('/').next()?).err()?;
            Some(at(*kind, name, "module", &unknown.to_string()))
        }));
        match &self.set {
            Some(set) => problems.extend(self.keep(set, given, state, &mut next)),
            None if self.prune => problems.push(plain("set", "name the set that is pruned")),
            None => {}
        }
        if problems.is_empty() { Ok(next) } else { Err(Refusal::Several(problems)) }
    }

    /// Keeps what was applied under the set's name, and removes what is to be pruned; why it cannot.
    fn keep(
        &self,
        name: &str,
        given: BTreeSet<(Kind, String)>,
        state: &State,
        next: &mut State,
    ) -> Vec<Problem> {
        if name.is_empty() || name.len() > LONGEST || name.contains(char::is_control) {
            return vec![plain("set", "its name is a text of 1 to 128 bytes, on one line")];
        }
        let mut problems = Vec::new();
        let before = state.sets.get(name).map(|set| Set::clone(set)).unwrap_or_default();
        let mut kept = Set::default();
        // There is always one settings, which nothing can remove.
        for (kind, name) in given.iter().filter(|(kind, _)| *kind != Kind::Settings) {
            kept.0.entry(*kind).or_default().insert(name.clone());
        }
        let gone =
            before.0.into_iter().flat_map(|(kind, names)| names.into_iter().map(move |name| (kind, name)));
        for (kind, gone) in gone.filter(|resource| !given.contains(resource)) {
            let killed = kind == Kind::Flag && state.flags.get(&gone).is_some_and(|flag| flag.killed);
            // What another set has as well is not this one's alone to remove.
            let shared = state.sets.iter().any(|(other, set)| other != name && set.has(kind, &gone));
            if !state.has(kind, &gone) || (self.prune && shared) {
                continue;
            }
            if !self.prune {
                kept.0.entry(kind).or_default().insert(gone);
            } else if killed {
                let todo =
                    "it is killed, and a kill is not removed in passing: restore or delete the flag first";
                problems.push(at(kind, &gone, "", todo));
            } else if let Err(error) = next.set(kind, &gone, None) {
                problems.push(at(kind, &gone, "", &error.to_string()));
            } else if kind == Kind::Flag {
                forget(next, &gone);
            }
        }
        next.sets.insert(name.to_owned(), Arc::new(kept));
        problems
    }
}

impl Set {
    fn has(&self, kind: Kind, name: &str) -> bool {
        self.0.get(&kind).is_some_and(|names| names.contains(name))
    }
}

/// Which resource it is, and what is said of it.
fn identify(
    index: usize,
    mut body: Map<String, Value>,
) -> Result<(Kind, String, Map<String, Value>), Problem> {
    let field = |member: &str| format!("resources[{index}].{member}");
    let kind = body.remove("kind");
    let kind =
        kind.as_ref().and_then(Value::as_str).and_then(Kind::from_word).filter(|kind| kind.is_applied());
    let kind = kind.ok_or_else(|| {
        plain(
            &field("kind"),
            "it is `flag`, `module`, `organisation_module`, `provider`, `segment` or `settings`",
        )
    })?;
    let named = |member: &&str| {
        let name = body.get(*member).and_then(Value::as_str).filter(|name| !name.is_empty());
        name.ok_or_else(|| plain(&field(member), "it is a name, and must be there"))
    };
    let name = kind.name_members().iter().map(named).collect::<Result<Vec<_>, _>>()?.join("/");
    Ok((kind, name, body))
}

/// Sets one resource. How far a flag is rolled out and who is denied stay as they are unless a document
/// says them: others change these while documents lie still. A kill stays whatever a document says.
fn put(state: &mut State, kind: Kind, name: &str, mut body: Map<String, Value>) -> Result<(), Refusal> {
    match kind {
        Kind::Flag => {
            if let Some(before) = state.flags.get(name) {
                body.entry("percentage").or_insert_with(|| json!(before.percentage));
            }
            put_flag(state, read(body.into())?)
        }
        Kind::Module => put_module(state, manifest::read(body.into())?),
        Kind::Provider => put_provider(state, read(body.into())?),
        Kind::Segment => {
            state.segments.insert(name.to_owned(), Arc::new(read::<Segment>(body.into())?));
            Ok(())
        }
        Kind::OrganisationModule => {
            // Who has made it, a document is not asked.
            body.retain(|member, _| !matches!(&**member, "created_by" | "created_at"));
            state.put_organisation_module(read(body.into())?)
        }
        Kind::Settings => {
            body.entry("denied").or_insert_with(|| json!(state.settings.denied));
            put_settings(state, read(body.into())?);
            Ok(())
        }
        Kind::Set | Kind::KeySet | Kind::Key | Kind::Manifest => {
            Err(malformed("kind", "what is of this kind, no document says"))
        }
    }
}

/// A problem within a resource, placed as the engine places its own.
fn at(kind: Kind, name: &str, field: &str, problem: &str) -> Problem {
    let place =
        if name.is_empty() { kind.as_str().to_owned() } else { format!("{}s[{name}]", kind.as_str()) };
    plain(&if field.is_empty() { place } else { format!("{place}.{field}") }, problem)
}

fn plain(field: &str, problem: &str) -> Problem {
    Problem { field: field.to_owned(), problem: problem.to_owned() }
}
