// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Where a client stands: it is probed, or speaks by itself, and the plan follows from its word.

use libholdfast::record::{Clock, State};
use libholdfast::recovery::{plan, Plan, Word};
use libholdfast::types::FlowKey;
use serde_json::json;

use super::turns::HOLD;
use super::{Stage, ASK_AGAIN, MS};
use crate::engine::Engine;
use crate::kernel::{Desc, Kernel, Verdict};

impl<K: Kernel> Engine<K> {
    pub(super) fn locate(&mut self, key: &FlowKey, now: i64) {
        let limit = now + self.limits.locate_ms as i64 * MS;
        let Some(rescue) = self.rescues.get_mut(key) else {
            return;
        };
        let deadline = *rescue.probed_until.get_or_insert(limit);
        if self.ask_client(key, now) {
            self.rescues.set(key, Stage::Locating, deadline);
        }
    }

    /// Has the kernel claim a flow and ask its client where it stands. If it does not, the flow is
    /// given up.
    pub(super) fn ask_client(&mut self, key: &FlowKey, now: i64) -> bool {
        let Some(rescue) = self.rescues.get(key) else {
            return false;
        };
        let record = &rescue.record;
        // Strictly below anything that the client may expect.
        let probe = (record.acked.max(record.start) as u32).wrapping_sub(1);
        match self.kernel.locate(record, record.ts_age(now), probe) {
            Ok(flow) => {
                self.rescues.identify(key, flow);
                true
            }
            Err(e) => {
                self.refuse(key, &format!("locate: {e}"), Verdict::Reset);
                false
            }
        }
    }

    /// A packet of a flow that nobody here knows.
    pub(crate) fn orphan(
        &mut self,
        flow: u64,
        desc: Desc,
        word: Word,
        ts: Option<(u32, u32)>,
        (heard, now): (i64, i64),
    ) {
        self.count("orphans");
        if self.rescues.get(&desc.key).is_none() {
            match self.store.take(&desc.key) {
                Some((_, record)) => self.adopt(record, now),
                None => {
                    self.count("orphans-unknown");
                    self.end(Some(flow), &desc.key, Verdict::Pass);
                    return;
                }
            }
        }
        if self.rescues.flow(&desc.key).is_none() {
            self.rescues.identify(&desc.key, flow);
        }
        let kept = heard + self.unclaimed(&desc.key);
        self.spoken(&desc.key, word, ts, (heard, kept), now);
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
        if let Some(r) = self.rescues.get(&desc.key) {
            let ms = (now - r.begun) / MS;
            // How far below the client's next byte it was asked.
            let known = r.record.acked.max(r.record.start) as u32;
            let below = word.ack.wrapping_sub(known).wrapping_add(1) as i32;
            let flow = desc.key.to_string();
            let note = json!({"flow": flow, "after_ms": ms, "expects": word.ack, "below": below});
            self.timeline.note("located", note);
        }
        self.spoken(&desc.key, word, ts, (heard, heard + HOLD), now);
    }

    /// A client was heard, and the kernel keeps its flow until `kept`, and longer.
    fn spoken(
        &mut self,
        key: &FlowKey,
        word: Word,
        ts: Option<(u32, u32)>,
        (heard, kept): (i64, i64),
        now: i64,
    ) {
        let Some(rescue) = self.rescues.get_mut(key) else {
            return;
        };
        if matches!(rescue.stage, Stage::Idle) {
            // Nobody has waited for it until now.
            rescue.begun = now;
        }
        match &rescue.stage {
            Stage::Idle | Stage::Queued { .. } | Stage::Locating => {}
            // What was under way to it has arrived; the question is another one now.
            Stage::Waiting { ask: Some(ask) } if ask.at as u32 != word.ack => {}
            Stage::Asking { .. }
            | Stage::Waiting { .. }
            | Stage::Replaying { .. }
            | Stage::Joining
            | Stage::Delivering => return,
        }
        // If it must be looked for once more, that has its own time.
        rescue.probed_until = None;
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
        self.line_up(key, word, kept, now);
    }

    /// It is the turn of a flow whose client has spoken.
    pub(super) fn go_on(&mut self, key: &FlowKey, word: Word, now: i64) {
        let Some(rescue) = self.rescues.get_mut(key) else {
            return;
        };
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
}
