// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The daemon of a node: the library's rules between a log and a support group.

use crate::node::{Entry, Node};
use holdfast_core::client::{Clock, Handshake};
use holdfast_core::counter::Counter;
use holdfast_core::flow::{Flow, Phase};
use holdfast_core::rescue::{Claim, Misfit};
use holdfast_core::ring::{flags as log_flags, Kind};
use holdfast_core::seq::{Pos, Seq};
use libholdfast::record::{Clock as RecordClock, Record, State};
use libholdfast::recovery::{judge, plan, Ask, Join, Judgement, Plan, Refusal, Word};
use libholdfast::tracker::{Action, Event, Release, Tracker};
use libholdfast::types::{FlowKey, TcpOptions};
use std::collections::VecDeque;

/// How often a ghost is sent again before the client is reset.
const TRIES: u32 = 4;

/// The same for a server of this node that has died, and comes back.
const RESTART_TRIES: u32 = 60;

/// Microseconds for which a request may wait for its response before it is told.
const LATER: u64 = 10_000;
/// Microseconds that the client of a flow which cannot be continued has to speak by itself.
const UNHEARD: u64 = 2_000_000;

/// The daemon of one node, as far as one flow is concerned.
pub struct Daemon {
    strict: bool,
    deterministic: bool,
    tracker: Option<Tracker>,
    /// What the peers gave us.
    pub store: Option<Record>,
    /// Records that were sent to the peers.
    pub sent: u64,
    /// Up to which record each peer has answered.
    acked: Vec<(u32, u64)>,
    waiting: VecDeque<(u64, Release)>,
    recovery: Option<Recovery>,
    /// Records to be sent to the peers: number and bytes.
    pub outbox: Vec<(u64, Vec<u8>)>,
    /// Position up to which bytes may leave, if there is a gate.
    pub committed: Option<u64>,
    /// Why flows were given up.
    pub refusals: Vec<String>,
    /// When to try again.
    pub retry: Option<u64>,
    /// When to tell of a request, if its response does not come before.
    later: Option<u64>,
    in_charge: bool,
    /// Where the client stood when the local server closed early.
    lost_at: Option<u64>,
    tries: u32,
    /// Nodes whose servers may be asked for what ours lacks.
    pub next: Vec<u32>,
    /// A close of the local server was let through.
    pub let_through: bool,
}

struct Recovery {
    record: Record,
    generation: u32,
    ask: Option<Ask>,
    last: Option<Plan>,
    /// The log has come to the newest question.
    begun: bool,
    answer: Vec<u8>,
    fin: bool,
    /// Nodes whose servers were asked in place of ours.
    asked: Vec<u32>,
    tries: u32,
    /// Most tries.
    most: u32,
}

fn handshake(o: &TcpOptions) -> Handshake {
    Handshake {
        mss: o.mss.unwrap_or(536),
        wscale_client: o.wscale_client,
        wscale_service: o.wscale_service,
        sack: o.sack,
        timestamps: o.timestamps,
    }
}

fn options(h: &Handshake) -> TcpOptions {
    TcpOptions {
        mss: Some(h.mss),
        wscale_client: h.wscale_client,
        wscale_service: h.wscale_service,
        sack: h.sack,
        timestamps: h.timestamps,
    }
}

impl Daemon {
    /// A daemon that has just started.
    pub fn new(strict: bool, deterministic: bool) -> Self {
        Daemon {
            strict,
            deterministic,
            tracker: None,
            store: None,
            sent: 0,
            acked: Vec::new(),
            waiting: VecDeque::new(),
            recovery: None,
            outbox: Vec::new(),
            committed: None,
            refusals: Vec::new(),
            retry: None,
            later: None,
            in_charge: false,
            lost_at: None,
            tries: TRIES,
            next: Vec::new(),
            let_through: false,
        }
    }

