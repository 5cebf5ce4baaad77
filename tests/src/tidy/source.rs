//! Rules about files: their headers and sizes, what they must not contain, what the engine may use.

use super::SourceFile;

/// The longest a Rust file may grow before it is to be split.
pub const LINES: usize = 500;

/// The largest a file may be: what is larger is generated, and belongs elsewhere.
pub const BYTES: usize = 1 << 20;

/// The one file that may sleep.
const WAITS: &str = "tests/src/wait.rs";

// Each needle is written in two halves, so that this file does not contain it.
const SWITCHED_OFF: [&str; 2] = [concat!("#[", "ignore"), concat!("should_", "panic")];
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
];
const SLEEP: &str = concat!("sleep", "(");
const HOSTS: [&str; 7] = [
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("deb.debian", ".org"),
];
const FOLDERS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Rust files that do not open by saying what they are.
#[must_use]
pub fn headerless(files: &[SourceFile]) -> Vec<String> {
    let rust = files.iter().filter(|file| file.is_rust());
    rust.filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{} does not open with `//!`", file.path))
        .collect()
}

/// Files over their size.
#[must_use]
pub fn oversized(files: &[SourceFile]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let lines = file.text.lines().count();
        if file.is_rust() && lines > LINES {
            findings.push(format!("{} has {lines} lines; look for a seam at {LINES}", file.path));
        }
        if file.size > BYTES {
            findings.push(format!("{} has {} bytes; at most {BYTES}", file.path, file.size));
        }
    }
    findings
}

/// Tests that are switched off, expect any panic whatever, or sleep.
#[must_use]
pub fn evasive_tests(files: &[SourceFile]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        findings.extend(occurrences(file, &file.text, &SWITCHED_OFF));
        if file.path != WAITS {
            findings.extend(occurrences(file, test_code(file), &[SLEEP]));
        }
    }
    findings
}

/// The part of a Rust file that only tests run.
fn test_code(file: &SourceFile) -> &str {
    if file.path.split('/').any(|part| matches!(part, "tests" | "tests.rs")) {
        return &file.text;
    }
    file.text.find("#[cfg(test)]").map_or("", |start| &file.text[start..])
}

/// Notes to self: work is either done or an issue.
#[must_use]
pub fn unfinished(files: &[SourceFile]) -> Vec<String> {
    files.iter().flat_map(|file| occurrences(file, &file.text, &UNFINISHED)).collect()
}

/// Package registries' hosts and folders of somebody's machine.
#[must_use]
pub fn foreign_places(files: &[SourceFile]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        findings.extend(occurrences(file, &file.text, &HOSTS));
        // A folder counts only where the path starts: `src/work/` is ours.
        let inside = |before: char| before.is_alphanumeric() || "._-})".contains(before);
        for (number, line) in file.text.lines().enumerate() {
            for folder in FOLDERS {
                if line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(inside)) {
                    findings.push(format!("{}:{}: {folder}", file.path, number + 1));
                }
            }
        }
    }
    findings
}

fn occurrences(file: &SourceFile, part: &str, needles: &[&str]) -> Vec<String> {
    let before = file.text.len() - part.len();
    let first = file.text.get(..before).map_or(0, |head| head.matches('\n').count());
    let mut findings = Vec::new();
    for (number, line) in part.lines().enumerate() {
        for needle in needles.iter().filter(|needle| line.contains(**needle)) {
            findings.push(format!("{}:{}: {needle}", file.path, first + number + 1));
        }
    }
    findings
}

/// The names in a manifest's `[dependencies]`.
#[must_use]
pub fn dependencies(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> [SourceFile; 1] {
        [SourceFile::new(path, text)]
    }

    #[test]
    fn a_missing_header_is_found() {
        assert_eq!(headerless(&file("a.rs", "use x;\n")).len(), 1);
        assert!(headerless(&file("a.rs", "//! A.\n")).is_empty());
        assert!(headerless(&file("a.sh", "echo\n")).is_empty());
    }

    #[test]
    fn a_file_over_its_size_is_found() {
        assert_eq!(oversized(&file("a.rs", &"\n".repeat(LINES + 1))).len(), 1);
        assert!(oversized(&file("a.rs", &"\n".repeat(LINES))).is_empty());
        assert_eq!(oversized(&file("a.bin", &" ".repeat(BYTES + 1))).len(), 1);
    }

    #[test]
    fn an_evasive_test_is_found_where_it_stands() {
        let ignored = format!("//! A.\n{}]\n", SWITCHED_OFF[0]);
        assert_eq!(evasive_tests(&file("src/a.rs", &ignored)), [format!("src/a.rs:2: {}", SWITCHED_OFF[0])]);

        let sleeps = format!("fn a() {{ {SLEEP}) }}\n#[cfg(test)]\nmod tests {{\n {SLEEP})\n}}");
        assert_eq!(evasive_tests(&file("src/a.rs", &sleeps)), [format!("src/a.rs:4: {SLEEP}")]);
        assert_eq!(evasive_tests(&file("tests/a.rs", &sleeps)).len(), 2);
        assert!(evasive_tests(&file(WAITS, &sleeps)).is_empty());
    }

    #[test]
    fn a_note_to_self_is_found() {
        for needle in UNFINISHED {
            assert_eq!(unfinished(&file("a.toml", &format!("# {needle} later"))).len(), 1);
        }
        assert!(unfinished(&file("a.toml", "# done")).is_empty());
    }

    #[test]
    fn a_foreign_place_is_found() {
        assert_eq!(foreign_places(&file("a.md", &format!("see https://{}/x", HOSTS[0]))).len(), 1);
        assert_eq!(foreign_places(&file("a.md", &format!("in `{}x`", FOLDERS[0]))).len(), 1);
        assert!(foreign_places(&file("a.md", &format!("in src{}x", FOLDERS[0]))).is_empty());
    }

    #[test]
    fn dependencies_are_read_by_name() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = \"1\"\n# d\n\n[dev-dependencies]\ne = \"1\"\n";
        assert_eq!(dependencies(manifest), ["b", "c"]);
    }
}
