// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Flows of dead nodes, from the record to the join.
//!
//! ```text
//!   Idle --Orphan--+                            +--Silent--> Joining --Spliced--> tracked
//!                  v                            |               ^
//!   Queued --> Locating --Located--> [plan] ----+--Ask--> Asking --[judge], safe
//! ```
//!
//! A flow in the middle of a response is located at once, an unprotected one soon; an idle one
//! when its client speaks. At every step there is a deadline, ours or the kernel's, and its end is
//! a reset, counted; but a client that said nothing is kept as an idle one, and forgotten after
//! `recovery.idle-s`.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use libholdfast::record::{Clock, Record, State, Way};
use libholdfast::recovery::{judge, plan, Ask, Join, Judgement, Plan, Refusal, Word};
use libholdfast::stream::Stream;
use libholdfast::tracker::Tracker;
use libholdfast::types::FlowKey;
use serde_json::json;

use crate::engine::{Engine, Wait};
use crate::kernel::{Desc, Failure, Kernel, Recover, Refused, Splice, Verdict};
use crate::next::Search;

/// How often a client is asked again after an outdated word.
const ASK_AGAIN: u32 = 3;

/// Most bytes of an answer; the kernel may take more than it was asked to, never more than
/// a window without scale.
const ANSWER: usize = 64 * 1024;

/// How often idle flows are looked through for those whose time is over.
const SWEEP: i64 = 1000 * MS;

/// Time that the client of an unprotected flow has to speak by itself before it is asked where it
/// stands. One that uploads does, from farther ahead than an answer to a probe may come.
const UNHEARD: i64 = 2_000 * MS;

/// Time until a server that refused is asked again.
const SERVER_AGAIN: i64 = 50 * MS;

const MS: i64 = 1_000_000;

#[derive(Debug)]
enum Stage {
    /// Its client will speak when it wants something.
    Idle,
    /// Waits for its turn to be located.
    Queued,
    Locating,
    Asking {
        ask: Box<Ask>,
        /// The log has come to this question: what it tells from now on is of its answer.
        begun: bool,
        answer: Stream,
        fin: bool,
        join: Option<Box<Join>>,
    },
    /// The local server did not want us; it may soon.
    Waiting {
        ask: Option<Box<Ask>>,
    },
    /// The record is what the flow will be.
    Joining,
    /// The kernel sends the client what precedes the server's own bytes. A client may pause for
    /// as long as it likes (RFC 9293, section 3.8.6.1); the kernel says how it ends.
    Delivering,
}

#[derive(Debug)]
struct Rescue {
    record: Record,
    stage: Stage,
    /// Number of the flow in the kernel, once there is one.
    flow: Option<u64>,
    begun: i64,
    deadline: i64,
    /// When the local server must have answered.
    patience: Option<i64>,
    /// Until when the client is probed.
    probed_until: Option<i64>,
    tries: u32,
    /// A join is in the quorum's queue.
    waits: bool,
    /// Where else the object is looked for.
    search: Search,
}

/// The flows that are being taken over.
#[derive(Debug, Default)]
pub struct Rescues {
    flows: HashMap<FlowKey, Rescue>,
    by_id: HashMap<u64, FlowKey>,
    queue: VecDeque<FlowKey>,
    /// When idle flows are looked through next.
    sweep: i64,
    /// Unprotected flows and when they are to be queued. Their clients must learn of the end,
    /// the silent ones too.
    unheard: VecDeque<(i64, FlowKey)>,
    active: usize,
}

