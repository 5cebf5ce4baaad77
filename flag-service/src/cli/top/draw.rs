//! Draws what was seen, as it is looked at. It decides nothing and reads no key.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};
use unicode_width::UnicodeWidthStr;

use super::super::output::{Paint, mood};
use super::seen::{Panel, Seen};
use super::view::View;
use super::{KEYS, Latest};

/// Lines of a table that hold no row: border above, header, border below.
const AROUND: u16 = 3;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, latest: &Latest) {
    let Latest { seen, trouble } = latest;
    let envoys = u16::try_from(seen.rows(Panel::Envoys).len()).unwrap_or(u16::MAX);
    let [headline, envoys, flags, modules, changes, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(envoys.clamp(1, 5) + AROUND),
        Constraint::Fill(2),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let (said, style) = match trouble {
        Some(trouble) => (format!("! {trouble}"), colour(Some(Paint::Bad))),
        None => (seen.headline(), Style::new().add_modifier(Modifier::BOLD)),
    };
    frame.render_widget(Line::styled(said, style), headline);
    for (panel, area) in Panel::ALL.into_iter().zip([envoys, flags, modules, changes]) {
        table(frame, area, panel, view, seen);
    }
    let hint = match (view.typing, view.filter.is_empty()) {
        (true, _) => format!("/{}▏  Enter keeps it, Esc drops it", view.filter),
        (false, false) => format!("only rows with \"{}\": Esc shows all   ? keys   q leaves", view.filter),
        (false, true) => "Tab next table   s sort   r reverse   / filter   ? keys   q leave".to_owned(),
    };
    frame.render_widget(Line::raw(hint), footer);
    if view.help {
        help(frame);
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, panel: Panel, view: &View, seen: &Seen) {
    let room = usize::from(area.height.saturating_sub(AROUND));
    let (rows, all) = view.rows(panel, seen, room);
    let look = view.look(panel);
    let mut title = format!(" {} {} of {all} ", panel.title(), rows.len());
    let focused = panel == view.focus;
    if focused {
        title = format!(" ▸{}", title.trim_start());
    }
    let header = panel.header().into_iter().enumerate().map(|(column, name)| {
        match (look.sort == Some(column), look.reverse) {
            (true, false) => format!("{name} ↑"),
            (true, true) => format!("{name} ↓"),
            (false, _) => name.to_owned(),
        }
    });
    let header: Vec<String> = header.collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(header.get(column));
        u16::try_from(cells.map(|cell| cell.width()).max().unwrap_or(0)).unwrap_or(u16::MAX)
    };
    // What people read at length has what is left.
    let wide = if panel == Panel::Changes { 3 } else { 4 };
    let widths: Vec<Constraint> = (0..header.len())
        .map(
            |column| {
                if column == wide { Constraint::Fill(1) } else { Constraint::Max(width(column).min(40)) }
            },
        )
        .collect();
    let cells = |row: [String; 5]| {
        Row::new(row.map(|cell| {
            let style = colour(mood(&cell));
            Cell::new(cell).style(style)
        }))
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let block = Block::bordered().title(title).border_style(if focused { bold } else { Style::new() });
    let table = Table::new(rows.into_iter().map(cells), widths)
        .header(Row::new(header).style(bold))
        .column_spacing(2);
    frame.render_widget(table.block(block), area);
}

fn help(frame: &mut Frame<'_>) {
    let (lines, width) = (KEYS.lines().count(), KEYS.lines().map(UnicodeWidthStr::width).max().unwrap_or(0));
    let size = [width + 4, lines + 2].map(|side| Constraint::Length(u16::try_from(side).unwrap_or(u16::MAX)));
    let area = frame.area().centered(size[0], size[1]);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(KEYS).block(Block::bordered().title(" rampart top ")), area);
}

fn colour(paint: Option<Paint>) -> Style {
    match paint {
        Some(Paint::Good) => Style::new().fg(Color::Green),
        Some(Paint::Odd) => Style::new().fg(Color::Yellow),
        Some(Paint::Bad) => Style::new().fg(Color::Red),
        Some(Paint::Head) => Style::new().add_modifier(Modifier::BOLD),
        None => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use serde_json::{Value, json};

    use super::{Latest, Seen, View, draw};

    fn drawn(view: &View, latest: &Latest) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
        terminal.draw(|frame| draw(frame, view, latest)).unwrap();
        terminal.backend().to_string()
    }

    fn latest(trouble: Option<&str>) -> Latest {
        let acked = |revision: u64| json!({"version": "v", "revision": revision});
        let envoy = |id: &str, connected: bool, nacked: Value| json!({"id": id, "connected": connected, "types": {"ecds": {"acked": acked(3), "nacked": nacked}}});
        let refusal = json!({"version": "w", "revision": 5, "error": "no such cluster"});
        let status = json!({
            "revision": 5, "flags": 2, "modules": 0, "providers": 0, "warnings": 0,
            "envoys": [envoy("edge-1", true, Value::Null), envoy("edge-2", true, refusal), envoy("edge-3", false, Value::Null)],
        });
        let flags = json!([{"key": "checkout", "percentage": 12.5}, {"key": "old", "percentage": 100, "killed": true}]);
        let edit = json!({"kind": "flag", "name": "checkout", "before": {"percentage": 5}, "after": {"percentage": 12.5}});
        let history = json!([{"revision": 5, "at_ms": 1_800_000_000_000_u64, "actor": "amina", "summary": "s", "edits": [edit]}]);
        Latest { seen: Seen::of(status, flags, history), trouble: trouble.map(str::to_owned) }
    }

    #[test]
    fn the_screen_says_in_words_what_the_colours_say() {
        let screen = drawn(&View::default(), &latest(None));
        let has = |words: &[&str]| {
            let row = screen.lines().find(|line| words.iter().all(|word| line.contains(word)));
            assert!(row.is_some(), "{words:?}\n{screen}");
        };
        has(&["revision 5, 2 flags, 0 modules"]);
        has(&["edge-1", "connected", "3", "2"]);
        has(&["edge-2", "refuses", "ecds of revision 5: no such cluster"]);
        has(&["edge-3", "gone"]);
        has(&["checkout", "live", "12.5", "2027-01-15 08:00:00", "percentage 5 → 12.5"]);
        has(&["old", "killed", "100"]);
        has(&["▸Flags 2 of 2"]);
    }

    #[test]
    fn a_service_that_is_away_is_told_and_what_was_seen_stays() {
        let screen = drawn(&View::default(), &latest(Some("it cannot be reached")));
        assert!(screen.contains("! it cannot be reached") && screen.contains("checkout"), "{screen}");
    }

    #[test]
    fn a_question_mark_shows_the_keys() {
        let mut view = View::default();
        assert!(view.press(KeyEvent::new(KeyCode::Char('?'), KeyModifiers::NONE)).is_continue());
        let screen = drawn(&view, &latest(None));
        assert!(screen.contains("sort it by the next column"), "{screen}");
    }
}
