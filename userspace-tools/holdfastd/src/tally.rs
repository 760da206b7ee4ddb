// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What is counted of each service, and the names of all that is counted: who watches counts wants to
//! see them at 0 before they rise.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use libholdfast::http::Doubt;
use libholdfast::recovery::Refusal;

use crate::kernel::doubt_counter;

/// What is counted of the daemon alone.
const OF_DAEMON: [&str; 25] = [
    "commit-failed",
    "deaths",
    "drain-log-late",
    "false-deaths",
    "heartbeats-refused",
    "heartbeats-replayed",
    "heartbeats-stranger",
    "heartbeats-unproven",
    "links-overrun",
    "links-refused-frame",
    "links-refused-handshake",
    "links-refused-stranger",
    "links-refused-version",
    "log-lost",
    "marks-dropped",
    "offers-refused",
    "orphans",
    "orphans-unknown",
    "peers-mute",
    "peers-other-version",
    "policy-failed",
    "reloads-refused",
    "suspicions",
    "suspicions-false",
    "takeovers",
];

/// What is counted of a service, and of the daemon; besides the reasons to protect nothing.
const OF_BOTH: [&str; 21] = [
    "answers-broken-off",
    "closes-let-through",
    "drain-reset",
    "flows-abandoned",
    "flows-adopted",
    "flows-closed",
    "flows-handed-over",
    "flows-opened",
    "flows-recovered",
    "flows-relayed",
    "next-node",
    "recovery-expired",
    "recovery-failed",
    "recovery-finished",
    "recovery-refused",
    "recovery-silent",
    "replays",
    "responses-range",
    "responses-replay",
    "responses-stored",
    "servers-lost",
];

/// The same, of an observed service.
const OF_OBSERVED: [&str; 3] = ["would-abandon", "would-recover", "would-refuse"];

/// Reasons to reset a client that are not among those of [`Refusal`].
const REASONS: [&str; 8] = [
    "answer-out-of-bounds",
    "join",
    "locate",
    "outdated",
    "recover",
    "the-local-server-did-not-come-back",
    "the-local-server-refused",
    "timeout",
];

fn of_both() -> impl Iterator<Item = String> {
    let doubts = Doubt::ALL.map(doubt_counter).into_iter();
    doubts.chain(OF_BOTH.map(str::to_owned))
}

/// Names of what is counted of the daemon.
pub fn of_daemon() -> impl Iterator<Item = String> {
    let own = OF_DAEMON.into_iter().chain(OF_OBSERVED).map(str::to_owned);
    of_both().chain(own)
}

/// Names of what is counted of a service.
pub fn of_service(observed: bool) -> impl Iterator<Item = String> {
    let refusals = Refusal::EACH.into_iter().map(Refusal::name).chain(REASONS);
    let refusals = refusals.map(|reason| format!("refused-{reason}"));
    let would = OF_OBSERVED.into_iter().filter(move |_| observed);
    of_both().chain(refusals).chain(would.map(str::to_owned))
}

/// Upper bounds in seconds of the classes of failover times.
pub const BOUNDS: [f64; 12] = [
    0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
];

/// How long something took, in classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    classes: [u64; BOUNDS.len()],
    /// How many there were.
    pub count: u64,
    /// All of them, in seconds.
    pub sum: f64,
}

impl Times {
    /// One more.
    pub fn add(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        if let Some(i) = BOUNDS.iter().position(|b| seconds <= *b) {
            self.classes[i] += 1;
        }
    }

    /// Upper bound of each class and how many are in it; what is beyond all of them last.
    pub fn classes(&self) -> Vec<(f64, u64)> {
        let below: u64 = self.classes.iter().sum();
        let classes = BOUNDS.iter().copied().zip(self.classes);
        classes
            .chain([(f64::INFINITY, self.count - below)])
            .collect()
    }
}

/// Counts of one service.
#[derive(Clone, Debug, Default)]
pub struct OfService {
    /// By name; those of the whole daemon have the same names.
    pub counts: BTreeMap<String, u64>,
    /// From the moment that an address was taken to that of the splice, for each flow.
    pub failover: Times,
}

/// Counts of all services.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    services: BTreeMap<SocketAddr, OfService>,
}

impl Tally {
    /// Those of one service.
    pub fn of(&mut self, service: SocketAddr) -> &mut OfService {
        self.services.entry(service).or_default()
    }

    /// Adds one to `name` of a service.
    pub fn count(&mut self, service: SocketAddr, name: &str) {
        #[cfg(test)]
        assert!(of_service(true).any(|n| n == name), "{name} has no 0");
        let counts = &mut self.of(service).counts;
        match counts.get_mut(name) {
            Some(n) => *n += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        }
    }

    /// Those of one service, if anything was counted.
    pub fn get(&self, service: SocketAddr) -> Option<&OfService> {
        self.services.get(&service)
    }

    /// Forgets a service.
    pub fn forget(&mut self, service: SocketAddr) {
        self.services.remove(&service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_first_class_that_holds_them() {
        let mut t = Times::default();
        for s in [0.01, 0.05, 0.06, 59.0, 61.0] {
            t.add(s);
        }
        let filled: Vec<_> = t.classes().into_iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(
            filled,
            [(0.05, 2), (0.1, 1), (60.0, 1), (f64::INFINITY, 1)],
            "five in all"
        );
        assert_eq!((t.count, t.sum), (5, 120.12));
    }
}
