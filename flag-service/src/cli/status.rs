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
            [text(&envoy["id"]), connected.to_owned(), revision(&policy["acked"]), refusal(&policy["nacked"])]
        });
        let envoys = table(["ENVOY", "STATE", "ACCEPTED REVISION", "REFUSED"], envoys);
        format!("{service}\n\n{envoys}")
    })
}

fn revision(version: &Value) -> String {
    text(&version["revision"])
}

fn refusal(refusal: &Value) -> String {
    if refusal.is_null() {
        String::new()
    } else {
        format!("revision {}: {}", refusal["revision"], text(&refusal["error"]))
    }
}
