//! This repository keeps its own rules. What each rule finds is tested beside it, in `tests/src/tidy`.

use rampart_tests::{
    paths::repository,
    tidy::{
        SourceFile, files,
        prose::{dead_paths, unproven_invariants},
        source::{dependencies, evasive_tests, foreign_places, headerless, oversized, unfinished},
        test_functions,
    },
};

/// What the engine may stand on. It must build for wasm and do no I/O: an addition is a decision. The last
/// is optional, and described at its feature.
const ENGINE: [&str; 13] = [
    "base64",
    "ed25519-compact",
    "hashbrown",
    "jwt-simple",
    "p256",
    "p384",
    "p521",
    "serde",
    "serde_json",
    "serde_path_to_error",
    "siphasher",
    "superboring",
    "utoipa",
];

#[track_caller]
fn check(rule: impl Fn(&[SourceFile]) -> Vec<String>) {
    let files = files(repository()).unwrap();
    assert!(files.len() > 20, "only {} files were looked at", files.len());
    let findings = rule(&files);
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_rust_file_says_what_it_is() {
    check(headerless);
}

#[test]
fn no_file_is_oversized() {
    check(oversized);
}

#[test]
fn no_test_is_switched_off_or_sleeps() {
    check(evasive_tests);
}

#[test]
fn nothing_is_left_unfinished() {
    check(unfinished);
}

#[test]
fn no_registry_host_or_machine_path_is_committed() {
    check(foreign_places);
}

#[test]
fn every_path_that_prose_names_exists() {
    check(dead_paths);
}

#[test]
fn the_engine_depends_on_what_it_may() {
    check(|files| {
        let manifest = files.iter().find(|file| file.path == "filter/engine/Cargo.toml").unwrap();
        let found = dependencies(&manifest.text);
        if found == ENGINE { vec![] } else { vec![format!("the engine depends on {found:?}")] }
    });
    // What describes its types to the flag service is not in Envoy.
    check(|files| {
        let text = |path: &str| files.iter().find(|file| file.path == path).unwrap().text.as_str();
        let (engine, filter) = (text("filter/engine/Cargo.toml"), text("filter/Cargo.toml"));
        let optional = engine.contains("utoipa = { workspace = true, optional = true }")
            && engine.contains("schema = [\"dep:utoipa\"]")
            && !engine.contains("default = [");
        let asked = filter.contains("schema");
        if optional && !asked { vec![] } else { vec!["the filter would contain utoipa".to_owned()] }
    });
}

#[test]
fn every_system_test_file_is_listed_in_the_index() {
    check(|files| {
        let (folder, index) = ("tests/tests/system/", "tests/tests/system/main.rs");
        let main = files.iter().find(|file| file.path == index).unwrap();
        let names = files.iter().filter_map(|file| file.path.strip_prefix(folder)?.strip_suffix(".rs"));
        names
            .filter(|name| *name != "main" && !main.text.contains(&format!("//! - `{name}`:")))
            .map(|name| format!("{index} does not say what `{name}` tests"))
            .collect()
    });
}

#[test]
fn every_invariant_names_its_test() {
    check(|files| {
        let document = files.iter().find(|file| file.path == "ARCHITECTURE.md").expect("ARCHITECTURE.md");
        unproven_invariants(&document.text, &test_functions(files))
    });
}
