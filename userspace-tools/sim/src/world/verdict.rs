// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! How a connection has ended, if it has.

use super::{Outcome, World};
use crate::app::CLOSED_EARLY;
use crate::tcp::State;

/// Virtual microseconds after which a connection counts as stalled.
const TIME_LIMIT: u64 = 900_000_000;

/// Events after which a case counts as a storm.
const EVENT_LIMIT: u64 = 1_000_000;

impl World {
    pub(super) fn verdict(&mut self) -> Option<Outcome> {
        if let Some(v) = self.referee.violations.first() {
            return Some(Outcome::Wrong(v.clone()));
        }
        if let Some(w) = &self.client.wrong {
            if w == CLOSED_EARLY && self.nodes.iter().any(|n| n.server.bored) {
                return Some(Outcome::Excused("the server's idle timeout"));
            }
            // Only where a process dies is a close an excuse: it may be one that passes.
            let dies = self.sc.crashes.iter().any(|c| c.process.is_some());
            // A head that its sender's window cut off ends in no FIN before its time is over.
            let c = holdfast_core::counter::Counter::HoldTimeout as usize;
            let held = self.nodes.iter().any(|n| n.counts[c] > 0);
            let excuse = self.excuse.or(held.then_some("held too long"));
            if let Some(why) = excuse.filter(|_| w == CLOSED_EARLY && dies) {
                return Some(Outcome::Excused(why));
            }
            return Some(Outcome::Wrong(w.clone()));
        }
        // What has come before the end, or a reset, is still read.
        let reads_on = self.client.reads_on(&self.sock);
        if self.sock.state == State::TimeWait && self.client.satisfied() {
            return Some(Outcome::Complete);
        }
        if self.sock.state == State::TimeWait && !reads_on {
            return Some(Outcome::Wrong("closed before everything came".into()));
        }
        if let Some(why) = self.sock.failed.filter(|_| !reads_on) {
            let why = format!(
                "{why}; {:?}",
                self.daemons
                    .iter()
                    .flat_map(|d| &d.refusals)
                    .collect::<Vec<_>>()
            );
            return Some(self.lost_or_excused(why, false));
        }
        if self.now > TIME_LIMIT || self.events > EVENT_LIMIT {
            return Some(self.lost_or_excused("time is over".into(), true));
        }
        None
    }

    pub(super) fn lost_or_excused(&self, why: String, stalled: bool) -> Outcome {
        // A process died inside a head: no record came, and its close went on as it was.
        let timeout = holdfast_core::counter::Counter::HoldTimeout as usize;
        let process = self.sc.crashes.iter().any(|c| c.process.is_some());
        if process && !stalled && self.nodes.iter().any(|n| n.counts[timeout] > 0) {
            return Outcome::Excused("held too long");
        }
        if self.client.has_closed() && self.client.satisfied() && !stalled {
            return Outcome::Excused("reset in teardown");
        }
        // Nobody knows whether the response before was over when the client asked for the next.
        let unknown = self.sc.deterministic && self.sc.objects.iter().any(|o| o.chunked);
        if !stalled && unknown && why.contains("unprotected (pipelined)") {
            return Outcome::Excused("asked behind an unknown end");
        }
        match (self.excuse, stalled) {
            (Some("all dead"), _) => Outcome::Excused("all dead"),
            (Some(excuse), false) => Outcome::Excused(excuse),
            // The reset was lost, and the client has nothing to say.
            (Some(excuse), true) if self.referee.resets > 0 => Outcome::Excused(excuse),
            (_, true) => Outcome::Stalled(why),
            (_, false) => Outcome::Lost(why),
        }
    }
}
