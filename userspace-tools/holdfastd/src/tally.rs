// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What is counted of each service.

use std::collections::BTreeMap;
use std::net::SocketAddr;

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