impl Rescues {
    /// Their records.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.flows.values().map(|r| &r.record)
    }

    /// How many there are, and how many of them are under way.
    pub fn len(&self) -> (usize, usize) {
        (self.flows.len(), self.active)
    }

    /// Takes out the records of the flows of an address.
    pub(crate) fn take_address(&mut self, addr: IpAddr) -> Vec<Record> {
        let there = |k: &&FlowKey| k.service.ip() == addr;
        let keys: Vec<_> = self.flows.keys().filter(there).copied().collect();
        keys.iter()
            .filter_map(|key| self.remove(key))
            .map(|r| r.record)
            .collect()
    }

    /// Forgets the flows of an address.
    pub fn drop_address(&mut self, addr: IpAddr) -> Vec<FlowKey> {
        let keys: Vec<_> = self
            .flows
            .keys()
            .filter(|k| k.service.ip() == addr)
            .copied()
            .collect();
        for key in &keys {
            self.remove(key);
        }
        keys
    }

    /// Forgets the flows of a service.
    pub fn drop_service(&mut self, service: SocketAddr) -> Vec<Record> {
        let keys: Vec<_> = self
            .flows
            .keys()
            .filter(|k| k.service == service)
            .copied()
            .collect();
        let removed = keys.iter().filter_map(|key| self.remove(key));
        removed.map(|rescue| rescue.record).collect()
    }

    /// The client has used the flow's port again.
    pub(crate) fn forget(&mut self, key: &FlowKey) {
        self.remove(key);
    }

    fn remove(&mut self, key: &FlowKey) -> Option<Rescue> {
        let rescue = self.flows.remove(key)?;
        if let Some(flow) = rescue.flow {
            self.by_id.remove(&flow);
        }
        self.active -= usize::from(is_active(&rescue.stage));
        Some(rescue)
    }

    fn set(&mut self, key: &FlowKey, stage: Stage, deadline: i64) {
        let Some(rescue) = self.flows.get_mut(key) else {
            return;
        };
        self.active -= usize::from(is_active(&rescue.stage));
        self.active += usize::from(is_active(&stage));
        rescue.stage = stage;
        rescue.deadline = deadline;
    }

    fn identify(&mut self, key: &FlowKey, flow: u64) {
        let Some(rescue) = self.flows.get_mut(key) else {
            return;
        };
        if let Some(old) = rescue.flow.replace(flow) {
            self.by_id.remove(&old);
        }
        self.by_id.insert(flow, *key);
    }

    /// How far the search for a server that has the object has come.
    pub(crate) fn search(&mut self, key: &FlowKey) -> Option<&mut Search> {
        self.flows.get_mut(key).map(|rescue| &mut rescue.search)
    }

    /// What another server is to be asked, which is given as much time as the one before. `None`:
    /// nothing is being asked, or the answer was right a moment ago and is about to be joined.
    pub(crate) fn ask_again(&mut self, key: &FlowKey) -> Option<Box<Ask>> {
        let rescue = self.flows.get_mut(key).filter(|r| !r.waits)?;
        rescue.patience = None;
        match std::mem::replace(&mut rescue.stage, Stage::Joining) {
            Stage::Asking { ask, .. } | Stage::Waiting { ask: Some(ask) } => Some(ask),
            other => {
                rescue.stage = other;
                None
            }
        }
    }

    /// The kernel has nothing of the flow any more.
    fn unidentify(&mut self, key: &FlowKey) {
        if let Some(old) = self.flows.get_mut(key).and_then(|r| r.flow.take()) {
            self.by_id.remove(&old);
        }
    }
}

impl Rescue {
    /// The server of a peer is asked for its object.
    fn is_asked_elsewhere(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. }) && self.search.is_elsewhere()
    }

    /// Its client is being probed; no connection for it was begun.
    fn is_probed(&self) -> bool {
        matches!(self.stage, Stage::Locating) && self.patience.is_none()
    }
}

/// The name of a reason: what stands before its particulars.
fn reason(why: &str) -> String {
    let name = why.split([':', '(']).next().unwrap_or_default().trim();
    name.replace(' ', "-")
}

fn is_active(stage: &Stage) -> bool {
    !matches!(stage, Stage::Idle | Stage::Queued | Stage::Delivering)
}

