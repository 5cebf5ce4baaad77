//! Flags as flagd definitions: what is written is read back as it was, and to flagd's own engines, of both
//! generations, it means what it means to Rampart's. Flags are random; the contexts leave things out.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use rampart::flagd::{export, import};
use rampart::imported::{Import, Rebucketing};
use rampart_engine::bucket::Generation;
use rampart_engine::flag::{Asker, Flags};
use rampart_engine::policy::wire::Flag;
use rampart_tests::{
    arbitrary::{Arbitrary, NOW},
    openfeature::{Question, node, python},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

const POLICIES: usize = 300;

/// The flags of random policies.
fn policies() -> Result<Vec<Vec<Flag>>> {
    let mut arbitrary = Arbitrary::new(7)?;
    (0..POLICIES).map(|_| Ok(serde_json::from_value(arbitrary.policy()["flags"].take())?)).collect()
}

#[test]
fn what_is_written_is_read_back_as_it_was() {
    let (mut same, mut killed) = (0, 0);
    for flags in policies().unwrap() {
        let written = export(&flags);
        let Import { flags: read, notes } = import(&written.document, Rebucketing::FromZero).unwrap();
        assert_eq!(export(&read).document["flags"], written.document["flags"]);
        assert_eq!(read.len() + written.left_out.len(), flags.len());
        for flag in &read {
            let before = flags.iter().find(|before| before.key == flag.key).unwrap();
            if before.enabled && !before.killed {
                assert_eq!(flag, before);
                same += 1;
            } else {
                assert!(
                    notes.iter().any(|note| note.flag == flag.key && !note.left_out),
                    "{flag:?}: {notes:?}"
                );
                killed += 1;
            }
        }
        assert_eq!(notes.len(), read.iter().filter(|flag| !flag.enabled || flag.killed).count(), "{notes:?}");
    }
    assert!(same > 500 && killed > 50, "{same} {killed}");
}

/// Definitions, and what is asked of them.
#[derive(Serialize)]
struct Case {
    definition: Value,
    questions: Vec<Question>,
}

/// Everybody, and those of whom something is not known.
fn contexts(generation: Generation) -> Vec<Value> {
    let mut contexts =
        vec![json!({}), json!({"targetingKey": ""}), json!({"subject": "alice"}), json!({"requestId": "r"})];
    for (number, organisation) in
        ["acme", "globex", "initech", "wayne", "stark", "0", "null", "z\u{fc}rich"].iter().enumerate()
    {
        // Node hashes text that is not ASCII as nobody else does.
        if generation == Generation::FlagdV3 || organisation.is_ascii() {
            for subject in ["alice", "bob", "erin", ""] {
                let request = format!("request-{number}-{subject}");
                contexts
                    .push(json!({"targetingKey": organisation, "subject": subject, "requestId": request}));
            }
            contexts.push(json!({"targetingKey": organisation}));
        }
    }
    contexts
}

/// What the engine says, in flagd's terms. What cannot be evaluated is off.
fn expected(flags: &Flags, flag: &Flag, context: &Value) -> Value {
    let text = |member: &str| context[member].as_str().filter(|text| !text.is_empty());
    let asker = Asker {
        organisation: text("targetingKey"),
        subject: text("subject"),
        request_id: text("requestId"),
        now: NOW,
    };
    let found = flags.evaluate(flags.find(&flag.key).unwrap(), &asker);
    if flag.variants.is_empty() { json!(found.value) } else { json!(found.variant.unwrap_or("off")) }
}

async fn evaluated(mut command: Command, cases: &[Case]) -> Result<Vec<Value>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.kill_on_drop(true).spawn()?;
    let sent = json!({"now": NOW, "cases": cases}).to_string();
    process.stdin.take().context("a pipe")?.write_all(sent.as_bytes()).await?;
    let output = process.wait_with_output().await?;
    ensure!(output.status.success(), "the engine ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test]
async fn flagds_engines_decide_as_rampart_does() {
    for (generation, engine) in [
        (Generation::FlagdV3, python(include_str!("../openfeature/evaluate.py"))),
        (Generation::FlagdV2, node(include_str!("../openfeature/evaluate.mjs"))),
    ] {
        let (mut cases, mut answers) = (Vec::new(), Vec::new());
        for flags in policies().unwrap() {
            let definition = export(&flags).document;
            let compiled = Flags::new(&flags).unwrap();
            let defined =
                |flag: &&Flag| flag.bucketing == generation && definition["flags"].get(&flag.key).is_some();
            let mut questions = Vec::new();
            for flag in flags.iter().filter(defined) {
                // What no rule gives.
                let default = if flag.variants.is_empty() { json!(true) } else { json!("none") };
                for context in contexts(generation) {
                    answers.push(expected(&compiled, flag, &context));
                    questions.push(Question { flag: flag.key.clone(), default: default.clone(), context });
                }
            }
            cases.push(Case { definition, questions });
        }
        let values = evaluated(engine.unwrap(), &cases).await.unwrap();
        let questions =
            cases.iter().flat_map(|case| case.questions.iter().map(move |asked| (&case.definition, asked)));
        assert_eq!(values.len(), answers.len());
        for ((value, answer), (definition, asked)) in values.iter().zip(&answers).zip(questions) {
            assert_eq!(value, answer, "{asked:?} of {}", definition["flags"][&asked.flag]);
        }
        let on = answers.iter().filter(|answer| **answer != false && **answer != "off").count();
        assert!(
            answers.len() > 10_000 && on > 3_000 && answers.len() - on > 3_000,
            "{on} of {}",
            answers.len()
        );
    }
}
