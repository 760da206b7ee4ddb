// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The planned hand-over of this node's addresses to another one.
//!
//! ```text
//!   Off --drain--> Waiting --deadline, or nothing is lost--> Leaving --addresses are down-->
//!   Flushing --all records final--> Offered --the successor claims--> Drained --undrain--> Off
//!                                      |
//!                                      +--it does not--> another is offered, or Back --> Off
//! ```
//!
//! Until the successor's claim is heard this node claims the addresses itself, so that nobody
//! else takes them; it is silent from Flushing on. An offer that is not taken up in time is
//! withdrawn by a claim that is newer than the one that was offered.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{json, Value};
use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::kernel::Kernel;
use crate::membership::Time;
use crate::store::{Fitness, Update};
use crate::timeline::monotonic;

/// How often the flows that nobody could continue are counted.
const LOOK: Duration = Duration::from_millis(100);

/// Longest wait for the end of the log of silenced flows.
const FLUSH: Duration = Duration::from_millis(500);

/// Longest wait for the claim of the successor.
const CLAIM: Duration = Duration::from_secs(2);

/// How far the hand-over is.
#[derive(Debug, Default)]
pub(crate) enum Stage {
    #[default]
    Off,
    /// For flows that nobody could continue.
    Waiting { deadline: Time, look: Time },
    /// These addresses are being given up; those in `down` are.
    Leaving {
        addrs: Vec<IpAddr>,
        down: HashSet<IpAddr>,
    },
    /// The flows are silenced; the rest of their log is being read.
    Flushing { addrs: Vec<IpAddr>, until: Time },
    /// The successor was told about these.
    Offered { addrs: Vec<IpAddr>, until: Time },
    /// The offer of these was withdrawn: once that is surely known, they are offered to another
    /// node, or taken up again here.
    Back { addrs: Vec<IpAddr>, at: Time },
    /// This node takes no addresses.
    Drained,
}

/// The hand-over of this node.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    stage: Stage,
    /// Who takes over.
    to: String,
    /// It was asked for; else it is chosen, and again when the wait is over.
    named: bool,
    /// Who did not.
    failed: HashSet<String>,
    began: Time,
    /// Addresses that are on their way back, and since when.
    back: (HashSet<IpAddr>, Time),
    /// Who wants to know when it is done.
    waiters: Vec<oneshot::Sender<Value>>,
}

impl Drain {
    /// Whether nothing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Off | Stage::Drained)
    }

    /// An address is here again.
    pub(crate) fn is_back(&mut self, addr: IpAddr) {
        self.back.0.remove(&addr);
    }

    /// Whether `addr` has left this node already.
    pub(crate) fn has_left(&self, addr: IpAddr) -> bool {
        match &self.stage {
            Stage::Leaving { down, .. } => down.contains(&addr),
            Stage::Flushing { addrs, .. } | Stage::Offered { addrs, .. } => addrs.contains(&addr),
            _ => false,
        }
    }

    /// What is to be said of it.
    pub(crate) fn status(&self) -> Value {
        let word = match &self.stage {
            Stage::Off => return json!("off"),
            Stage::Waiting { .. } => "waiting",
            Stage::Leaving { .. } | Stage::Flushing { .. } | Stage::Offered { .. } => {
                "handing over"
            }
            Stage::Back { .. } => "taking back",
            Stage::Drained if self.to.is_empty() => return json!("drained"),
            Stage::Drained => "drained",
        };
        json!(format!("{word} to {}", self.to))
    }

    fn done(&mut self, answer: &Value) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(answer.clone());
        }
    }
}

