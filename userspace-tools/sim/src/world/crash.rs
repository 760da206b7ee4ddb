// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! When a server dies, and what its client may lose by that.

use super::{Event, World};
use crate::app::{Object, Stage};
use crate::node::Node;
use crate::scenario::{CrashPhase, Process};
use crate::tcp::State;
use holdfast_core::flow::Phase;

impl World {
    /// Where the connection is, for choosing the moment of a crash.
    fn phase(&self) -> (usize, CrashPhase) {
        let server = &self.nodes[0].server;
        let n = self.client.at as u32 + 1;
        let phase = match self.client.stage {
            _ if self.sock.state == State::SynSent => CrashPhase::Syn,
            Stage::Between if self.client.at == 0 => CrashPhase::Syn,
            Stage::Between => CrashPhase::Between,
            Stage::Asked if server.requests < n => CrashPhase::Request,
            Stage::Asked if server.responses < n => CrashPhase::Waiting,
            Stage::Asked | Stage::Head => CrashPhase::Head,
            Stage::Body => CrashPhase::Body,
            Stage::Closing => CrashPhase::Teardown,
        };
        // "Between" comes after the body of the request before.
        let request = match phase {
            CrashPhase::Between => self.client.at - 1,
            CrashPhase::Teardown => self.sc.requests.len() - 1,
            _ => self.client.at,
        };
        (request, phase)
    }

    pub(super) fn maybe_crash(&mut self) {
        let Some(crash) = self.sc.crashes.get(self.crashes.len()).copied() else {
            return;
        };
        if !self.nodes[self.owner].alive {
            return;
        }
        let (request, phase) = self.phase();
        if self.countdown.is_none() {
            let reached = match self.crashes.is_empty() {
                true => {
                    let deep = phase != CrashPhase::Body || self.client.body() >= crash.body;
                    (request, phase) > (crash.request, crash.phase)
                        || ((request, phase) == (crash.request, crash.phase) && deep)
                }
                false => true,
            };
            if reached {
                self.countdown = Some(crash.after);
            }
        }
        match self.countdown {
            Some(0) => {}
            Some(n) => {
                self.countdown = Some(n - 1);
                return;
            }
            None => return,
        }
        self.countdown = None;
        let recovering = !matches!(
            self.nodes[self.owner].phase(),
            Some(Phase::Open | Phase::Opening | Phase::Closing)
        );
        let phase = match self.crashes.is_empty() {
            false if recovering => CrashPhase::Recovery,
            _ => phase,
        };
        self.crashes.push(phase);
        match crash.process {
            Some(process) => {
                self.kill_process(process);
                self.pump();
            }
            None => self.crash(),
        }
    }

    fn crash(&mut self) {
        let dead = self.owner;
        self.trace(|| format!("node {dead} dies in {:?}", self.crashes.last()));
        self.nodes[dead].alive = false;
        self.excuse_crash(dead);
        match self.nodes.iter().position(|n| n.alive) {
            Some(heir) => {
                let at = self.now + self.sc.detect;
                self.schedule(at, Event::TakeOver(heir as u32));
            }
            None => {
                self.excuse = Some("all dead");
            }
        }
    }

    /// The process of the server dies; its machine goes on.
    fn kill_process(&mut self, process: Process) {
        let (i, now) = (self.owner, self.now);
        let node = &mut self.nodes[i];
        let snap = node.flow.as_ref().map(|f| f.snapshot(0));
        let served = matches!(node.phase(), Some(Phase::Open | Phase::Joining));
        let owes = snap.is_some_and(|s| match (s.object_start, s.object_end) {
            (None, _) => false,
            (_, Some(end)) if process.rst => s.s2c_acked < end,
            (_, None) if process.rst => true,
            _ => !node.server.is_idle(),
        });
        let rescued = matches!(
            node.phase(),
            Some(Phase::Orphan | Phase::Locating | Phase::Located | Phase::Ghost)
        );
        if snap.is_some_and(|s| s.reason.is_some()) {
            self.excuse.get_or_insert("unprotected");
        }
        // All that a ghost has asked for may be in its server's socket already.
        let said = !process.rst && node.sock.is_some() && node.server.is_idle();
        if !(rescued && !said || served && owes) {
            // An ordinary close, as far as anybody can tell.
            self.excuse.get_or_insert("nothing was owed");
        }
        node.kill_process(process.rst, now + process.down, now);
        self.excuse_crash(i);
    }

    fn excuse_crash(&mut self, dead: usize) {
        let lacks = |n: &Node, o: &Object| (o.missing >> n.id) & 1 != 0;
        // The response before may not be over for the server's side yet.
        let at = self.client.at;
        for r in self
            .sc
            .requests
            .iter()
            .take(at + 1)
            .skip(at.saturating_sub(1))
        {
            let o = &self.sc.objects[r.id];
            let why = if r.split.is_some() || r.pad > 400 {
                // Bytes behind a pause are acknowledged before they are recorded.
                "request in pieces"
            } else if o.chunked && !self.sc.deterministic {
                "chunked"
            } else if !o.etag && !self.sc.deterministic {
                "no validator"
            } else if lacks(&self.nodes[dead], o)
                || self.nodes.iter().all(|n| !n.alive || lacks(n, o))
            {
                // Nobody has it, or it was missed where the others would not miss it.
                "object missing"
            } else {
                continue;
            };
            self.excuse.get_or_insert(why);
        }
        let c = holdfast_core::counter::Counter::HoldTimeout as usize;
        if self.nodes[dead].counts[c] > 0 {
            self.excuse.get_or_insert("held too long");
        }
    }
}
