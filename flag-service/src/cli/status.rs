//! `rampart status`

use serde_json::Value;

use super::client::{Client, Failure, warn};
use super::envoys::{refusals, state};
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
            let accepted = text(&policy["acked"]["revision"]);
            [text(&envoy["id"]), state(envoy).to_owned(), accepted, refusals(&envoy["types"])]
        });
        let envoys = table(["ENVOY", "STATE", "ACCEPTED REVISION", "REFUSED"], envoys);
        format!("{service}\n{}\n{envoys}", keys(&answer["jwks"]))
    })
}

/// Providers whose keys cannot be fetched, a line each.
fn keys(jwks: &Value) -> String {
    let failing = jwks.as_object().into_iter().flatten().filter(|(_, keeping)| keeping["error"].is_string());
    let lines = failing.map(|(name, keeping)| {
        let (failures, error) = (&keeping["failures"], text(&keeping["error"]));
        format!("keys of provider {name} cannot be fetched (tried {failures} times): {error}\n")
    });
    lines.collect()
}
