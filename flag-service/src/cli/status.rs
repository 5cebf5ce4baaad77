//! `rampart status`

use serde_json::Value;

use super::client::{Client, Failure, warn};
use super::envoys::{refusals, runs, state};
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
            let runs = runs(&envoy["running"]);
            [text(&envoy["id"]), state(envoy).to_owned(), accepted, runs, refusals(&envoy["types"])]
        });
        let envoys = table(["ENVOY", "STATE", "ACCEPTED REVISION", "RUNS", "REFUSED"], envoys);
        format!("{service}\n{}\n{envoys}{}", keys(&answer["jwks"]), ill(&answer["health"]))
    })
}

/// Modules that do not fare well, as Envoys find them.
fn ill(health: &Value) -> String {
    let modules = health.as_object().into_iter().flatten();
    let ill = modules.filter(|(_, health)| health["status"] == "degraded" || health["status"] == "unhealthy");
    let ill = ill.map(|(module, health)| {
        let endpoints = format!("{} of {}", health["healthy_endpoints"], health["endpoints"]);
        [module.clone(), text(&health["status"]), endpoints, text(&health["unconnected"])]
    });
    let ill: Vec<[String; 4]> = ill.collect();
    if ill.is_empty() {
        return String::new();
    }
    format!("\n\n{}", table(["MODULE", "HEALTH", "ENDPOINTS IN USE", "UNCONNECTED (1 MIN)"], ill))
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
