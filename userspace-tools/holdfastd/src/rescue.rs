// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Flows of dead nodes, from the record to the join.
//!
//! ```text
//!   Idle --Orphan--> Queued, spoken --+         +--Silent--> Joining --Spliced--> tracked
//!                                     v         |               ^
//!   Queued --> Locating --Located--> [plan] ----+--Ask--> Asking --[judge], safe
//!                                                           +--skip--> Replaying --Spliced--> tracked
//! ```
//!
//! A flow in the middle of a response is located at once, an unprotected one soon; an idle one
//! goes on when its client speaks; each when it is its turn (`turns.rs`). At every step there is a
//! deadline, ours or the kernel's, and its end is a reset, counted; but a client that said nothing
//! is kept as an idle one, and forgotten after `recovery.idle-s`.

mod answer;
mod locate;
mod turns;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use libholdfast::record::{Record, State, Way};
use libholdfast::recovery::{Ask, Join, Word};
use libholdfast::stream::Stream;
use libholdfast::types::FlowKey;
use serde_json::json;

use crate::engine::Engine;
use crate::kernel::{Failure, Kernel, Verdict};
use crate::next::Search;
use turns::{Turns, HOLDS};

/// How often a client is asked again after an outdated word.
const ASK_AGAIN: u32 = 3;

/// Most bytes of an answer; the kernel may take more than it was asked to, never more than
/// a window without scale.
const ANSWER: usize = 64 * 1024;

/// How often idle flows are looked through for those whose time is over.
const SWEEP: i64 = 1000 * MS;

/// Time until a server that refused is asked again.
const SERVER_AGAIN: i64 = 50 * MS;

const MS: i64 = 1_000_000;

#[derive(Debug)]
enum Stage {
    /// Its client will speak when it wants something.
    Idle,
    /// Waits for its turn: to be located, or to go on from what its client has said. The deadline
    /// is when the kernel has to be told that it is still wanted.
    Queued {
        said: Option<Word>,
    },
    Locating,
    Asking {
        ask: Box<Ask>,
        /// The log has come to this question: what it tells from now on is of its answer.
        begun: bool,
        answer: Stream,
        fin: bool,
        join: Option<Box<Join>>,
        /// Of the join that waits until its record is safe.
        waits: Option<u64>,
    },
    /// The local server did not want us; it may soon.
    Waiting {
        ask: Option<Box<Ask>>,
    },
    /// The kernel discards what the client has of the answer. As long as that goes on there is no
    /// deadline, and the kernel says if it does not.
    Replaying {
        ask: Box<Ask>,
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
    /// Where else the object is looked for.
    search: Search,
}

/// The flows that are being taken over.
#[derive(Debug, Default)]
pub struct Rescues {
    flows: HashMap<FlowKey, Rescue>,
    by_id: HashMap<u64, FlowKey>,
    turns: Turns,
    /// When idle flows are looked through next.
    sweep: i64,
    active: usize,
    /// Number of the newest join that waits, of any flow: an answer that is not looked at any more must
    /// not be joined in the place of the one that is.
    joins: u64,
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

    /// Takes out the records of the flows of an address, with their numbers in the kernel.
    pub(crate) fn take_address(&mut self, addr: IpAddr) -> Vec<(Option<u64>, Record)> {
        self.take_where(|service| service.ip() == addr)
    }

    /// Takes out the records of the flows of a service, with their numbers in the kernel.
    pub(crate) fn take_service(&mut self, service: SocketAddr) -> Vec<(Option<u64>, Record)> {
        self.take_where(|of| *of == service)
    }

