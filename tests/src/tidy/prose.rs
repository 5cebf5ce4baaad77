//! Rules about what is written for readers: the files it names exist, and so do the tests that
//! prove what it promises.

use super::SourceFile;

/// Endings that make a word a file's name.
const FILES: [&str; 9] = [".rs", ".md", ".toml", ".yaml", ".json", ".sql", ".wat", ".proto", ".lock"];

/// What a checkout does not contain: builds make it.
const BUILT: [&str; 2] = ["target/", ".tools/"];

/// Backticked paths of prose that lead nowhere.
///
/// A word is taken for a path when it ends like a file, or starts with a folder of the repository's
/// root; so `application/json` and `/api/v1` are none. A name without a folder may be any file's.
#[must_use]
pub fn dead_paths(files: &[SourceFile]) -> Vec<String> {
    let exists = |path: &str| {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        let folder = format!("{path}/");
        files.iter().any(|file| {
            file.path == path
                || file.path.starts_with(&folder)
                || (!path.contains('/') && file.path.rsplit('/').next() == Some(path))
        })
    };
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_prose()) {
        for (number, line) in file.text.lines().enumerate() {
            for word in backticked(line).filter(|word| looks_like_path(word, files) && !exists(word)) {
                findings.push(format!("{}:{}: `{word}` does not exist", file.path, number + 1));
            }
        }
    }
    findings
}

fn looks_like_path(word: &str, files: &[SourceFile]) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    if !plain || word.starts_with('/') || BUILT.iter().any(|built| word.starts_with(built)) {
        return false;
    }
    let below_root = word.split_once('/').is_some_and(|(first, _)| {
        let folder = format!("{first}/");
        files.iter().any(|file| file.path.starts_with(&folder))
    });
    // `.rs` alone is an ending, not a file.
    below_root || FILES.iter().any(|ending| word.ends_with(ending) && word.len() > ending.len())
}

fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What is wrong with the numbered invariants of a document.
///
/// They are the numbered items under the heading that contains the word "invariants", numbered from
/// one. Each ends with `tests:` and the backticked names of the functions that prove it, for example
///
/// ```text
/// 7. **Raising a percentage only adds organisations.** Zero means nobody.
///    — tests: `raising_adds`, `zero_is_nobody`
/// ```
#[must_use]
pub fn unproven_invariants(document: &str, tests: &[String]) -> Vec<String> {
    let items = invariants(document);
    if items.is_empty() {
        return vec!["no numbered invariants found".to_owned()];
    }
    let mut findings = Vec::new();
    for (index, (number, text)) in items.iter().enumerate() {
        if *number != index + 1 {
            findings.push(format!("invariant {number} stands at place {}", index + 1));
        }
        let names: Vec<&str> =
            text.rsplit_once("tests:").map(|(_, names)| backticked(names).collect()).unwrap_or_default();
        if names.is_empty() {
            findings.push(format!("invariant {number} names no test"));
        }
        for name in names {
            // A name may say where it stands, as in `flag::tests::zero_is_nobody`.
            let function = name.rsplit("::").next().unwrap_or(name);
            if !tests.iter().any(|test| test == function) {
                findings.push(format!("invariant {number}: no test function `{name}`"));
            }
        }
    }
    findings
}

/// Number and text of each item, its wrapped lines joined.
fn invariants(document: &str) -> Vec<(usize, String)> {
    let is_heading = |line: &str| line.starts_with('#');
    let mut items: Vec<(usize, String)> = Vec::new();
    let lines =
        document.lines().skip_while(|line| !(is_heading(line) && line.to_lowercase().contains("invariants")));
    for line in lines.skip(1).take_while(|line| !is_heading(line)) {
        let item = line.split_once(". ").and_then(|(number, text)| Some((number.parse().ok()?, text)));
        match (item, items.last_mut()) {
            (Some((number, text)), _) => items.push((number, text.to_owned())),
            (None, Some((_, last))) if line.starts_with(' ') => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => {}
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_nowhere_is_found() {
        let text = "`filter/src/lib.rs` `filter/` `lib.rs` `gone.rs` `filter/gone` `application/json` `/api/v1` \
                    `a b.rs` `.rs` `target/x.wasm`\n`docs/gone.md`";
        let files = [SourceFile::new("README.md", text), SourceFile::new("filter/src/lib.rs", "")];
        let found = dead_paths(&files);
        assert_eq!(
            found,
            [
                "README.md:1: `gone.rs` does not exist",
                "README.md:1: `filter/gone` does not exist",
                "README.md:2: `docs/gone.md` does not exist",
            ]
        );
    }

    #[test]
    fn an_invariant_without_its_test_is_found() {
        let document = "# A\n1. not one\n## Invariants\n\n1. **A.** Text,\n   more — tests: `one`,\n   `m::two`\n\
                        2. **B.** No proof.\n4. **C.** — tests: `gone`\n\n## Next\n5. no\n";
        let tests = ["one".to_owned(), "two".to_owned()];
        assert_eq!(
            unproven_invariants(document, &tests),
            [
                "invariant 2 names no test",
                "invariant 4 stands at place 3",
                "invariant 4: no test function `gone`",
            ]
        );
        assert_eq!(unproven_invariants("# A\n1. no\n", &tests), ["no numbered invariants found"]);
    }
}
