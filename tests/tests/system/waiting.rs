//! `--wait`: a change is said to be there when Envoy has accepted it, and else why it is not.

use anyhow::{Context as _, Result, ensure};
use rampart_tests::{
    seed::FLAG,
    service::CliOutput,
    stack::{Options, Stack},
    wait::{SOON, eventually},
    workdir::system_test,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Sets a percentage and waits for it.
async fn raise(stack: &Stack, percentage: &str, seconds: &str) -> Result<CliOutput> {
    let set = ["flag", "set", FLAG, "--percentage", percentage, "--wait", "--wait-timeout", seconds];
    stack.service.cli(&set).await
}

fn signal(stack: &Stack, signal: Signal) -> Result<()> {
    let id = Pid::from_raw(i32::try_from(stack.envoy.id())?).context("Envoy has no id")?;
    Ok(kill_process(id, signal)?)
}

#[test]
fn a_change_is_waited_for_until_envoy_has_it() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        let raised = raise(&stack, "40", "20").await?;
        ensure!(raised.code == Some(0), "{raised:?}");
        ensure!(raised.stderr.starts_with("the connected Envoy has revision "), "{raised:?}");
        let status = stack.service.cli(&["status", "--output", "json"]).await?.json()?;
        ensure!(
            status.pointer("/envoys/0/types/ecds/acked/revision") == Some(&status["revision"]),
            "{status}"
        );

        let behind = async || {
            let envoys = stack.service.cli(&["envoys", "--output", "json"]).await?.json()?;
            Ok::<_, anyhow::Error>(envoys.pointer("/envoys/0/lag").cloned())
        };
        ensure!(behind().await? == Some(json!(0)));

        // One that does not answer is waited for as long as was said; the change is made all the same.
        signal(&stack, Signal::STOP)?;
        let raised = raise(&stack, "50", "1").await?;
        ensure!(behind().await? == Some(json!(1)));
        signal(&stack, Signal::CONT)?;
        ensure!(raised.code == Some(5) && raised.stdout.contains("percentage 40 → 50"), "{raised:?}");
        let before = status["revision"].as_u64().unwrap_or_default();
        let said = format!(
            "revision {} is made, and not every Envoy has it: envoy-1 has revision {before}",
            before + 1
        );
        ensure!(raised.stderr.contains(&said), "{raised:?}");
        let waited = stack.service.cli(&["wait"]).await?.ok()?;
        ensure!(waited == format!("the connected Envoy has revision {}\n", before + 1), "{waited}");
        Ok(())
    });
}

#[test]
fn a_change_that_envoy_refuses_is_told_in_envoys_words() {
    system_test(async |dir| {
        let options = Options { filter: Some("/nowhere/rampart.wasm"), ..Options::default() };
        let stack = Stack::start(dir, options).await?;
        let connected = async || {
            let status = stack.service.cli(&["status"]).await?.ok()?;
            ensure!(status.contains("envoy-1"), "{status}");
            Ok(())
        };
        eventually(SOON, "Envoy to connect", connected).await?;
        let created = stack.service.cli(&["flag", "create", "f", "--wait"]).await?;
        ensure!(created.code == Some(5), "{created:?}");
        ensure!(
            created.stdout == "revision 1: flag f added\n"
                && created.stderr.contains("envoy-1 refuses it: ecds of revision 1: ")
                && created.stderr.contains("/nowhere/rampart.wasm"),
            "{created:?}"
        );
        let envoys = stack.service.cli(&["envoys"]).await?.ok()?;
        ensure!(envoys.contains("refuses") && envoys.contains("ecds of revision 1"), "{envoys}");
        Ok(())
    });
}
