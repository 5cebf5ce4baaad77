//! Reads the manifests of a folder. It registers nothing, and knows nothing of who else has what.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Flaw;
use crate::model::{Module, Refusal, manifest};
use crate::yaml::{Node, Unreadable};

/// Endings of a manifest's name.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];
/// Largest manifest, in bytes.
const LARGEST: u64 = 1 << 20;

/// By which a file is known to be as it was. Behind a symbolic link it is the target's: that is how mounted
/// configuration is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    metadata: (u64, u64, i64, i64),
    /// A hash over the content.
    pub(super) hash: String,
}

/// The manifests of a folder by name. A file is read only where it is not as it was.
///
/// # Errors
///
/// When the folder, or a file in it, cannot be read: then nothing is known of any.
pub(super) fn scan(folder: &Path, before: &BTreeMap<String, Stamp>) -> io::Result<BTreeMap<String, Stamp>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let ending = Path::new(&name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if name.starts_with('.') || !ENDINGS.contains(&ending) {
            continue;
        }
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            // It went while the folder was read, or leads nowhere for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(about(error)),
        };
        if !metadata.is_file() {
            continue;
        }
        let of_file = (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let known = before.get(&name).filter(|stamp| stamp.metadata == of_file);
        let hash = match known {
            Some(stamp) => stamp.hash.clone(),
            None if metadata.len() > LARGEST => format!("too large: {}", metadata.len()),
            None => hash(&fs::read(entry.path()).map_err(about)?),
        };
        files.insert(name, Stamp { metadata: of_file, hash });
    }
    Ok(files)
}

/// A manifest's text.
///
/// # Errors
///
/// What keeps it from being read.
pub(super) fn text(folder: &Path, name: &str) -> Result<Vec<u8>, Flaw> {
    let path = folder.join(name);
    let flaw = |problem: String| Flaw { line: None, field: String::new(), problem };
    let size = fs::metadata(&path).map_err(|error| flaw(error.to_string()))?.len();
    if size > LARGEST {
        return Err(flaw(format!("a manifest has at most {LARGEST} bytes, and this has {size}")));
    }
    fs::read(&path).map_err(|error| flaw(error.to_string()))
}

/// What a text says: JSON is read as the YAML that it is.
///
/// # Errors
///
/// What is wrong, and where.
pub(super) fn read(text: &[u8]) -> Result<Module, Flaw> {
    let document = document(text)?;
    manifest::read(document.value()).map_err(|refusal| match refusal {
        Refusal::Malformed { field, problem } => within(&document, field, problem),
        other => within(&document, String::new(), other.to_string()),
    })
}

/// A flaw with its line.
pub(super) fn placed(text: &[u8], field: String, problem: String) -> Flaw {
    match document(text) {
        Ok(document) => within(&document, field, problem),
        Err(_) => Flaw { line: None, field, problem },
    }
}

fn within(document: &Node, field: String, problem: String) -> Flaw {
    Flaw { line: Some(document.line_of(&field)).filter(|line| *line > 0), field, problem }
}

/// The one document of a text.
fn document(text: &[u8]) -> Result<Node, Flaw> {
    let flaw = |Unreadable { line, problem, .. }| Flaw {
        line: Some(line).filter(|line| *line > 0),
        field: String::new(),
        problem,
    };
    let whole = |problem: &str| flaw(Unreadable { line: 0, column: 0, problem: problem.to_owned() });
    let text = std::str::from_utf8(text).map_err(|_| whole("it is not UTF-8"))?;
    let mut documents = Node::documents(text).map_err(flaw)?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document),
        (None, _) => Err(whole("it is empty, and a manifest says one module")),
        (Some(_), false) => Err(whole("it is several documents, and a manifest says one module")),
    }
}

pub(super) fn hash(text: &[u8]) -> String {
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
