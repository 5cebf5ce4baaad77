//! `rampart status`

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
        format!("{service}\n\n{envoys}")
    })
}
