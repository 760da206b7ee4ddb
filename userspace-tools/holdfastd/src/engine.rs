// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The flows of this node: the log becomes records, safe records become commits.
//!
//! Records go to the peers through [`Engine::take_updates`]; what must wait for them waits
//! in a [`Quorum`]. Flows of dead nodes are the matter of `rescue.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use libholdfast::record::{Clock, Record, State, Way};
use libholdfast::tracker::{Action, Event, Release, Tracker};
use libholdfast::types::FlowKey;
use serde_json::json;

use crate::config::{Config, Mode, Recovery, Service};
use crate::handover::Handed;
use crate::kernel::{doubt_counter, Entry, Kernel, Refused, Verdict, What};
use crate::next::NextNodes;
use crate::outbox::Outbox;
use crate::process::Restarts;
use crate::quorum::Quorum;
use crate::rescue::Rescues;
use crate::store::{Store, Update};
use crate::tally::Tally;
use crate::timeline::Timeline;

/// Most flows whose progress goes with one heartbeat: some 200 KiB.
const MARKS: usize = 4096;

/// What waits for records to be safe.
#[derive(Debug)]
pub enum Wait {
    /// A commit of the flow with this number.
    Release(u64, FlowKey, Release),
    /// The join of a rescued flow with this number.
    Join(FlowKey, u64),
    /// A policy under which bytes leave earlier than under the one before.
    Policy(Box<Service>),
}

/// The flows of this node and those that it takes over.
pub struct Engine<K> {
    pub kernel: K,
    pub store: Store,
    pub timeline: Timeline,
    pub quorum: Quorum<Wait>,
    pub counts: BTreeMap<String, u64>,
    pub tally: Tally,
    /// Whose servers may have what ours lacks.
    pub next: NextNodes,
    pub(crate) trackers: HashMap<u64, Tracker>,
    pub(crate) by_key: HashMap<FlowKey, u64>,
    pub(crate) rescues: Rescues,
    pub(crate) handed: Handed,
    pub(crate) restarts: Restarts,
    pub(crate) limits: Recovery,
    pub(crate) services: Vec<Service>,
    outbox: Outbox,
    /// Flows that have come farther than their peers know.
    marks: HashSet<u64>,
    /// Flows with a request that their peers do not know.
    later: HashSet<u64>,
    /// Entries of the log that were lost.
    pub(crate) lost: u64,
}

impl<K: Kernel> Engine<K> {
    /// No flows yet.
    pub fn new(kernel: K, config: &Config, timeline: Timeline) -> Self {
        Engine {
            kernel,
            store: Store::new(config.records.limit),
            timeline,
            quorum: Quorum::new(config.records.quorum),
            counts: BTreeMap::new(),
            tally: Tally::default(),
            next: NextNodes::default(),
            trackers: HashMap::new(),
            by_key: HashMap::new(),
            rescues: Rescues::default(),
            handed: Handed::default(),
            restarts: Restarts::default(),
            limits: config.recovery.clone(),
            services: config.services.clone(),
            outbox: Outbox::default(),
            marks: HashSet::new(),
            later: HashSet::new(),
            lost: 0,
        }
    }

    /// Creates the services and adopts the flows that are there.
    ///
    /// # Errors
    ///
    /// The kernel refused a service.
    pub fn start(&mut self) -> Result<(), Refused> {
        for service in &self.services {
            self.kernel.service_add(service)?;
        }
        for flow in self.kernel.flows()? {
            if flow.open {
                let strict = self.is_strict(&flow.key);
                let mut t = Tracker::adopted(
                    flow.key,
                    flow.generation,
                    flow.options,
                    flow.clock,
                    strict,
                    flow.c2s_next,
                    flow.s2c_acked,
                );
                t.declare(self.is_deterministic(flow.key.service));
                self.trackers.insert(flow.id, t);
                self.by_key.insert(flow.key, flow.id);
                self.count_of(flow.key.service, "flows-adopted");
            }
        }
        Ok(())
    }

    pub(crate) fn count(&mut self, name: &str) {
        #[cfg(test)]
        assert!(
            crate::tally::of_daemon().any(|n| n == name),
            "{name} has no 0"
        );
        match self.counts.get_mut(name) {
            Some(n) => *n += 1,
            None => drop(self.counts.insert(name.to_owned(), 1)),
        }
    }

