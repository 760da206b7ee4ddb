// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Replays one case: `holdfast-sim --seed N [--far | --process | --replay | --half-close] [--trace]`.

use holdfast_sim::scenario::Scenario;
use holdfast_sim::world::{Outcome, World};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|a| a == name);
    let value = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let Some(seed) = value("--seed") else {
        eprintln!(
            "usage: holdfast-sim --seed N [--far | --process | --replay | --half-close] \
             [--loss PERMILLE] [--gso BYTES] [--trace]"
        );
        std::process::exit(2);
    };
    let mut sc = if has("--far") {
        Scenario::far(seed)
    } else if has("--process") {
        Scenario::process(seed)
    } else if has("--replay") {
        Scenario::replay(seed)
    } else if has("--half-close") {
        Scenario::half_closing(seed)
    } else {
        Scenario::new(seed)
    };
    sc.trace = has("--trace");
    if let Some(loss) = value("--loss") {
        (sc.loss, sc.reorder, sc.dup) = (loss, loss, loss);
    }
    if let Some(gso) = value("--gso") {
        sc.servers.iter_mut().for_each(|s| s.gso = gso as usize);
    }
    if sc.trace {
        println!("{sc:#?}");
    }
    let report = World::new(sc).run();
    println!(
        "{:?} in {} us, {} events",
        report.outcome, report.time, report.events
    );
    println!(
        "crashes {:?}, refusals {:?}",
        report.crashes, report.refusals
    );
    for (counter, n) in holdfast_core::counter::Counter::ALL
        .iter()
        .zip(&report.counts)
    {
        if *n > 0 {
            println!("  {} {n}", counter.name());
        }
    }
    if !matches!(report.outcome, Outcome::Complete | Outcome::Excused(_)) {
        std::process::exit(1);
    }
}
