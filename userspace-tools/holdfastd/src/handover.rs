// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The flows of an address that goes to another node while this one lives.
//!
//! First the kernel is silenced flow by flow ([`Verdict::Abandon`]): from then on nothing of
//! the local sockets reaches a client, and the sockets are dropped. The kernel's log of a flow
//! ends with that, so that its record is final once the log has been read so far. The final
//! records stay here until the successor has the address, and are taken up again if it never
//! does.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use libholdfast::record::{Record, State, Way};
use libholdfast::types::FlowKey;

use crate::engine::Engine;
use crate::kernel::{FlowInfo, Kernel, Verdict};
use crate::timeline::monotonic;

/// How long in nanoseconds the kernel keeps a flow silent that it was told to abandon
/// (`CLOSING_TIME`), and a little more.
const SILENT: i64 = 61_000_000_000;

/// The flows that are being handed over.
#[derive(Debug, Default)]
pub struct Handed {
    addrs: HashSet<IpAddr>,
    /// Silenced; the end of their log is still to come.
    waiting: HashSet<u64>,
    /// Final.
    records: HashMap<FlowKey, Record>,
    /// Flows that the kernel was told to abandon, and when.
    left: HashMap<FlowKey, i64>,
}

impl Handed {
    /// Whether `addr` is being handed over.
    pub(crate) fn goes(&self, addr: IpAddr) -> bool {
        self.addrs.contains(&addr)
    }

    /// Whether the end of the log of `flow` is awaited.
    pub(crate) fn awaits(&self, flow: u64) -> bool {
        self.waiting.contains(&flow)
    }

    /// A flow has ended by itself.
    pub(crate) fn forget(&mut self, flow: u64) {
        self.waiting.remove(&flow);
    }

    /// The final records.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The kernel is told to abandon a flow.
    pub(crate) fn leaves(&mut self, key: FlowKey) {
        self.left.insert(key, monotonic());
    }

    /// Forgets of which flows the kernel has been rid long since.
    pub(crate) fn prune(&mut self) {
        let now = monotonic();
        self.left.retain(|_, at| now - *at < SILENT);
    }

    /// Whether the kernel still keeps a flow silent that it was told to abandon.
    pub(crate) fn left_lately(&mut self, key: &FlowKey, now: i64) -> bool {
        self.left.remove(key).is_some_and(|at| now - at < SILENT)
    }

    /// Whether all records are final.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<K: Kernel> Engine<K> {
    /// The flows of `addr` that no other node could continue as they are now.
    pub fn stuck(&mut self, addr: IpAddr) -> Vec<(u64, FlowKey)> {
        let (mut stuck, mut ends) = (Vec::new(), HashMap::new());
        for (flow, tracker) in &self.trackers {
            let record = tracker.record();
            if record.key.service.ip() != addr || self.observes(record.key.service) {
                continue;
            }
            match &record.state {
                State::Responding(o) => match (&o.way, o.end) {
                    (Way::None(_), Some(end)) => drop(ends.insert(*flow, (record.key, end))),
                    (Way::None(_), None) => stuck.push((*flow, record.key)),
                    _ if tracker.is_dead() => stuck.push((*flow, record.key)),
                    _ => {}
                },
                State::Unprotected(_) => stuck.push((*flow, record.key)),
                _ if tracker.is_dead() => stuck.push((*flow, record.key)),
                _ => {}
            }
        }
        if ends.is_empty() {
            return stuck;
        }
        // Whose response is over waits for a request, and can be continued.
        let acked: HashMap<_, _> = match self.kernel.flows() {
            Ok(flows) => flows.into_iter().map(|f| (f.id, f.s2c_acked)).collect(),
            Err(_) => HashMap::new(),
        };
        let under_way = |flow, end| acked.get(&flow).is_none_or(|acked| *acked < end);
        stuck.extend(
            ends.into_iter()
                .filter(|(flow, (_, end))| under_way(*flow, *end))
                .map(|(flow, (key, _))| (flow, key)),
        );
        stuck
    }

