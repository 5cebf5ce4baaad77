//! From the flags that were sent to what they mean, and what makes no sense about them.

use alloc::{boxed::Box, format, vec::Vec};
use hashbrown::{HashMap, HashSet};

use super::{Flag, FlagId, Flags, Names, Percentage, Prerequisite, Variants};
use crate::bucket::Bucketing;
use crate::policy::Problem;
use crate::policy::compile::{NAME, NAME_RULE, Problems, is_name};
use crate::policy::wire::{self, By, Exclusive, Named, Overrides};

/// Most flags that one flag asks, itself included and prerequisites of prerequisites as often as
/// they are asked: it bounds what a request costs, and how deep the evaluation goes.
const MAX_ASKED: usize = 64;
const KEY_RULE: &str =
    "a key is 1 to 128 letters, digits, `_`, `-`, `.` and `/`, and does not end in `/variant`";
/// Most that the weights of a flag may add up to; flagd's limit.
const MAX_WEIGHTS: u32 = i32::MAX as u32;

impl Flags {
    /// Compiles flags that stand alone.
    ///
    /// # Errors
    /// Everything that does not make sense.
    pub fn new(sent: &[wire::Flag]) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let flags = Self::compile(sent, &mut problems);
        problems.refuse().map(|_| flags)
    }

    /// Compiles flags. What it returns is of use only if there are no problems.
    pub(crate) fn compile(sent: &[wire::Flag], problems: &mut Problems) -> Self {
        let mut flags =
            Self { by_request: sent.iter().any(|flag| flag.by == By::Request), ..Self::default() };
        for (index, flag) in sent.iter().enumerate() {
            let at = format!("flags[{}]", flag.key);
            problems.check(&format!("{at}.key"), is_key(&flag.key), KEY_RULE);
            let unique = flags.by_key.insert(flag.key.as_str().into(), FlagId(index)).is_none();
            problems.check(&format!("{at}.key"), unique, "another flag has this key");
        }
        let mut groups = Groups::default();
        for flag in sent {
            let at = format!("flags[{}]", flag.key);
            check(flag, &at, problems);
            let group = flag
                .exclusive_group
                .as_ref()
                .map(|part| groups.join(flag, part, &format!("{at}.exclusive_group"), problems));
            let prerequisites = flags.prerequisites(flag, sent, &at, problems);
            flags.list.push(Flag::compile(flag, group, prerequisites));
        }
        flags.groups = groups.promises;
        flags.check_chains(problems);
        flags
    }

    fn prerequisites(
        &self,
        flag: &wire::Flag,
        sent: &[wire::Flag],
        at: &str,
        problems: &mut Problems,
    ) -> Vec<Prerequisite> {
        let mut prerequisites = Vec::new();
        for (number, needed) in flag.prerequisites.iter().enumerate() {
            let at = format!("{at}.prerequisites[{number}]");
            let Some(id) = self.find(&needed.flag) else {
                problems.add(&format!("{at}.flag"), format!("there is no flag `{}`", needed.flag));
                continue;
            };
            if let (Some(variant), Some(other)) = (&needed.variant, sent.get(id.0)) {
                check_variant(other, variant, &at, problems);
                problems.check(&format!("{at}.value"), needed.value, "a flag that is off has no variant");
            }
            let variant = needed.variant.as_deref().map(Into::into);
            prerequisites.push(Prerequisite { flag: id, value: needed.value, variant });
        }
        prerequisites
    }

    /// Refuses prerequisites that lead back to where they came from, and too many of them. Each
    /// flag is visited once, without recursion: what is refused here must not exhaust the stack.
    fn check_chains(&self, problems: &mut Problems) {
        /// How many flags a flag asks, once that is known.
        enum State {
            New,
            OnPath,
            Asks(usize),
        }
        let mut states: Vec<State> = self.list.iter().map(|_| State::New).collect();
        for start in (0..self.list.len()).map(FlagId) {
            if !matches!(states.get(start.0), Some(State::New)) {
                continue;
            }
            let mut path = alloc::vec![(start, 0)];
            while let Some((id, next)) = path.last_mut() {
                let (id, needed) = (*id, self.get(*id).map_or(&[][..], |flag| &flag.prerequisites));
                if let Some(state @ State::New) = states.get_mut(id.0) {
                    *state = State::OnPath;
                }
                if let Some(needed) = needed.get(*next) {
                    *next += 1;
                    match states.get(needed.flag.0) {
                        Some(State::New) => path.push((needed.flag, 0)),
                        Some(State::OnPath) => self.tell_cycle(&path, needed.flag, problems),
                        _ => {}
                    }
                    continue;
                }
                let asks = |needed: &Prerequisite| match states.get(needed.flag.0) {
                    Some(State::Asks(number)) => *number,
                    _ => 0,
                };
                let number = needed.iter().map(asks).fold(1, usize::saturating_add);
                if number > MAX_ASKED {
                    let problem = format!("they ask {number} flags in all: at most {MAX_ASKED} are allowed");
                    problems.add(&format!("flags[{}].prerequisites", self.key(id)), problem);
                }
                if let Some(state) = states.get_mut(id.0) {
                    *state = State::Asks(number);
                }
                path.pop();
            }
        }
    }

    fn tell_cycle(&self, path: &[(FlagId, usize)], back_to: FlagId, problems: &mut Problems) {
        let cycle = path.iter().map(|(id, _)| *id).skip_while(|id| *id != back_to);
        let keys: Vec<&str> = cycle.chain([back_to]).map(|id| self.key(id)).collect();
        let problem = format!("they lead in a circle: {}", keys.join(" → "));
        problems.add(&format!("flags[{}].prerequisites", self.key(back_to)), problem);
    }

    fn key(&self, id: FlagId) -> &str {
        self.get(id).map_or("?", |flag| &flag.key)
    }
}

