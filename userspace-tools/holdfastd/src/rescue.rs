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
mod table;
mod turns;

use std::net::IpAddr;

use libholdfast::record::{Record, State, Way};
use libholdfast::recovery::{Ask, Join, Word};
use libholdfast::stream::Stream;
use libholdfast::types::FlowKey;
use serde_json::json;

use crate::engine::Engine;
use crate::kernel::{Failure, Kernel, Verdict};
use crate::next::Search;

pub use table::Rescues;

/// How often a client is asked again after an outdated word.
const ASK_AGAIN: u32 = 3;

/// Most bytes of an answer; the kernel may take more than it was asked to, never more than
/// a window without scale.
const ANSWER: usize = 64 * 1024;

/// Most flows whose time is over that one tick looks after, as heartbeats must not wait for thousands.
const DUE: usize = 256;

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
        self.rescues.insert(rescue);
    }

    /// Lets time pass: starts what may start and ends what took too long.
    pub fn tick(&mut self, now: i64) {
        self.take_turns(now);
        self.probe_more(now);
        self.keep(now);
        for key in self.rescues.due(now, DUE) {
            self.late(&key, now);
        }
        self.expire(now);
        for key in self.rescues.grown() {
            self.weigh(&key, now);
        }
        self.settle();
    }

    /// The time of a flow is over.
    fn late(&mut self, key: &FlowKey, now: i64) {
        let Some(rescue) = self.rescues.get(key) else {
            return;
        };
        if rescue.is_probed() {
            // The kernel's part of it ends without a word; its last entries are not ours.
            let flow = self.rescues.unidentify(key);
            self.end(flow, key, Verdict::Abandon);
            return self.silent(key, now);
        }
        if rescue.is_asked_elsewhere() {
            return self.elsewhere(key, "timeout", now);
        }
        match self.rescues.take_stage(key) {
            Some(Stage::Waiting { ask }) => self.connect(key, ask, now),
            _ => self.refuse(key, "timeout", Verdict::Reset),
        }
    }

    /// When a flow that is idle now has been so for too long.
    fn idle_until(&self, now: i64) -> i64 {
        now.saturating_add(self.limits.idle_s as i64 * 1000 * MS)
    }

    /// A client said nothing while it was probed: it may yet speak by itself.
    fn silent(&mut self, key: &FlowKey, now: i64) {
        self.count_of(key.service, "recovery-silent");
        let until = self.idle_until(now);
        if let Some(rescue) = self.rescues.get_mut(key) {
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
        for key in self.rescues.idle_until(now, DUE) {
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
        let Some(key) = self.rescues.named(flow) else {
            return;
        };
        let note = json!({"flow": key.to_string(), "why": format!("{why:?}")});
        self.timeline.note("failed", note);
        let restart = self.restarts.until(&key);
        let silent = now + self.limits.locate_ms as i64 * MS;
        let Some(rescue) = self.rescues.get_mut(&key) else {
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
        let Some(key) = self.rescues.named(flow) else {
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