    /// Adds one to `name`, of the daemon and of a service.
    pub(crate) fn count_of(&mut self, service: SocketAddr, name: &str) {
        self.count(name);
        self.tally.count(service, name);
    }

    /// The service at an address and port.
    pub(crate) fn service(&self, of: SocketAddr) -> Option<&Service> {
        self.services.iter().find(|s| s.socket() == of)
    }

    pub(crate) fn is_strict(&self, key: &FlowKey) -> bool {
        let service = self.service(key.service);
        service.is_none_or(Service::is_strict)
    }

    /// Whether a service declares that the same request is always answered by the same bytes.
    pub(crate) fn is_deterministic(&self, service: SocketAddr) -> bool {
        let service = self.service(service);
        service.is_some_and(|s| s.deterministic)
    }

    /// Whether flows of a service are only observed.
    pub(crate) fn observes(&self, service: SocketAddr) -> bool {
        let service = self.service(service);
        service.is_some_and(|s| s.mode == Mode::Observe)
    }

    /// Whether flows of `addr` are ours to protect.
    pub fn serves(&self, addr: IpAddr) -> bool {
        self.services.iter().any(|s| s.address.addr == addr)
    }

    /// Takes in entries of the log.
    pub fn hear_all(&mut self, entries: Vec<Entry>, now: i64) {
        for entry in entries {
            self.take_in(entry, now);
        }
        self.settle();
    }

    /// Takes in an entry of the log.
    pub fn hear(&mut self, entry: Entry, now: i64) {
        self.hear_all(vec![entry], now);
    }

    fn take_in(&mut self, entry: Entry, now: i64) {
        if entry.lost > self.lost {
            self.lost = entry.lost;
            self.count("log-lost");
            // Which flows it was about is not known.
            let flows: Vec<_> = self.trackers.keys().copied().collect();
            for flow in flows {
                self.track(flow, Event::Lost, now);
            }
        }
        let (flow, time) = (entry.flow, entry.time);
        match entry.what {
            What::Opened {
                desc,
                start,
                request,
                ts,
            } => {
                let clock = ts.map(|(tsval, tsecr)| Clock {
                    tsval,
                    tsecr,
                    heard: time,
                });
                let strict = self.is_strict(&desc.key);
                let mut t = Tracker::opened(
                    desc.key,
                    desc.generation,
                    desc.options,
                    clock,
                    strict,
                    request,
                    start,
                );
                t.declare(self.is_deterministic(desc.key.service));
                // The client has used its port again: what was known is of another flow.
                self.rescues.forget(&desc.key);
                self.restarts.forget(&desc.key);
                self.store.take(&desc.key);
                if let Some(old) = self
                    .by_key
                    .insert(desc.key, flow)
                    .filter(|old| *old != flow)
                {
                    self.trackers.remove(&old);
                }
                self.put(t.record(), now);
                self.trackers.insert(flow, t);
                self.count_of(desc.key.service, "flows-opened");
                let goes = self.handed.goes(desc.key.service.ip()) && !self.handed.awaits(flow);
                if goes && !self.observes(desc.key.service) {
                    self.silence(flow, &desc.key);
                }
            }
            What::C2s { pos, ack, data, ts } => {
                self.track(
                    flow,
                    Event::C2s {
                        pos,
                        ack,
                        data: &data,
                        ts,
                        time,
                    },
                    now,
                );
            }
            What::S2c { pos, ack, data } => {
                self.track(
                    flow,
                    Event::S2c {
                        pos,
                        ack,
                        data: &data,
                    },
                    now,
                );
            }
            What::Closing { pos, ack } => self.track(flow, Event::Closing { pos, ack }, now),
            What::Object { start, request } => {
                self.track(flow, Event::Object { request, start }, now);
            }
            What::Lost { acked } => self.lost_server(flow, acked, now),
            What::Progress { acked, ts } => {
                self.progress(flow, Event::Progress { acked, ts, time })
            }
            What::Unprotected { reason } => {
                if let Some(t) = self.trackers.get(&flow).filter(|t| !t.is_dead()) {
                    let key = t.record().key.to_string();
                    self.timeline
                        .note("unprotected", json!({"flow": key, "reason": reason}));
                }
                self.track(flow, Event::Unprotected, now);
            }
            What::Closed { ended: false } if self.handed.awaits(flow) => self.hand(flow),
            What::Closed { .. } => {
                self.handed.forget(flow);
                self.track(flow, Event::Closed, now);
                self.closed(flow, now);
            }
            What::Orphan { desc, word, ts } => self.orphan(flow, desc, word, ts, (time, now)),
            What::Located { desc, word, ts } => self.located(desc, word, ts, time, now),
            What::Asked => self.asked(flow),
            What::Answer { pos, data, fin } => self.answer(flow, pos, &data, fin, now),
            What::Spliced { pos } => self.spliced(flow, pos),
            What::Failed { why } => self.failed(flow, why, now),
        }
    }