impl<K: Kernel> Engine<K> {
    /// This node owns `addr` now: its flows are taken over. How many there are.
    pub fn take_over(&mut self, addr: IpAddr, now: i64) -> usize {
        let mut records = self.store.take_address(addr);
        let count = records.len();
        // The response that began last has waited least.
        records.sort_by_key(|r| std::cmp::Reverse(r.clock.map_or(0, |c| c.heard)));
        for record in records {
            if self.observes(record.key.service) {
                self.would_rescue(&record);
            } else {
                self.adopt(record, now);
            }
        }
        self.count("takeovers");
        self.timeline.note(
            "takeover",
            json!({"address": addr.to_string(), "records": count}),
        );
        self.tick(now);
        count
    }

    /// A flow of a service that is only observed: says what would become of it, and leaves it to
    /// the stack, which resets its client as if we were not there.
    fn would_rescue(&mut self, record: &Record) {
        let service = record.key.service;
        let name = match &record.state {
            State::Idle | State::Requesting(_) => "would-recover",
            State::Responding(o) if !matches!(o.way, Way::None(_)) => "would-recover",
            State::Responding(_) | State::Unprotected(_) => "would-refuse",
        };
        self.count_of(service, name);
        self.drop_record(record);
    }

    pub(crate) fn adopt(&mut self, mut record: Record, now: i64) {
        let key = record.key;
        record.generation += 1;
        // The others must know whose it is from now on.
        self.put(&record, now);
        // What left this node a moment ago is still kept silent by its kernel, and would not be
        // found as an orphan.
        let busy = matches!(record.state, State::Responding(_) | State::Requesting(_))
            || self.handed.left_lately(&key, now);
        let stage = if busy { Stage::Queued } else { Stage::Idle };
        if busy {
            self.rescues.queue.push_back(key);
        } else if matches!(record.state, State::Unprotected(_)) {
            self.rescues.unheard.push_back((now + UNHEARD, key));
        }
        let rescue = Rescue {
            record,
            stage,
            flow: None,
            begun: now,
            deadline: if busy { i64::MAX } else { self.idle_until(now) },
            patience: None,
            probed_until: None,
            tries: 0,
            waits: false,
            search: Search::default(),
        };
        self.rescues.remove(&key);
        self.rescues.flows.insert(key, rescue);
    }

    /// Lets time pass: starts what may start and ends what took too long.
    pub fn tick(&mut self, now: i64) {
        while let Some(&(at, key)) = self.rescues.unheard.front() {
            if at > now {
                break;
            }
            self.rescues.unheard.pop_front();
            let unheard = |r: &&mut Rescue| {
                matches!(r.stage, Stage::Idle) && matches!(r.record.state, State::Unprotected(_))
            };
            if let Some(rescue) = self.rescues.flows.get_mut(&key).filter(unheard) {
                rescue.stage = Stage::Queued;
                self.rescues.queue.push_back(key);
            }
        }
        while self.rescues.active < self.limits.concurrency {
            let Some(key) = self.rescues.queue.pop_front() else {
                break;
            };
            let queued = |r: &Rescue| matches!(r.stage, Stage::Queued);
            if self.rescues.flows.get(&key).is_some_and(queued) {
                self.locate(&key, now);
            }
        }
        self.expire(now);
        if self.rescues.active == 0 {
            return self.settle();
        }
        let late: Vec<_> = self
            .rescues
            .flows
            .iter()
            .filter(|(_, r)| is_active(&r.stage) && r.deadline <= now)
            .map(|(k, _)| *k)
            .collect();
        for key in late {
            let rescue = self.rescues.flows.get_mut(&key);
            if rescue.as_ref().is_some_and(|r| r.is_probed()) {
                // The kernel's part of it ends without a word; its last entries are not ours.
                self.rescues.unidentify(&key);
                self.end(&key, Verdict::Abandon);
                self.silent(&key, now);
                continue;
            }
            if rescue.as_ref().is_some_and(|r| r.is_asked_elsewhere()) {
                self.elsewhere(&key, "timeout", now);
                continue;
            }
            match rescue.map(|r| std::mem::replace(&mut r.stage, Stage::Locating)) {
                Some(Stage::Waiting { ask }) => self.connect(&key, ask, now),
                _ => self.refuse(&key, "timeout", Verdict::Reset),
            }
        }
        // An answer that had grown when it was to be joined.
        let grown: Vec<_> = self
            .rescues
            .flows
            .iter()
            .filter(|(_, r)| matches!(r.stage, Stage::Asking { .. }) && !r.waits)
            .map(|(k, _)| *k)
            .collect();
        for key in grown {
            self.weigh(&key, now);
        }
        self.settle();
    }