    /// Servers may be away for a while, and come back.
    pub fn be_patient(&mut self) {
        self.tries = RESTART_TRIES;
    }

    /// Its node serves the address from now on.
    pub fn take_charge(&mut self) {
        self.in_charge = true;
    }

    /// A record of a peer.
    pub fn store(&mut self, bytes: &[u8], now: u64) {
        if let Ok(r) = Record::decode(bytes, now as i64 * 1000) {
            if self
                .store
                .as_ref()
                .is_none_or(|s| s.generation <= r.generation)
            {
                self.store = Some(r);
            }
        }
    }

    /// Node `peer` has record `seq`.
    pub fn peer_has(&mut self, peer: u32, seq: u64) {
        match self.acked.iter_mut().find(|a| a.0 == peer) {
            Some(a) => a.1 = a.1.max(seq),
            None => self.acked.push((peer, seq)),
        }
    }

    /// Commits what every one of `peers` has.
    pub fn commit_safe(&mut self, node: &mut Node, peers: &[u32], now: u64) {
        let safe = |seq: u64, acked: &[(u32, u64)]| {
            peers
                .iter()
                .all(|p| acked.iter().any(|a| a.0 == *p && a.1 >= seq))
        };
        while let Some((seq, release)) = self.waiting.front().copied() {
            if !safe(seq, &self.acked) {
                break;
            }
            self.waiting.pop_front();
            if release.broken_off {
                node.with_flow(now, |f, env, fx| {
                    f.broken_off(release.object_start, env, fx)
                });
            } else if release.unprotected {
                self.committed = None;
                node.with_flow(now, |f, _, fx| f.unprotect(fx));
            } else if release.ack_release {
                node.with_flow(now, |f, _, fx| f.release_ack(fx));
            } else {
                let (start, end) = (release.object_start, release.object_end);
                if let (Some(c), Some(s)) = (self.committed, start) {
                    if c <= s || end.is_none() {
                        self.committed = end;
                    }
                }
                node.with_flow(now, |f, env, fx| f.commit(start, end, env, fx));
            }
        }
    }

    fn replicate(&mut self, now: u64) {
        self.later = None;
        if let Some(t) = &self.tracker {
            self.sent += 1;
            self.outbox
                .push((self.sent, t.record().encode(now as i64 * 1000)));
        }
    }

    fn act(&mut self, actions: Vec<Action>, now: u64) {
        for action in actions {
            match action {
                Action::Replicate | Action::Checkpoint => self.replicate(now),
                Action::ReplicateSoon => self.later = Some(now + LATER),
                Action::Commit(release) => self.waiting.push_back((self.sent, release)),
                Action::Forget | Action::Count(_) => {}
            }
        }
    }

    fn hear(&mut self, event: Event<'_>, now: u64) {
        if let Some(t) = &mut self.tracker {
            let actions = t.hear(event);
            self.act(actions, now);
        }
    }

    /// When [`Daemon::run`] has something to do that is in no log.
    pub fn due(&self) -> Option<u64> {
        self.retry.into_iter().chain(self.later).min()
    }

    /// Reads the log.
    pub fn run(&mut self, node: &mut Node, now: u64) {
        while let Some(entry) = node.log.pop_front() {
            self.entry(node, &entry, now);
        }
        if self.retry.is_some_and(|t| now >= t) {
            self.retry = None;
            self.again(node, now);
        }
        if self.later.is_some_and(|t| now >= t) {
            self.replicate(now);
        }
    }

