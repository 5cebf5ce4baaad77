//! Changes that the engine refuses: refused with field and reason, and nothing changes.

use anyhow::{Result, ensure};
use rampart_tests::{
    seed::{EARLY, FLAG, LATE, ROUTE},
    stack::Stack,
    workdir::system_test,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

async fn revision(stack: &Stack) -> Result<Value> {
    Ok(stack.service.cli(&["status", "--output", "json"]).await?.json()?["revision"].clone())
}

fn manifest(dir: &Path, module: &Value) -> Result<String> {
    let file = dir.join("refused.json");
    fs::write(&file, module.to_string())?;
    Ok(file.display().to_string())
}

#[test]
fn a_refused_change_leaves_traffic_as_it_was() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("50").await?;
        let token = stack.token(EARLY)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let before = revision(&stack).await?;

        let base = json!({"version": "v1", "namespace": "analytics-core", "endpoints": ["127.0.0.1:1"]});
        let with = |more: Value| {
            let mut module = base.clone();
            module.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            module
        };
        let claiming = manifest(
            dir,
            &with(json!({
                "id": "usurper", "routes": [{"methods": ["GET"], "path": "/dashboard/overview"}]
            })),
        )?;
        let output = stack.service.cli(&["module", "register", &claiming]).await?.refused()?;
        for word in ["usurper", "analytics_core", "/dashboard/overview", "GET", "claimed already"] {
            ensure!(output.contains(word), "`{word}` is missing: {output}");
        }

        let unknown = manifest(
            dir,
            &with(json!({
                "id": "hopeful", "routes": [{"path": "/new", "gates": [{"flag": "no_such_flag", "when_off": "legacy"}]}]
            })),
        )?;
        let output = stack.service.cli(&["module", "register", &unknown]).await?.refused()?;
        ensure!(output.contains("routes[0].gates[0].flag") && output.contains("no_such_flag"), "{output}");

        let output = stack.service.cli(&["flag", "set", FLAG, "--percentage", "130"]).await?.refused()?;
        ensure!(
            output.contains("percentage") && output.contains("130") && output.contains("0 to 100"),
            "{output}"
        );

        ensure!(revision(&stack).await? == before, "a refused change has no revision");
        let served_by = stack.client()?.get(ROUTE, Some(&token)).await?.served_by();
        ensure!(served_by == "analytics-core v1", "{served_by}");
        Ok(())
    });
}

#[test]
fn every_change_is_in_the_history_and_can_be_reverted() {
    system_test(async |dir| {
        let stack = Stack::seeded(dir).await?;
        stack.roll_out("100").await?;
        let token = stack.token(LATE)?;
        stack.served_by(&token, "analytics-core v1").await?;
        let good = revision(&stack).await?.to_string();
        stack.roll_out("0").await?;
        stack.served_by(&token, "legacy").await?;
        let history = stack.service.cli(&["history", "--output", "json"]).await?.json()?;
        let text = history.to_string();
        ensure!(text.contains(FLAG) && text.contains("analytics_core"), "{text}");
        stack.service.cli(&["revert", &good]).await?.ok()?;
        stack.served_by(&token, "analytics-core v1").await?;
        Ok(())
    });
}