    /// When a flow that is idle now has been so for too long.
    fn idle_until(&self, now: i64) -> i64 {
        now.saturating_add(self.limits.idle_s as i64 * 1000 * MS)
    }

    /// A client said nothing while it was probed: it may yet speak by itself.
    fn silent(&mut self, key: &FlowKey, now: i64) {
        self.count_of(key.service, "recovery-silent");
        let until = self.idle_until(now);
        if let Some(rescue) = self.rescues.flows.get_mut(key) {
            rescue.probed_until = None;
        }
        self.rescues.set(key, Stage::Idle, until);
    }

    /// Forgets, here and in the support group, clients that were idle for too long. The kernel
    /// has nothing of them.
    fn expire(&mut self, now: i64) {
        if now < self.rescues.sweep {
            return;
        }
        self.rescues.sweep = now + SWEEP;
        let over = |r: &Rescue| matches!(r.stage, Stage::Idle) && r.deadline <= now;
        let flows = self.rescues.flows.iter();
        let keys: Vec<_> = flows.filter(|(_, r)| over(r)).map(|(k, _)| *k).collect();
        for key in keys {
            if let Some(rescue) = self.rescues.remove(&key) {
                self.drop_record(&rescue.record);
                self.count_of(key.service, "recovery-expired");
            }
        }
    }

    fn locate(&mut self, key: &FlowKey, now: i64) {
        let limit = now + self.limits.locate_ms as i64 * MS;
        let Some(rescue) = self.rescues.flows.get_mut(key) else {
            return;
        };
        let deadline = *rescue.probed_until.get_or_insert(limit);
        let record = &rescue.record;
        // Strictly below anything that the client may expect.
        let probe = (record.acked.max(record.start) as u32).wrapping_sub(1);
        match self.kernel.locate(record, record.ts_age(now), probe) {
            Ok(flow) => {
                self.rescues.identify(key, flow);
                self.rescues.set(key, Stage::Locating, deadline);
            }
            Err(e) => self.refuse(key, &format!("locate: {e}"), Verdict::Reset),
        }
    }

    /// A packet of a flow that nobody here knows.
    pub(crate) fn orphan(
        &mut self,
        desc: Desc,
        word: Word,
        ts: Option<(u32, u32)>,
        heard: i64,
        now: i64,
    ) {
        self.count("orphans");
        if !self.rescues.flows.contains_key(&desc.key) {
            match self.store.take(&desc.key) {
                Some((_, record)) => self.adopt(record, now),
                None => {
                    self.count("orphans-unknown");
                    self.end(&desc.key, Verdict::Pass);
                    return;
                }
            }
        }
        self.spoken(&desc.key, word, ts, heard, now);
    }

    /// A client has said where it stands.
    pub(crate) fn located(
        &mut self,
        desc: Desc,
        word: Word,
        ts: Option<(u32, u32)>,
        heard: i64,
        now: i64,
    ) {
        if let Some(r) = self.rescues.flows.get(&desc.key) {
            let ms = (now - r.begun) / MS;
            // How far below the client's next byte it was asked.
            let known = r.record.acked.max(r.record.start) as u32;
            let below = word.ack.wrapping_sub(known).wrapping_add(1) as i32;
            let flow = desc.key.to_string();
            let note = json!({"flow": flow, "after_ms": ms, "expects": word.ack, "below": below});
            self.timeline.note("located", note);
        }
        self.spoken(&desc.key, word, ts, heard, now);
    }

