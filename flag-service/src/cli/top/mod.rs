//! `rampart top`: what there is and what happens, as it happens. On no terminal, once and as lines.

mod draw;
mod seen;
mod view;

use std::io::{IsTerminal as _, stdin, stdout};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::{mpsc, watch};

use super::client::{Client, Failure};
use super::output::Output;
use seen::{Seen, look};
use view::View;

/// How long an answer is waited for before it is told that there is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Help for the keys; also what `?` shows.
const KEYS: &str = "\
Keys:
  q, Ctrl-C   leave
  Tab         go to the next table
  ↑ ↓         scroll it
  s, r        sort it by the next column; the other way round
  /           show only rows with a text; Enter keeps it, Esc drops it
  ?           these keys";

#[derive(Debug, Args)]
#[command(after_help = KEYS)]
pub(super) struct Top {
    /// Print once and leave; so it is where stdout is no terminal, or --output names a format
    #[arg(long)]
    once: bool,
    /// How often the service is asked
    #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
}

/// The newest that was seen, and why there is nothing newer.
#[derive(Debug, Default)]
struct Latest {
    seen: Seen,
    trouble: Option<String>,
}

impl Top {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let people = stdout().is_terminal() && stdin().is_terminal() && client.output == Output::Table;
        if self.once || !people {
            let mut seen = Seen::default();
            look(client, &mut seen).await?;
            return client.output.show(&seen.json(), |_| seen.lines());
        }
        let (tell, told) = watch::channel(Latest::default());
        tokio::select! {
            () = follow(client, Duration::from_secs(self.interval), &tell) => Ok(()),
            left = screen(told) => Ok(left.context("the terminal cannot be used")?),
        }
    }
}

/// Looks again and again. A service that is away is told, and what was seen last stays.
async fn follow(client: &Client, interval: Duration, tell: &watch::Sender<Latest>) {
    let mut every = tokio::time::interval(interval);
    let mut seen = Seen::default();
    loop {
        every.tick().await;
        let trouble = match tokio::time::timeout(PATIENCE, look(client, &mut seen)).await {
            Ok(looked) => looked.err().map(|failure| failure.to_string()),
            Err(_) => Some(format!("the flag service has not answered for {} s", PATIENCE.as_secs())),
        };
        tell.send_replace(Latest { seen: seen.clone(), trouble });
    }
}

/// Draws, and does what keys say, until one says to leave.
async fn screen(mut told: watch::Receiver<Latest>) -> std::io::Result<()> {
    let mut keys = keys();
    let mut view = View::default();
    // From here on a panic, too, leaves the terminal as it was.
    let mut terminal = ratatui::try_init()?;
    let left = loop {
        let drawn = terminal.draw(|frame| draw::draw(frame, &view, &told.borrow_and_update()));
        if let Err(error) = drawn {
            break Err(error);
        }
        let event = tokio::select! {
            event = keys.recv() => event,
            Ok(()) = told.changed() => continue,
        };
        match event {
            Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                if view.press(key).is_break() {
                    break Ok(());
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    ratatui::try_restore()?;
    left
}

/// What the terminal says. Reading it blocks: the thread ends with the process.
fn keys() -> mpsc::UnboundedReceiver<std::io::Result<Event>> {
    let (say, said) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let ended = event.is_err();
            if say.send(event).is_err() || ended {
                break;
            }
        }
    });
    said
}