    /// A long response goes on. Peers are told with the next heartbeat.
    fn progress(&mut self, flow: u64, event: Event<'_>) {
        let Some(tracker) = self.trackers.get_mut(&flow) else {
            return;
        };
        if tracker.hear(event).contains(&Action::Checkpoint) {
            self.marks.insert(flow);
        }
    }

    /// Whether anything waits for time to pass.
    pub(crate) fn is_busy(&self) -> bool {
        !self.later.is_empty() || self.rescues.are_busy()
    }

    /// Tells of the requests that wait for it: most are answered before, and then the record of the
    /// response tells of both.
    pub fn tell_requests(&mut self, now: i64) {
        for flow in std::mem::take(&mut self.later) {
            if let Some(record) = self.trackers.get(&flow).map(|t| t.record().clone()) {
                self.put(&record, now);
            }
        }
    }

    /// How far flows have come since the last call; of very many, a part.
    pub fn take_marks(&mut self, now: i64) -> Vec<Update> {
        let flows: Vec<_> = self.marks.iter().take(MARKS).copied().collect();
        let mut marks = Vec::with_capacity(flows.len());
        for flow in flows {
            self.marks.remove(&flow);
            if let Some(t) = self.trackers.get(&flow) {
                marks.push(Update::mark(t.record(), now));
            }
        }
        marks
    }

    pub(crate) fn track(&mut self, flow: u64, event: Event<'_>, now: i64) {
        let Some(tracker) = self.trackers.get_mut(&flow) else {
            return;
        };
        let actions = tracker.hear(event);
        let record = tracker.record();
        let (key, way) = (record.key, response(&record.state));
        let service = key.service;
        for action in actions {
            match action {
                Action::Replicate => {
                    self.later.remove(&flow);
                    if let Some(tracker) = self.trackers.get(&flow) {
                        let number = self.quorum.number();
                        self.outbox.put(number, tracker.record(), now);
                    }
                }
                Action::ReplicateSoon => drop(self.later.insert(flow)),
                Action::Checkpoint => drop(self.marks.insert(flow)),
                Action::Commit(release) => {
                    if let Some(way) = way {
                        self.count_of(service, way);
                    }
                    self.quorum.wait(Wait::Release(flow, key, release));
                }
                Action::Count(doubt) => self.count_of(service, &doubt_counter(doubt)),
                Action::Forget => {
                    if let Some(tracker) = self.trackers.remove(&flow) {
                        self.drop_record(tracker.record());
                    }
                    self.restarts.forget(&key);
                    if self.by_key.get(&key) == Some(&flow) {
                        self.by_key.remove(&key);
                    }
                    self.count_of(service, "flows-closed");
                }
            }
        }
    }

    /// Has peers told of a record, as it is at the time `now`.
    pub(crate) fn put(&mut self, record: &Record, now: i64) {
        let number = self.quorum.number();
        self.outbox.put(number, record, now);
    }

    /// Has them told that it is out of date.
    pub(crate) fn drop_record(&mut self, record: &Record) {
        let number = self.quorum.number();
        self.outbox.drop(number, record.key, record.generation);
    }

