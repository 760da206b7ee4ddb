// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A board on a terminal of any size: what does not fit is left out, the least important first.

mod columns;
mod units;

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget};
use serde_json::Value;

use super::board::Board;
use super::look::Daemon;
use crate::time;
use columns::{columns, Column};
use units::{rate, span};

const KEYS: &str = "q end  s order  f service  p pause  h help";

const HELP: [&str; 6] = [
    "q, Esc, Ctrl-C   end",
    "s                order: rate, stall, age",
    "f                next service, then all",
    "p, Space         pause, go on",
    "h, ?             this help",
    "STALL: owed bytes, acknowledges none",
];

/// Most services that are shown before connections get the room.
const SERVICES: usize = 8;

/// Rows of connections that are shown before events get room.
const CONNECTIONS: usize = 5;

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Colour,
}

impl Paint {
    /// As <https://no-color.org> wants it.
    pub(super) fn of_environment() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Paint::Plain,
            _ => Paint::Colour,
        }
    }

    fn fg(self, colour: Color) -> Style {
        match self {
            Paint::Plain => Style::new(),
            Paint::Colour => Style::new().fg(colour),
        }
    }

    fn good(self, good: bool) -> Style {
        match good {
            true => self.fg(Color::Green),
            false => self.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// A board as a widget.
pub(super) struct View<'a> {
    board: &'a Board,
    paint: Paint,
    /// Say which keys there are.
    keys: bool,
}

impl<'a> View<'a> {
    /// As a terminal shows it.
    pub(super) fn new(board: &'a Board, paint: Paint) -> Self {
        let keys = true;
        View { board, paint, keys }
    }

    /// As it is where there are no keys to press.
    pub(super) fn printed(board: &'a Board) -> Self {
        View {
            keys: false,
            ..View::new(board, Paint::Plain)
        }
    }

    /// Lines of everything, without those of keys.
    pub(super) fn height(&self) -> u16 {
        let lines = self.head().len() + self.services().len() + self.events().len();
        // Title and note of the connections.
        (lines + self.board.rows.len() + 2) as u16
    }

    fn head(&self) -> Vec<Line<'static>> {
        let (b, p) = (self.board, self.paint);
        let daemon = b.look.as_ref().map(|l| &l.daemon);
        let (all, seen) = b.flows();
        let least = if all > seen { "at least " } else { "" };
        let mut lines = vec![Line::from(vec![
            Span::styled("holdfast top", Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(match daemon {
                Some(Ok(d)) => format!("  node {}", word(&d.status["node"])),
                _ => String::new(),
            }),
            Span::raw(format!("  every {}", span(b.interval.as_millis() as u64))),
            Span::styled(if b.paused { "  paused" } else { "" }, p.fg(Color::Yellow)),
        ])];
        lines.push(Line::raw(format!(
            "flows {all}  to clients {least}{}{}",
            rate(b.rate(None)),
            match daemon {
                Some(Ok(d)) => log(&d.status["log"]),
                _ => String::new(),
            }
        )));
        match daemon {
            Some(Ok(d)) => lines.extend(self.of_daemon(d)),
            Some(Err(why)) => lines.push(Line::styled(format!("daemon: {why}"), p.good(false))),
            None => {}
        }
        lines
    }

    fn of_daemon(&self, d: &Daemon) -> Vec<Line<'static>> {
        let p = self.paint;
        let ready = d.ready["ready"] == true;
        let why = list(&d.ready["why"]).iter().map(|r| word(&r["text"]));
        let why = match why.collect::<Vec<_>>().join("; ") {
            why if why.is_empty() => why,
            why => format!(": {why}"),
        };
        let drain = match word(&d.status["drain"]) {
            off if off == "off" => String::new(),
            how => format!("  {how}"),
        };
        let mut lines = vec![Line::from(vec![
            Span::styled(if ready { "ready" } else { "not ready" }, p.good(ready)),
            Span::raw(why),
            Span::styled(drain, p.fg(Color::Yellow)),
        ])];
        let mut peers = vec![Span::raw("peers")];
        for peer in list(&d.peers["peers"]) {
            let health = word(&peer["health"]);
            let style = match &*health {
                "alive" => p.good(true),
                "dead" => p.good(false),
                _ => p.fg(Color::Yellow),
            };
            peers.push(Span::raw(format!("  {} ", word(&peer["name"]))));
            peers.push(Span::styled(health, style));
            let linked = if peer["linked"] == true {
                ""
            } else {
                ", not linked"
            };
            let records = number(&peer["records"]);
            peers.push(Span::raw(format!("{linked}, {records} records")));
        }
        if peers.len() == 1 {
            peers.push(Span::raw("  none"));
        }
        lines.push(Line::from(peers));
        let owners = list(&d.status["addresses"]).iter().map(|a| {
            let owner = match a["owner"].is_null() {
                true => "nobody".to_owned(),
                false => word(&a["owner"]),
            };
            format!(
                "  {} {owner} ({})",
                word(&a["address"]),
                number(&a["generation"])
            )
        });
        let owners = format!("owners{}", owners.collect::<String>());
        lines.push(Line::raw(owners));
        let count = |name: &str| number(&d.status["counts"][name]);
        let lost = count("recovery-refused") + count("recovery-failed");
        lines.push(Line::from(vec![
            Span::raw(format!(
                "failovers  takeovers {}  deaths {}  flows recovered {}  ",
                count("takeovers"),
                count("deaths"),
                count("flows-recovered")
            )),
            Span::styled(format!("reset {lost}"), p.good(lost == 0)),
            Span::raw(format!(
                "  silent {}  now {} under way, {} waiting",
                count("recovery-silent"),
                number(&d.status["recovering"]),
                number(&d.status["to_recover"]).saturating_sub(number(&d.status["recovering"])),
            )),
        ]));
        let alone = number(&d.status["committed_alone"]);
        if alone > 0 {
            let text = format!("{alone} responses left without a record at a peer");
            lines.push(Line::styled(text, p.fg(Color::Yellow)));
        }
        lines
    }

    /// A title and a line for each service.
    fn services(&self) -> Vec<Line<'static>> {
        let Some(look) = &self.board.look else {
            return Vec::new();
        };
        if look.services.is_empty() {
            return vec![Line::raw("no service is protected")];
        }
        let title = format!(
            "{:<21} {:<8} {:<7} {:>7} {:>9}  {:>6} {:>6} {:>6} {:>6}  {}",
            "SERVICE", "MODE", "COMMIT", "FLOWS", "RATE", "IDLE", "REQ", "RESP", "UNPROT", "HERE"
        );
        let mut lines = vec![self.title(title)];
        for s in look.services.iter().take(SERVICES) {
            let text = s.service.to_string();
            let said = look.daemon.as_ref().ok().and_then(|d| {
                let of = list(&d.status["services"]).iter();
                of.clone().find(|said| said["service"] == text)
            });
            let state = |name: &str| {
                said.map_or_else(|| "-".into(), |s| number(&s["flows"][name]).to_string())
            };
            lines.push(Line::raw(format!(
                "{text:<21} {:<8} {:<7} {:>7} {:>9}  {:>6} {:>6} {:>6} {:>6}  {}",
                s.mode,
                s.commit,
                s.flows,
                rate(self.board.rate(Some(s.service))),
                state("idle"),
                state("requesting"),
                state("responding"),
                state("unprotected"),
                match said.map(|s| s["owned"] == true) {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "-",
                }
            )));
        }
        if let Some(more) = look.services.len().checked_sub(SERVICES + 1) {
            lines.push(Line::raw(format!("... and {} more", more + 1)));
        }
        lines
    }

    fn title(&self, text: String) -> Line<'static> {
        Line::styled(text, Style::new().add_modifier(Modifier::REVERSED))
    }

    /// The newest events of the daemon, the newest last.
    fn events(&self) -> Vec<Line<'static>> {
        let Some(Ok(d)) = self.board.look.as_ref().map(|l| &l.daemon) else {
            return Vec::new();
        };
        let mut lines = vec![self.title("EVENTS".into())];
        lines.extend(d.events.iter().map(|e| Line::raw(event(e))));
        lines
    }

    /// Title, connections as far as there is room, and how many are not shown.
    fn connections(&self, width: usize, height: usize) -> Vec<Line<'static>> {
        let columns = columns(&self.board.rows, width);
        let cells = |text: &dyn Fn(&Column) -> String| {
            let mut line = String::new();
            for (column, width) in &columns {
                let text = text(column);
                line.push_str(&match column.right {
                    true => format!("{text:>width$} "),
                    false => format!("{text:<width$} "),
                });
            }
            line
        };
        let sort = self.board.sort.name();
        let mark = |c: &Column| match c.title.to_lowercase() == sort {
            true => format!("{}*", c.title),
            false => c.title.to_owned(),
        };
        let mut lines = vec![self.title(cells(&mark))];
        let room = height.saturating_sub(2);
        let shown = self.board.rows.len().min(room);
        for row in &self.board.rows[..shown] {
            let style = match row {
                r if r.stalled_ms.is_some_and(|ms| ms >= 1000) => self.paint.fg(Color::Yellow),
                r if r.protection.as_ref().is_some_and(|p| p.starts_with("no: ")) => {
                    self.paint.fg(Color::DarkGray)
                }
                _ => Style::new(),
            };
            lines.push(Line::styled(cells(&|c: &Column| (c.text)(row)), style));
        }
        lines.push(Line::raw(self.note(shown)));
        lines.truncate(height);
        lines
    }

    /// How many connections are not shown, and why.
    fn note(&self, shown: usize) -> String {
        let (all, seen) = self.board.flows();
        let mut parts = vec![format!("{shown} of {all} connections")];
        if let Some(service) = &self.board.service {
            parts.push(format!("only {service}"));
        }
        if all > seen {
            parts.push(format!("{} not looked at", all - seen));
        }
        parts.join(", ")
    }
}