    fn take_where(&mut self, there: impl Fn(&SocketAddr) -> bool) -> Vec<(Option<u64>, Record)> {
        let keys = self.flows.keys().filter(|k| there(&k.service));
        let keys: Vec<_> = keys.copied().collect();
        let removed = keys.iter().filter_map(|key| self.remove(key));
        removed.map(|r| (r.flow, r.record)).collect()
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

    pub(crate) fn identify(&mut self, key: &FlowKey, flow: u64) {
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
        let rescue = self.flows.get_mut(key).filter(|r| !r.is_to_be_joined())?;
        rescue.patience = None;
        let deadline = rescue.deadline;
        match self.take_stage(key)? {
            Stage::Asking { ask, .. }
            | Stage::Replaying { ask }
            | Stage::Waiting { ask: Some(ask) } => Some(ask),
            other => {
                self.set(key, other, deadline);
                None
            }
        }
    }

    /// Takes out the stage of a flow, which is to have another one and is under way until then.
    fn take_stage(&mut self, key: &FlowKey) -> Option<Stage> {
        let rescue = self.flows.get_mut(key)?;
        let stage = std::mem::replace(&mut rescue.stage, Stage::Joining);
        self.active += usize::from(!is_active(&stage));
        Some(stage)
    }

    /// The number of a flow in the kernel.
    fn flow(&self, key: &FlowKey) -> Option<u64> {
        self.flows.get(key)?.flow
    }

    /// The kernel has nothing of the flow any more. The number that it had there.
    fn unidentify(&mut self, key: &FlowKey) -> Option<u64> {
        let old = self.flows.get_mut(key)?.flow.take()?;
        self.by_id.remove(&old);
        Some(old)
    }
}

impl Rescue {
    /// The server of a peer is asked for its object.
    fn is_asked_elsewhere(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. }) && self.search.is_elsewhere()
    }

    /// What was tried until now counts no more against what is to come.
    fn start_over(&mut self) {
        (self.patience, self.tries) = (None, 0);
    }

    /// An answer was right, and its record is on the way to the peers.
    fn is_to_be_joined(&self) -> bool {
        matches!(self.stage, Stage::Asking { waits: Some(_), .. })
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
    // Who replays is not counted: it may take long, and others are not to wait for it.
    !matches!(
        stage,
        Stage::Idle | Stage::Queued { .. } | Stage::Replaying { .. } | Stage::Delivering
    )
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
        if !self.is_deterministic(key.service) {
            // Whatever the other node's configuration declares.
            record.declare(false);
        }
        // The others must know whose it is from now on.
        self.put(&record, now);
        // What left this node a moment ago is still kept silent by its kernel, and would not be
        // found as an orphan.
        let busy = matches!(record.state, State::Responding(_) | State::Requesting(_))
            || self.handed.left_lately(&key, now);
        let stage = match busy {
            true => Stage::Queued { said: None },
            false => Stage::Idle,
        };
        if busy {
            self.rescues.turns.join(key);
        } else if matches!(record.state, State::Unprotected(_)) {
            self.rescues.turns.listen(key, now);
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
            search: Search::default(),
        };
        self.rescues.remove(&key);
        self.rescues.flows.insert(key, rescue);
    }

    /// Lets time pass: starts what may start and ends what took too long.
    pub fn tick(&mut self, now: i64) {
        self.take_turns(now);
        self.expire(now);
        if self.rescues.active == 0 {
            return self.settle();
        }
        let late: Vec<_> = self
            .rescues
            .flows
            .iter()
            .filter(|(_, r)| !matches!(r.stage, Stage::Idle) && r.deadline <= now)
            .map(|(k, _)| *k)
            .collect();
        let mut holds = 0..HOLDS;
        for key in late {
            let rescue = self.rescues.flows.get_mut(&key);
            if rescue.as_ref().is_some_and(|r| r.waits().is_some()) {
                if holds.next().is_some() {
                    self.hold(&key, now);
                }
                continue;
            }
            if rescue.as_ref().is_some_and(|r| r.is_probed()) {
                // The kernel's part of it ends without a word; its last entries are not ours.
                let flow = self.rescues.unidentify(&key);
                self.end(flow, &key, Verdict::Abandon);
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
            .filter(|(_, r)| matches!(r.stage, Stage::Asking { .. }) && !r.is_to_be_joined())
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
            rescue.start_over();
            rescue.probed_until = None;
        }
        // Nor is a server waited for that had died before.
        self.restarts.is_back(key);
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
            if self.give_up(&key).is_some() {
                self.count_of(key.service, "recovery-expired");
            }
        }
    }

