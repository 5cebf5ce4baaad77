//! How answers are written: tables for people, JSON and YAML for programs.

use std::fmt;
use std::io::{self, Write, stderr, stdout};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use super::client::Failure;
use crate::yaml;

/// Narrowest that a column of a table becomes on a terminal.
const NARROWEST: usize = 6;
/// Most names of one list that are told.
const NAMED: usize = 20;

/// How answers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Table,
    /// For programs: what the API said
    Json,
    /// The same as YAML
    Yaml,
}

/// What a colour says. It never says it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// As it should be, or new.
    Good,
    /// Worth a look, or changed.
    Odd,
    /// Switched off, or gone.
    Bad,
    /// Says what stands below.
    Head,
}

impl Output {
    /// Whether a person reads it.
    pub(super) fn is_for_people(self) -> bool {
        self == Self::Table
    }

    /// Prints an answer.
    pub(super) fn show(
        self,
        answer: &Value,
        for_people: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::Json => print(&format!("{answer:#}")),
            Self::Yaml => print(yaml::write(answer)?.trim_end()),
            // Colours reach terminals only, and not where NO_COLOR asks for none.
            Self::Table => write(anstream::stdout().lock(), for_people(answer).trim_end()),
        }
    }
}

/// Writes a text to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write(stdout().lock(), text)
}

fn write(mut stdout: impl Write, text: &str) -> Result<(), Failure> {
    answered(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// A text in colour.
pub(super) fn paint(paint: Paint, text: &str) -> String {
    let style = match paint {
        Paint::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
        Paint::Odd => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
        Paint::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())),
        Paint::Head => Style::new().bold(),
    };
    format!("{style}{text}{style:#}")
}

/// The colour of a word that says how something is.
pub(super) fn mood(word: &str) -> Option<Paint> {
    match word {
        "live" | "connected" => Some(Paint::Good),
        "disabled" | "gone" => Some(Paint::Odd),
        "killed" | "refuses" => Some(Paint::Bad),
        _ => None,
    }
}

/// Whether an answer got to where it should. Whoever reads only the first lines closes the pipe: that
/// is no failure, and nobody is left to be told.
pub(super) fn answered(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Unwritten(error)),
        _ => Ok(()),
    }
}

/// Writes a line to stderr. Where even that is impossible, the exit code must do.
pub(super) fn complain(line: impl fmt::Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Columns as wide as their widest cell. On a terminal that is narrower, the widest are cut, so that a
/// row stays a line; what goes elsewhere is whole.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let terminal = terminal_size::terminal_size_of(stdout()).map(|(width, _)| usize::from(width.0));
    table_within(terminal, header, rows)
}

fn table_within<const N: usize>(
    terminal: Option<usize>,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
    let mut widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    while terminal.is_some_and(|terminal| widths.iter().sum::<usize>() + 2 * N.saturating_sub(1) > terminal) {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > NARROWEST) else { break };
        *widest -= 1;
    }
    let line = |(number, row): (usize, &[String; N])| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let cell = cut(cell, *width);
            let rest = " ".repeat(width.saturating_sub(cell.width()));
            let colour = if number == 0 { Some(Paint::Head) } else { mood(&cell) };
            (
                colour
                    .filter(|_| !cell.is_empty())
                    .map_or_else(|| cell.clone(), |colour| paint(colour, &cell)),
                rest,
            )
        });
        let cells: Vec<(String, String)> = cells.collect();
        // Spaces only between cells: none at the end of a line.
        let end = cells.iter().rposition(|(cell, _)| !cell.is_empty()).unwrap_or(0);
        let cells = cells.iter().take(end + 1).enumerate();
        let cells =
            cells.map(|(at, (cell, rest))| if at == end { cell.clone() } else { format!("{cell}{rest}  ") });
        cells.collect::<String>()
    };
    rows.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// A text, or as much of it as there is room for.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    for character in text.chars() {
        if cut.width() + character.to_string().width() >= width {
            break;
        }
        cut.push(character);
    }
    cut + "…"
}

/// A member as text: strings as they are, lists with commas, nothing for what is not there. What would
/// move a terminal's cursor is not let through.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.replace(char::is_control, " "),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Names with commas: as many as people read, and how many more there are of them all.
pub(super) fn named(names: &[Value], all: u64) -> String {
    let told: Vec<String> = names.iter().take(NAMED).map(text).collect();
    match all.saturating_sub(told.len() as u64) {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// The items of a list in an answer.
pub(super) fn items<'a>(answer: &'a Value, member: &str) -> &'a [Value] {
    answer[member].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{table_within, text};

    fn lines(terminal: Option<usize>) -> Vec<String> {
        let rows = [
            ["a".repeat(20), "live".to_owned(), "説明".repeat(5)],
            ["b".to_owned(), String::new(), String::new()],
        ];
        let table = table_within(terminal, ["KEY", "STATE", "WHAT"], rows);
        anstream::adapter::strip_str(&table).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_goes_to_no_terminal_is_whole() {
        let long = format!("{}  live   {}", "a".repeat(20), "説明".repeat(5));
        assert_eq!(lines(None), [&format!("{:20}  STATE  WHAT", "KEY"), &long, "b"]);
        assert_eq!(lines(Some(80)), lines(None));
    }

    #[test]
    fn on_a_terminal_a_row_is_a_line() {
        for width in 24..49 {
            for line in lines(Some(width)) {
                assert!(unicode_width::UnicodeWidthStr::width(line.as_str()) <= width, "{width}: {line}");
            }
        }
        assert!(lines(Some(40))[1].starts_with("aaaa") && lines(Some(40))[1].contains("…  live"));
    }

    #[test]
    fn no_text_moves_the_cursor() {
        assert_eq!(text(&json!(["a\u{1b}[2J", "b\nc\u{9b}"])), "a [2J,b c ");
    }
}
