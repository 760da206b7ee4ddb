// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Records of flows that peers serve, in memory, bounded.

use std::collections::{HashMap, HashSet};

use libholdfast::record::{Clock, Record, State, FARTHEST};
use libholdfast::types::FlowKey;
use serde::{Deserialize, Serialize};

use crate::terms::Terms;

/// A change of a record on its way to the support group. Where its form changes, so that older nodes
/// cannot read it, [`crate::wire::VERSION`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// All records that the sender has follow; older ones of it are out of date once an
    /// [`Update::About`] has come, but for those of an earlier start of its machine: with it their
    /// connections died. `boot`: of this one.
    Begin { boot: u64 },
    /// An encoded record, new or in place of an older one.
    Put(#[serde(with = "serde_bytes")] Vec<u8>),
    /// How far a long response has come. `age_ms`: of the timestamps.
    Mark {
        key: FlowKey,
        generation: u32,
        acked: u64,
        ts: Option<(u32, u32)>,
        age_ms: u32,
    },
    /// The flow is over.
    Drop { key: FlowKey, generation: u32 },
    /// The sender hands this address over, and all its records stand before this. Not a
    /// matter of the store.
    HandOver {
        addr: std::net::IpAddr,
        generation: u32,
    },
    /// All that the sender had when the link came up has been told; what it is. `waits`: of what it
    /// has let go without waiting for peers, all was told before this, and from here on it waits.
    /// `wall_ms`: its clock. `daemon`, `module`: versions. `services`: what it was told of
    /// them, 256 at most, as no kernel takes more.
    About {
        waits: bool,
        wall_ms: u64,
        daemon: String,
        module: String,
        fitness: Fitness,
        services: Vec<Terms>,
    },
}

/// How well a node could take over, in its own words: the better one is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fitness {
    /// Its server does not accept connections: whatever is moved there breaks.
    Unfit,
    /// Some connection may not be continued there; or it has not said.
    #[default]
    Doubtful,
    /// It is ready, at most of another version.
    Ready,
}

impl Update {
    /// About the checkpoint and the clock of `record`.
    pub fn mark(record: &Record, now: i64) -> Self {
        Update::Mark {
            key: record.key,
            generation: record.generation,
            acked: record.acked,
            ts: record.clock.map(|c| (c.tsval, c.tsecr)),
            age_ms: record.ts_age(now),
        }
    }
}

/// A record of a peer.
#[derive(Debug)]
struct Kept {
    owner: String,
    record: Record,
    age: Age,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// Told since its owner's last [`Update::Begin`].
    New,
    /// Told before.
    Old,
    /// Of an owner that has died since, or lost the address: what was promised then is in the record.
    Left,
}

/// Records of peers.
#[derive(Debug)]
pub struct Store {
    flows: HashMap<FlowKey, Kept>,
    /// The start of each owner's machine.
    boots: HashMap<String, u64>,
    /// Owners that may let bytes go before they have told of them: their records do not
    /// say that none has.
    careless: HashSet<String>,
    limit: usize,
    newest: Option<FlowKey>,
    /// Updates that were refused: not well formed, out of date, or no room.
    pub refused: u64,
}

impl Store {
    /// An empty store for `limit` records.
    pub fn new(limit: usize) -> Self {
        Store {
            flows: HashMap::new(),
            boots: HashMap::new(),
            careless: HashSet::new(),
            limit,
            newest: None,
            refused: 0,
        }
    }

    /// Number of records.
    pub fn count(&self) -> usize {
        self.flows.len()
    }

    /// Records by owner.
    pub fn owned(&self, owner: &str) -> usize {
        self.flows.values().filter(|k| k.owner == owner).count()
    }

    /// Takes in what `owner` says. A refused update is counted, never half taken.
    pub fn apply(&mut self, owner: &str, update: Update, now: i64) {
        let taken = match update {
            Update::Begin { boot } => {
                let before = self.boots.insert(owner.to_owned(), boot);
                let again = before.is_some_and(|b| b != boot);
                let careless = self.careless.contains(owner);
                for kept in self.flows.values_mut().filter(|k| k.owner == owner) {
                    match kept.age {
                        Age::New if again => kept.leave(careless),
                        _ => kept.age = Age::Old,
                    }
                }
                self.doubt(owner);
                true
            }
            Update::Put(bytes) => match Record::decode(&bytes, now) {
                Ok(record) => self.put(owner, record),
                Err(_) => false,
            },
            Update::Mark {
                key,
                generation,
                acked,
                ts,
                age_ms,
            } => match self.current(owner, &key, generation) {
                Some(record) if acked < FARTHEST => {
                    record.acked = record.acked.max(acked);
                    let heard = now.saturating_sub(i64::from(age_ms) * 1_000_000);
                    record.clock = ts
                        .map(|(tsval, tsecr)| Clock {
                            tsval,
                            tsecr,
                            heard,
                        })
                        .or(record.clock);
                    true
                }
                _ => false,
            },
            Update::About { waits, .. } => {
                self.flows
                    .retain(|_, k| k.owner != owner || k.age != Age::Old);
                if waits {
                    self.careless.remove(owner);
                }
                true
            }
            Update::Drop { key, generation } => {
                let there = self.current(owner, &key, generation).is_some();
                if there {
                    self.flows.remove(&key);
                }
                there
            }
            Update::HandOver { .. } => false,
        };
        self.refused += u64::from(!taken);
    }