    /// The kernel could not go on with a flow.
    pub(crate) fn failed(&mut self, flow: u64, why: Failure, now: i64) {
        if let Some(t) = self.trackers.remove(&flow) {
            self.restarts.forget(&t.record().key);
            self.drop_record(t.record());
        }
        let Some(key) = self.rescues.by_id.get(&flow).copied() else {
            return;
        };
        let note = json!({"flow": key.to_string(), "why": format!("{why:?}")});
        self.timeline.note("failed", note);
        let restart = self.restarts.until(&key);
        let silent = now + self.limits.locate_ms as i64 * MS;
        let Some(rescue) = self.rescues.flows.get_mut(&key) else {
            return;
        };
        let (again, waits) = (restart.or(rescue.patience), restart.is_some());
        match why {
            // Another one, before this was asked.
            Failure::Server if matches!(rescue.stage, Stage::Asking { begun: false, .. }) => {}
            Failure::Server if matches!(rescue.stage, Stage::Replaying { .. }) => {
                self.broken_off(&key, now);
            }
            Failure::Server if rescue.is_asked_elsewhere() => {
                self.elsewhere(&key, "its server refused", now);
            }
            Failure::Server if again.is_some_and(|p| now + SERVER_AGAIN < p) || waits => {
                if waits && again.is_some_and(|p| now >= p) {
                    // The daemon looks for another node; meanwhile it is asked again.
                    self.restarts.gives_up();
                }
                let ask = match self.rescues.take_stage(&key) {
                    Some(Stage::Asking { ask, .. }) => Some(ask),
                    _ => None,
                };
                self.rescues
                    .set(&key, Stage::Waiting { ask }, now + SERVER_AGAIN);
            }
            Failure::Server => self.refuse(&key, "the local server refused", Verdict::Reset),
            Failure::Silent => {
                // One that has spoken, and had to wait, is looked for from now on.
                let until = *rescue.probed_until.get_or_insert(silent);
                rescue.start_over();
                self.rescues.unidentify(&key);
                if now >= until {
                    return self.silent(&key, now);
                }
                // Again, behind those that have not had their turn.
                self.rescues
                    .set(&key, Stage::Queued { said: None }, i64::MAX);
                self.rescues.turns.join(key);
            }
            Failure::Reset(_) => {
                self.give_up(&key);
                self.count_of(key.service, "recovery-failed");
            }
        }
    }

    /// A flow that was being rescued is over: its client has gone.
    pub(crate) fn closed(&mut self, flow: u64, _now: i64) {
        let Some(key) = self.rescues.by_id.get(&flow).copied() else {
            return;
        };
        self.give_up(&key);
    }

    /// Nobody goes on with a flow: all that is known of it is forgotten, in the support group too.
    fn give_up(&mut self, key: &FlowKey) -> Option<Rescue> {
        let rescue = self.rescues.remove(key)?;
        // The client may use its port again, and the next server is not one that has died.
        self.restarts.forget(key);
        if let Some(relay) = &self.next.relay {
            relay.forget(key);
        }
        self.drop_record(&rescue.record);
        Some(rescue)
    }

    pub(crate) fn refuse(&mut self, key: &FlowKey, why: &str, verdict: Verdict) {
        let Some(rescue) = self.give_up(key) else {
            return;
        };
        // Of one that has no number the kernel knows nothing: what has its name is another one.
        if rescue.flow.is_some() {
            self.end(rescue.flow, key, verdict);
        }
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