impl Widget for View<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let (mut head, mut services) = (self.head(), self.services());
        let mut events = self.events();
        let keys = usize::from(self.keys && height > 12);
        // Connections get what is left; where that is little, events go, then services.
        let left = |parts: &[&Vec<Line<'_>>]| {
            let used: usize = parts.iter().map(|p| p.len()).sum();
            height.saturating_sub(used + keys)
        };
        let wanted = (self.board.rows.len() + 2).min(CONNECTIONS + 2);
        if left(&[&head, &services, &events]) < wanted {
            events.clear();
        }
        if left(&[&head, &services]) < wanted {
            services.clear();
        }
        if left(&[&head]) < wanted {
            head.truncate(height.saturating_sub(wanted + keys).max(2));
        }
        let room = left(&[&head, &services, &events]);
        let mut lines = head;
        lines.append(&mut services);
        lines.append(&mut self.connections(width, room.min(self.board.rows.len() + 2)));
        lines.append(&mut events);
        Paragraph::new(lines).render(area, buffer);
        if keys == 1 {
            let last = Rect::new(area.x, area.bottom() - 1, area.width, 1);
            Line::styled(KEYS, self.paint.fg(Color::DarkGray)).render(last, buffer);
        }
        if self.board.help {
            help(area, buffer);
        }
        // What others call themselves must not steer a terminal.
        for cell in &mut buffer.content {
            if cell.symbol().contains(char::is_control) {
                cell.set_char('?');
            }
        }
    }
}

