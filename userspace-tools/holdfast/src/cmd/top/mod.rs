// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast top`: [`look`] asks module and daemon, [`board`] draws conclusions from two looks,
//! [`view`] puts them on a terminal.

mod board;
mod keys;
mod look;
mod view;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use ratatui::DefaultTerminal;

use crate::daemon::DaemonArgs;
use crate::fail::Fail;
use crate::input::Host;
use crate::output::Output;
use board::{Board, Sort};
use look::{Look, Looker};
use view::{Paint, View};

/// Watch services, connections, peers and takeovers
///
/// Shows services, connections, peers and takeovers, and how they change: a live view on a
/// terminal, or one frame of it.
///
/// The connections are those of the module; how each one is protected is what the daemon says. At
/// most --flows of them are looked at each time, so that a busy node has no more work with it, and
/// the frame says how many were not. They are the same ones each time, but not the fastest of all:
/// the order is among those that were looked at. A rate is that of bytes that the client has
/// acknowledged since the last look.
///
/// Without the daemon it shows what the module says.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys:
  q, Esc, Ctrl-C  end
  s               order by rate, by stall, by age
  f               only connections of the next service, of all after the last
  p, Space        stop looking, go on
  h, ?            show the keys

A connection stalls while its client is owed bytes and acknowledges none. Its age counts from when
it was first seen here; \">\" marks those that were there before.

NO_COLOR in the environment: no colours. COLUMNS: width of a frame of --once, else 100.

Examples:
  holdfast top
  holdfast top --sort stall --service 192.0.2.10:80
  holdfast top --once --interval 5
  holdfast -j top | jq .module.bytes_per_second

Exit status:
  0  done, also if the daemon cannot be reached (the frame says so)
  1  refused or failed
  3  the holdfast module is not loaded")]
pub(crate) struct Top {
    /// Time between two looks, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print one frame as text, after two looks, and end; so does --json
    #[arg(long)]
    once: bool,
    /// Order of connections
    #[arg(long, value_name = "ORDER", default_value = "rate")]
    #[arg(value_parser = PossibleValuesParser::new(Sort::ALL.map(Sort::name)))]
    sort: String,
    /// Only connections of this service
    #[arg(long, value_name = "ADDR[:PORT]")]
    service: Option<Host>,
    /// Most connections that are looked at
    #[arg(long, value_name = "N", default_value = "4096")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// A time between two looks.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match seconds {
        0.1..=3600.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be 0.1 to 3600".into()),
    }
}

/// Width of a frame that no terminal shows.
const WIDTH: u16 = 100;

impl Top {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let looker = Looker::new(self.daemon.clone(), self.flows as usize);
        let sort = Sort::ALL.into_iter().find(|s| s.name() == self.sort);
        let mut board = Board::new(self.interval, sort.unwrap_or(Sort::Rate), self.service);
        // Whoever has no module is told so on a terminal that is left alone.
        board.learn(looker.look()?);
        if self.once || out.is_json() {
            std::thread::sleep(self.interval);
            board.learn(looker.look()?);
            looker.explain(&mut board)?;
            return out.one(&board.json(), |_| frame(&board));
        }
        if !io::stdout().is_terminal() {
            let why = "the output is no terminal: --once prints one frame, --json prints JSON";
            return Err(Fail::Other(why.into()));
        }
        let mut terminal = ratatui::try_init()?;
        let done = watch(&mut terminal, &looker, &mut board);
        // The terminal may be gone by now.
        let restored = ratatui::try_restore();
        done?;
        Ok(restored?)
    }
}

/// Draws, looks and obeys until it is told to end.
fn watch(terminal: &mut DefaultTerminal, looker: &Looker, board: &mut Board) -> Result<(), Fail> {
    let paint = Paint::of_environment();
    let mut next = Instant::now() + board.interval;
    loop {
        looker.explain(board)?;
        terminal.draw(|f| f.render_widget(View::new(board, paint), f.area()))?;
        let left = next.saturating_duration_since(Instant::now());
        if event::poll(left)? && keys::obey(&event::read()?, board) {
            return Ok(());
        }
        if Instant::now() >= next {
            next = Instant::now() + board.interval;
            if !board.paused {
                board.learn(looker.look()?);
            }
        }
    }
}

/// A frame as text, as high as it need be.
fn frame(board: &Board) -> String {
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    let width = columns.unwrap_or(WIDTH).max(20);
    let view = View::printed(board);
    let area = Rect::new(0, 0, width, view.height());
    let mut buffer = Buffer::empty(area);
    view.render(area, &mut buffer);
    text(&buffer)
}

/// What is written on `buffer`, without spaces at the ends of lines.
fn text(buffer: &Buffer) -> String {
    let line = |row: &[ratatui::buffer::Cell]| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    };
    let rows = buffer.content.chunks(usize::from(buffer.area.width.max(1)));
    let lines: Vec<_> = rows.map(line).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_within_reason() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "nan", "inf", "3601", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