impl<K: Kernel> Daemon<K> {
    /// Begins to hand all addresses over; `reply` is answered when that is done, or at once if
    /// it cannot be.
    pub(crate) fn drain(
        &mut self,
        wait: Duration,
        to: Option<&str>,
        reply: Option<oneshot::Sender<Value>>,
    ) {
        let refuse = |reply: Option<oneshot::Sender<Value>>, why: &str| {
            if let Some(reply) = reply {
                let _ = reply.send(json!({"error": why}));
            }
        };
        match &mut self.drain.stage {
            Stage::Drained => {
                if let Some(reply) = reply {
                    let _ = reply.send(json!({"drain": self.drain.status()}));
                }
                return;
            }
            Stage::Off => {}
            // It is under way: only its deadline can be moved forward.
            stage => {
                if to.is_some_and(|to| to != self.drain.to) {
                    return refuse(reply, "a drain to another node is under way");
                }
                if let Stage::Waiting { deadline, .. } = stage {
                    *deadline = (*deadline).min(self.started.elapsed() + wait);
                }
                self.drain.waiters.extend(reply);
                return;
            }
        }
        let now = self.time();
        self.drain.failed.clear();
        if self.owned().is_empty() {
            self.drain.to.clear();
            self.drain.waiters.extend(reply);
            return self.drained();
        }
        if self.owned().iter().any(|a| self.membership.is_external(*a)) {
            return refuse(
                reply,
                "another program moves the addresses: move them with it",
            );
        }
        let named = to.is_some();
        let Some(to) = self.ready(to) else {
            let foreign = |n: &str| self.membership.foreign(n).is_some();
            let why = match self.peers.iter().any(|(n, _)| foreign(n)) {
                true => "no peer that speaks this node's version is ready to take over",
                false => "no peer is ready to take over",
            };
            return refuse(reply, why);
        };
        let ms = wait.as_millis() as u64;
        let note = json!({"to": to, "deadline_ms": ms});
        self.engine.timeline.note("drain", note);
        self.drain.to = to;
        self.drain.named = named;
        self.drain.began = now;
        self.drain.waiters.extend(reply);
        self.drain.stage = Stage::Waiting {
            deadline: now + wait,
            look: now,
        };
    }

    /// Local servers that do not come back are a reason to hand everything over.
    pub(crate) fn server_step(&mut self) {
        if !self.engine.restarts.take_gone() || !matches!(self.drain.stage, Stage::Off) {
            return;
        }
        self.engine.timeline.note("server-gone", json!({}));
        self.drain(Duration::ZERO, None, None);
        if let Stage::Off = self.drain.stage {
            self.engine.server_is_gone(monotonic());
        }
    }

    /// Takes addresses again.
    pub(crate) fn undrain(&mut self) -> Value {
        match self.drain.stage {
            Stage::Drained | Stage::Waiting { .. } => {
                self.membership.drain(None);
                self.drain.stage = Stage::Off;
                self.engine.timeline.note("undrained", json!({}));
                self.drain.done(&json!({"error": "undrained meanwhile"}));
                json!({"drain": "off"})
            }
            Stage::Off => json!({"drain": "off"}),
            _ => json!({"error": "the hand-over is under way"}),
        }
    }

    /// The peer that can take over: `wanted`, or of those that say they are ready the first by
    /// priority, or of those that are in doubt. One without a server must be asked for.
    fn ready(&self, wanted: Option<&str>) -> Option<String> {
        let now = self.time();
        let fitness = |n: &String| self.ready.fitness(n, now);
        let told = |n: &&String| self.engine.quorum.has_all(n) && self.links.contains_key(*n);
        let fits = |n: &&String| match wanted {
            Some(wanted) => wanted == **n,
            None => fitness(n) != Fitness::Unfit,
        };
        let willing = self.membership.willing();
        let able = |n: &&String| told(n) && fits(n) && !self.drain.failed.contains(*n);
        // The first of equals.
        let best = willing
            .iter()
            .filter(able)
            .min_by_key(|n| Reverse(fitness(n)));
        best.cloned()
    }

    fn owned(&self) -> Vec<IpAddr> {
        let all = self.addresses.keys().copied();
        all.filter(|a| self.membership.owns(*a)).collect()
    }

