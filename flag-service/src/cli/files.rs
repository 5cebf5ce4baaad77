//! The documents that `-f` names: read, told apart, and found again when something is wrong with one.
//! What they mean is the service's to say.

use std::fs;
use std::io::{Read as _, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::client::Failure;
use super::output::{items, text};
use crate::flagd;
use crate::imported::{Note, Rebucketing};
use crate::model::{Flag, Kind};
use crate::yaml::{Node, Unreadable};

/// What a file of documents ends with.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

#[derive(Debug, Args)]
pub(super) struct Files {
    /// Files of documents, YAML or JSON; folders, with all that is below them; `-` for stdin
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub(super) files: Vec<PathBuf>,
}

/// One resource, and where it was read.
struct Document {
    file: String,
    node: Node,
    kind: Kind,
    name: String,
    /// As it is sent.
    resource: Value,
}

/// What the files hold.
pub(super) struct Documents(Vec<Document>);

impl Documents {
    /// Reads everything; or says all that is wrong with it.
    pub(super) fn read(paths: &[PathBuf]) -> std::result::Result<Self, Failure> {
        let mut documents = Vec::new();
        let mut problems = Vec::new();
        for path in paths {
            for (file, written) in texts(path)? {
                let nodes =
                    Node::documents(&written).unwrap_or_else(|Unreadable { line, problem, .. }| {
                        problems.push(format!("{}: {problem}", at(&file, line)));
                        Vec::new()
                    });
                // A list is as good as several documents: JSON knows no other way.
                let nodes = nodes.into_iter().flat_map(|node| match node.items() {
                    Some(items) => items.to_vec(),
                    None => vec![node],
                });
                for node in nodes {
                    let line = node.line;
                    match Document::read(&file, node) {
                        Ok(read) => documents.extend(read),
                        Err(found) => {
                            problems.extend(found.iter().map(|it| format!("{}: {it}", at(&file, line))));
                        }
                    }
                }
            }
        }
        if problems.is_empty() && documents.is_empty() {
            problems.push("there is no document to apply in what -f names".to_owned());
        }
        if problems.is_empty() { Ok(Self(documents)) } else { Err(refused(&problems)) }
    }

    /// As they are sent.
    pub(super) fn resources(&self) -> Value {
        self.0.iter().map(|document| document.resource.clone()).collect()
    }

    /// A refusal in lines, each with the place that it is about.
    pub(super) fn explain(&self, problem: &Value) -> Failure {
        let lines: Vec<String> = items(problem, "errors")
            .iter()
            .map(|error| {
                let (field, problem) = (text(&error["field"]), text(&error["problem"]));
                let place = self.place(&field).map(|place| format!("{place}: ")).unwrap_or_default();
                if field.is_empty() {
                    format!("{place}{problem}")
                } else {
                    format!("{place}{field}: {problem}")
                }
            })
            .collect();
        refused(&lines)
    }

    /// Where a field stands that the service names.
    fn place(&self, field: &str) -> Option<String> {
        let found = self.0.iter().enumerate().find_map(|(index, document)| {
            let named = if document.name.is_empty() {
                document.kind.as_str().to_owned()
            } else {
                format!("{}s[{}]", document.kind.as_str(), document.name)
            };
            let numbered = format!("resources[{index}]");
            let within = [named, numbered].iter().find_map(|prefix| field.strip_prefix(prefix.as_str()))?;
            (within.is_empty() || within.starts_with('.')).then_some((document, within))
        });
        // The policy has the settings' members as its own.
        let (document, within) = found.or_else(|| {
            let first = field.split(['.', '[']).next()?;
            let settings = self.0.iter().find(|document| document.kind == Kind::Settings)?;
            settings.node.get(first).map(|_| (settings, field))
        })?;
        Some(at(&document.file, document.node.line_of(within)))
    }
}

impl Document {
    /// What a node says: one resource, or the flags of a flagd definition.
    fn read(file: &str, node: Node) -> std::result::Result<Vec<Self>, Vec<String>> {
        let foreign = node.get("kind").or_else(|| node.get("endpoints")).is_none();
        if foreign && node.get("flags").is_some() {
            let named = |flag: &Flag| {
                let node = node.get("flags").and_then(|all| all.get(&flag.key)).unwrap_or(&node).clone();
                let (file, name) = (file.to_owned(), flag.key.clone());
                Self { file, node, kind: Kind::Flag, name, resource: resource(flag) }
            };
            return Ok(definition(&node)?.iter().map(named).collect());
        }
        let kind = kind(&node).map_err(|problem| vec![problem])?;
        let named = |member: &&str| node.get(member).map(|name| text(&name.value())).unwrap_or_default();
        let name = kind.name_members().iter().map(named).collect::<Vec<_>>().join("/");
        let mut resource = node.value();
        resource["kind"] = json!(kind.as_str());
        Ok(vec![Self { file: file.to_owned(), node, kind, name, resource }])
    }
}

/// The flags of a flagd definition. What cannot be taken exactly is refused: files are applied again and
/// again, and a flag that begins at 0 % would be taken back to it each time.
fn definition(node: &Node) -> std::result::Result<Vec<Flag>, Vec<String>> {
    let imported = flagd::import(&node.value(), Rebucketing::FromZero)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if imported.notes.is_empty() {
        return Ok(imported.flags);
    }
    let line = |note: &Note| format!("flag {}: {}: see `rampart import flagd`", note.flag, note.note);
    Err(imported.notes.iter().map(line).collect())
}

/// A flag as it is applied.
pub(super) fn resource(flag: &Flag) -> Value {
    let mut resource = json!(flag);
    resource["kind"] = json!(Kind::Flag.as_str());
    resource
}

/// What a document is about. Modules say it without `kind`, since manifests are written for others too:
/// nothing else has endpoints.
fn kind(node: &Node) -> std::result::Result<Kind, String> {
    let kinds = "`flag`, `module`, `organisation_module`, `provider`, `segment` or `settings`";
    if !node.is_map() {
        return Err(format!("a document is an object with a `kind`: {kinds}"));
    }
    match node.get("kind").map(|kind| text(&kind.value())) {
        Some(word) => Kind::from_word(&word)
            .filter(|kind| *kind != Kind::Set)
            .ok_or_else(|| format!("kind: `{word}` is none: {kinds} is expected")),
        None if node.get("endpoints").is_some() => Ok(Kind::Module),
        None => Err(format!("kind: say what this is: {kinds}; or write a flagd definition, with `flags`")),
    }
}

/// The names of a file, one a line; `-` is stdin.
pub(super) fn lines(path: &Path) -> Result<Vec<String>> {
    let text = if path == Path::new("-") { from_stdin()? } else { from_file(path)? };
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn from_stdin() -> Result<String> {
    let mut text = String::new();
    stdin().read_to_string(&mut text).context("stdin")?;
    Ok(text)
}

fn from_file(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Every text that a path stands for, with the name that problems are told under.
fn texts(path: &Path) -> Result<Vec<(String, String)>> {
    if path == Path::new("-") {
        return Ok(vec![("stdin".to_owned(), from_stdin()?)]);
    }
    let named = || path.display().to_string();
    if !fs::metadata(path).with_context(named)?.is_dir() {
        return Ok(vec![(named(), from_file(path)?)]);
    }
    let entries =
        fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).with_context(named)?;
    let mut paths = Vec::new();
    for entry in entries {
        let (path, hidden) = (entry.path(), entry.file_name().as_encoded_bytes().starts_with(b"."));
        // A link to a folder is not followed: it may lead back here.
        let folder = entry.file_type().with_context(named)?.is_dir();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if !hidden && (folder || (path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending)))) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.iter().map(|path| texts(path)).collect::<Result<Vec<_>>>()?.concat())
}

fn at(file: &str, line: u64) -> String {
    if line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}

fn refused(problems: &[String]) -> Failure {
    Failure::Refused(problems.join("\n       "))
}