    fn current(&mut self, owner: &str, key: &FlowKey, generation: u32) -> Option<&mut Record> {
        let kept = self.flows.get_mut(key)?;
        let fits = kept.owner == owner && kept.record.generation <= generation;
        fits.then_some(&mut kept.record)
    }

    fn put(&mut self, owner: &str, record: Record) -> bool {
        let (key, answers) = (record.key, matches!(record.state, State::Responding(_)));
        let full = self.flows.len() >= self.limit;
        match self.flows.get_mut(&key) {
            Some(kept) if kept.owner == owner => (kept.record, kept.age) = (record, Age::New),
            // An old owner does not know yet that it is one. A port used again by its client
            // begins at generation 0 once more, but then with the same owner.
            Some(kept) if record.generation <= kept.record.generation => return false,
            None if full => return false,
            _ => {
                let (owner, age) = (owner.to_owned(), Age::New);
                self.flows.insert(key, Kept { owner, record, age });
            }
        }
        if answers {
            self.newest = Some(key);
        }
        true
    }

    /// Keeps a record that was this node's own and is `owner`'s now, unless a newer one is
    /// there.
    pub fn pass_on(&mut self, owner: &str, record: Record) {
        if !self.flows.contains_key(&record.key) {
            self.put(owner, record);
        }
    }

    /// `owner` lets bytes go without telling of them, until it says that it [waits](Update::About).
    pub fn doubt(&mut self, owner: &str) {
        if !self.careless.contains(owner) {
            self.careless.insert(owner.to_owned());
        }
    }

    /// The record of a response that was told last, once.
    pub fn newest(&mut self) -> Option<&Record> {
        let key = self.newest.take()?;
        self.flows.get(&key).map(|kept| &kept.record)
    }

    /// Keeps `limit` records at most from now on; those that are there stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Forgets the records of a node, or of a service.
    pub fn forget(&mut self, gone: impl Fn(&str, &FlowKey) -> bool) {
        self.flows.retain(|key, kept| !gone(&kept.owner, key));
    }

    /// Takes a record out.
    pub fn take(&mut self, key: &FlowKey) -> Option<(String, Record)> {
        let mut kept = self.flows.remove(key)?;
        if kept.age != Age::Left {
            kept.leave(self.careless.contains(&kept.owner));
        }
        Some((kept.owner, kept.record))
    }

    /// `heir` has taken an address: nothing that an owner of its flows says from now on is about these
    /// records, not even that it has begun anew.
    pub fn inherit(&mut self, addr: std::net::IpAddr, heir: &str) {
        let flows = self.flows.iter_mut();
        for (_, kept) in flows.filter(|(key, _)| key.service.ip() == addr) {
            if kept.age != Age::Left {
                kept.leave(self.careless.contains(&kept.owner));
            }
            heir.clone_into(&mut kept.owner);
        }
    }

    /// Takes out the records of flows of an address.
    pub fn take_address(&mut self, addr: std::net::IpAddr) -> Vec<Record> {
        let keys = self.flows.keys().filter(|k| k.service.ip() == addr);
        let keys: Vec<_> = keys.copied().collect();
        let taken = keys.iter().filter_map(|k| self.take(k));
        taken.map(|(_, record)| record).collect()
    }
}

