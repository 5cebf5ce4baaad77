//! The preset's files and its page say the same.

use anyhow::{Context as _, Result, ensure};
use rampart_engine::policy::Policy;
use rampart_tests::{
    paths,
    shipped::{MESSAGING, policy_in},
};
use serde_json::Value;
use std::fs;

fn read(file: &str) -> Result<String> {
    fs::read_to_string(paths::repository().join(file)).with_context(|| file.to_owned())
}

/// The preset's flags in their order, each with its default.
fn flags() -> Result<Vec<(String, bool)>> {
    let policy = policy_in(MESSAGING)?;
    let flags = policy["flags"].as_array().context("flags")?.iter();
    let flag = |flag: &Value| {
        let key = flag["key"].as_str().context("key")?.to_owned();
        let on = flag["percentage"] == 100;
        ensure!(on || flag["percentage"] == 0, "{key} is neither on nor off");
        // Who has no organisation is treated as any other.
        ensure!(on == flag["no_organisation"].as_bool().unwrap_or_default(), "{key}: no_organisation");
        Ok((key, on))
    };
    flags.map(flag).collect()
}

#[test]
fn both_files_of_the_preset_carry_one_policy() -> Result<()> {
    let alone = read("envoy/presets/messaging/policy.json")?;
    ensure!(Policy::from_json(alone.as_bytes()).is_ok(), "the engine takes it");
    let alone: Value = serde_json::from_str(&alone)?;
    ensure!(alone == policy_in(MESSAGING)?, "policy.json and envoy.yaml differ");
    Ok(())
}

#[test]
fn the_page_lists_exactly_the_flags_of_the_preset() -> Result<()> {
    let page = read("docs/presets.md")?;
    let row = |line: &str| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (default, _) = rest.split_once(" | ")?;
        Some((
            key.to_owned(),
            [("on", true), ("off", false)].into_iter().find(|(word, _)| *word == default)?.1,
        ))
    };
    let listed: Vec<(String, bool)> = page.lines().filter_map(row).collect();
    ensure!(listed == flags()?, "listed: {listed:?}, the preset's: {:?}", flags()?);
    Ok(())
}

#[test]
fn no_flag_is_found_in_anothers_name() -> Result<()> {
    // Envoy's matchers look for a name anywhere in the list of flags.
    let flags = flags()?;
    for (key, _) in &flags {
        let found = flags.iter().filter(|(other, _)| other.contains(key.as_str())).count();
        ensure!(found == 1, "{key} is part of another flag's name");
    }
    Ok(())
}