    fn entry(&mut self, node: &mut Node, e: &Entry, now: u64) {
        let (pos, ack) = (e.log.pos, e.log.ack);
        let time = e.time as i64 * 1_000_000;
        match e.log.kind {
            Kind::Opened => {
                let flow = node.flow.as_ref();
                let Some(h) = flow.map(|f| f.snapshot(0).handshake) else {
                    return;
                };
                let key = flow_key(node);
                self.recovery = None;
                let clock = e.log.ts.map(|(tsval, tsecr)| RecordClock {
                    tsval,
                    tsecr,
                    heard: time,
                });
                let mut tracker =
                    Tracker::opened(key, 0, options(&h), clock, self.strict, ack, pos);
                tracker.declare(self.deterministic);
                self.tracker = Some(tracker);
                self.committed = self.strict.then_some(pos);
                self.replicate(now);
            }
            Kind::C2s => self.hear(
                Event::C2s {
                    pos,
                    ack,
                    data: &e.data,
                    ts: e.log.ts,
                    time,
                },
                now,
            ),
            Kind::S2c if e.data.is_empty() && e.log.flags & log_flags::HELD != 0 => {
                self.hear(Event::Closing { pos, ack }, now);
            }
            Kind::S2c => self.hear(
                Event::S2c {
                    pos,
                    ack,
                    data: &e.data,
                },
                now,
            ),
            Kind::Object => self.hear(
                Event::Object {
                    request: ack,
                    start: pos,
                },
                now,
            ),
            Kind::Progress => self.hear(
                Event::Progress {
                    acked: pos,
                    ts: e.log.ts,
                    time,
                },
                now,
            ),
            Kind::Closed => self.hear(Event::Closed, now),
            Kind::Unprotected => {
                self.committed = None;
                self.hear(Event::Unprotected, now);
            }
            Kind::Orphan | Kind::Located => self.word(node, e, now),
            Kind::Asked => {
                if let Some(r) = &mut self.recovery {
                    r.begun = true;
                }
            }
            Kind::Answer => self.answer(node, e, now),
            Kind::Spliced => self.recovery = None,
            Kind::Lost => self.lost(node, pos, now),
            Kind::Failed if e.log.window == Counter::GhostLost as u32 => {
                self.retry = Some(now + 50_000);
            }
            _ => {}
        }
    }

    fn claim(r: &Recovery, next: u64, now: u64) -> Claim {
        let clock = match r.record.clock {
            Some(c) => Clock::told(
                c.tsval,
                c.tsecr,
                now / 1000,
                r.record.ts_age(now as i64 * 1000),
            ),
            None => Clock::default(),
        };
        Claim {
            generation: r.generation,
            next: Pos::new(next),
            handshake: handshake(&r.record.options),
            clock,
        }
    }

    /// The address is ours now: asks the client of the record where it stands. One that cannot be continued has
    /// time to speak by itself.
    pub fn take_over(&mut self, node: &mut Node, now: u64) {
        self.in_charge = true;
        let Some(record) = &self.store else {
            return;
        };
        let unheard = matches!(record.state, State::Unprotected(_)) && node.flow.is_none();
        self.recover(node);
        match unheard {
            true => self.retry = Some(now + UNHEARD),
            false => self.locate(node, now),
        }
    }

    /// Begins to continue what the record tells of.
    fn recover(&mut self, node: &mut Node) {
        let Some(record) = self.store.clone() else {
            return;
        };
        let generation = record.generation + 1;
        node.serve_by(node.id);
        self.recovery = Some(Recovery {
            record,
            generation,
            ask: None,
            last: None,
            begun: false,
            answer: Vec::new(),
            fin: false,
            asked: Vec::new(),
            tries: 0,
            most: self.tries,
        });
    }

    /// The local server has closed before it should have.
    fn lost(&mut self, node: &mut Node, acked: u64, now: u64) {
        let record = self.tracker.as_ref().filter(|t| !t.is_dead());
        let record = record.map(|t| t.record().clone());
        let again = self.lost_at.replace(acked) == Some(acked);
        let Some(record) = record.filter(|r| !again && r.can_be_asked()) else {
            self.let_through = true;
            self.refusals.push("a close was let through".into());
            node.with_flow(now, |f, env, fx| f.disown(env, fx));
            return;
        };
        self.tracker = None;
        self.waiting.clear();
        self.store = Some(record);
        self.take_over(node, now);
    }

