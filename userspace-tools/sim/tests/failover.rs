// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Random failovers, each checked byte for byte.
//!
//! `HOLDFAST_SEED` is where the random sample begins (without it there is only the fixed core),
//! `HOLDFAST_FAILOVERS` how many failovers there are to be. Replay a case with `holdfast-sim --seed N --trace`.

use holdfast_sim::scenario::{CrashPhase, Scenario};
use holdfast_sim::world::{Outcome, World};
use std::collections::BTreeMap;
use std::time::Instant;

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(default)
}

/// The first seed of the fixed core.
const CORE: u64 = 1_000_000;

/// Seeds of cases: with `HOLDFAST_SEED`, four fifths of `wanted` from the fixed core and then a
/// sample from there on; else the fixed core alone. `done` counts.
fn seed(n: u64, wanted: u64, done: u64) -> u64 {
    let sample = env("HOLDFAST_SEED", CORE);
    match sample == CORE || done < wanted / 5 * 4 {
        true => CORE + n,
        false => sample + n,
    }
}

/// What clients offer.
const OFFERS: [&str; 4] = ["timestamps", "SACK", "window scale", "MSS 536"];

/// Fewest random failovers in which each of them surely meets each phase, over both families, with
/// and without it: the rarest comes once in some 250.
const SURE: u64 = 5000;

