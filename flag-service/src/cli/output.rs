//! How answers are written: tables for people, JSON for programs.

use std::fmt;
use std::io::{self, Write as _, stderr, stdout};

use clap::ValueEnum;
use serde_json::Value;

use super::client::Failure;

/// How answers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Table,
    /// For programs: what the API said
    Json,
}

impl Output {
    /// Prints an answer.
    pub(super) fn show(
        self,
        answer: &Value,
        for_people: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        let text = match self {
            Self::Json => format!("{answer:#}"),
            Self::Table => for_people(answer),
        };
        print(text.trim_end())
    }
}

/// Writes a text to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = stdout().lock();
    answered(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
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

/// Columns as wide as their widest cell.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A member as text: strings as they are, lists with commas, nothing for what is not there.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The items of a list in an answer.
pub(super) fn items<'a>(answer: &'a Value, member: &str) -> &'a [Value] {
    answer[member].as_array().map(Vec::as_slice).unwrap_or_default()
}