    fn spoken(&mut self, key: &FlowKey, word: Word, ts: Option<(u32, u32)>, heard: i64, now: i64) {
        let Some(rescue) = self.rescues.flows.get_mut(key) else {
            return;
        };
        if matches!(rescue.stage, Stage::Idle) {
            // Nobody has waited for it until now.
            rescue.begun = now;
        }
        if matches!(
            rescue.stage,
            Stage::Asking { .. } | Stage::Waiting { .. } | Stage::Joining | Stage::Delivering
        ) {
            return;
        }
        if let Some((tsval, tsecr)) = ts {
            // Its echo may be older than what the record has seen; its own clock is not.
            let old = rescue.record.clock;
            let newer = old.is_none_or(|c| tsecr.wrapping_sub(c.tsecr) as i32 > 0);
            rescue.record.clock = match old {
                Some(c) if !newer => Some(Clock { tsval, ..c }),
                _ => Some(Clock {
                    tsval,
                    tsecr,
                    heard,
                }),
            };
        }
        match plan(&rescue.record, word) {
            Plan::Silent { at, c2s_next } => {
                let record = &mut rescue.record;
                (record.request, record.start, record.state) = (c2s_next, at, State::Idle);
                record.acked = at;
                self.connect(key, None, now);
            }
            Plan::Ask(ask) => self.connect(key, Some(Box::new(ask)), now),
            Plan::Again if rescue.tries < ASK_AGAIN => {
                rescue.tries += 1;
                self.locate(key, now);
            }
            Plan::Again => self.refuse(key, "outdated", Verdict::Reset),
            Plan::Finished => self.refuse(key, "finished", Verdict::Pass),
            Plan::Refuse(why) => self.refuse(key, &why.to_string(), Verdict::Reset),
        }
    }

    pub(crate) fn connect(&mut self, key: &FlowKey, ask: Option<Box<Ask>>, now: i64) {
        let Some(rescue) = self.rescues.flows.get_mut(key) else {
            return;
        };
        let limit = now + self.limits.answer_ms as i64 * MS;
        let patience = *rescue.patience.get_or_insert(limit);
        let record = &rescue.record;
        let recover = Recover {
            record,
            ts_age: record.ts_age(now),
            at: ask.as_ref().map_or(record.start, |a| a.at),
            c2s_next: ask.as_ref().map_or(record.request, |a| a.c2s_next),
            request: ask.as_ref().map_or(&[], |a| &a.request),
            window: ask.as_ref().map_or(1, |a| a.window),
            local_port: match (rescue.search.is_elsewhere(), &self.next.relay) {
                (true, Some(relay)) => relay.port(key),
                _ => None,
            },
        };
        match self.kernel.recover(&recover) {
            Ok(flow) => {
                self.rescues.identify(key, flow);
                self.timeline
                    .note("recovering", json!({"flow": key.to_string()}));
                let stage = match ask {
                    None => {
                        // The record is another one now; it is safe before the client is.
                        let record = self.rescues.flows.get(key).map(|r| r.record.clone());
                        if let Some(record) = record {
                            self.put(&record, now);
                        }
                        Stage::Joining
                    }
                    Some(ask) => Stage::Asking {
                        ask,
                        begun: false,
                        answer: Stream::new(0, ANSWER),
                        fin: false,
                        join: None,
                    },
                };
                self.rescues.set(key, stage, patience);
            }
            // The client may have said more meanwhile: its next word is on its way.
            Err(_) if rescue.tries < ASK_AGAIN => {
                rescue.tries += 1;
                self.rescues.set(key, Stage::Locating, patience);
            }
            Err(e) => self.refuse(key, &format!("recover: {e}"), Verdict::Reset),
        }
    }

