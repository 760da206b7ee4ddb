// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What peers are to be told at the next occasion, in order.
//!
//! Of a flow whose record changes several times until then they are told the last one only: what
//! waits for an earlier one waits for a number, and the later number stands for it. A record takes
//! the place of one of its own or an older generation, as it does at the peers; whatever else
//! they are told stays where it is. A record that is out of date soon after is told nevertheless: by
//! it they learn whose the flow was, and only of its owner they hear that it is over.

use std::collections::HashMap;

use libholdfast::record::Record;
use libholdfast::types::FlowKey;

use crate::store::Update;

/// Updates that are to be sent, each with its number; numbers grow.
#[derive(Debug, Default)]
pub struct Outbox {
    /// `None`: a later one has taken its place.
    updates: Vec<Option<(u64, Update)>>,
    /// Where in `updates` the record of a flow is, and its generation.
    records: HashMap<FlowKey, (usize, u32)>,
}

impl Outbox {
    /// Tells `record`, as of the monotonic time `now` in nanoseconds.
    pub fn put(&mut self, number: u64, record: &Record, now: i64) {
        let here = (self.updates.len(), record.generation);
        if let Some((at, generation)) = self.records.insert(record.key, here) {
            if generation <= record.generation {
                self.updates[at] = None;
            }
        }
        let update = Update::Put(record.encode(now));
        self.updates.push(Some((number, update)));
    }

    /// Tells that what is known of `key` up to `generation` is out of date.
    pub fn drop(&mut self, number: u64, key: FlowKey, generation: u32) {
        self.records.remove(&key);
        let update = Update::Drop { key, generation };
        self.updates.push(Some((number, update)));
    }

    /// All of it; nothing is left.
    pub fn take(&mut self) -> Vec<(u64, Update)> {
        self.records.clear();
        self.updates.drain(..).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    #[test]
    fn of_a_flow_the_last_record_is_told() {
        let mut outbox = Outbox::default();
        let (first, mut again, other) = (record(1), record(1), record(2));
        again.acked += 5;
        outbox.put(1, &first, 0);
        outbox.put(2, &other, 0);
        outbox.put(3, &again, 0);
        let told = |r: &Record| Update::Put(r.encode(0));
        assert_eq!(outbox.take(), [(2, told(&other)), (3, told(&again))]);
        assert_eq!(outbox.take(), []);
        outbox.put(4, &other, 0);
        assert_eq!(outbox.take(), [(4, told(&other))]);
    }

    #[test]
    fn what_is_over_was_there_before() {
        let mut outbox = Outbox::default();
        let old = record(1);
        let (key, generation) = (old.key, old.generation);
        let told = |r: &Record| Update::Put(r.encode(0));
        let gone = Update::Drop { key, generation };
        outbox.put(1, &old, 0);
        outbox.drop(2, key, generation);
        // The client uses its port again.
        outbox.put(3, &old, 0);
        assert_eq!(outbox.take(), [(1, told(&old)), (2, gone), (3, told(&old))]);
    }

    #[test]
    fn an_older_generation_takes_no_place() {
        let mut outbox = Outbox::default();
        let old = record(1);
        let new = Record {
            generation: old.generation + 1,
            ..old.clone()
        };
        let told = |r: &Record| Update::Put(r.encode(0));
        outbox.put(1, &old, 0);
        outbox.put(2, &new, 0);
        assert_eq!(outbox.take(), [(2, told(&new))]);
        outbox.put(3, &new, 0);
        outbox.put(4, &old, 0);
        assert_eq!(outbox.take(), [(3, told(&new)), (4, told(&old))]);
    }
}
