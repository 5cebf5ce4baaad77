//! How somebody looks: at which table, sorted how, at which rows. Keys in, a view out; it draws nothing.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::seen::{Panel, Seen};

/// How somebody looks.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The table that keys are about.
    pub(super) focus: Panel,
    /// Only rows with this text are shown.
    pub(super) filter: String,
    /// Whether keys are the filter's text.
    pub(super) typing: bool,
    /// Whether the keys are shown.
    pub(super) help: bool,
    tables: [Look; Panel::ALL.len()],
}

/// How somebody looks at one table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// The column that it is sorted by; none: as the service has it.
    pub(super) sort: Option<usize>,
    /// Whether the last comes first.
    pub(super) reverse: bool,
    /// How many rows are scrolled away.
    pub(super) skip: usize,
}

impl View {
    /// Does what a key says; breaks where it says to leave.
    pub(super) fn press(&mut self, key: KeyEvent) -> ControlFlow<()> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return ControlFlow::Break(());
        }
        if self.typing {
            self.type_in(key.code);
            return ControlFlow::Continue(());
        }
        if self.help {
            self.help = false;
            return ControlFlow::Continue(());
        }
        let columns = self.focus.header().len();
        match key.code {
            KeyCode::Char('q') => return ControlFlow::Break(()),
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab => self.step(1),
            KeyCode::BackTab => self.step(Panel::ALL.len() - 1),
            KeyCode::Char('s') => {
                let look = self.look_mut();
                look.sort =
                    look.sort.map_or(Some(0), |column| Some(column + 1)).filter(|column| *column < columns);
            }
            KeyCode::Char('r') => self.look_mut().reverse ^= true,
            KeyCode::Up | KeyCode::Char('k') => {
                let look = self.look_mut();
                look.skip = look.skip.saturating_sub(1);
            }
            KeyCode::Down | KeyCode::Char('j') => self.look_mut().skip += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn type_in(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(character) => self.filter.push(character),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            KeyCode::Enter => self.typing = false,
            _ => {}
        }
    }

    fn step(&mut self, by: usize) {
        let here = self.focus as usize;
        self.focus = Panel::ALL.into_iter().cycle().nth(here + by).unwrap_or_default();
    }

    /// How a table is looked at.
    pub(super) fn look(&self, panel: Panel) -> Look {
        self.tables.get(panel as usize).copied().unwrap_or_default()
    }

    fn look_mut(&mut self) -> &mut Look {
        &mut self.tables[self.focus as usize]
    }

    /// The rows that are shown of a table, and how many there are.
    pub(super) fn rows(&self, panel: Panel, seen: &Seen, room: usize) -> (Vec<[String; 5]>, usize) {
        let Look { sort, reverse, skip } = self.look(panel);
        let filter = self.filter.to_lowercase();
        let mut rows = seen.rows(panel);
        rows.retain(|row| filter.is_empty() || row.iter().any(|cell| cell.to_lowercase().contains(&filter)));
        if let Some(column) = sort {
            rows.sort_by(|one, other| match (one.get(column), other.get(column)) {
                (Some(one), Some(other)) => compare(one, other),
                _ => Ordering::Equal,
            });
        }
        if reverse {
            rows.reverse();
        }
        let all = rows.len();
        // Whoever scrolls past the end stays at the end.
        let shown = rows.into_iter().skip(skip.min(all.saturating_sub(room))).take(room);
        (shown.collect(), all)
    }
}

/// Numbers by size, all else by letters.
fn compare(one: &str, other: &str) -> Ordering {
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one.total_cmp(&other),
        _ => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use serde_json::json;

    use super::{Panel, Seen, View};

    fn pressed(keys: &str) -> View {
        let mut view = View::default();
        for key in keys.chars() {
            let code = match key {
                '\t' => KeyCode::Tab,
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '↓' => KeyCode::Down,
                key => KeyCode::Char(key),
            };
            assert!(view.press(KeyEvent::new(code, KeyModifiers::NONE)).is_continue(), "{key}");
        }
        view
    }

    #[test]
    fn keys_sort_filter_and_scroll_the_table_they_are_about() {
        let flags = json!([{"key": "a", "percentage": 100}, {"key": "b", "percentage": 5}, {"key": "ab", "percentage": 20}]);
        let seen = Seen::of(json!({}), flags, json!([]));
        let shown = |keys: &str, room| {
            let (rows, all) = pressed(keys).rows(Panel::Flags, &seen, room);
            (rows.iter().map(|[key, ..]| key.clone()).collect::<Vec<_>>().join(" "), all)
        };
        for (keys, room, keys_shown, all) in [
            ("", 9, "a b ab", 3),
            ("s", 9, "a ab b", 3),
            ("sr", 9, "b ab a", 3),
            // By size, not by letters.
            ("sss", 9, "b ab a", 3),
            ("ssssss", 9, "a b ab", 3),
            ("/B\n", 9, "b ab", 2),
            ("/B\ns", 9, "ab b", 2),
            ("/b\u{1b}", 9, "a b ab", 3),
            ("/q", 9, "", 0),
            ("↓", 2, "b ab", 3),
            ("↓↓↓↓", 2, "b ab", 3),
            ("↓", 9, "a b ab", 3),
            // About another table.
            ("\ts↓", 2, "a b", 3),
        ] {
            assert_eq!(shown(keys, room), (keys_shown.to_owned(), all), "{keys:?}");
        }
    }

    #[test]
    fn q_and_ctrl_c_leave() {
        let press =
            |view: &mut View, key, modifiers| view.press(KeyEvent::new(KeyCode::Char(key), modifiers));
        assert!(press(&mut View::default(), 'q', KeyModifiers::NONE).is_break());
        // Also while a filter is typed, which may have a q in it.
        let mut typing = pressed("/");
        assert!(press(&mut typing, 'q', KeyModifiers::NONE).is_continue());
        assert!(press(&mut typing, 'c', KeyModifiers::CONTROL).is_break());
    }
}