    /// A ghost was sent to a server.
    pub(crate) fn asked(&mut self, flow: u64) {
        let key = self.rescues.by_id.get(&flow);
        let rescue = key.and_then(|key| self.rescues.flows.get_mut(key));
        if let Some(Stage::Asking { begun, .. }) = rescue.map(|r| &mut r.stage) {
            *begun = true;
        }
    }

    /// The server has answered to a ghost.
    pub(crate) fn answer(&mut self, flow: u64, pos: u64, data: &[u8], ends: bool, now: i64) {
        let Some(key) = self.rescues.by_id.get(&flow).copied() else {
            return;
        };
        let Some(rescue) = self.rescues.flows.get_mut(&key) else {
            return;
        };
        let Stage::Asking {
            begun: true,
            answer,
            fin,
            ..
        } = &mut rescue.stage
        else {
            return;
        };
        *fin |= ends;
        match answer.insert(pos, data) {
            Ok(()) => self.weigh(&key, now),
            Err(_) => self.refuse(&key, "answer out of bounds", Verdict::Reset),
        }
    }

    /// Compares an answer with its record; a right one is joined once its record is safe.
    fn weigh(&mut self, key: &FlowKey, now: i64) {
        let Some(rescue) = self.rescues.flows.get_mut(key) else {
            return;
        };
        let Stage::Asking {
            ask,
            begun: true,
            answer,
            fin,
            join,
        } = &mut rescue.stage
        else {
            return;
        };
        match judge(&rescue.record, ask, answer.bytes(), *fin) {
            Judgement::NeedMore => {}
            // A server that dies while it answers may be back in a moment.
            Judgement::Refuse(Refusal::Closed) if rescue.tries < ASK_AGAIN => {
                rescue.tries += 1;
                self.count_of(key.service, "answers-broken-off");
                self.locate(key, now);
            }
            Judgement::Refuse(why) if why.is_of_the_server() => {
                self.elsewhere(key, &why.to_string(), now);
            }
            Judgement::Refuse(why) => self.refuse(key, &why.to_string(), Verdict::Reset),
            Judgement::Join(found) => {
                let record = found.record.clone();
                let first = join
                    .replace(Box::new(found))
                    .is_none_or(|old| old.record != record);
                if first {
                    self.put(&record, now);
                }
                if let Some(rescue) = self.rescues.flows.get_mut(key) {
                    if !std::mem::replace(&mut rescue.waits, true) {
                        self.quorum.wait(Wait::Join(*key));
                    }
                }
            }
        }
    }

    /// The record of a rescued flow is safe.
    pub(crate) fn join(&mut self, key: &FlowKey) {
        let Some(rescue) = self.rescues.flows.get_mut(key) else {
            return;
        };
        rescue.waits = false;
        let (
            Stage::Asking {
                join: Some(join), ..
            },
            Some(id),
        ) = (&rescue.stage, rescue.flow)
        else {
            return;
        };
        let splice = Splice {
            id,
            key: *key,
            prefix: &join.prefix,
            answer_length: join.answer_length,
            object_start: join.object_start,
            object_end: join.object_end,
        };
        match self.kernel.join(&splice) {
            Ok(()) => {
                rescue.record = join.record.clone();
                self.rescues.set(key, Stage::Delivering, i64::MAX);
            }
            // The rest of the answer is in the log; the next entry or tick tries again.
            Err(Refused::Again) => {}
            Err(e) => self.refuse(key, &format!("join: {e}"), Verdict::Reset),
        }
    }

