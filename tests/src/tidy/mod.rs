//! Rules that a compiler does not know, as functions from files to findings. `tests/tidy.rs` applies
//! them to this repository; each one's own tests show what it finds.

pub mod prose;
pub mod source;

use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path, process::Command};

/// A file of the repository.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path from the root.
    pub path: String,
    /// Its length in bytes.
    pub size: usize,
    /// Its text; empty where it is none.
    pub text: String,
}

impl SourceFile {
    /// A file made up for a test of the rules.
    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), size: text.len(), text: text.to_owned() }
    }

    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is prose for readers: Markdown at the root or in `docs/`.
    #[must_use]
    pub fn is_prose(&self) -> bool {
        self.path.ends_with(".md") && (!self.path.contains('/') || self.path.starts_with("docs/"))
    }
}

/// Every file that git tracks, or would if asked to add everything.
///
/// # Errors
///
/// When this is no git checkout.
pub fn files(root: &Path) -> Result<Vec<SourceFile>> {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").arg("-C").arg(root).args(listing).output().context("git")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout)?;
    // A file deleted but not yet committed is listed all the same.
    let paths = names.split_terminator('\0').filter(|path| root.join(path).is_file());
    let mut files = paths
        .map(|path| {
            let bytes = fs::read(root.join(path)).with_context(|| path.to_owned())?;
            let text = String::from_utf8(bytes.clone()).unwrap_or_default();
            Ok(SourceFile { path: path.to_owned(), size: bytes.len(), text })
        })
        .collect::<Result<Vec<_>>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

/// The names of all test functions, whatever their runner: `#[test]`, `#[tokio::test(…)]` and so on.
#[must_use]
pub fn test_functions(files: &[SourceFile]) -> Vec<String> {
    let mut names = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let mut marked = false;
        for line in file.text.lines().map(str::trim) {
            let attribute = line.strip_prefix("#[").map(|rest| rest.split(['(', ']']).next().unwrap_or(rest));
            if let Some(name) = attribute {
                marked |= name == "test" || name.ends_with("::test");
            } else if let Some(name) = function_name(line) {
                if marked {
                    names.push(name.to_owned());
                }
                marked = false;
            }
        }
    }
    names
}

fn function_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_functions_are_found_by_their_attribute() {
        let text = "#[test]\nfn one() {}\n#[tokio::test(start_paused = true)]\n#[allow(x)]\nasync fn two() {}\n\
                    fn helper() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn three() {}\n}\n";
        let found = test_functions(&[SourceFile::new("a.rs", text)]);
        assert_eq!(found, ["one", "two", "three"]);
    }
}