fn help(area: Rect, buffer: &mut Buffer) {
    let (width, height) = (44.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let over = Rect::new(x, y, width, height);
    Clear.render(over, buffer);
    let lines: Vec<_> = HELP.iter().map(|l| Line::raw(*l)).collect();
    let block = Block::bordered()
        .title(" keys ")
        .title_alignment(Alignment::Center);
    Paragraph::new(lines).block(block).render(over, buffer);
}

/// An event of the timeline: when, what, and what else there is to it.
fn event(e: &Value) -> String {
    let at = time::clock(number(&e["wall_ms"]));
    let known = ["wall_ms", "mono_ms", "node", "event"];
    let fields = e.as_object().into_iter().flatten();
    let fields = fields.filter(|(k, v)| !known.contains(&k.as_str()) && !v.is_null());
    let fields: Vec<_> = fields.map(|(k, v)| format!("{k} {}", word(v))).collect();
    format!("{at}  {}  {}", word(&e["event"]), fields.join(", "))
}

fn log(log: &Value) -> String {
    match (log["unread"].as_u64(), log["size"].as_u64()) {
        (Some(unread), Some(size)) if size > 0 => {
            format!("  log {} % full", unread.saturating_mul(100) / size)
        }
        _ => String::new(),
    }
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[][..], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{at, board, look};
    use super::super::text;
    use super::*;
    use libholdfast::types::FlowInfo;
    use ratatui::backend::TestBackend;
    use ratatui::Terminal;
    use std::collections::HashMap;

    fn drawn(board: &Board, paint: Paint, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let view = |f: &mut ratatui::Frame<'_>| f.render_widget(View::new(board, paint), f.area());
        terminal.draw(view).unwrap();
        terminal.backend().buffer().clone()
    }

    fn shown(board: &Board, width: u16, height: u16) -> String {
        text(&drawn(board, Paint::Plain, width, height))
    }

    /// Two flows after two looks.
    fn busy() -> Board {
        let mut b = board();
        let ghost = FlowInfo {
            phase: libholdfast::types::Phase::Ghost,
            generation: 2,
            ..at(2, 50, 50)
        };
        b.learn(look(0, &[at(1, 0, 10), ghost]));
        b.learn(look(2, &[at(1, 5_000_000, 6_000_000), ghost]));
        b.explain(&HashMap::from([(1, "range".to_owned())]));
        b
    }

    #[test]
    fn a_frame_has_everything() {
        let wanted = "\
holdfast top  node b  every 1.0s
flows 2  to clients 2.5 MB/s  log 0 % full
not ready: no records
peers  a dead, not linked, 0 records  c alive, 0 records
owners  192.0.2.1 b (2)
failovers  takeovers 1  deaths 1  flows recovered 7  reset 2  silent 0  now 3 under way, 2 waiting
4 responses left without a record at a peer
SERVICE               MODE     COMMIT    FLOWS      RATE    IDLE    REQ   RESP UNPROT  HERE
192.0.2.1:80          protect  strict        2  2.5 MB/s       1      0      2      0  yes
CLIENT                SERVICE               PHASE    PROTECTED              RATE*  STALL     AGE  GEN
192.0.2.7:40001       192.0.2.1:80          open     range               2.5 MB/s      -   >2.0s    1
192.0.2.7:40002       192.0.2.1:80          ghost    -                      0 B/s   2.0s   >2.0s    2
2 of 2 connections
EVENTS
00:00:00  takeover  address 192.0.2.1, records 9";
        let b = busy();
        let view = View::printed(&b);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 110, view.height()));
        view.render(buffer.area, &mut buffer);
        assert_eq!(text(&buffer), wanted);
        let tall = shown(&b, 110, 60);
        assert!(tall.starts_with(wanted) && tall.ends_with(KEYS), "{tall}");
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns() {
        let narrow = shown(&busy(), 40, 24);
        assert!(
            narrow.contains("CLIENT                    RATE*"),
            "{narrow}"
        );
        assert!(!narrow.contains("GEN"), "{narrow}");
        let b = busy();
        for (width, height) in [(1, 1), (5, 3), (20, 10), (40, 14), (300, 5), (10, 200)] {
            for help in [false, true] {
                let mut b = b.clone();
                b.help = help;
                drawn(&b, Paint::Colour, width, height);
            }
        }
    }

    #[test]
    fn a_low_terminal_keeps_the_head_and_connections() {
        let mut b = busy();
        let flows: Vec<_> = (1..50).map(|i| at(i, 0, 0)).collect();
        b.learn(look(3, &flows));
        let low = shown(&b, 100, 16);
        assert!(low.starts_with("holdfast top"), "{low}");
        assert!(!low.contains("EVENTS"), "{low}");
        assert!(low.contains("of 49 connections"), "{low}");
        let lines = low.lines().count();
        assert_eq!(lines, 16, "{low}");
        assert!(shown(&b, 100, 100).contains("49 of 49 connections"));
    }

    #[test]
    fn what_is_not_looked_at_is_said() {
        let mut b = board();
        let mut l = look(0, &[at(1, 0, 0)]);
        l.services[0].flows = 100_000;
        b.learn(l);
        let frame = shown(&b, 100, 30);
        let note = "1 of 100000 connections, 99999 not looked at";
        assert!(frame.contains(note), "{frame}");
        assert!(frame.contains("to clients at least 0 B/s"), "{frame}");
        b.next_service();
        assert!(shown(&b, 100, 30).contains("only 192.0.2.1:80"));
    }

    #[test]
    fn without_a_daemon_it_says_so() {
        let mut b = board();
        let mut l = look(0, &[at(1, 0, 0)]);
        l.daemon = Err("holdfastd cannot be reached".into());
        b.learn(l);
        let frame = shown(&b, 100, 30);
        assert!(
            frame.contains("daemon: holdfastd cannot be reached"),
            "{frame}"
        );
        assert!(frame.contains("192.0.2.7:40001"), "{frame}");
        assert!(!frame.contains("EVENTS"), "{frame}");
    }

    #[test]
    fn colours_can_be_switched_off() {
        let coloured = |paint| {
            let buffer = drawn(&busy(), paint, 110, 30);
            let plain = |c: &ratatui::buffer::Cell| c.fg == Color::Reset && c.bg == Color::Reset;
            !buffer.content.iter().all(plain)
        };
        assert!(coloured(Paint::Colour));
        assert!(!coloured(Paint::Plain));
    }

    #[test]
    fn the_help_lies_over_it() {
        let mut b = busy();
        b.help = true;
        let frame = shown(&b, 80, 24);
        for line in HELP {
            assert!(frame.contains(line), "{frame}");
        }
    }

    #[test]
    fn what_a_peer_calls_itself_does_not_steer_the_terminal() {
        let mut b = busy();
        if let Some(Ok(d)) = b.look.as_mut().map(|l| &mut l.daemon) {
            d.peers["peers"][0]["name"] = "\u{1b}[2J\nx".into();
        }
        assert!(!shown(&b, 100, 30).contains('\u{1b}'));
    }
}