    /// Silences the flows of `addr`. Those that nobody could continue are reset. How many go,
    /// and how many were reset.
    pub fn hand_over(&mut self, addr: IpAddr, now: i64) -> (usize, usize) {
        self.handed.prune();
        self.handed.addrs.insert(addr);
        let stuck = self.stuck(addr);
        for (flow, key) in &stuck {
            self.end(Some(*flow), key, Verdict::Reset);
            self.count_of(key.service, "drain-reset");
        }
        let lost: HashSet<_> = stuck.iter().map(|(_, key)| *key).collect();
        // The sockets of an observed service are left alone, and found by `abandon` later.
        let there = |r: &Record| {
            r.key.service.ip() == addr && !lost.contains(&r.key) && !self.observes(r.key.service)
        };
        let flows: Vec<_> = self
            .trackers
            .iter()
            .filter(|(_, t)| there(t.record()))
            .map(|(f, t)| (*f, t.record().key))
            .collect();
        for (flow, key) in &flows {
            self.silence(*flow, key);
        }
        // The kernel knows them only; in the end of their log it says what they are.
        let opening = self.opening(addr);
        for (flow, key) in &opening {
            self.silence(*flow, key);
        }
        // What is being rescued here is rescued there instead.
        let rescued = self.rescues.take_address(addr);
        let count = flows.len() + opening.len() + rescued.len();
        for (flow, record) in rescued {
            self.restarts.forget(&record.key);
            self.end(flow, &record.key, Verdict::Abandon);
            self.handed.leaves(record.key);
            self.put(&record, now);
            self.handed.records.insert(record.key, record);
        }
        (count, stuck.len())
    }

    /// The flows of `addr` whose handshake is under way.
    fn opening(&mut self, addr: IpAddr) -> Vec<(u64, FlowKey)> {
        let flows = self.kernel.flows().unwrap_or_default();
        let ours =
            |f: &FlowInfo| f.opening && f.key.service.ip() == addr && !self.observes(f.key.service);
        let found = flows.iter().filter(|f| ours(f));
        found.map(|f| (f.id, f.key)).collect()
    }

    /// Nothing more of a flow reaches its client.
    pub(crate) fn silence(&mut self, flow: u64, key: &FlowKey) {
        self.handed.waiting.insert(flow);
        self.handed.leaves(*key);
        self.end(Some(flow), key, Verdict::Abandon);
    }

    /// All of a silenced flow's log has been read: its record is final.
    pub(crate) fn hand(&mut self, flow: u64) {
        self.handed.waiting.remove(&flow);
        let Some(tracker) = self.trackers.remove(&flow) else {
            return;
        };
        let record = tracker.record().clone();
        self.restarts.forget(&record.key);
        if self.by_key.get(&record.key) == Some(&flow) {
            self.by_key.remove(&record.key);
        }
        self.count_of(record.key.service, "flows-handed-over");
        self.handed.records.insert(record.key, record);
    }

    /// Takes the records of silenced flows as they are: what is missing of their log has not
    /// come in time. In strict mode any record is good enough.
    pub fn hand_rest(&mut self) {
        let rest: Vec<_> = self.handed.waiting.iter().copied().collect();
        for flow in rest {
            self.count("drain-log-late");
            self.hand(flow);
        }
    }

    /// `addr` belongs to `owner` now: the records are kept as those of a peer. `newer`: by how
    /// many generations they are newer than what was offered to somebody else.
    pub fn hand_away(&mut self, addr: IpAddr, owner: &str, newer: u32) {
        self.handed.addrs.remove(&addr);
        let there = |k: &&FlowKey| k.service.ip() == addr;
        let keys: Vec<_> = self.handed.records.keys().filter(there).copied().collect();
        for key in keys {
            if let Some(mut record) = self.handed.records.remove(&key) {
                record.generation += newer;
                self.store.pass_on(owner, record);
            }
        }
    }
}
