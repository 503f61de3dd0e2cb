//! The picture of a model.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{self, Block, Cell, Clear, Paragraph, RenderDirection, Sparkline, Table};

use super::columns::{Column, columns};
use super::details::details;
use super::flow::flow;
use super::model::{Mode, Model};
use super::rows::{Load, Row, Tone};
use super::units;
use crate::client::print::uptime;
use crate::table::bytes;

/// Whether colours are used; else what they say is said by bold and dim letters, and by words anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Palette {
    Coloured,
    Plain,
}

impl Palette {
    fn style(self, tone: Tone) -> Style {
        let coloured = |colour: Color| if self == Self::Coloured { Style::new().fg(colour) } else { Style::new() };
        match tone {
            Tone::Good => coloured(Color::Green),
            Tone::Plain => Style::new(),
            Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
            Tone::Doubtful => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Where everything stands.
struct Places {
    header: Rect,
    shards: Rect,
    list: Rect,
    details: Rect,
    plots: Rect,
    note: Rect,
    keys: Rect,
}

/// From this height on there is room for more than the list.
const TALL: u16 = 22;
/// From this width on plots stand side by side.
const WIDE: u16 = 90;

fn places(area: Rect, model: &Model) -> Places {
    let is_tall = area.height >= TALL;
    let header = (header(model, area.width).len() as u16).clamp(1, 3);
    let (details, plots) = match (is_tall, area.width >= WIDE) {
        (true, true) => (4, 4),
        (true, false) => (4, 3),
        (false, _) => (1, 3),
    };
    let heights = [header, 1, 0, details, plots, 1, 1];
    let constraints = heights.map(|height| if height == 0 { Constraint::Min(2) } else { Constraint::Length(height) });
    let [header, shards, list, details, plots, note, keys] = Layout::vertical(constraints).areas(area);
    Places { header, shards, list, details, plots, note, keys }
}

/// How many rows of the list there is room for.
pub(super) fn rows_in_sight(area: Rect, model: &Model) -> usize {
    usize::from(places(area, model).list.height.saturating_sub(1))
}

/// Draws it all.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let places = places(frame.area(), model);
    draw_header(frame, places.header, model, palette);
    draw_shards(frame, places.shards, model);
    let rows = model.rows();
    draw_list(frame, places.list, model, &rows, palette);
    if let Some((_, row)) = model.selected(&rows) {
        draw_details(frame, places.details, row, palette);
        draw_plots(frame, places.plots, model, row, palette);
    }
    draw_note(frame, places.note, model, palette);
    frame.render_widget(Line::styled(keys(model, places.keys.width), DIM), places.keys);
    if model.mode == Mode::Help {
        draw_help(frame);
    }
}

fn header(model: &Model, width: u16) -> Vec<String> {
    let status = &model.status;
    let traffic = &status.traffic;
    let mut pieces = vec![
        format!("lb {}", model.version),
        format!("revision {}", status.revision),
        format!("up {}", uptime(status.uptime_seconds)),
        format!("{}/{} connections", status.connections, units::number(status.max_connections as f64)),
        format!("{} accepted/s", units::number(traffic.accepted_per_second)),
        format!("{}/s to servers", bytes(traffic.bytes_to_server_per_second as u64)),
        format!("{}/s to clients", bytes(traffic.bytes_to_client_per_second as u64)),
    ];
    if status.frontends.iter().any(|frontend| frontend.http.is_some()) {
        pieces.insert(5, format!("{} requests/s", units::number(traffic.requests_per_second)));
    }
    flow(&pieces, width.into())
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let mut lines: Vec<Line<'_>> = header(model, area.width).into_iter().map(|line| Line::styled(line, BOLD)).collect();
    if let (Some(why), Some(first)) = (&model.gone, lines.first_mut()) {
        *first = Line::styled(format!("lb is gone, looking for it: {why}"), palette.style(Tone::Bad));
    }
    frame.render_widget(Text::from(lines), area);
}

/// A bar for each shard, or a block for each where there are many.
fn draw_shards(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    const BAR: usize = 10;
    let shards = &model.status.shards;
    let bar = |(number, busy): (usize, f64)| {
        let full = (busy.clamp(0.0, 1.0) * BAR as f64).round() as usize;
        format!("shard {number} {}{} {:>3.0}%", "█".repeat(full), "░".repeat(BAR - full), busy * 100.0)
    };
    let bars: Vec<String> = shards.iter().map(|shard| shard.busy).enumerate().map(bar).collect();
    let mut lines = flow(&bars, area.width.into());
    if lines.len() <= 1 {
        return frame.render_widget(Line::raw(lines.pop().unwrap_or_default()), area);
    }
    let busiest = shards.iter().map(|shard| shard.busy).fold(0.0, f64::max);
    let label = format!("{} shards, busiest {:.0}%  ", shards.len(), busiest * 100.0);
    let [left, right] = Layout::horizontal([Constraint::Length(label.len() as u16), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::raw(label), left);
    let blocks: Vec<u64> = shards.iter().map(|shard| (shard.busy * 100.0) as u64).collect();
    frame.render_widget(Sparkline::default().data(blocks).max(100), right);
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, model: &Model, rows: &[Row<'_>], palette: Palette) {
    let name = rows.iter().map(|row| row.label().chars().count()).max().unwrap_or(0);
    let columns = columns(area.width, name as u16);
    let selected = model.selected(rows).map(|(index, _)| index);
    let height = usize::from(area.height.saturating_sub(1));
    let in_sight = rows.iter().enumerate().skip(model.top()).take(height);
    let lines = in_sight.map(|(index, row)| {
        let cells = columns.iter().map(|column| cell(column, *row, palette));
        let style = if matches!(row, Row::Frontend(_)) { BOLD } else { Style::new() };
        let style = if Some(index) == selected { style.add_modifier(Modifier::REVERSED) } else { style };
        widgets::Row::new(cells).style(style)
    });
    let widths: Vec<Constraint> = columns.iter().map(|column| Constraint::Length(column.width)).collect();
    let headings = columns.iter().map(|column| aligned(column, column.heading.to_owned()));
    let table = Table::new(lines, widths).header(widgets::Row::new(headings).style(DIM)).column_spacing(1);
    frame.render_widget(table, area);
    if rows.is_empty() {
        let reason = if model.filter.is_empty() { "there is no frontend yet" } else { "nothing contains the filter" };
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        frame.render_widget(Line::styled(reason, DIM), below);
    }
}

fn cell(column: &Column, row: Row<'_>, palette: Palette) -> Cell<'static> {
    let cell = aligned(column, (column.cell)(row));
    if column.heading == "STATE" { cell.style(palette.style(row.tone())) } else { cell }
}

fn aligned(column: &Column, text: String) -> Cell<'static> {
    let line = Line::from(text);
    Cell::new(if column.is_text { line } else { line.right_aligned() })
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, row: Row<'_>, palette: Palette) {
    let title = format!("{}  {}  {}", row.id().text(), row.addr(), row.state());
    let title = Line::styled(title, palette.style(row.tone()).add_modifier(Modifier::BOLD | Modifier::UNDERLINED));
    let more = flow(&details(row), area.width.into());
    let lines: Vec<Line<'_>> = std::iter::once(title).chain(more.into_iter().map(Line::raw)).collect();
    frame.render_widget(Text::from(lines), area);
}

/// What the last minutes are drawn of.
type Plot = (&'static str, fn(&Load) -> f64, fn(f64) -> String);
const PLOTS: [Plot; 3] = [
    ("connections", |load| load.connections, units::number),
    ("new/s", |load| load.rate, units::number),
    ("bytes/s", |load| load.throughput, |value| bytes(value as u64)),
];

fn draw_plots(frame: &mut Frame<'_>, area: Rect, model: &Model, row: Row<'_>, palette: Palette) {
    const LABEL: u16 = 35;
    let areas: [(Rect, Rect); 3] = if area.width >= WIDE && area.height > 3 {
        let columns: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(2).areas(area);
        columns
            .map(|area| <[Rect; 2]>::into(Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area)))
    } else {
        let lines: [Rect; 3] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
        lines.map(|area| {
            <[Rect; 2]>::into(Layout::horizontal([Constraint::Length(LABEL), Constraint::Fill(1)]).areas(area))
        })
    };
    for ((name, of, text), (label, plot)) in PLOTS.into_iter().zip(areas) {
        let mut bars = model.history.bars(&row.id(), of, plot.width.into());
        let peak = bars.iter().copied().max().unwrap_or(0);
        let text = format!("{name} {}, peak {}", text(of(&row.load())), text(peak as f64));
        frame.render_widget(Line::raw(text), label);
        bars.reverse();
        let line = Sparkline::default().data(bars).max(peak.max(1)).direction(RenderDirection::RightToLeft);
        frame.render_widget(line.style(palette.style(Tone::Good)), plot);
    }
}

fn draw_note(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let (text, tone) = match (&model.mode, &model.note) {
        (Mode::Filter, _) => (format!("filter: {}▏ Enter keeps it, Esc takes it away", model.filter), Tone::Doubtful),
        (Mode::Confirm(action, row), _) => {
            (format!("{} {} ({})? y/n", action.verb(), row.text(), action.meaning()), Tone::Doubtful)
        }
        (_, Some(note)) => (note.text.clone(), if note.is_bad { Tone::Bad } else { Tone::Good }),
        (_, None) => return,
    };
    frame.render_widget(Line::styled(text, palette.style(tone).add_modifier(Modifier::BOLD)), area);
}

/// The keys, as many as there is room for.
fn keys(model: &Model, width: u16) -> String {
    let filter = if model.filter.is_empty() { "filter" } else { &model.filter };
    let sort = format!("s sort: {}", model.order.word());
    let filter = format!("/ {filter}");
    let pieces = ["q quit", "? help", "d drain", "e enable", "m disable", &sort, &filter].map(str::to_owned);
    flow(&pieces, width.into()).swap_remove(0)
}

const HELP: [&str; 13] = [
    "↑ ↓ k j          select",
    "PageUp PageDown  a page up or down",
    "Home End         the first or last row",
    "Tab Shift-Tab    the next frontend, the one before",
    "d                drain the server",
    "m                disable it for maintenance",
    "e                enable it again",
    "s                sort by something else",
    "/ Esc            filter by any text, all again",
    "q Ctrl-C         quit",
    "50/99            so long took half, 99 of 100",
    "FAILED           unserved by a frontend",
    "                 or failed by a server",
];

fn draw_help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (54.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
    let area = Rect { x, y, width, height };
    frame.render_widget(Clear, area);
    let lines: Vec<Line<'_>> = HELP.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" any key closes this ")), area);
}

#[cfg(test)]
mod tests {
    use lb_core::{Quantiles, ServerHealth, Service, Status};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::link::News;
    use super::*;
    use crate::testing::{frontend, server, shard, status};

    /// What the terminal shows, a string a line.
    fn shown(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        model.fit(rows_in_sight(Rect::new(0, 0, width, height), model));
        terminal.draw(|frame| draw(frame, model, Palette::Plain)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    fn keys(model: &mut Model, letters: &str) {
        for letter in letters.chars() {
            model.on_key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE));
        }
    }

    fn web_and_db() -> Status {
        let mut app1 = server("app1", 1);
        (app1.connections, app1.served, app1.served_per_second) = (100, 5_000, 12.0);
        (app1.bytes_to_server_per_second, app1.bytes_to_client_per_second) = (1_258_291.0, 20_971_520.0);
        app1.connect = Quantiles { count: 9, p50: 200, p90: 900, p99: 1_500, max: 12_000 };
        let mut app2 = server("app2", 2);
        app2.health = ServerHealth::Down { why: "connection refused".to_owned() };
        app2.failed = 3;
        let mut web = frontend("web", vec![app1, app2]);
        (web.connections, web.waiting) = (100, 4);
        web.traffic.accepted_per_second = 12.0;
        let mut db = frontend("db", vec![]);
        db.service = Service::Unavailable;
        status(vec![web, db])
    }

    fn model() -> Model {
        Model::new("0.1.0".to_owned(), web_and_db())
    }

    #[test]
    fn the_smallest_terminal_has_everything_that_matters() {
        let mut model = model();
        keys(&mut model, "j");
        assert_eq!(
            shown(&mut model, 60, 15),
            [
                "lb 0.1.0  revision 7  up 2 h 10 min  120/10000 connections",
                "12 accepted/s  1.2 MiB/s to servers  20.0 MiB/s to clients",
                "shard 0 █████░░░░░  50%  shard 1 ░░░░░░░░░░   3%",
                "NAME         STATE           CONNS  NEW/s TO CLIENT/s FAILED",
                "web          active servers    100     12           0      0",
                "  app1       up                100     12    20.0 MiB      0",
                "  app2       down: connecti      0      0           0      3",
                "db           nobody              0      0           0      0",
                "",
                "web/app1  10.0.0.1:80  up",
                "connections 100, peak 100                                  █",
                "new/s 12, peak 12                                          █",
                "bytes/s 21.2 MiB, peak 21.2 MiB                            █",
                "",
                "q quit  ? help  d drain  e enable  m disable",
            ]
        );
    }

    #[test]
    fn a_wide_terminal_shows_all_columns_and_details() {
        let mut model = model();
        keys(&mut model, "j");
        let text = shown(&mut model, 180, 40).join("\n");
        for expected in ["CONNECT 50/99", "FIRST BYTE 50/99", "WAITING", "LASTED 50/99", "10.0.0.2:80"] {
            assert!(text.contains(expected), "{expected} is missing:\n{text}");
        }
        assert!(text.contains("down: connection refused"), "{text}");
        assert!(text.contains("200µs 1.5ms"), "{text}");
        assert!(text.contains("connect: half 200µs, 90 % 900µs, 99 % 1.5ms, all 12ms"), "{text}");
    }

    #[test]
    fn no_size_is_too_small_or_too_large() {
        let mut model = model();
        for mode in ["", "?", "x/ab"] {
            keys(&mut model, mode);
            for (width, height) in [(1, 1), (5, 3), (20, 8), (60, 15), (89, 22), (90, 22), (300, 100)] {
                assert_eq!(shown(&mut model, width, height).len(), usize::from(height));
            }
        }
    }

    #[test]
    fn many_servers_and_shards_are_scrolled_and_shrunk() {
        let servers = (0..1000).map(|number| server(&format!("app{number}"), 1)).collect();
        let mut status = status(vec![frontend("web", servers)]);
        status.shards = (0..64).map(|core| shard(core, 0.9)).collect();
        let mut model = Model::new("0.1.0".to_owned(), status);
        let lines = shown(&mut model, 60, 15);
        assert!(lines[2].starts_with("64 shards, busiest 90%  "), "{lines:#?}");
        model.on_key(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
        let lines = shown(&mut model, 60, 15);
        assert!(lines[8].contains("app999"), "{lines:#?}");
        assert!(lines[9].starts_with("web/app999"), "{lines:#?}");
    }

    #[test]
    fn the_last_lines_say_what_is_asked_done_and_set() {
        let mut model = model();
        keys(&mut model, "jd");
        let lines = shown(&mut model, 100, 15);
        assert_eq!(lines[13], "drain web/app1 (no new connections, those that exist finish)? y/n");
        keys(&mut model, "n");
        assert_eq!(shown(&mut model, 100, 15)[13], "nothing was changed");
        model.on_news(News::Done("revision 8: server app1 of web drains".to_owned()));
        assert_eq!(shown(&mut model, 100, 15)[13], "revision 8: server app1 of web drains");
        keys(&mut model, "s/app2");
        let lines = shown(&mut model, 100, 15);
        assert!(lines[13].starts_with("filter: app2▏"), "{lines:#?}");
        assert!(lines[14].ends_with("s sort: name  / app2"), "{lines:#?}");
        keys(&mut model, "x");
        let text = shown(&mut model, 100, 15).join("\n");
        assert!(text.contains("nothing contains the filter"), "{text}");
    }

    #[test]
    fn a_balancer_that_is_gone_is_the_first_thing_said() {
        let mut model = model();
        model.on_news(News::Gone("no answer at /run/lb/admin.sock".to_owned()));
        let lines = shown(&mut model, 80, 24);
        assert_eq!(lines[0], "lb is gone, looking for it: no answer at /run/lb/admin.sock");
    }

    #[test]
    fn without_colours_nothing_is_coloured() {
        let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
        let mut model = model();
        keys(&mut model, "d");
        for (palette, expected) in [(Palette::Plain, false), (Palette::Coloured, true)] {
            terminal.draw(|frame| draw(frame, &model, palette)).unwrap();
            let cells = terminal.backend().buffer().content();
            assert_eq!(cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset), expected);
        }
    }
}
