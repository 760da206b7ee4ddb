// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Local servers that die while their machine lives.
//!
//! The kernel holds back the close that no living server would make. Its flow is then rescued
//! as if another node had died, on this one: the record is at hand, and the server may be back
//! in a moment. If it is not within `restart-ms`, the node hands everything over to another
//! one; without another one the client is reset.

use std::collections::HashMap;

use libholdfast::types::FlowKey;
use serde_json::json;

use crate::engine::Engine;
use crate::kernel::{Kernel, Verdict};

const MS: i64 = 1_000_000;

/// What is known of servers that have died here.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Where the client was when its server closed early the last time.
    seen: HashMap<FlowKey, u64>,
    /// Until when a refusal means that the server is not back yet.
    until: HashMap<FlowKey, i64>,
    /// A server did not come back in time.
    gone: bool,
}

impl Restarts {
    /// The server of `key` has closed early with its client at `acked`. Whether it did so there
    /// the last time, too.
    pub(crate) fn seen_at(&mut self, key: FlowKey, acked: u64) -> bool {
        self.seen.insert(key, acked) == Some(acked)
    }

    /// The flow is over, or somebody else's.
    pub(crate) fn forget(&mut self, key: &FlowKey) {
        self.seen.remove(key);
        self.until.remove(key);
    }

    /// Until when the server of `key` is waited for, if it has died here.
    pub(crate) fn until(&self, key: &FlowKey) -> Option<i64> {
        self.until.get(key).copied()
    }

    /// The server is back.
    pub(crate) fn is_back(&mut self, key: &FlowKey) {
        self.until.remove(key);
    }

    /// The server of some flow does not come back.
    pub(crate) fn gives_up(&mut self) {
        self.gone = true;
    }

    /// Whether nothing is remembered of any flow.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.until.is_empty()
    }

    /// Whether a server did not come back since the last call.
    pub(crate) fn take_gone(&mut self) -> bool {
        std::mem::take(&mut self.gone)
    }
}

impl<K: Kernel> Engine<K> {
    /// The local server of `flow` has closed early; its client has acknowledged `acked`.
    pub(crate) fn lost_server(&mut self, flow: u64, acked: u64, now: i64) {
        let Some(tracker) = self.trackers.get(&flow) else {
            return;
        };
        let (record, dead) = (tracker.record().clone(), tracker.is_dead());
        let key = record.key;
        // One that closes twice at the same byte means it.
        let again = self.restarts.seen_at(key, acked);
        if dead || again || !record.can_be_asked() {
            self.count_of(key.service, "closes-let-through");
            let note = json!({"flow": key.to_string(), "again": again});
            self.timeline.note("close-let-through", note);
            return self.end(Some(flow), &key, Verdict::Pass);
        }
        self.count_of(key.service, "servers-lost");
        let note = json!({"flow": key.to_string(), "acked": acked});
        self.timeline.note("server-lost", note);
        self.trackers.remove(&flow);
        self.by_key.remove(&key);
        let until = now + self.restart_ms(&key) * MS;
        self.restarts.until.insert(key, until);
        self.adopt(record, now);
        self.rescues.identify(&key, flow);
        // Until then nobody has claimed it.
        self.kept_until(&key, now + self.unclaimed(&key));
        self.tick(now);
    }

    fn restart_ms(&self, key: &FlowKey) -> i64 {
        let ms = self.service(key.service).map_or(0, |s| s.restart_ms);
        i64::try_from(ms).unwrap_or(i64::MAX / MS)
    }

    /// No other node can take over from a server that does not come back.
    pub fn server_is_gone(&mut self, now: i64) {
        let late: Vec<_> = self
            .restarts
            .until
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in late {
            self.restarts.until.remove(&key);
            self.refuse(&key, "the local server did not come back", Verdict::Reset);
        }
    }
}
