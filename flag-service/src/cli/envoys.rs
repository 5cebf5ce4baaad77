//! `rampart envoys`, and the words for Envoys that other commands use.

use serde_json::Value;

use super::client::{Client, Failure};
use super::history::when;
use super::output::{items, table, text};

pub(super) async fn run(client: &Client) -> Result<(), Failure> {
    let answer = client.get(&["envoys"], &[]).await?;
    client.output.show(&answer, |answer| {
        let envoys = items(answer, "envoys");
        if envoys.is_empty() {
            return "no Envoy has been connected to this flag service since it started".to_owned();
        }
        let rows = envoys.iter().map(|envoy| {
            [
                text(&envoy["id"]),
                state(envoy).to_owned(),
                when(&envoy["since_ms"]),
                // The policy is what an operator means by "has it arrived".
                text(&envoy["types"]["ecds"]["acked"]["revision"]),
                runs(&envoy["running"]),
                text(&envoy["lag"]),
                refusals(&envoy["types"]),
            ]
        });
        table(["ENVOY", "STATE", "SINCE (UTC)", "REVISION", "RUNS", "BEHIND", "REFUSED"], rows)
    })
}

/// An Envoy's state in a word.
pub(super) fn state(envoy: &Value) -> &'static str {
    let mut types = envoy["types"].as_object().into_iter().flatten();
    let refuses = types.any(|(_, status)| !status["nacked"].is_null());
    match (envoy["connected"] == true, refuses) {
        (false, _) => "gone",
        (true, true) => "refuses",
        (true, false) => "connected",
    }
}

/// The revision by which workers decide, and which of them do otherwise; empty where none has decided anything.
pub(super) fn runs(running: &Value) -> String {
    if running.is_null() {
        return "not reported".to_owned();
    }
    let workers = items(running, "workers");
    let newest = workers.iter().filter_map(|worker| worker["revision"].as_u64()).max();
    let others = workers.iter().filter(|worker| worker["state"] != "current").map(|worker| {
        let (worker, state, revision) = (&worker["worker"], text(&worker["state"]), &worker["revision"]);
        format!("worker {worker} is {state}: {revision}")
    });
    let others = others.collect::<Vec<_>>().join(", ");
    match newest {
        Some(newest) if others.is_empty() => newest.to_string(),
        Some(newest) => format!("{newest} ({others})"),
        None => String::new(),
    }
}

/// What an Envoy has refused and not replaced since.
pub(super) fn refusals(types: &Value) -> String {
    let types = types.as_object().into_iter().flatten();
    let refused = types.filter(|(_, status)| !status["nacked"].is_null());
    refused.map(|(kind, status)| refusal(kind, &status["nacked"])).collect::<Vec<_>>().join("; ")
}

/// A refusal: of which type and revision, what that is about, and in Envoy's own words.
pub(super) fn refusal(kind: &str, refusal: &Value) -> String {
    let causes: Vec<String> = items(refusal, "caused_by").iter().map(cause).collect();
    let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
    format!("{kind} of revision {}{causes}: {}", refusal["revision"], text(&refusal["error"]))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::runs;

    #[test]
    fn what_workers_run_is_one_number_unless_they_disagree() {
        let worker = |worker: u32, revision: u64, state: &str| json!({"worker": worker, "revision": revision, "state": state});
        let told = |workers: &[Value]| runs(&json!({"workers": workers}));
        assert_eq!(told(&[worker(0, 8, "current"), worker(1, 8, "current")]), "8");
        assert_eq!(told(&[worker(0, 8, "current"), worker(1, 7, "behind")]), "8 (worker 1 is behind: 7)");
        assert_eq!(told(&[worker(2, 7, "idle")]), "7 (worker 2 is idle: 7)");
        assert_eq!((&*told(&[]), &*runs(&Value::Null)), ("", "not reported"));
    }
}
