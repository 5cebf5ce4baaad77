//! How answers are written: tables for people, JSON for programs.

use std::io::{Write as _, stdout};

use clap::ValueEnum;
use serde_json::Value;

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
    pub(super) fn show(self, answer: &Value, for_people: impl FnOnce(&Value) -> String) {
        let text = match self {
            Self::Json => format!("{answer:#}"),
            Self::Table => for_people(answer),
        };
        // Whoever reads only the first lines closes the pipe: nobody is left to be told.
        let _ = writeln!(stdout(), "{}", text.trim_end());
    }
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
