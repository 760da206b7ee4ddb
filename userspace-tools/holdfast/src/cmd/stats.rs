// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast stats`

use clap::Args;
use holdfast_core::counter::Counter;
use libholdfast::Client;
use serde_json::{Map, Value};

use crate::fail::Fail;
use crate::output::Output;

/// Print counters
///
/// Prints the counters of this network namespace that are not zero.
///
/// They count from the moment that the namespace began, or the module was loaded, and are never
/// reset. The admin guide says which ones an operator should act upon.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast stats --explain
  holdfast stats --all
  holdfast -j stats | jq .spliced

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
pub(crate) struct Stats {
    /// Zeros too
    #[arg(short, long)]
    all: bool,
    /// What each one counts
    #[arg(short, long)]
    explain: bool,
}

impl Stats {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let mut stats = Client::connect()?.stats()?;
        stats.retain(|s| self.all || s.value != 0);
        let json: Map<String, Value> = stats
            .iter()
            .map(|s| (s.name.clone(), s.value.into()))
            .collect();
        let line = |s: &libholdfast::types::Stat| match meaning(&s.name) {
            Some(doc) if self.explain => format!("{:<20} {:>12}  {doc}", s.name, s.value),
            _ => format!("{:<20} {:>12}", s.name, s.value),
        };
        out.one(&json, |_| {
            stats.iter().map(line).collect::<Vec<_>>().join("\n")
        })
    }
}

/// What the counter of this name counts.
pub(crate) fn meaning(name: &str) -> Option<&'static str> {
    Counter::ALL
        .iter()
        .find(|c| c.name() == name)
        .map(|c| c.doc())
}
