//! `--wait` and `rampart wait`: until every connected Envoy has accepted a revision, or one will not.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::envoys::refusal;
use super::output::{complain, items, text};

/// How often the service is asked.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The revision; unset: the newest there is
    revision: Option<u64>,
}

/// How far one Envoy is.
#[derive(Debug, PartialEq)]
enum Progress {
    /// It has accepted everything up to the revision.
    Done,
    /// It has not answered yet; the policy that it has accepted.
    Behind(String),
    /// It refuses what it was sent, and why.
    Refuses(String),
}

impl Wait {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let revision = match self.revision {
            Some(revision) => revision,
            None => client.get(&["status"], &[]).await?["revision"].as_u64().unwrap_or_default(),
        };
        let envoys = everywhere(client, revision).await?;
        let answer = json!({"revision": revision, "envoys": envoys});
        client.output.show(&answer, |_| reached(revision, envoys))
    }
}

/// Waits, and says on stderr what came of it: stdout has the answer of the change.
pub(super) async fn settle(client: &Client, revision: u64) -> Result<(), Failure> {
    let envoys = everywhere(client, revision).await?;
    complain(reached(revision, envoys));
    Ok(())
}

fn reached(revision: u64, envoys: usize) -> String {
    match envoys {
        0 => format!("no Envoy is connected that could take revision {revision}"),
        1 => format!("the connected Envoy has revision {revision}"),
        many => format!("all {many} connected Envoys have revision {revision}"),
    }
}

/// Waits for every Envoy that is connected to the service that is asked; how many there are.
async fn everywhere(client: &Client, revision: u64) -> Result<usize, Failure> {
    let deadline = Instant::now() + client.patience;
    loop {
        let status = client.get(&["status"], &[]).await?;
        if status["revision"].as_u64().is_some_and(|newest| newest < revision) {
            return Err(Failure::Refused(format!(
                "there is no revision {revision} yet: the newest is {}",
                status["revision"]
            )));
        }
        let connected = items(&status, "envoys").iter().filter(|envoy| envoy["connected"] == true);
        let progress: Vec<(String, Progress)> =
            connected.map(|envoy| (text(&envoy["id"]), progress(envoy, revision))).collect();
        let refusals = progress.iter().filter_map(|(id, progress)| match progress {
            Progress::Refuses(why) => Some(format!("{id} refuses it: {why}")),
            _ => None,
        });
        let refusals: Vec<String> = refusals.collect();
        if !refusals.is_empty() {
            return Err(short(revision, &refusals));
        }
        let behind = progress.iter().filter_map(|(id, progress)| match progress {
            Progress::Behind(has) => Some(format!("{id} has {has} after {} s", client.patience.as_secs())),
            _ => None,
        });
        let behind: Vec<String> = behind.collect();
        if behind.is_empty() {
            return Ok(progress.len());
        }
        if Instant::now() >= deadline {
            return Err(short(revision, &behind));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn short(revision: u64, envoys: &[String]) -> Failure {
    Failure::NotEverywhere(format!(
        "revision {revision} is made, and not every Envoy has it: {}",
        envoys.join("\n       ")
    ))
}

/// What the service knows of one Envoy. The policy carries its revision, and is sent anew with each.
fn progress(envoy: &Value, revision: u64) -> Progress {
    let types = envoy["types"].as_object().into_iter().flatten();
    let standing = types.clone().find(|(_, status)| {
        !status["nacked"].is_null() && status["nacked"]["version"] == status["pushed"]["version"]
    });
    let policy = &envoy["types"]["ecds"];
    let sent = policy["pushed"]["revision"].as_u64().is_some_and(|sent| sent >= revision);
    match standing {
        // Before the revision was sent, a refusal is an older one's.
        Some((kind, status)) if sent => Progress::Refuses(refusal(kind, &status["nacked"])),
        _ => {
            let accepted = policy["acked"]["revision"].as_u64();
            let settled =
                types.clone().all(|(_, status)| status["pushed"]["version"] == status["acked"]["version"]);
            match accepted {
                Some(accepted) if accepted >= revision && settled => Progress::Done,
                Some(accepted) => Progress::Behind(format!("revision {accepted}")),
                None => Progress::Behind("no revision".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Progress, progress};

    #[test]
    fn an_envoy_is_done_when_it_has_accepted_all_it_was_sent() {
        let version = |revision: u64| json!({"version": format!("v{revision}"), "revision": revision});
        let refusal =
            |revision: u64| json!({"version": format!("v{revision}"), "revision": revision, "error": "bad"});
        let behind = |has: &str| Progress::Behind(has.to_owned());
        let refuses =
            |kind: &str, revision: u64| Progress::Refuses(format!("{kind} of revision {revision}: bad"));
        for (types, expected) in [
            (json!({}), behind("no revision")),
            (json!({"ecds": {"pushed": version(7), "acked": version(7)}}), Progress::Done),
            (json!({"ecds": {"pushed": version(8), "acked": version(8)}}), Progress::Done),
            (json!({"ecds": {"pushed": version(7), "acked": version(6)}}), behind("revision 6")),
            (json!({"ecds": {"pushed": version(6), "acked": version(6)}}), behind("revision 6")),
            (
                json!({"ecds": {"pushed": version(7), "acked": version(6), "nacked": refusal(7)}}),
                refuses("ecds", 7),
            ),
            // The older one's refusal: the answer to this revision is still to come.
            (
                json!({"ecds": {"pushed": version(7), "acked": version(5), "nacked": refusal(6)}}),
                behind("revision 5"),
            ),
            (
                json!({"ecds": {"pushed": version(6), "acked": version(5), "nacked": refusal(6)}}),
                behind("revision 5"),
            ),
            // What has not changed was sent with an older revision.
            (
                json!({"ecds": {"pushed": version(7), "acked": version(7)}, "cds": {"pushed": version(3), "acked": version(3)}}),
                Progress::Done,
            ),
            (
                json!({"ecds": {"pushed": version(7), "acked": version(7)}, "cds": {"pushed": version(7), "acked": version(3)}}),
                behind("revision 7"),
            ),
            (
                json!({"ecds": {"pushed": version(7), "acked": version(7)}, "cds": {"pushed": version(3), "nacked": refusal(3)}}),
                refuses("cds", 3),
            ),
        ] {
            assert_eq!(progress(&json!({"types": types}), 7), expected, "{types}");
        }
    }
}