impl Kept {
    /// Its owner is none any more. `careless`: it has let bytes go without telling of them.
    fn leave(&mut self, careless: bool) {
        self.age = Age::Left;
        self.record.strict &= !careless;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn put(record: &Record) -> Update {
        Update::Put(record.encode(0))
    }

    #[test]
    fn an_old_generation_never_replaces_a_newer_one() {
        let mut s = Store::new(10);
        let old = record(1);
        let new = Record {
            generation: 2,
            ..record(1)
        };
        s.apply("b", put(&new), 0);
        s.apply("a", put(&old), 0);
        s.apply(
            "a",
            Update::Drop {
                key: old.key,
                generation: 1,
            },
            0,
        );
        assert_eq!((s.count(), s.owned("b"), s.refused), (1, 1, 2));
    }

    const BEGIN: Update = Update::Begin { boot: 1 };

    fn about(waits: bool) -> Update {
        Update::About {
            waits,
            wall_ms: 0,
            daemon: String::new(),
            module: String::new(),
            fitness: Fitness::Ready,
            services: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_told_anew_is_forgotten_once_all_is_told() {
        let mut s = Store::new(10);
        for (owner, n) in [("a", 1), ("a", 2), ("a", 3), ("b", 4)] {
            s.apply(owner, put(&record(n)), 0);
        }
        s.apply("a", BEGIN, 0);
        s.apply("a", put(&record(1)), 0);
        assert_eq!((s.owned("a"), s.owned("b")), (3, 1));
        // Meanwhile one of them has got another owner.
        let passed = Record {
            generation: record(3).generation + 1,
            ..record(3)
        };
        s.apply("b", put(&passed), 0);
        s.apply("a", about(false), 0);
        assert_eq!((s.owned("a"), s.owned("b")), (1, 2));
        assert!(s.take(&record(1).key).is_some());
    }

    #[test]
    fn who_does_not_wait_for_us_promises_nothing() {
        let mut s = Store::new(10);
        let strict = |s: &mut Store, n| {
            let (owner, record) = s.take(&record(n).key).unwrap();
            s.apply(
                &owner,
                put(&Record {
                    strict: true,
                    ..record.clone()
                }),
                0,
            );
            record.strict
        };
        s.apply("b", put(&record(2)), 0);
        s.apply("a", BEGIN, 0);
        s.apply("a", put(&record(1)), 0);
        // It has told all, but not heard yet that we have it.
        s.apply("a", about(false), 0);
        assert!(!strict(&mut s, 1) && strict(&mut s, 2));
        s.apply("a", about(true), 0);
        assert!(strict(&mut s, 1));
        s.doubt("a");
        assert!(!strict(&mut s, 1) && strict(&mut s, 2));
        s.apply("a", about(true), 0);
        assert!(strict(&mut s, 1));
    }

    #[test]
    fn a_dead_owner_that_is_back_takes_nothing_from_its_heir() {
        let mut s = Store::new(10);
        s.apply("a", put(&record(1)), 0);
        let addr = record(1).key.service.ip();
        s.inherit(addr, "b");
        s.apply("a", BEGIN, 0);
        s.apply("a", about(false), 0);
        let taken = s.take_address(addr);
        assert!(matches!(&taken[..], [r] if r.strict), "{taken:?}");
    }

    #[test]
    fn a_machine_that_is_back_at_once_has_died_all_the_same() {
        let mut s = Store::new(10);
        s.apply("a", Update::Begin { boot: 1 }, 0);
        s.apply("a", put(&record(1)), 0);
        s.apply("a", about(true), 0);
        // Its daemon says so before its heartbeats do.
        s.apply("a", Update::Begin { boot: 2 }, 0);
        s.apply("a", put(&record(2)), 0);
        s.apply("a", about(false), 0);
        let mut taken = s.take_address(record(1).key.service.ip());
        taken.sort_by_key(|r| r.key.client.port());
        assert!(
            matches!(&taken[..], [a, b] if a.strict && !b.strict),
            "{taken:?}"
        );
    }

    #[test]
    fn the_store_is_bounded_and_survives_nonsense() {
        let mut s = Store::new(2);
        for i in 1..5 {
            s.apply("a", put(&record(i)), 0);
        }
        s.apply("a", Update::Put(vec![1, 2, 3]), 0);
        assert_eq!((s.count(), s.refused), (2, 3));
    }

    #[test]
    fn a_mark_beyond_all_streams_is_refused() {
        let mut s = Store::new(2);
        let r = record(1);
        s.apply("a", put(&r), 0);
        let mark = |acked, age_ms| Update::Mark {
            key: r.key,
            generation: r.generation,
            acked,
            ts: Some((3, 4)),
            age_ms,
        };
        s.apply("a", mark(u64::MAX, 0), 0);
        assert_eq!(s.refused, 1);
        s.apply("a", mark(r.acked, u32::MAX), i64::MIN);
        assert_eq!(s.take(&r.key).unwrap().1.acked, r.acked);
    }

    #[test]
    fn a_mark_moves_the_checkpoint_and_the_clock() {
        let mut s = Store::new(2);
        let r = record(1);
        s.apply("a", put(&r), 0);
        let (key, generation) = (r.key, r.generation);
        let acked = r.acked + 5;
        let mark = Update::Mark {
            key,
            generation,
            acked,
            ts: Some((3, 4)),
            age_ms: 2,
        };
        s.apply("a", mark, 10_000_000);
        let (_, got) = s.take(&key).unwrap();
        assert_eq!(got.acked, acked);
        assert_eq!(
            got.clock,
            Some(Clock {
                tsval: 3,
                tsecr: 4,
                heard: 8_000_000
            })
        );
    }
}
