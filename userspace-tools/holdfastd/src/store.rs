// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Records of flows that peers serve, in memory, bounded.

use std::collections::HashMap;

use libholdfast::record::{Clock, Record, State, FARTHEST};
use libholdfast::types::FlowKey;
use serde::{Deserialize, Serialize};

use crate::terms::Terms;

/// A change of a record on its way to the support group. Where its form changes, so that older nodes
/// cannot read it, [`crate::wire::VERSION`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// Forget all records of the sender: all that it has follow.
    Begin,
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
    /// All that the sender had when the link came up has been told; what it is. `wall_ms`: its
    /// clock. `daemon`, `module`: versions. `services`: what it was told of them, 256 at most, as no
    /// kernel takes more.
    About {
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

/// Records of peers.
#[derive(Debug)]
pub struct Store {
    flows: HashMap<FlowKey, (String, Record)>,
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
        self.flows.values().filter(|(o, _)| o == owner).count()
    }

    /// Takes in what `owner` says. A refused update is counted, never half taken.
    pub fn apply(&mut self, owner: &str, update: Update, now: i64) {
        let taken = match update {
            Update::Begin => {
                self.flows.retain(|_, (o, _)| o != owner);
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
            // Not a record.
            Update::About { .. } => true,
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
        let (o, record) = self.flows.get_mut(key)?;
        (o == owner && record.generation <= generation).then_some(record)
    }

    fn put(&mut self, owner: &str, record: Record) -> bool {
        let (key, answers) = (record.key, matches!(record.state, State::Responding(_)));
        let full = self.flows.len() >= self.limit;
        match self.flows.get_mut(&key) {
            Some((o, old)) if o == owner => *old = record,
            // An old owner does not know yet that it is one. A port used again by its client
            // begins at generation 0 once more, but then with the same owner.
            Some((_, old)) if record.generation <= old.generation => return false,
            None if full => return false,
            _ => drop(self.flows.insert(key, (owner.to_owned(), record))),
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

    /// `owner` lets bytes go without telling of them, until it has told everything anew: its records
    /// do not say any more that none has.
    pub fn weaken(&mut self, owner: &str) {
        let of_it = self.flows.values_mut().filter(|(o, _)| o == owner);
        of_it.for_each(|(_, record)| record.strict = false);
    }

    /// The record of a response that was told last, once.
    pub fn newest(&mut self) -> Option<&Record> {
        let key = self.newest.take()?;
        self.flows.get(&key).map(|(_, record)| record)
    }

    /// Keeps `limit` records at most from now on; those that are there stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Forgets the records of a node, or of a service.
    pub fn forget(&mut self, gone: impl Fn(&str, &FlowKey) -> bool) {
        self.flows.retain(|key, (owner, _)| !gone(owner, key));
    }

    /// Takes a record out.
    pub fn take(&mut self, key: &FlowKey) -> Option<(String, Record)> {
        self.flows.remove(key)
    }

    /// Takes out the records of flows of an address.
    pub fn take_address(&mut self, addr: std::net::IpAddr) -> Vec<Record> {
        let keys: Vec<_> = self
            .flows
            .keys()
            .filter(|k| k.service.ip() == addr)
            .copied()
            .collect();
        keys.iter()
            .filter_map(|k| self.flows.remove(k))
            .map(|(_, r)| r)
            .collect()
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

    #[test]
    fn a_begin_forgets_what_its_sender_had_said() {
        let mut s = Store::new(10);
        s.apply("a", put(&record(1)), 0);
        s.apply("b", put(&record(2)), 0);
        s.apply("a", Update::Begin, 0);
        assert_eq!((s.owned("a"), s.owned("b")), (0, 1));
    }

    #[test]
    fn who_tells_no_more_promises_nothing() {
        let mut s = Store::new(10);
        s.apply("a", put(&record(1)), 0);
        s.apply("b", put(&record(2)), 0);
        s.weaken("a");
        let strict = |s: &mut Store, n| s.take(&record(n).key).unwrap().1.strict;
        assert!(!strict(&mut s, 1) && strict(&mut s, 2));
        s.apply("a", put(&record(1)), 0);
        assert!(strict(&mut s, 1));
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