    /// The client goes on with the new server.
    pub(crate) fn spliced(&mut self, flow: u64, pos: u64) {
        let Some(key) = self.rescues.by_id.get(&flow).copied() else {
            return;
        };
        let Some(rescue) = self.rescues.remove(&key) else {
            return;
        };
        let took = crate::timeline::monotonic() - rescue.begun;
        let ms = took / MS;
        let failover = &mut self.tally.of(key.service).failover;
        failover.add(took as f64 / 1e9);
        let note = json!({"flow": key.to_string(), "at": pos, "after_ms": ms});
        self.timeline.note("spliced", note);
        self.count_of(key.service, "flows-recovered");
        if let Some(peer) = rescue.search.peer() {
            self.count_of(key.service, "flows-relayed");
            let note = json!({"flow": key.to_string(), "to": peer});
            self.timeline.note("relayed", note);
        }
        self.restarts.is_back(&key);
        let mut tracker = Tracker::resume(rescue.record);
        if tracker.record().strict && !self.is_strict(&key) {
            // What the dead node promised is not promised here.
            tracker.weaken();
            self.put(tracker.record(), crate::timeline::monotonic());
        }
        self.trackers.insert(flow, tracker);
    }

    /// The kernel could not go on with a flow.
    pub(crate) fn failed(&mut self, flow: u64, why: Failure, now: i64) {
        if let Some(t) = self.trackers.remove(&flow) {
            self.drop_record(&t.record().clone());
        }
        let Some(key) = self.rescues.by_id.get(&flow).copied() else {
            return;
        };
        let note = json!({"flow": key.to_string(), "why": format!("{why:?}")});
        self.timeline.note("failed", note);
        let restart = self.restarts.until(&key);
        let Some(rescue) = self.rescues.flows.get_mut(&key) else {
            return;
        };
        let (again, waits) = (restart.or(rescue.patience), restart.is_some());
        match why {
            // Another one, before this was asked.
            Failure::Server if matches!(rescue.stage, Stage::Asking { begun: false, .. }) => {}
            Failure::Server if rescue.is_asked_elsewhere() => {
                self.elsewhere(&key, "its server refused", now);
            }
            Failure::Server if again.is_some_and(|p| now + SERVER_AGAIN < p) || waits => {
                if waits && again.is_some_and(|p| now >= p) {
                    // The daemon looks for another node; meanwhile it is asked again.
                    self.restarts.gives_up();
                }
                let ask = match std::mem::replace(&mut rescue.stage, Stage::Joining) {
                    Stage::Asking { ask, .. } => Some(ask),
                    _ => None,
                };
                self.rescues
                    .set(&key, Stage::Waiting { ask }, now + SERVER_AGAIN);
            }
            Failure::Server => self.refuse(&key, "the local server refused", Verdict::Reset),
            Failure::Silent if rescue.probed_until.is_some_and(|p| now < p) => {
                // Again, behind those that have not had their turn.
                self.rescues.unidentify(&key);
                self.rescues.set(&key, Stage::Queued, i64::MAX);
                self.rescues.queue.push_back(key);
            }
            Failure::Silent => {
                self.rescues.unidentify(&key);
                self.silent(&key, now);
            }
            Failure::Reset(_) => {
                if let Some(rescue) = self.rescues.remove(&key) {
                    self.drop_record(&rescue.record);
                }
                self.count_of(key.service, "recovery-failed");
            }
        }
    }

    /// A flow that was being rescued is over: its client has gone.
    pub(crate) fn closed(&mut self, flow: u64, _now: i64) {
        let Some(key) = self.rescues.by_id.get(&flow).copied() else {
            return;
        };
        if let Some(rescue) = self.rescues.remove(&key) {
            self.drop_record(&rescue.record);
        }
    }

    pub(crate) fn refuse(&mut self, key: &FlowKey, why: &str, verdict: Verdict) {
        let Some(rescue) = self.rescues.remove(key) else {
            return;
        };
        if let Some(relay) = &self.next.relay {
            relay.forget(key);
        }
        self.drop_record(&rescue.record);
        self.end(key, verdict);
        let name = if verdict == Verdict::Pass {
            "recovery-finished"
        } else {
            "recovery-refused"
        };
        self.count_of(key.service, name);
        if verdict != Verdict::Pass {
            let reason = format!("refused-{}", reason(why));
            self.tally.count(key.service, &reason);
        }
        self.timeline
            .note(name, json!({"flow": key.to_string(), "why": why}));
    }
}
