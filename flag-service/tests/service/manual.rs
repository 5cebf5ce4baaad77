//! What the command line says of itself, what its page says of it, and what shells complete.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::support::Service;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
/// What stands below this line is made from the command line itself.
const MARK: &str = "<!-- From the command line itself: UPDATE_GOLDEN=1 rewrites it. -->\n";

/// Every command that does something, with its arguments and options.
fn reference(command: &clap::Command, path: &str, page: &mut String) {
    let commands: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
    let own: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|argument| {
            !argument.is_global_set() && !matches!(argument.get_id().as_str(), "help" | "version")
        })
        .collect();
    if !path.is_empty() && (commands.is_empty() || !own.is_empty()) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, "\n### `rampart{path}`\n\n{about}.").unwrap();
        list(&own, page);
    }
    for sub in commands {
        reference(sub, &format!("{path} {}", sub.get_name()), page);
    }
}

fn list(arguments: &[&clap::Arg], page: &mut String) {
    for (index, argument) in arguments.iter().enumerate() {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let default: Vec<_> =
            argument.get_default_values().iter().filter_map(|value| value.to_str()).collect();
        let default = if default.is_empty()
            || default == [""]
            || argument.get_num_args().is_some_and(|n| !n.takes_values())
        {
            String::new()
        } else {
            format!(" Default: `{}`.", default.join(","))
        };
        let words = argument.to_string().replace("...", "…");
        writeln!(page, "{}- `{words}`: {help}.{default}", if index == 0 { "\n" } else { "" }).unwrap();
    }
}

#[test]
fn the_page_has_every_command_and_option() {
    let mut command = rampart::cli::command();
    command.build();
    let mut made = String::from("\n## Options of every command\n");
    let global: Vec<_> = command.get_arguments().filter(|argument| argument.is_global_set()).collect();
    list(&global, &mut made);
    made += "\n## Commands\n";
    reference(&command, "", &mut made);
    let page = fs::read_to_string(PAGE).unwrap();
    let (written, shown) = page.split_once(MARK).expect("the mark");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(PAGE, format!("{written}{MARK}{made}")).unwrap();
        return;
    }
    assert!(shown == made, "docs/cli.md differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{made}");
}

#[test]
fn the_page_has_the_exit_codes_of_the_help() {
    let help = rampart::cli::command().render_long_help().to_string();
    let codes: Vec<&str> = help.lines().skip_while(|line| *line != "Exit codes:").skip(1).collect();
    assert_eq!(codes.len(), 7, "{help}");
    let page = fs::read_to_string(PAGE).unwrap();
    for code in codes {
        let (number, meaning) = code.trim().split_once("  ").unwrap();
        assert!(page.contains(&format!("| {number} | {meaning} |")), "{code}");
    }
}

#[tokio::test]
async fn bash_completes_commands_and_the_names_that_there_are() {
    let service = Service::start().await;
    service.flag("checkout", 5).await;
    service.flag("checkin", 5).await;
    service.run(&["segment", "set", "pilots"]).await;
    service.module("analytics_core", serde_json::json!({})).await.ok();
    for (words, completed) in [
        (&["rampart", "flag", "kill", "check"][..], "checkin checkout"),
        (&["rampart", "module", "get", ""], "analytics_core"),
        (&["rampart", "segment", "set", "pi"], "pilots"),
        (&["rampart", "organisation", "name", "acme", "--on", "checkin,check"], "checkin,checkout"),
        (&["rampart", "modu"], "module"),
        (&["rampart", "flag", "list", "--outp"], "--output"),
        (&["rampart", "flag", "list", "--output", "ya"], "yaml"),
    ] {
        let last = words.last().unwrap();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "eval \"$(rampart completion bash)\"; COMP_WORDS=({}); COMP_CWORD={}; _clap_complete_rampart rampart '{last}' x; \
             echo \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len() - 1,
        );
        let folder = Path::new(env!("CARGO_BIN_EXE_rampart")).parent().unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", &script])
            .env("PATH", path)
            .env("RAMPART_API", &service.url)
            .env("XDG_STATE_HOME", service.dir.path())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let said: Vec<&str> = said.split_whitespace().collect();
        let wanted: Vec<&str> = completed.split(' ').collect();
        let found = wanted.iter().all(|name| said.contains(name));
        assert!(found, "{words:?}: {said:?} {}", String::from_utf8_lossy(&output.stderr));
    }
    for shell in ["zsh", "fish"] {
        let script = service.run(&["completion", shell]).await;
        assert!(script.code == Some(0) && script.stdout.contains("COMPLETE"), "{shell}: {}", script.stderr);
    }
}

#[tokio::test]
async fn what_reads_as_json_reads_as_yaml() {
    let service = Service::start().await;
    service.flag("checkout", 12).await;
    for arguments in [
        &["flag", "list"][..],
        &["flag", "get", "checkout"],
        &["flag", "explain", "checkout", "--organisation", "acme"],
        &["history"],
        &["history", "verify"],
        &["settings", "get"],
        &["status"],
        &["module", "list"],
        &["provider", "list"],
        &["deny", "list"],
        &["segment", "list"],
        &["organisation", "show", "acme"],
        &["subject", "show", "eve", "--with", "acme"],
        &["flag", "preview", "checkout", "--percentage", "50"],
        &["disable-all", "--reason", "why", "--dry-run"],
        &["envoys"],
        &["completion", "bash"],
        &["wait"],
        &["flag", "kill", "checkout", "--dry-run"],
    ] {
        let printed = async |output: &str| {
            let ran = service.run(&[arguments, &["--output", output]].concat()).await;
            assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
            ran.stdout
        };
        let json: serde_json::Value = serde_json::from_str(&printed("json").await).unwrap();
        let yaml: serde_json::Value = serde_saphyr::from_str(&printed("yaml").await).unwrap();
        assert_eq!(yaml, json, "{arguments:?}");
    }
}

#[tokio::test]
async fn where_no_envoy_is_connected_there_is_none_to_wait_for() {
    let service = Service::start().await;
    let ran = service.run(&["flag", "create", "f", "--wait"]).await;
    let said = (ran.code, ran.stdout.as_str(), ran.stderr.as_str());
    let none = "no Envoy is connected that could take revision 1\n";
    assert_eq!(said, (Some(0), "revision 1: flag f added\n", none));
    let ahead = service.run(&["wait", "7"]).await;
    assert_eq!(
        (ahead.code, ahead.stderr.as_str()),
        (Some(1), "error: there is no revision 7 yet: the newest is 1\n")
    );
}