    /// Does what the hand-over waits for. To be called after everything that happens.
    pub(crate) fn drain_step(&mut self) {
        let now = self.time();
        match &mut self.drain.stage {
            Stage::Off | Stage::Drained | Stage::Leaving { .. } => {}
            Stage::Waiting { deadline, look } => {
                if now < *look {
                    return;
                }
                *look = now + LOOK;
                let late = now >= *deadline;
                if late || self.stuck() == 0 {
                    self.drain_leave();
                }
            }
            Stage::Flushing { addrs, until } => {
                if self.engine.handed.is_complete() || now >= *until {
                    let addrs = std::mem::take(addrs);
                    self.engine.hand_rest();
                    self.offer(addrs);
                }
            }
            Stage::Offered { addrs, until } => {
                let (addrs, late) = (addrs.clone(), now >= *until);
                if addrs.is_empty() {
                    self.drained();
                } else if late || self.membership.is_dead(&self.drain.to) {
                    self.not_taken(addrs);
                }
            }
            Stage::Back { addrs, at } => {
                if now >= *at {
                    let addrs = std::mem::take(addrs);
                    self.offer_again(addrs);
                }
            }
        }
    }

    fn stuck(&mut self) -> usize {
        let addrs = self.owned();
        addrs.iter().map(|a| self.engine.stuck(*a).len()).sum()
    }

    /// The addresses go first, so that no new connection comes here any more.
    fn drain_leave(&mut self) {
        let named = Some(&*self.drain.to).filter(|_| self.drain.named);
        match named
            .and_then(|to| self.ready(Some(to)))
            .or_else(|| self.ready(None))
        {
            Some(to) => self.drain.to = to,
            None => return self.drain_failed("no peer is ready to take over any more"),
        }
        let addrs = self.owned();
        for addr in &addrs {
            self.move_address(*addr, false);
        }
        let empty = addrs.is_empty();
        let down = HashSet::new();
        self.drain.stage = Stage::Leaving { addrs, down };
        if empty {
            // They went to somebody else while we waited.
            self.drained();
        }
    }

    /// An address was given up, or could not be.
    pub(crate) fn left(&mut self, addr: IpAddr, done: Result<(), String>) {
        let now = self.time();
        let Stage::Leaving { addrs, down } = &mut self.drain.stage else {
            return;
        };
        if !addrs.contains(&addr) {
            return;
        }
        if let Err(why) = done {
            // Nothing has been silenced yet.
            let back = std::mem::take(addrs);
            for addr in back {
                self.move_address(addr, true);
            }
            return self.drain_failed(&why);
        }
        down.insert(addr);
        if down.len() < addrs.len() {
            return;
        }
        let mut addrs = std::mem::take(addrs);
        addrs.retain(|a| self.membership.owns(*a));
        let (mut flows, mut reset) = (0, 0);
        for addr in &addrs {
            let (n, r) = self.engine.hand_over(*addr, monotonic());
            (flows, reset) = (flows + n, reset + r);
        }
        let note = json!({"to": self.drain.to, "flows": flows, "reset": reset});
        self.engine.timeline.note("handing-over", note);
        let until = now + FLUSH;
        self.drain.stage = Stage::Flushing { addrs, until };
    }

    /// Tells the successor to take over, behind all records.
    fn offer(&mut self, addrs: Vec<IpAddr>) {
        self.engine.tell_requests(monotonic());
        self.flush();
        let number = self.engine.quorum.number();
        let update = |addr: &IpAddr| {
            let generation = self.membership.successor_generation(*addr)?;
            let addr = *addr;
            Some(Update::HandOver { addr, generation })
        };
        let updates: Vec<_> = addrs.iter().filter_map(update).collect();
        let link = self.links.get(&self.drain.to);
        let told = link.is_some_and(|(_, tx)| tx.try_send((number, updates)).is_ok());
        if !told {
            return self.not_taken(addrs);
        }
        self.engine
            .timeline
            .note("offered", json!({"to": self.drain.to}));
        let until = self.time() + CLAIM;
        self.drain.stage = Stage::Offered { addrs, until };
    }