    fn locate(&mut self, node: &mut Node, now: u64) {
        let Some(r) = &self.recovery else { return };
        let claim = Self::claim(r, r.record.request, now);
        let seq = r.record.acked.max(r.record.start).wrapping_sub(1);
        let env = node.env(now);
        if node.flow.is_none() {
            node.flow = Some(Flow::claimed(node.key(), &claim, &env).into());
        }
        let done = node.with_flow(now, |f, env, fx| {
            f.locate(&claim, Seq::new(seq as u32), false, env, fx)
        });
        match done {
            Some(Err(e)) => self.refusals.push(format!("locate: {e:?}")),
            // A ghost needs its place.
            _ => node.drop_socket(),
        }
    }

    fn word(&mut self, node: &mut Node, e: &Entry, now: u64) {
        if self.recovery.is_none() {
            if !self.in_charge || self.store.is_none() {
                self.refusals.push("no record".into());
                node.with_flow(now, |f, env, fx| f.disown(env, fx));
                return;
            }
            self.recover(node);
        }
        let Some(r) = &mut self.recovery else { return };
        let word = Word {
            ack: e.log.pos as u32,
            seq: e.log.ack as u32,
            payload: e.log.flags & log_flags::PAYLOAD != 0,
            sacked: e.log.flags & log_flags::SACKED != 0,
        };
        let what = plan(&r.record, word);
        if node.trace {
            println!("{:>12} node {} plan   {word:?} -> {what:?}", now, node.id);
        }
        r.last = Some(what);
        self.follow(node, now);
    }

    fn follow(&mut self, node: &mut Node, now: u64) {
        let Some(r) = &mut self.recovery else { return };
        let Some(what) = r.last.clone() else { return };
        r.answer.clear();
        r.fin = false;
        r.begun = false;
        r.ask = None;
        let done = match what {
            Plan::Again => {
                self.retry = Some(now + 200_000);
                return;
            }
            Plan::Finished => {
                self.refusals.push("finished".into());
                node.with_flow(now, |f, env, fx| {
                    f.reset_client(Counter::FlowClosed, env, fx)
                });
                return;
            }
            Plan::Refuse(why) => return self.give_up(node, format!("plan: {why}"), now),
            Plan::Silent { at, c2s_next } => {
                let claim = Self::claim(r, c2s_next, now);
                let mut record = r.record.clone();
                record.generation = r.generation;
                record.request = c2s_next;
                record.start = at;
                record.acked = at;
                record.state = State::Idle;
                self.committed = self.strict.then_some(at);
                self.adopt(record, now);
                node.with_flow(now, |f, env, fx| {
                    f.recover(&claim, Pos::new(at), 0, 65535, env, fx)
                })
            }
            Plan::Ask(ask) => {
                let claim = Self::claim(r, ask.c2s_next, now);
                node.request = ask.request.clone();
                let (at, window) = (ask.at, ask.window);
                let len = ask.request.len() as u32;
                r.ask = Some(ask);
                node.with_flow(now, |f, env, fx| {
                    f.recover(&claim, Pos::new(at), len, window, env, fx)
                })
            }
        };
        if let Some(Err(e)) = done {
            self.refusals.push(format!("recover: {e:?}"));
            self.retry = Some(now + 200_000);
        }
        self.try_join(node, now);
    }

    fn adopt(&mut self, record: Record, now: u64) {
        self.waiting.clear();
        self.tracker = Some(Tracker::resume(record));
        self.replicate(now);
    }

    fn answer(&mut self, node: &mut Node, e: &Entry, now: u64) {
        if let Some(r) = self.recovery.as_mut().filter(|r| r.begun) {
            if e.log.pos != r.answer.len() as u64 {
                self.refusals
                    .push(format!("answer at {}, not {}", e.log.pos, r.answer.len()));
                return;
            }
            r.answer.extend(&e.data);
            r.fin |= e.log.flags & log_flags::FIN != 0;
        }
        self.try_join(node, now);
    }

