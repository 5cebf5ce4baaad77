//! `rampart status`

use serde_json::Value;

use super::client::{Client, Failure, warn};
use super::output::{items, table, text};

pub(super) async fn run(client: &Client) -> Result<(), Failure> {
    let answer = client.get(&["status"], &[]).await?;
    if answer["warnings"] != 0 {
        warn(&client.get(&["policy", "warnings"], &[]).await?);
    }
    client.output.show(&answer, |answer| {
        let counts = ["flags", "modules", "providers"].map(|kind| format!("{} {kind}", answer[kind]));
        let service = format!("revision {}, {}", answer["revision"], counts.join(", "));
        let envoys = items(answer, "envoys").iter().map(|envoy| {
            // The policy is what an operator means by "has it arrived".
            let policy = &envoy["types"]["ecds"];
            let connected = if envoy["connected"] == true { "connected" } else { "gone" };
            [text(&envoy["id"]), connected.to_owned(), revision(&policy["acked"]), refusals(&envoy["types"])]
        });
        let envoys = table(["ENVOY", "STATE", "ACCEPTED REVISION", "REFUSED"], envoys);
        format!("{service}\n\n{envoys}")
    })
}

fn revision(version: &Value) -> String {
    text(&version["revision"])
}

/// What an Envoy has refused and not replaced since: of which type and revision, what that is about, and
/// in its own words.
fn refusals(types: &Value) -> String {
    let types = types.as_object().into_iter().flatten();
    let refused = types.filter(|(_, status)| !status["nacked"].is_null()).map(|(kind, status)| {
        let refusal = &status["nacked"];
        let causes: Vec<String> = items(refusal, "caused_by").iter().map(cause).collect();
        let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
        format!("{kind} of revision {}{causes}: {}", refusal["revision"], text(&refusal["error"]))
    });
    refused.collect::<Vec<_>>().join("; ")
}

/// `flag beta_checkout by alice`
fn cause(cause: &Value) -> String {
    let words = [text(&cause["kind"]), text(&cause["name"])];
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    match text(&cause["actor"]) {
        actor if actor.is_empty() => words.join(" "),
        actor => format!("{} by {actor}", words.join(" ")),
    }
}
