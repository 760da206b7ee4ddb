// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a server is asked in a client's place, its answer, and the join of the two.

use libholdfast::recovery::{judge, Ask, Judgement, Refusal};
use libholdfast::stream::Stream;
use libholdfast::tracker::Tracker;
use libholdfast::types::FlowKey;
use serde_json::json;

use super::{Stage, ANSWER, ASK_AGAIN, MS};
use crate::engine::{Engine, Wait};
use crate::kernel::{Kernel, Recover, Refused, Splice, Verdict};

impl<K: Kernel> Engine<K> {
    pub(crate) fn connect(&mut self, key: &FlowKey, ask: Option<Box<Ask>>, now: i64) {
        let Some(rescue) = self.rescues.get_mut(key) else {
            return;
        };
        let limit = now + self.limits.answer_ms as i64 * MS;
        let patience = match self.restarts.until(key) {
            // How long it is waited for is another matter: each attempt has all the time.
            Some(_) => *rescue.patience.insert(limit),
            None => *rescue.patience.get_or_insert(limit),
        };
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
                        let record = self.rescues.get(key).map(|r| r.record.clone());
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
                        waits: None,
                    },
                };
                self.rescues.set(key, stage, patience);
            }
            // The client has said more meanwhile: its next word is on its way.
            Err(Refused::Misfit(_)) if rescue.tries < ASK_AGAIN => {
                rescue.tries += 1;
                self.rescues.set(key, Stage::Locating, patience);
            }
            // No word follows from that (out of memory, another phase): all begins again.
            Err(_) if rescue.tries < ASK_AGAIN => {
                rescue.tries += 1;
                rescue.patience = None;
                self.locate(key, now);
            }
            Err(e) => self.refuse(key, &format!("recover: {e}"), Verdict::Reset),
        }
    }

    /// A ghost was sent to a server.
    pub(crate) fn asked(&mut self, flow: u64) {
        let key = self.rescues.named(flow);
        let rescue = key.and_then(|key| self.rescues.get_mut(&key));
        if let Some(Stage::Asking { begun, .. }) = rescue.map(|r| &mut r.stage) {
            *begun = true;
        }
    }

    /// The server has answered to a ghost.
    pub(crate) fn answer(&mut self, flow: u64, pos: u64, data: &[u8], ends: bool, now: i64) {
        let Some(key) = self.rescues.named(flow) else {
            return;
        };
        let Some(rescue) = self.rescues.get_mut(&key) else {
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
    pub(super) fn weigh(&mut self, key: &FlowKey, now: i64) {
        let number = self.rescues.next_join();
        let Some(rescue) = self.rescues.get_mut(key) else {
            return;
        };
        let Stage::Asking {
            ask,
            begun: true,
            answer,
            fin,
            join,
            waits,
        } = &mut rescue.stage
        else {
            return;
        };
        match judge(&rescue.record, ask, answer.bytes(), *fin) {
            Judgement::NeedMore => {}
            Judgement::Refuse(Refusal::Closed) if rescue.tries < ASK_AGAIN => {
                self.ask_anew(key, now);
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
                if !first && waits.is_some() {
                    return;
                }
                // Behind its own record, not behind one that was told before.
                *waits = Some(number);
                if first {
                    self.put(&record, now);
                }
                self.quorum.wait(Wait::Join(*key, number));
            }
        }
    }

    /// The record of a rescued flow is safe, with which the join of this number is.
    pub(crate) fn join(&mut self, key: &FlowKey, number: u64) {
        let Some(rescue) = self.rescues.get_mut(key) else {
            return;
        };
        let (
            Stage::Asking {
                ask,
                join: Some(join),
                waits,
                ..
            },
            Some(id),
        ) = (&mut rescue.stage, rescue.flow)
        else {
            return;
        };
        if *waits != Some(number) {
            return;
        }
        *waits = None;
        let splice = Splice {
            id,
            key: *key,
            prefix: &join.prefix,
            answer_length: join.answer_length,
            skip: join.skip,
            object_start: join.object_start,
            object_end: join.object_end,
        };
        match self.kernel.join(&splice) {
            Ok(()) => {
                let skip = join.skip;
                let stage = match skip {
                    0 => Stage::Delivering,
                    _ => Stage::Replaying { ask: ask.clone() },
                };
                rescue.record = join.record.clone();
                self.rescues.set(key, stage, i64::MAX);
                if skip > 0 {
                    let note = json!({"flow": key.to_string(), "bytes": skip});
                    self.timeline.note("replaying", note);
                    self.count_of(key.service, "replays");
                }
            }
            // The rest of the answer is in the log; the next entry or tick tries again.
            Err(Refused::Again) => self.rescues.grows(key),
            Err(e) => self.refuse(key, &format!("join: {e}"), Verdict::Reset),
        }
    }

    /// A server that dies while it answers may be back in a moment.
    fn ask_anew(&mut self, key: &FlowKey, now: i64) {
        if let Some(rescue) = self.rescues.get_mut(key) {
            rescue.tries += 1;
            // It may have said much, and its client have waited long, before that.
            (rescue.patience, rescue.probed_until) = (None, None);
        }
        self.count_of(key.service, "answers-broken-off");
        self.locate(key, now);
    }

    /// A server has said less than the client has, or has stopped.
    pub(super) fn broken_off(&mut self, key: &FlowKey, now: i64) {
        let Some(rescue) = self.rescues.get_mut(key) else {
            return;
        };
        match rescue.search.peer() {
            None if rescue.tries < ASK_AGAIN => self.ask_anew(key, now),
            _ => self.elsewhere(key, &Refusal::Closed.to_string(), now),
        }
    }

    /// The client goes on with the new server.
    pub(crate) fn spliced(&mut self, flow: u64, pos: u64) {
        let Some(key) = self.rescues.named(flow) else {
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
        tracker.declare(self.is_deterministic(key.service));
        if tracker.record().strict && !self.is_strict(&key) {
            // What the dead node promised is not promised here.
            tracker.weaken();
            self.put(tracker.record(), crate::timeline::monotonic());
        }
        self.trackers.insert(flow, tracker);
    }
}
