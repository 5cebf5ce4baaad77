//! What people see on a terminal: a real pseudo terminal, read as a terminal reads it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::process::Stdio;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::command::command;
use crate::support::Service;

/// How long a screen may take to show what is awaited.
const SOON: Duration = Duration::from_secs(20);

/// A command on a terminal of its own.
struct Terminal {
    process: Child,
    keys: File,
    output: mpsc::UnboundedReceiver<Vec<u8>>,
    parser: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    fn run(mut command: Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let side = || -> Stdio { OpenOptions::new().read(true).write(true).open(&name).unwrap().into() };
        command
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR");
        let process = command.spawn().unwrap();
        drop(command);
        let mut master: File = master.into();
        let keys = master.try_clone().unwrap();
        let (say, output) = mpsc::unbounded_channel();
        // A pseudo terminal whose other side is closed reads as an error: the end.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = master.read(&mut buffer) {
                if read == 0 || say.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let [rows, columns] = [rows, columns].map(|side| NonZero::new(side).unwrap());
        Self { process, keys, output, parser: vt100::Parser::new(rows, columns, 0), raw: Vec::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads on until the screen shows it.
    async fn until(&mut self, what: &str, shown: impl Fn(&str) -> bool) {
        // A screen that is drawn again is output too: what is awaited has a time of its own.
        let deadline = tokio::time::Instant::now() + SOON;
        while !shown(&self.parser.screen().contents()) {
            let output = tokio::time::timeout_at(deadline, self.output.recv()).await;
            let Ok(Some(output)) = output else {
                panic!("{what} did not come: {output:?}\n{}", self.parser.screen().contents());
            };
            self.parser.process(&output);
            self.raw.extend(output);
        }
    }

    /// Reads to the end; how it ended, and the screen that it leaves.
    async fn ended(mut self) -> (Option<i32>, String, String) {
        let status = tokio::time::timeout(SOON, self.process.wait()).await.expect("it ends").unwrap();
        while let Ok(Some(output)) = tokio::time::timeout(SOON, self.output.recv()).await {
            self.parser.process(&output);
            self.raw.extend(output);
        }
        (status.code(), self.parser.screen().contents(), String::from_utf8_lossy(&self.raw).into_owned())
    }
}

#[tokio::test]
async fn top_follows_sorts_filters_and_leaves() {
    let service = Service::start().await;
    service.flag("checkout", 5).await;
    service.flag("arrivals", 50).await;
    let mut top = Terminal::run(command(service.dir.path(), &service.url, &["top"]), 30, 120);
    top.until("what there is", |screen| {
        screen.contains("revision 2, 2 flags")
            && screen.contains("checkout")
            && screen.contains("▸Flags 2 of 2")
    })
    .await;
    // It follows by itself.
    service.flag("checkout", 25).await;
    top.until("the change", |screen| screen.contains("percentage 5 → 25") && screen.contains("revision 3"))
        .await;
    let rows = |screen: &str| {
        let flags = screen.lines().skip_while(|line| !line.contains("▸Flags")).skip(2);
        flags
            .take(2)
            .filter_map(|line| line.split(['│', ' ']).find(|word| !word.is_empty()).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    top.press("sr");
    top.until("the other order", |screen| {
        screen.contains("KEY ↓") && rows(screen) == ["checkout", "arrivals"]
    })
    .await;
    top.press("/arr");
    top.until("the filter", |screen| {
        screen.contains("▸Flags 1 of 1") && rows(screen).first().is_some_and(|key| key == "arrivals")
    })
    .await;
    top.press("\r?");
    top.until("the keys", |screen| screen.contains("show only rows with a text")).await;
    top.press("xq");
    let (code, screen, _) = top.ended().await;
    assert_eq!((code, screen.as_str()), (Some(0), ""), "the terminal is as it was");
}

#[tokio::test]
async fn top_says_that_the_service_is_away_and_goes_on() {
    let service = Service::start().await;
    service.flag("checkout", 5).await;
    let mut top = Terminal::run(command(service.dir.path(), "http://127.0.0.1:1", &["top"]), 24, 80);
    top.until("the trouble", |screen| {
        screen.contains("! the flag service at http://127.0.0.1:1 cannot be reached")
    })
    .await;
    // Raw mode: what would be a signal is a key.
    top.press("\u{3}");
    assert_eq!(top.ended().await.0, Some(0));
    // On no terminal it fails as any command does.
    let away = crate::command::run(service.dir.path(), "http://127.0.0.1:1", &["top"]).await;
    assert_eq!(away.code, Some(3), "{}", away.stderr);
}

#[tokio::test]
async fn on_no_terminal_top_is_lines() {
    let service = Service::start().await;
    service.flag("checkout", 5).await;
    let lines = service.run(&["top"]).await;
    assert_eq!(lines.code, Some(0), "{}", lines.stderr);
    assert!(lines.stdout.starts_with("revision 1, 1 flags, 0 modules"), "{}", lines.stdout);
    assert!(lines.stdout.contains("\ncheckout  live   5 "), "{}", lines.stdout);
    assert!(!lines.stdout.contains('\u{1b}'));
    let json = service.run(&["top", "--output", "json"]).await.stdout;
    let seen: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(seen["flags"][0]["key"], "checkout");
    assert_eq!(seen["status"]["revision"], 1);
}

#[tokio::test]
async fn what_the_service_tells_in_pages_is_shown_whole() {
    let service = Service::start().await;
    let flags: Vec<_> =
        (0..1_001).map(|n| serde_json::json!({"kind": "flag", "key": format!("f{n:04}")})).collect();
    service
        .request("POST", "/api/v1/apply")
        .json(&serde_json::json!({"resources": flags}))
        .header("if-match", "*")
        .send()
        .await
        .unwrap();
    for command in ["top", "flag list"] {
        let arguments: Vec<&str> = command.split(' ').chain(["--output", "json"]).collect();
        let shown = service.json(&arguments).await;
        assert_eq!(shown["flags"].as_array().unwrap().len(), 1_001, "{command}");
    }
    let export = service.run(&["export"]).await.stdout;
    assert_eq!(export.matches("kind: flag").count(), 1_001);
}

#[tokio::test]
async fn tables_fit_the_terminal_and_colours_are_for_terminals_that_want_them() {
    let service = Service::start().await;
    let description = "long ".repeat(60);
    service
        .send("PUT", "/api/v1/flags/f", &serde_json::json!({"description": description, "killed": true}))
        .await
        .ok();
    let list = || command(service.dir.path(), &service.url, &["flag", "list"]);
    let (code, screen, raw) = Terminal::run(list(), 24, 60).ended().await;
    assert_eq!((code, screen.lines().count()), (Some(0), 2), "{screen}");
    assert!(screen.contains("killed") && screen.trim_end().ends_with('…'), "{screen}");
    assert!(raw.contains("\u{1b}[31mkilled"), "{raw:?}");
    let (_, screen, raw) = {
        let mut plain = Terminal::run(
            {
                let mut plain = Command::new("env");
                plain
                    .args(["NO_COLOR=1", env!("CARGO_BIN_EXE_rampart"), "flag", "list"])
                    .env("RAMPART_API", &service.url)
                    .env("XDG_STATE_HOME", service.dir.path());
                plain
            },
            24,
            60,
        );
        plain.until("the list", |screen| screen.contains("killed")).await;
        plain.ended().await
    };
    assert!(screen.contains("killed") && !raw.contains("[31m"), "{raw:?}");
    // What goes to a file or a pipe is whole, and has no colours.
    let piped = service.run(&["flag", "list"]).await.stdout;
    assert!(piped.contains(description.trim_end()) && !piped.contains('\u{1b}'));
}