impl Flag {
    fn compile(flag: &wire::Flag, group: Option<usize>, prerequisites: Vec<Prerequisite>) -> Self {
        let part = flag.exclusive_group.as_ref();
        let hash_key = part.map(|part| &part.name).or(flag.rollout_group.as_ref()).unwrap_or(&flag.key);
        let from = part.map_or(Percentage::ZERO, |part| part.from).thousandths();
        // `/` is in no key, so that no flag is hashed like another's variants.
        let salted = format!("{}/variant", flag.key);
        let mut total: u32 = 0;
        let up_to = flag.variants.iter().map(|variant| {
            total = total.saturating_add(variant.weight);
            (Box::from(variant.name.as_str()), total)
        });
        Self {
            key: flag.key.as_str().into(),
            off: flag.killed || !flag.enabled,
            prerequisites,
            subjects: names(&flag.subjects),
            organisations: names(&flag.organisations),
            by: flag.by,
            no_organisation: flag.no_organisation,
            group,
            bucketing: Bucketing::new(hash_key, flag.bucketing),
            enrolled: from..from + flag.percentage.thousandths(),
            variants: Variants { up_to: up_to.collect(), bucketing: Bucketing::new(&salted, flag.bucketing) },
        }
    }
}

/// Where a name stands twice, it counts for as long as the later one says.
fn names(overrides: &Overrides) -> Names {
    let mut names = Names::new();
    for named in &overrides.on {
        let terms = names.entry_ref(named.name()).or_default();
        terms.on = terms.on.max(named.until());
    }
    for named in &overrides.off {
        let terms = names.entry_ref(named.name()).or_default();
        terms.off = terms.off.max(named.until());
    }
    names
}

/// Whether a flag or a rollout group may be called so. Keys with slashes are common among flagd's
/// users; variants are hashed by the key and a suffix, which no other key may have.
fn is_key(key: &str) -> bool {
    is_name(key, |byte| NAME(byte) || byte == b'/') && !key.ends_with("/variant")
}

/// What can be said about a flag without looking at others.
fn check(flag: &wire::Flag, at: &str, problems: &mut Problems) {
    if let Some(group) = &flag.rollout_group {
        problems.check(&format!("{at}.rollout_group"), is_key(group), KEY_RULE);
    }
    problems.check(
        &format!("{at}.no_organisation"),
        flag.by == By::Organisation || !flag.no_organisation,
        "a flag that goes by request does not look at it",
    );
    let mut known = HashSet::new();
    for (number, variant) in flag.variants.iter().enumerate() {
        let at = format!("{at}.variants[{number}].name");
        problems.check(&at, is_name(&variant.name, NAME), NAME_RULE);
        problems.check(&at, known.insert(&variant.name), "another variant has this name");
    }
    let total: u64 = flag.variants.iter().map(|variant| u64::from(variant.weight)).sum();
    problems.check(
        &format!("{at}.variants"),
        flag.variants.is_empty() || (1..=u64::from(MAX_WEIGHTS)).contains(&total),
        "the weights add up to 1 at least and 2147483647 at most",
    );
    for (list, names) in [
        ("organisations.on", &flag.organisations.on),
        ("organisations.off", &flag.organisations.off),
        ("subjects.on", &flag.subjects.on),
        ("subjects.off", &flag.subjects.off),
    ] {
        for (number, named) in names.iter().enumerate() {
            let at = format!("{at}.{list}[{number}]");
            if named.name().is_empty() {
                problems.warn(&at, "nobody has an empty name: this decides nothing".into());
            } else if !named.name().is_ascii() && list.starts_with("organisations") {
                let warning = "not ASCII: flagd's SDKs disagree about the bucket of such an organisation, so \
                               that an application may see another value than this one";
                problems.warn(&at, warning.into());
            }
        }
    }
}