    /// A peer hands an address over to this node.
    pub(crate) fn offered(&mut self, peer: &str, addr: IpAddr, generation: u32) {
        match self.membership.accept(peer, addr, generation) {
            Some(change) => {
                self.changed(vec![change]);
                // The one that waits for it is silent already.
                self.beat();
            }
            None => self.engine.count("offers-refused"),
        }
    }

    /// `addr` has another owner: that may be the end of its hand-over.
    pub(crate) fn yielded(&mut self, addr: IpAddr, to: &str) {
        let there = match &mut self.drain.stage {
            Stage::Flushing { addrs, .. }
            | Stage::Offered { addrs, .. }
            | Stage::Back { addrs, .. } => addrs,
            _ => return,
        };
        let before = there.len();
        there.retain(|a| *a != addr);
        if there.len() < before {
            // Takes nothing back, but for a while and if nobody else is there.
            self.membership.drain(Some(self.started.elapsed()));
            self.engine.hand_rest();
            self.engine.hand_away(addr, to, 0);
        }
    }

    /// The successor died or did not do it: another one, or this node itself.
    fn not_taken(&mut self, addrs: Vec<IpAddr>) {
        let to = self.drain.to.clone();
        self.engine.timeline.note("offer-failed", json!({"to": to}));
        self.drain.failed.insert(to);
        for addr in &addrs {
            self.membership.reclaim(*addr);
        }
        self.beat();
        // If it lives after all, it learns in time that its claim is an old one.
        let dead = self.membership.is_dead(&self.drain.to);
        let at = self.time() + self.config.heartbeat.interval() * if dead { 0 } else { 2 };
        self.drain.stage = Stage::Back { addrs, at };
    }

    fn offer_again(&mut self, addrs: Vec<IpAddr>) {
        match self.ready(None) {
            _ if addrs.is_empty() => self.drained(),
            Some(to) => {
                self.drain.to = to;
                self.offer(addrs);
            }
            None => self.take_back(addrs),
        }
    }

    fn take_back(&mut self, addrs: Vec<IpAddr>) {
        self.membership.drain(None);
        let me = self.config.node.name.clone();
        self.drain.back = (addrs.iter().copied().collect(), self.time());
        for addr in addrs {
            // Newer than what the one that failed may have made of them.
            self.engine.hand_away(addr, &me, 1);
            self.move_address(addr, true);
        }
        self.drain_failed("nobody took over; this node goes on");
    }

    fn drain_failed(&mut self, why: &str) {
        self.drain.stage = Stage::Off;
        self.engine
            .timeline
            .note("drain-failed", json!({"why": why}));
        self.drain.done(&json!({"error": why}));
    }

    fn drained(&mut self) {
        let now = self.time();
        self.membership.drain(Some(now));
        self.drain.stage = Stage::Drained;
        let ms = now.saturating_sub(self.drain.began).as_millis() as u64;
        let note = json!({"to": self.drain.to, "after_ms": ms});
        self.engine.timeline.note("drained", note);
        let status = self.drain.status();
        self.drain.done(&json!({"drain": status}));
    }

    /// Whether the daemon may end: nothing is under way, and what came back is served again.
    pub(crate) fn may_end(&self) -> bool {
        let (pending, since) = &self.drain.back;
        let patience = Duration::from_millis(self.config.recovery.answer_ms);
        let served = pending.is_empty() && self.engine.rescues.len().1 == 0;
        self.drain.is_settled() && (served || self.time().saturating_sub(*since) > patience)
    }

    /// This node has become the owner of an address: it is not drained any more.
    pub(crate) fn drain_over(&mut self) {
        if let Stage::Drained = self.drain.stage {
            self.membership.drain(None);
            self.drain.stage = Stage::Off;
            self.engine.timeline.note("undrained", json!({}));
        }
    }
}
