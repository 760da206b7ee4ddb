// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Whose turn it is: for no more than `recovery.concurrency` flows servers are asked at once, and no
//! more than [`PROBED`] times as many clients are probed.
//!
//! Clients that have spoken are taken in that order: they are there, they say where they stand, and
//! they wait; of those that must be asked once more, none waits for a whole round again. They do
//! not wait for the silent ones, each of which may be probed for ten seconds: these have turns of their
//! own, the newest response first, then those that have not answered yet. Who is replayed has no
//! turn and needs none; where that has failed for the last time, the server of the next node is asked
//! at once.
//!
//! Nothing of what a client says is lost while it waits: its last word is kept, and counts when its
//! turn comes. But the kernel's patience is not endless. An orphan passes after `verdict-ms`, a close
//! that is held back is let through after as long, and either is the end of the connection. Half of
//! that time such a flow is left as it is; nearly all have had their turn by then. After that its
//! client is asked where it stands ([`Kernel::locate`]), which claims the flow, and asked again
//! every [`HOLD`]: a client that was located is reset after ten seconds (`LOCATED_TIME` of the
//! module), and one that has said nothing for as long is forgotten. So it costs a probe and its answer
//! in that time to keep a flow, and what the client has said meanwhile is heard, too. Beyond 4096
//! orphans (`orphan_limit`) packets are dropped without a word, and their clients send them again.

use std::collections::VecDeque;

use libholdfast::record::State;
use libholdfast::recovery::Word;
use libholdfast::types::FlowKey;

use super::{Rescue, Stage, MS};
use crate::engine::Engine;
use crate::kernel::Kernel;

/// How often the kernel is told that a flow which it has claimed is still wanted: half of the time
/// after which it gives up one whose client has spoken, or has not.
pub(super) const HOLD: i64 = 5_000 * MS;

/// Most flows that are kept so with one tick, as heartbeats must not wait for thousands, unless that
/// is less than a [`SHARE`] of all that wait.
pub(super) const HOLDS: usize = 64;

/// Ticks, 10 ms each at most, in which all that wait can be kept: half of [`HOLD`], and the kernel waits
/// for as long as that again. The most urgent come first.
const SHARE: usize = 250;

/// How many times `recovery.concurrency` clients are probed at once: that costs each of them, and this
/// node, a packet in 510 ms.
const PROBED: usize = 16;

/// Most flows that are begun with at once, of either kind, for the same reason as [`HOLDS`].
const BEGUN: usize = 256;

/// Time that the client of an unprotected flow has to speak by itself before it is asked where it
/// stands: those whose connections go on are not to wait for it.
const UNHEARD: i64 = 2_000 * MS;

/// Who waits for a turn. Names of flows that do so no more are passed over.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Their clients have spoken.
    spoken: VecDeque<FlowKey>,
    /// They are to be located.
    silent: VecDeque<FlowKey>,
    /// Unprotected flows and when they are to be located. Their clients must learn of the end,
    /// the silent ones too.
    unheard: VecDeque<(i64, FlowKey)>,
}

impl Turns {
    /// A flow is to be located, behind all that wait already.
    pub(super) fn join(&mut self, key: FlowKey) {
        self.silent.push_back(key);
    }

    /// The client of an unprotected flow may speak by itself.
    pub(super) fn listen(&mut self, key: FlowKey, now: i64) {
        self.unheard.push_back((now + UNHEARD, key));
    }

    /// Whether nobody waits for a turn.
    pub(super) fn is_empty(&self) -> bool {
        self.spoken.is_empty() && self.silent.is_empty()
    }
}

impl Rescue {
    /// What its client has said, if it waits for its turn.
    pub(super) fn waits(&self) -> Option<Option<Word>> {
        match self.stage {
            Stage::Queued { said } => Some(said),
            _ => None,
        }
    }
}

impl<K: Kernel> Engine<K> {
    /// The client of a flow for which no server is asked has spoken; the kernel keeps the flow until
    /// `kept`, and longer.
    pub(super) fn line_up(&mut self, key: &FlowKey, word: Word, kept: i64, now: i64) {
        let Some(rescue) = self.rescues.get(key) else {
            return;
        };
        let in_line = matches!(rescue.waits(), Some(Some(_)));
        let had_its_turn = rescue.tries > 0 || rescue.patience.is_some();
        let said = Some(word);
        self.rescues.set(key, Stage::Queued { said }, kept);
        let spoken = &mut self.rescues.turns.spoken;
        match (in_line, had_its_turn) {
            (true, _) => {}
            (false, true) => spoken.push_front(*key),
            (false, false) => spoken.push_back(*key),
        }
        self.take_turns(now);
    }

    /// Half of the time for which the kernel keeps a flow that nobody has claimed.
    pub(crate) fn unclaimed(&self, key: &FlowKey) -> i64 {
        let service = self.service(key.service);
        i64::from(service.map_or(0, |s| s.verdict_ms)) * MS / 2
    }

    /// The kernel keeps a flow, which waits for its turn, until `kept`, and longer.
    pub(crate) fn kept_until(&mut self, key: &FlowKey, kept: i64) {
        if self.rescues.get(key).is_some_and(|r| r.waits().is_some()) {
            self.rescues.change(key, |r| r.deadline = kept);
        }
    }

    /// Goes on with as many flows whose clients have spoken as may be under way.
    pub(super) fn take_turns(&mut self, now: i64) {
        let mut begun = 0..BEGUN;
        while self.rescues.active() < self.limits.concurrency && begun.next().is_some() {
            let Some(key) = self.rescues.turns.spoken.pop_front() else {
                break;
            };
            if let Some(Some(word)) = self.rescues.get(&key).and_then(Rescue::waits) {
                self.go_on(&key, word, now);
            }
        }
    }

    /// Begins to probe as many clients as may be.
    pub(super) fn probe_more(&mut self, now: i64) {
        while let Some(&(at, key)) = self.rescues.turns.unheard.front() {
            if at > now {
                break;
            }
            self.rescues.turns.unheard.pop_front();
            let unheard = |r: &Rescue| {
                matches!(r.stage, Stage::Idle) && matches!(r.record.state, State::Unprotected(_))
            };
            if self.rescues.get(&key).is_some_and(unheard) {
                self.rescues
                    .set(&key, Stage::Queued { said: None }, i64::MAX);
                self.rescues.turns.join(key);
            }
        }
        let most = self.limits.concurrency.saturating_mul(PROBED);
        let at_once = self.limits.concurrency.min(BEGUN);
        let mut begun = 0;
        while begun < at_once && self.rescues.probed() < most {
            let Some(key) = self.rescues.turns.silent.pop_front() else {
                break;
            };
            if let Some(None) = self.rescues.get(&key).and_then(Rescue::waits) {
                self.locate(&key, now);
                begun += 1;
            }
        }
    }

    /// Keeps flows whose turn has not come and which the kernel is about to give up.
    pub(super) fn keep(&mut self, now: i64) {
        for key in self.rescues.to_keep(now, SHARE) {
            if self.ask_client(&key, now) {
                self.kept_until(&key, now + HOLD);
            }
        }
    }
}