    /// Lets go what is safe by now. To be called after every change of the quorum.
    pub fn settle(&mut self) {
        let mut releases = Vec::new();
        for wait in self.quorum.ready() {
            match wait {
                Wait::Release(flow, key, release) => releases.push((flow, key, release)),
                Wait::Join(key, number) => self.join(&key, number),
                Wait::Policy(service) => self.let_escape(&service),
            }
        }
        drop_overtaken(&mut releases);
        for batch in releases.chunks(64) {
            if let Err(e) = self.kernel.commit(batch) {
                self.count("commit-failed");
                self.timeline
                    .note("commit-failed", json!({"error": e.to_string()}));
            }
        }
    }

    /// What is to be sent to every peer, with its number, since the last call.
    pub fn take_updates(&mut self) -> Vec<(u64, Update)> {
        self.outbox.take()
    }

    /// All records, for a peer that has just connected, with the number up to which they
    /// stand. `boot`: of this machine. Whatever waits in [`Engine::take_updates`] must go out before.
    pub fn snapshot(&mut self, boot: u64, now: i64) -> (u64, Vec<Update>) {
        let number = self.quorum.number();
        let live = self.trackers.values().map(Tracker::record);
        let others = self.rescues.records().chain(self.handed.records());
        let records = live.chain(others);
        let puts = records.map(|r| Update::Put(r.encode(now)));
        (
            number,
            std::iter::once(Update::Begin { boot })
                .chain(puts)
                .collect(),
        )
    }

    /// Another node has taken `addr`: what we still have of its flows is not ours.
    pub fn abandon(&mut self, addr: IpAddr) {
        self.handed.prune();
        let there = |t: &Tracker| t.record().key.service.ip() == addr;
        let flows: Vec<_> = self
            .trackers
            .iter()
            .filter(|(_, t)| there(t))
            .map(|(f, _)| *f)
            .collect();
        for flow in flows {
            if let Some(t) = self.trackers.remove(&flow) {
                let key = t.record().key;
                self.restarts.forget(&key);
                if self.observes(key.service) {
                    self.count_of(key.service, "would-abandon");
                    continue;
                }
                self.end(Some(flow), &key, Verdict::Abandon);
                self.handed.leaves(key);
                self.count_of(key.service, "flows-abandoned");
            }
        }
        for (flow, record) in self.rescues.take_address(addr) {
            self.restarts.forget(&record.key);
            self.end(flow, &record.key, Verdict::Abandon);
            self.handed.leaves(record.key);
        }
    }

    /// Has the kernel give a flow up: the one with this number, for its client may have used its
    /// port again. Without a number whichever is there.
    pub(crate) fn end(&mut self, flow: Option<u64>, key: &FlowKey, verdict: Verdict) {
        if let Err(e) = self.kernel.end(flow, key, verdict) {
            self.timeline.note(
                "end-failed",
                json!({"flow": key.to_string(), "error": e.to_string()}),
            );
        }
    }

    /// Live flows as (number, tracker).
    pub fn flows(&self) -> impl Iterator<Item = (u64, &Tracker)> {
        self.trackers.iter().map(|(f, t)| (*f, t))
    }
}

/// Leaves out releases of responses behind which the same flow has another one that is released,
/// too. That one was begun by the kernel before we heard of it, and to the kernel an earlier response
/// is over then: its commit would do nothing (`Flow::commit`, `late_commit`).
fn drop_overtaken(releases: &mut Vec<(u64, FlowKey, Release)>) {
    if releases.len() < 2 {
        return;
    }
    let mut newest = HashMap::new();
    for (at, (flow, _, release)) in releases.iter().enumerate() {
        if release.is_plain() {
            newest.insert(*flow, at);
        }
    }
    let mut at = 0..;
    releases.retain(|(flow, _, release)| {
        let at = at.next();
        !release.is_plain() || newest.get(flow).copied() == at
    });
}

/// The count of a response whose record is complete: how its rest could be had.
fn response(state: &State) -> Option<&'static str> {
    let State::Responding(object) = state else {
        return None;
    };
    match object.way {
        Way::Range { .. } => Some("responses-range"),
        Way::Stored => Some("responses-stored"),
        Way::Replay(_) => Some("responses-replay"),
        Way::None(_) => None,
    }
}
