//! YAML, and JSON with it, as trees that know their lines: of files and of requests alike. What YAML
//! readers disagree about is refused. It does not know what the documents mean.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::{fmt, thread};

use anyhow::{Result, anyhow};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{
    DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, MessageFormatter as _, Spanned, UserMessageFormatter,
};

/// What YAML 1.1 takes for a boolean and YAML 1.2 for a text. `y` and `n` are none: hardly a reader follows
/// 1.1 there, and writers leave them bare.
const DISPUTED: [&str; 12] = ["yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"];

/// Most values of one text: an export with tens of thousands of names in it is far below.
const VALUES: usize = 1_000_000;
/// How much of them aliases may stand for.
const ALIASED: usize = 100_000;
/// How deeply they nest.
const DEPTH: usize = 64;
/// Room to read so deeply, in bytes: each level takes some 40 kB without optimisation, and a thread of the
/// runtime has 2 MB.
const STACK: usize = 16 << 20;

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Counted from 1.
    pub(crate) line: u64,
    tree: Tree,
}

#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// What is wrong with a text, and in which line.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// Counted from 1; 0 where it is about the whole.
    pub(crate) line: u64,
    /// Likewise.
    pub(crate) column: u64,
    pub(crate) problem: String,
}

impl Node {
    /// Reads every document of a text; those that hold nothing are left out.
    pub(crate) fn documents(text: &str) -> std::result::Result<Vec<Self>, Unreadable> {
        thread::scope(|scope| {
            let reader = thread::Builder::new().stack_size(STACK);
            let reader = reader.spawn_scoped(scope, || Self::read(text)).map_err(|error| {
                let problem = format!("there is no thread that could read it: {error}");
                Unreadable { line: 0, column: 0, problem }
            })?;
            reader.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn read(text: &str) -> std::result::Result<Vec<Self>, Unreadable> {
        let budget = serde_saphyr::budget! {
        max_depth: DEPTH, max_nodes: VALUES, max_events: 4 * VALUES, max_documents: VALUES
        };
        let options = serde_saphyr::options! {
            budget: budget,
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIASED },
            duplicate_keys: DuplicateKeyPolicy::Error,
            merge_keys: MergeKeyPolicy::Error,
            strict_booleans: true,
            leading_zero_numbers_as_strings: true,
            underscored_numbers_as_strings: true,
        };
        let read: std::result::Result<Vec<Raw>, _> = serde_saphyr::from_multiple_with_options(text, options);
        let read = read.map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            let mut cause = &error;
            while let Error::AliasError { error, .. } | Error::WithSnippet { error, .. } = cause {
                cause = error;
            }
            let problem = match cause {
                Error::DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` is there twice"),
                Error::MergeKeyNotAllowed { .. } => "merge keys are not YAML 1.2: write it out".to_owned(),
                Error::AliasReplayLimitExceeded { .. } => {
                    format!("its aliases stand for more than {ALIASED} values: write it out")
                }
                Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
                    format!("it nests more than {DEPTH} levels")
                }
                Error::Budget { .. } => format!("it has more than {VALUES} values: send it in several parts"),
                cause => UserMessageFormatter.format_message(cause).into_owned(),
            };
            Unreadable { line, column, problem }
        })?;
        read.into_iter().map(|raw| raw.settle(text)).collect()
    }

    /// The value, without its lines.
    pub(crate) fn value(&self) -> Value {
        match &self.tree {
            Tree::Leaf(value) => value.clone(),
            Tree::List(items) => items.iter().map(Self::value).collect(),
            Tree::Map(members) => {
                let members = members.iter().map(|(name, node)| (name.clone(), node.value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    /// A member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Tree::Map(members) = &self.tree else { return None };
        members.iter().find_map(|(member, node)| (member == name).then_some(node))
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Option<&[Self]> {
        if let Tree::List(items) = &self.tree { Some(items) } else { None }
    }

    /// Whether it is an object.
    pub(crate) const fn is_map(&self) -> bool {
        matches!(self.tree, Tree::Map(_))
    }

    /// The line of a field such as `routes[0].path`, or of what it would stand in.
    pub(crate) fn line_of(&self, field: &str) -> u64 {
        let steps = field.split(['.', '[']).map(|step| step.trim_end_matches(']'));
        let mut here = self;
        for step in steps.filter(|step| !step.is_empty()) {
            let next = here.get(step).or_else(|| here.items()?.get(step.parse::<usize>().ok()?));
            let Some(next) = next else { break };
            here = next;
        }
        here.line
    }
}

/// As it is read: what is written plainly is not told yet from what is quoted.
struct Raw(Spanned<RawTree>);

enum RawTree {
    Leaf(Value),
    List(Vec<Raw>),
    Map(Vec<(String, Raw)>),
}

impl Raw {
    fn settle(self, text: &str) -> std::result::Result<Node, Unreadable> {
        let Self(Spanned { value, referenced, defined }) = self;
        let (line, column) = (referenced.line(), referenced.column());
        let tree = match value {
            RawTree::Leaf(Value::String(word))
                if DISPUTED.contains(&word.as_str()) && is_plain(&defined, text) =>
            {
                let problem = format!(
                    "`{word}` is a boolean to some readers of YAML and a text to others: write true, false or \"{word}\""
                );
                return Err(Unreadable { line, column, problem });
            }
            RawTree::Leaf(value) => Tree::Leaf(value),
            RawTree::List(items) => Tree::List(
                items.into_iter().map(|item| item.settle(text)).collect::<std::result::Result<_, _>>()?,
            ),
            RawTree::Map(members) => {
                let mut names = HashSet::new();
                let members = members.into_iter().map(|(name, raw)| {
                    let node = raw.settle(text)?;
                    // `1` and `"1"` are two keys to the parser, and one name.
                    if !names.insert(name.clone()) {
                        let problem = format!("`{name}` is there twice");
                        return Err(Unreadable { line: node.line, column, problem });
                    }
                    Ok((name, node))
                });
                Tree::Map(members.collect::<std::result::Result<_, _>>()?)
            }
        };
        Ok(Node { line, tree })
    }
}

/// Whether a scalar stands there without quotes.
fn is_plain(at: &Location, text: &str) -> bool {
    let start = at.span().byte_offset().and_then(|offset| usize::try_from(offset).ok());
    start.and_then(|start| text.as_bytes().get(start)).is_some_and(u8::is_ascii_alphabetic)
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = RawTree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }

    fn visit_unit<E>(self) -> std::result::Result<RawTree, E> {
        Ok(RawTree::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> std::result::Result<RawTree, E> {
        Ok(RawTree::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<RawTree, D::Error> {
        RawTree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<RawTree, E> {
        Ok(RawTree::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<RawTree, E> {
        Ok(RawTree::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<RawTree, E> {
        Ok(RawTree::Leaf(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<RawTree, E> {
        let number =
            Number::from_f64(value).ok_or_else(|| E::custom("a number that is finite is expected"))?;
        Ok(RawTree::Leaf(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<RawTree, E> {
        Ok(RawTree::Leaf(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<RawTree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(RawTree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawTree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry::<String, Raw>()? {
            members.push(member);
        }
        Ok(RawTree::Map(members))
    }
}

/// Writes a value, with the members first by which people tell one resource from another.
pub(crate) fn write(value: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&Ordered(value), options)
        .map_err(|error| anyhow!("it cannot be written as YAML: {error}"))
}

const FIRST: [&str; 4] = ["kind", "key", "id", "name"];

struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            Value::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                let first = FIRST.iter().filter_map(|name| members.get_key_value(*name));
                let rest = members.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
                for (name, value) in first.chain(rest) {
                    map.serialize_entry(name, &Ordered(value))?;
                }
                map.end()
            }
            leaf => leaf.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Node, write};

    fn read(text: &str) -> Vec<Value> {
        Node::documents(text).unwrap().iter().map(Node::value).collect()
    }

    #[test]
    fn documents_are_read_as_what_they_look_like() {
        for (text, values) in [
            (
                "a: 1\n---\n# nothing\n---\nb: [x, 2.5, true, ~]\n",
                json!([{"a": 1}, {"b": ["x", 2.5, true, null]}]),
            ),
            ("on: [acme]\noff: []\n", json!([{"on": ["acme"], "off": []}])),
            ("a: \"no\"\nb: 'off'\n", json!([{"a": "no", "b": "off"}])),
            ("a: 0755\nb: 1_000\nc: 12.500\n", json!([{"a": "0755", "b": "1_000", "c": 12.5}])),
            ("a: &x [1]\nb: *x\n", json!([{"a": [1], "b": [1]}])),
            ("a: &x \"off\"\nb: *x\n", json!([{"a": "off", "b": "off"}])),
            ("{\n\t\"a\": [1,\t2],\n\t\"b\": \"\\ud83d\\ude00\\/\"\n}\n", json!([{"a": [1, 2], "b": "😀/"}])),
            ("", json!([])),
        ] {
            assert_eq!(Value::from(read(text)), values, "{text}");
        }
    }

    #[test]
    fn what_readers_disagree_about_is_refused_with_its_line() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let last = level - 1;
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{last}"); 10].join(", "));
        }
        for (text, line, problem) in [
            ("a: 1\nb:\n  - no\n", 3, "`no` is a boolean to some"),
            ("a: off", 1, "write true, false or \"off\""),
            ("a: &x off\nb: *x\n", 1, "`off` is a boolean to some"),
            ("a: 1\nb: 2\na: 3\n", 3, "is there twice"),
            ("{\"a\": 1,\n \"a\": 2}", 2, "is there twice"),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys are not"),
            ("a: .inf\n", 1, "finite"),
            ("a: [1\nb: 2\n", 2, "illegal"),
            ("1: a\n\"1\": b\n", 2, "is there twice"),
            (&"- ".repeat(100), 1, "nests more than 64 levels"),
            (&bomb, 5, "its aliases stand for more than"),
        ] {
            let refused = Node::documents(text).unwrap_err();
            assert_eq!(refused.line, line, "{text}: {}", refused.problem);
            assert!(refused.problem.contains(problem), "{text}: {}", refused.problem);
        }
    }

    #[test]
    fn a_field_leads_to_its_line_or_to_what_it_is_missing_in() {
        let text = "id: m\nroutes:\n  - path: /a\n  - path: /b\n    methods: [GET,\n      PUT]\n";
        let document = &Node::documents(text).unwrap()[0];
        for (field, line) in [
            ("id", 1),
            ("routes[1].path", 4),
            ("routes[1].methods[1]", 6),
            ("routes[1].auth.level", 4),
            ("", 1),
        ] {
            assert_eq!(document.line_of(field), line, "{field}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "",
            "no",
            "y",
            "~",
            "null",
            "1",
            "1e3",
            "0755",
            "0x1f",
            "1_000",
            ".inf",
            "2026-11-25",
            "12:30",
            "- a",
            "a: b",
            "#",
            "a #b",
            "'",
            "\"",
            "\\",
            "a\nb",
            "a\n",
            "\n",
            "  a  ",
            "\t",
            "é😀",
            "\u{7f}\u{0}\u{85}\u{2028}",
            "*a",
            "&a",
            "!a",
            "%",
            "@",
            "`",
            "<<",
            "?",
            "{}",
            "[",
            "---",
            "...",
            "a\r\nb",
        ] {
            let value = json!({"kind": text, text: [text, {"a": text}], "n": [0, -1, 12.5, 0.001], "e": [{}, [], null]});
            let written = write(&value).unwrap();
            assert_eq!(read(&written), [value], "{written}");
        }
    }
}