    fn try_join(&mut self, node: &mut Node, now: u64) {
        if !node.flow.as_ref().is_some_and(|f| f.waits_for_join()) {
            return;
        }
        let Some(r) = &mut self.recovery else { return };
        let Some(ask) = r.ask.as_ref().filter(|_| r.begun) else {
            return;
        };
        match judge(&r.record, ask, &r.answer, r.fin) {
            Judgement::NeedMore => {}
            // A server that dies while it answers may be back in a moment.
            Judgement::Refuse(Refusal::Closed) if r.tries < r.most => {
                r.tries += 1;
                r.last = None;
                self.locate(node, now);
            }
            Judgement::Refuse(why) => {
                let new = |n: &&u32| why.is_of_the_server() && !r.asked.contains(n);
                match self.next.iter().find(new) {
                    Some(n) => {
                        r.asked.push(*n);
                        node.serve_by(*n);
                        self.follow(node, now);
                    }
                    None => self.give_up(node, format!("answer: {why}"), now),
                }
            }
            Judgement::Join(join) => self.join(node, join, now),
        }
    }

    fn join(&mut self, node: &mut Node, join: Join, now: u64) {
        node.prefix = join.prefix;
        let (len, answer, skip) = (node.prefix.len() as u32, join.answer_length, join.skip);
        let (start, end) = (Some(join.object_start), join.object_end);
        let before = std::mem::replace(&mut self.committed, end.filter(|_| self.strict));
        match node.with_flow(now, |f, env, fx| {
            f.join(answer, skip, len, start, end, env, fx)
        }) {
            Some(Ok(())) => {
                let mut record = join.record;
                record.generation = self.recovery.as_ref().map_or(1, |r| r.generation);
                self.adopt(record, now);
                if skip == 0 {
                    self.recovery = None;
                }
            }
            Some(Err(Misfit::Again)) => {
                self.committed = before;
                self.retry = Some(now + 5_000);
            }
            other => {
                self.committed = before;
                self.refusals.push(format!("join: {other:?}"));
            }
        }
    }

    fn again(&mut self, node: &mut Node, now: u64) {
        match node.phase() {
            Some(Phase::Ghost) => self.try_join(node, now),
            Some(Phase::Located | Phase::Orphan | Phase::Locating) => {
                let Some(r) = &mut self.recovery else { return };
                r.tries += 1;
                if r.tries > r.most {
                    self.give_up(node, "tried too often".into(), now);
                } else if matches!(r.last, Some(Plan::Again)) {
                    self.locate(node, now);
                } else {
                    self.follow(node, now);
                }
            }
            // Nothing was heard of it.
            None => self.locate(node, now),
            _ => {}
        }
    }

    fn give_up(&mut self, node: &mut Node, why: String, now: u64) {
        self.refusals.push(why);
        self.recovery = None;
        node.with_flow(now, |f, env, fx| {
            f.reset_client(Counter::NotRecovered, env, fx)
        });
    }

    /// The record as it is here.
    pub fn record(&self) -> Option<&Record> {
        self.tracker
            .as_ref()
            .map(Tracker::record)
            .or(self.store.as_ref())
    }
}

/// The name of the node's flow, as the library has it.
pub fn flow_key(node: &Node) -> FlowKey {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let k = node.key();
    let addr = |a: [u8; 16]| match k.family {
        4 => IpAddr::V4(Ipv4Addr::new(a[0], a[1], a[2], a[3])),
        _ => IpAddr::V6(Ipv6Addr::from(a)),
    };
    FlowKey {
        client: SocketAddr::new(addr(k.caddr), u16::from_be_bytes(k.cport)),
        service: SocketAddr::new(addr(k.saddr), u16::from_be_bytes(k.sport)),
    }
}
