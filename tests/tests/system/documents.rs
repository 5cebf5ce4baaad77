//! What documents show is what happens: commands and examples are run, the policy is compiled.

use anyhow::{Context as _, Result, ensure};
use rampart_engine::policy::Policy;
use rampart_tests::{
    openfeature::{node, python},
    paths,
    stack::{Ports, Stack},
    workdir::system_test,
};
use std::fs;
use tokio::process::Command;

/// A command of a `console` block, and the lines that should follow it.
struct Example {
    command: String,
    output: Vec<String>,
}

/// Between the outputs of two commands.
const MARK: &str = "--- next ---";

fn document(name: &str) -> Result<String> {
    fs::read_to_string(paths::repository().join(name)).with_context(|| name.to_owned())
}

/// The contents of every block fenced as `language`.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

fn examples(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in fenced(text, "console").into_iter().flat_map(str::lines) {
        match (line.strip_prefix("$ "), examples.last_mut()) {
            (Some(command), _) => examples.push(Example { command: command.to_owned(), output: Vec::new() }),
            (None, Some(example)) => example.output.push(line.to_owned()),
            (None, None) => {}
        }
    }
    examples
}

/// Whether a line is as the document shows it: `…` stands for anything, runs of spaces for one.
fn alike(shown: &str, printed: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, printed) = (words(shown), words(printed));
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        if last {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn the_readmes_commands_print_what_the_readme_says() {
    check_commands("README.md", 15);
}

#[test]
fn the_commands_about_access_print_what_their_page_says() {
    check_commands("docs/access.md", 6);
}

#[test]
fn the_commands_about_modules_print_what_their_page_says() {
    check_commands("docs/modules.md", 3);
}

/// Runs a document's commands, in the situation that the README's tour begins with.
fn check_commands(name: &str, at_least: usize) {
    system_test(async |dir| {
        let stack = Stack::for_people(dir, Ports::Free).await?;
        let text = document(name)?
            .replace("127.0.0.1:10000", &stack.service.listener_address().to_string())
            .replace("target/demo", &dir.display().to_string());
        let examples = examples(&text);
        ensure!(examples.len() >= at_least, "only {} commands were found", examples.len());
        let mut script = String::from("exec 2>&1\n");
        for example in &examples {
            script += &format!("{}\necho '{MARK}'\n", example.command);
        }
        let rampart = paths::rampart()?;
        let folder = rampart.parent().context("rampart is in no folder")?.display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        let output = Command::new("bash")
            .args(["-c", &script])
            .env("PATH", path)
            .env("RAMPART_API", format!("http://{}", stack.service.api_address()))
            .env("XDG_STATE_HOME", dir)
            .current_dir(paths::repository())
            .output()
            .await?;
        let text = String::from_utf8(output.stdout)?;
        let printed: Vec<&str> = text.split(&format!("{MARK}\n")).collect();
        ensure!(printed.len() == examples.len() + 1, "a command ended the shell: {text}");
        for (example, printed) in examples.iter().zip(printed) {
            let lines: Vec<&str> = printed.trim_end().lines().collect();
            let same = lines.len() == example.output.len()
                && example.output.iter().zip(&lines).all(|(shown, printed)| alike(shown, printed));
            ensure!(
                same,
                "$ {}\nprinted\n{printed}\ninstead of\n{}",
                example.command,
                example.output.join("\n")
            );
        }
        Ok(())
    });
}

#[test]
fn the_openfeature_examples_print_what_the_flag_is() {
    system_test(async |dir| {
        let stack = Stack::for_people(dir, Ports::Free).await?;
        let page = document("docs/openfeature.md")?;
        let key = stack.service.cli(&["key", "create", "checkout", "--role", "evaluator"]).await?.ok()?;
        let ports = [("8080", stack.service.api_address()), ("8015", stack.service.flagd_address())];
        let here = |example: &str| {
            ports
                .iter()
                .fold(example.to_owned(), |text, (port, here)| text.replace(port, &here.port().to_string()))
        };
        let (python_blocks, node_blocks) = (fenced(&page, "python"), fenced(&page, "js"));
        ensure!((python_blocks.len(), node_blocks.len()) == (2, 3), "examples are missing");
        let commands = python_blocks.iter().map(|example| python(&here(example)));
        let commands = commands.chain(node_blocks.iter().map(|example| node(&here(example))));
        let expected = ["True", "True", "true", "true", "flagd-v3"];
        for ((command, example), expected) in
            commands.zip(python_blocks.iter().chain(&node_blocks)).zip(expected)
        {
            let mut command = command?;
            command.env("RAMPART_API_KEY", key.trim());
            let output = command.kill_on_drop(true).output().await?;
            let (printed, said) =
                (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
            ensure!(
                output.status.success() && printed.trim() == expected,
                "{example}\nprinted {printed}{said}"
            );
        }
        Ok(())
    });
}

#[test]
fn the_documented_policy_compiles() {
    let text = document("docs/policy.md").unwrap();
    let policies = fenced(&text, "json");
    assert_eq!(policies.len(), 1);
    for policy in policies {
        Policy::from_json(policy.as_bytes()).unwrap();
    }
}

#[test]
fn the_documented_manifests_are_taken() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let page = document("docs/modules.md")?;
        let manifests = fenced(&page, "json");
        ensure!(manifests.len() == 2);
        for manifest in manifests {
            let manifest: serde_json::Value = serde_json::from_str(manifest)?;
            stack.register(dir, &manifest).await?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn every_reason_is_documented_under_its_status() {
    let source = document("filter/engine/src/decision.rs").unwrap();
    let page = document("docs/policy.md").unwrap();
    let mut reasons = 0;
    for line in source.lines() {
        let Some((_, described)) = line.split_once(" => (") else { continue };
        let mut parts = described.split(", ");
        let (Some(status), Some(word)) = (parts.next(), parts.next()) else { continue };
        let row = page.lines().find(|row| row.starts_with(&format!("| {status} |")));
        let word = word.trim_matches('"');
        assert!(row.is_some_and(|row| row.contains(&format!("`{word}`"))), "{status} {word}");
        reasons += 1;
    }
    assert!(reasons > 20, "only {reasons} reasons were found");
}

#[test]
fn documents_are_compared_line_by_line() {
    for (shown, printed, same) in [
        ("a b", "a  b", true),
        ("a b", "a c", false),
        ("a … c", "a b c", true),
        ("a … c", "a b d", false),
        ("…", "anything", true),
        ("1 … x …", "1 2 x 3", true),
        ("1 … y …", "1 2 x 3", false),
    ] {
        assert_eq!(alike(shown, printed), same, "{shown} ~ {printed}");
    }
}