/// Refuses a variant that the flag does not have.
pub(crate) fn check_variant(flag: &wire::Flag, variant: &str, at: &str, problems: &mut Problems) {
    let known = flag.variants.iter().any(|known| known.name == variant);
    let problem = format!("flag `{}` has no variant `{variant}`", flag.key);
    problems.check(&format!("{at}.variant"), known, &problem);
}

/// Exclusive groups, as they fill up.
#[derive(Default)]
struct Groups<'s> {
    index: HashMap<&'s str, usize>,
    members: Vec<Vec<(&'s wire::Flag, &'s Exclusive)>>,
    /// Which flag of a group names an organisation `on`.
    owners: HashMap<(usize, &'s str), &'s wire::Flag>,
    promises: Vec<HashMap<Box<str>, u64>>,
}

impl<'s> Groups<'s> {
    /// Takes a flag into its group; the group's index.
    fn join(
        &mut self,
        flag: &'s wire::Flag,
        part: &'s Exclusive,
        at: &str,
        problems: &mut Problems,
    ) -> usize {
        check_member(flag, part, at, problems);
        let next = self.members.len();
        let index = *self.index.entry(&part.name).or_insert(next);
        if index == next {
            self.members.push(Vec::new());
            self.promises.push(HashMap::new());
        }
        let (Some(members), Some(promises)) = (self.members.get_mut(index), self.promises.get_mut(index))
        else {
            return index;
        };
        for (other, others) in &*members {
            if part.from < others.to && others.from < part.to {
                let (key, from, to) = (&other.key, others.from, others.to);
                problems.add(at, format!("its part overlaps that of flag `{key}`, {from} to {to} %"));
            }
            let same = flag.bucketing == other.bucketing;
            let problem = format!("flag `{}` of the same group has another `bucketing`", other.key);
            problems.check(at, same, &problem);
        }
        let on = &flag.organisations.on;
        let owned = |named: &'s Named| Some((self.owners.get(&(index, named.name()))?, named.name()));
        if let Some((other, name)) = on.iter().find_map(owned) {
            problems.add(at, format!("flag `{}` of the same group names `{name}` as `on` too", other.key));
        }
        for named in on {
            self.owners.insert((index, named.name()), flag);
            let until = promises.entry_ref(named.name()).or_insert(0);
            *until = named.until().max(*until);
        }
        members.push((flag, part));
        index
    }
}

/// Refuses what would put two flags of a group on for one caller, or contradicts it.
fn check_member(flag: &wire::Flag, part: &Exclusive, at: &str, problems: &mut Problems) {
    problems.check(&format!("{at}.name"), is_name(&part.name, NAME), NAME_RULE);
    problems.check(&format!("{at}.to"), part.from < part.to, "a part ends after it begins");
    let width = part.to.thousandths().saturating_sub(part.from.thousandths());
    if flag.percentage.thousandths() > width {
        let (percentage, from, to) = (flag.percentage, part.from, part.to);
        problems.add(at, format!("{percentage} % do not fit the flag's part of the group, {from} to {to} %"));
    }
    for (holds, problem) in [
        (flag.by == By::Organisation, "flags of an exclusive group go by organisation"),
        (flag.rollout_group.is_none(), "a flag has a rollout group or an exclusive group, not both"),
        (
            flag.subjects.on.is_empty(),
            "subjects cannot be named `on`: their organisation may have another flag",
        ),
        (!flag.no_organisation, "`no_organisation` cannot be true: two flags of the group could be on"),
    ] {
        problems.check(at, holds, problem);
    }
}