fn offered(sc: &Scenario) -> [bool; 4] {
    let c = &sc.client;
    [c.ts, c.sack, c.wscale.is_some(), c.mss == 536]
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<CrashPhase, BTreeMap<String, u64>>,
    /// Crashes by phase, family, and what the client does or does not offer.
    reached: BTreeMap<(CrashPhase, u8, &'static str, bool), u64>,
    bad: Vec<String>,
    failovers: u64,
    cases: u64,
}

impl Table {
    fn run(&mut self, sc: Scenario, flag: &str) {
        let (seed, family, offered) = (sc.seed, sc.family, offered(&sc));
        let run = || World::new(sc).run();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        self.cases += 1;
        let Ok(report) = result else {
            self.bad.push(format!("--seed {seed}{flag}: panic"));
            return;
        };
        self.failovers += report.crashes.len() as u64;
        let name = match &report.outcome {
            Outcome::Complete => "complete".to_owned(),
            Outcome::Excused(why) => format!("reset: {why}"),
            other => {
                self.bad.push(format!(
                    "--seed {seed}{flag}: {other:?} after {:?} {:?}",
                    report.crashes, report.refusals
                ));
                "WRONG".to_owned()
            }
        };
        for phase in &report.crashes {
            for (offer, has) in OFFERS.into_iter().zip(offered) {
                let cell = (*phase, family, offer, has);
                *self.reached.entry(cell).or_default() += 1;
            }
            *self
                .rows
                .entry(*phase)
                .or_default()
                .entry(name.clone())
                .or_default() += 1;
        }
    }

    /// That every phase was met by every kind of client.
    fn reached_all(&self) {
        use CrashPhase::*;
        let cell = |phase, family, offer, has| {
            let n = self.reached.get(&(phase, family, offer, has));
            (n.copied().unwrap_or(0), phase, family, offer, has)
        };
        let mut cells = Vec::new();
        for phase in [
            Syn, Request, Waiting, Head, Body, Between, Teardown, Recovery,
        ] {
            for (family, offer) in [4, 6].into_iter().flat_map(|f| OFFERS.map(|o| (f, o))) {
                cells.extend([true, false].map(|has| cell(phase, family, offer, has)));
            }
        }
        cells.sort();
        for (n, phase, family, offer, has) in cells.iter().take(4) {
            let with = if *has { "with" } else { "without" };
            println!("  {phase:?}, IPv{family}, {with} {offer}: {n}");
        }
        assert!(
            self.failovers < SURE || cells[0].0 > 0,
            "never: {:?}",
            cells[0]
        );
    }

    /// Runs cases until there were so many failovers. `flag`: how the simulator is told to make them.
    fn run_until(&mut self, wanted: u64, made: fn(u64) -> Scenario, flag: &str) {
        while self.failovers < wanted && self.cases < 3 * wanted {
            let seed = seed(self.cases, wanted, self.failovers);
            self.run(made(seed), flag);
        }
    }

    fn finish(self, began: Instant) {
        let time = began.elapsed().as_secs_f64();
        println!(
            "{} failovers in {} cases, {time:.1} s, {:.0} failovers/s",
            self.failovers,
            self.cases,
            self.failovers as f64 / time
        );
        for (phase, row) in &self.rows {
            println!("  {phase:?}: {row:?}");
        }
        for line in self.bad.iter().take(40) {
            println!("{}", line.chars().take(400).collect::<String>());
        }
        assert!(
            self.bad.is_empty(),
            "{} of {} cases failed",
            self.bad.len(),
            self.cases
        );
    }
}

#[test]
fn random_failovers() {
    let wanted = env("HOLDFAST_FAILOVERS", 10_000);
    let first = env("HOLDFAST_SEED", CORE);
    println!("HOLDFAST_SEED={first} HOLDFAST_FAILOVERS={wanted}");
    let (mut table, began) = (Table::default(), Instant::now());
    table.run_until(wanted, Scenario::new, "");
    table.reached_all();
    table.finish(began);
}

#[test]
fn far_beyond_four_gigabytes() {
    let (mut table, began) = (Table::default(), Instant::now());
    let wanted = env("HOLDFAST_FAILOVERS", 10_000) / 20;
    for n in 0..wanted {
        table.run(Scenario::far(seed(n, wanted, n)), " --far");
    }
    table.finish(began);
}

#[test]
fn processes_that_die() {
    let (mut table, began) = (Table::default(), Instant::now());
    let wanted = env("HOLDFAST_FAILOVERS", 10_000) / 2;
    for n in 0..wanted {
        table.run(Scenario::process(seed(n, wanted, n)), " --process");
    }
    table.finish(began);
}

#[test]
fn services_that_always_answer_alike() {
    let (mut table, began) = (Table::default(), Instant::now());
    let wanted = env("HOLDFAST_FAILOVERS", 10_000) / 5;
    table.run_until(wanted, Scenario::replay, " --replay");
    table.finish(began);
}

#[test]
fn clients_that_have_no_more_to_ask() {
    let (mut table, began) = (Table::default(), Instant::now());
    let wanted = env("HOLDFAST_FAILOVERS", 10_000) / 5;
    table.run_until(wanted, Scenario::half_closing, " --half-close");
    table.finish(began);
}

/// Seeds that once failed, and what they found.
#[test]
fn regressions() {
    let began = Instant::now();
    let mut table = Table::default();
    // Seeds and what they found.
    let seeds = [
        (
            1_007_652,
            "A recorded \"not found\" was to be said again by nodes that have the object.",
        ),
        (
            45_082_694,
            "What a dead server had told of a request that was let go was held against the next.",
        ),
        (
            44_083_335,
            "The packet that located a client was older than what the dead server had heard.",
        ),
        (
            43_043_605,
            "The edge of what a dead server had sent was told by two packets of the client.",
        ),
        (
            42_073_536,
            "An eager response was on its way while its client spoke: another head followed.",
        ),
        (
            3_704_899_969,
            "Bytes that no client got were held against an eager successor.",
        ),
        (
            2_996_789_669,
            "A lost reset was not made up for by the stack's own.",
        ),
        (1_000_007, "The data gate held a FIN between two responses."),
        (
            1_000_129,
            "Released packets were older than the acknowledgement that overtook them (PAWS).",
        ),
        (
            1_000_030,
            "SACK blocks passed the ack gate where a gap ends at it.",
        ),
        (
            1_000_220,
            "A client that is ahead of the new server was never heard.",
        ),
        (
            1_000_036,
            "The clock of a record without timestamps began at zero.",
        ),
        (
            1_000_685,
            "The second takeover was behind the clock of the first.",
        ),
        (
            1_000_792,
            "A copy of the network's making gave away a byte that was not recorded.",
        ),
        (
            1_001_592,
            "A copy of the network's making gave away a byte that was not recorded.",
        ),
        (
            1_000_205,
            "The window of a client inside the prefix was taken to begin behind it.",
        ),
        (1_002_275, "The first TSval was taken for an old one."),
        (
            1_002_719,
            "An orphan that was left to the stack became one again before its client spoke.",
        ),
    ];
    for (seed, _) in seeds {
        table.run(Scenario::new(seed), "");
    }
    // Retransmissions of the prefix were counted from behind the server's own bytes.
    for seed in [1_000_000, 1_000_002, 1_000_005] {
        table.run(Scenario::far(seed), " --far");
    }
    table.finish(began);
}
