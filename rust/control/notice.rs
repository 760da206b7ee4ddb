// SPDX-License-Identifier: GPL-2.0

//! Notifications: a flow has changed its phase.

use super::{flow, EVENTS, FAMILY};
use crate::hcore::flow::{Flow, Phase, Snapshot};
use crate::hcore::wire::Key;
use crate::net::genl::Gfp;
use crate::net::pernet::Net;
use crate::netlink_gen as nl;

/// A notification that is to be sent once the flow's lock is released.
pub(crate) struct Notice {
    id: u64,
    key: Key,
    snapshot: Snapshot,
}

impl Notice {
    /// Of a flow as it is now.
    pub(crate) fn new(id: u64, flow: &Flow, now: u64) -> Self {
        Self {
            id,
            key: *flow.key(),
            snapshot: flow.snapshot(now),
        }
    }

    /// Tells who listens. Softirq or process context.
    pub(crate) fn send(&self, net: &Net) {
        let event = match self.snapshot.phase {
            // Nothing is known yet, or nothing of ours any more.
            Phase::Opening | Phase::Orphan | Phase::Locating | Phase::Passing => return,
            Phase::Open if self.snapshot.joined => nl::EVENT_SPLICED,
            Phase::Open => nl::EVENT_OPENED,
            Phase::Located => nl::EVENT_LOCATED,
            Phase::Ghost | Phase::Joining => nl::EVENT_RECOVERING,
            Phase::Closing if self.snapshot.failed => nl::EVENT_FAILED,
            Phase::Closing => nl::EVENT_CLOSED,
        };
        // A listener that does not keep up loses some, and learns so by ENOBUFS.
        let _ = FAMILY.multicast(net, EVENTS, nl::CMD_FLOW_NTF, Gfp::Atomic, |w| {
            flow::write(w, self.id, &self.key, &self.snapshot)?;
            w.put_u32(nl::A_FLOW_EVENT, event)
        });
    }
}
