// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! One connection in virtual time: a client, a lossy network, and servers that die.

mod crash;
mod verdict;

use crate::app::{Client, Server};
use crate::node::Node;
use crate::packet::Tcp;
use crate::policy::Daemon;
use crate::referee::Referee;
use crate::rng::Rng;
use crate::scenario::{CrashPhase, Scenario};
use crate::tcp::{Odd, Sock, State};
use holdfast_core::flow::Policy;
use libholdfast::record::{kept_of_body, State as RecordState, BODY_LIMIT};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ToService(Vec<u8>),
    ToClient(u32, Vec<u8>),
    Daemon(u32),
    Record {
        from: u32,
        to: u32,
        seq: u64,
        bytes: Vec<u8>,
    },
    Stored {
        from: u32,
        to: u32,
        seq: u64,
    },
    TakeOver(u32),
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte was delivered and the connection was closed.
    Complete,
    /// A clean reset (or the like), for a reason that the design allows.
    Excused(&'static str),
    /// A reset that should not have been.
    Lost(String),
    /// Nothing happens any more.
    Stalled(String),
    /// Something that must never happen.
    Wrong(String),
}

/// What came of a case.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// In which phase each crash hit.
    pub crashes: Vec<CrashPhase>,
    /// Virtual microseconds.
    pub time: u64,
    /// Events.
    pub events: u64,
    /// Counters of all nodes together.
    pub counts: Vec<u64>,
    /// Why daemons gave up.
    pub refusals: Vec<String>,
}

/// One running case.
pub struct World {
    sc: Scenario,
    rng: Rng,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    last_up: u64,
    last_down: u64,
    client: Client,
    sock: Sock,
    nodes: Vec<Node>,
    daemons: Vec<Daemon>,
    busy: Vec<bool>,
    owner: usize,
    referee: Referee,
    crashes: Vec<CrashPhase>,
    countdown: Option<u64>,
    excuse: Option<&'static str>,
    events: u64,
}

impl World {
    /// The world of `sc` at time 0.
    pub fn new(sc: Scenario) -> World {
        let key = sc.key();
        let policy = Policy {
            protect: true,
            strict: sc.strict,
            hold_ms: sc.hold_ms,
            verdict_ms: 5000,
            head_limit: 16384,
            request_limit: 16384,
            head_end: u32::from_be_bytes(*b"\r\n\r\n"),
            body_whole: BODY_LIMIT as u32,
            body_part: kept_of_body(sc.deterministic) as u32,
            reader: true,
        };
        let nodes: Vec<Node> = (0..sc.nodes)
            .map(|id| {
                let server = Server::new(id, sc.seed, sc.think, sc.head_pad);
                let mut n = Node::new(id, key, server, sc.server_config(id), policy);
                n.trace = sc.trace;
                n
            })
            .collect();
        let daemons = (0..sc.nodes)
            .map(|_| Daemon::new(sc.strict, sc.deterministic))
            .collect();
        let client = Client::new(sc.requests.clone()).half_closing(sc.half_close);
        let sock = sc.client_sock();
        let mut w = World {
            rng: Rng::new(sc.seed ^ 0x5eed),
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            last_up: 0,
            last_down: 0,
            client,
            sock,
            busy: vec![false; nodes.len()],
            nodes,
            daemons,
            owner: 0,
            referee: Referee::default(),
            crashes: Vec::new(),
            countdown: None,
            excuse: (!sc.strict).then_some("eager"),
            events: 0,
            sc,
        };
        if w.sc.crashes.iter().any(|c| c.process.is_some()) {
            w.daemons.iter_mut().for_each(Daemon::be_patient);
        }
        w.daemons[0].take_charge();
        if let Some(t) = w.sc.teleport.clone() {
            w.client = Client::new(w.sc.requests.clone()).in_body(t.body, w.sc.objects[0].len);
            for d in &mut w.daemons {
                d.store = Some(w.sc.teleport_record(&t));
            }
            w.nodes[0].alive = false;
            w.crashes.push(CrashPhase::Body);
            let at = w.sc.detect;
            w.schedule(at, Event::TakeOver(1));
        }
        w
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.queue
            .push(Reverse((at.max(self.now), self.number, event)));
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Report {
        self.pump();
        self.maybe_crash();
        let outcome = loop {
            if let Some(outcome) = self.verdict() {
                break outcome;
            }
            let next = self.queue.peek().map(|e| e.0 .0);
            let Some(at) = [next, self.timer()].into_iter().flatten().min() else {
                break self.lost_or_excused("nothing left to do".into(), true);
            };
            self.now = self.now.max(at);
            self.events += 1;
            if next == Some(at) {
                if let Some(Reverse((_, _, event))) = self.queue.pop() {
                    self.handle(event);
                }
            }
            self.pump();
            self.maybe_crash();
        };
        let mut counts = vec![0; self.nodes[0].counts.len()];
        for n in &self.nodes {
            for (sum, c) in counts.iter_mut().zip(&n.counts) {
                *sum += c;
            }
        }
        Report {
            outcome,
            crashes: self.crashes,
            time: self.now,
            events: self.events,
            counts,
            refusals: self
                .daemons
                .iter()
                .flat_map(|d| d.refusals.clone())
                .collect(),
        }
    }

    fn timer(&self) -> Option<u64> {
        let nodes = self
            .nodes
            .iter()
            .filter(|n| n.alive)
            .filter_map(Node::deadline);
        let free = self
            .nodes
            .iter()
            .filter(|n| n.alive && !self.busy[n.id as usize]);
        let daemons = free.filter_map(|n| self.daemons[n.id as usize].due());
        let open = self.sock.state == State::Open || self.client.reads_on(&self.sock);
        let client = self.client.deadline().filter(|_| open);
        nodes
            .chain(daemons)
            .chain(self.sock.deadline())
            .chain(client)
            .min()
    }

    fn trace(&self, what: impl Fn() -> String) {
        if self.sc.trace {
            println!("{:>12} {}", self.now, what());
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToService(bytes) => {
                let node = &mut self.nodes[self.owner];
                if !node.alive {
                    return;
                }
                match Tcp::decode(&bytes) {
                    Ok(p) => node.receive(&p, self.now),
                    Err(e) => self.referee.blame(format!("the client sent {e}")),
                }
            }
            Event::ToClient(from, bytes) => {
                let Ok(p) = Tcp::decode(&bytes) else { return };
                self.trace(|| format!("client <- {from}  {p}"));
                let late = from as usize != self.owner;
                self.sock.input(&p, self.now);
                for odd in std::mem::take(&mut self.sock.oddities) {
                    // Another server may have a smaller window,
                    // and what a ghost asked for may not fit a tiny one of the client. What a
                    // dead server told of a request that the gate had let go is forgotten with
                    // it (RFC 2018, section 8); SACK blocks beyond a gate are judged elsewhere.
                    let other = matches!(odd, Odd::Shrunk(_) | Odd::BeyondWindow(_) | Odd::Reneged);
                    let other = other && !self.crashes.is_empty();
                    self.referee.odd("the client", &p, odd, late || other);
                }
            }
            Event::Daemon(n) => {
                let i = n as usize;
                self.busy[i] = false;
                if self.nodes[i].alive {
                    self.daemons[i].run(&mut self.nodes[i], self.now);
                }
                if self.daemons[i].let_through {
                    self.excuse.get_or_insert("closed twice at one byte");
                }
            }
            Event::Record {
                from,
                to,
                seq,
                bytes,
            } => {
                if self.nodes[to as usize].alive {
                    self.daemons[to as usize].store(&bytes, self.now);
                    let at = self.now + self.rng.range(self.sc.peer_delay / 2, self.sc.peer_delay);
                    self.schedule(at, Event::Stored { from, to, seq });
                }
            }
            Event::Stored { from, to, seq } => self.daemons[from as usize].peer_has(to, seq),
            Event::TakeOver(n) => {
                let answered = self.nodes[self.owner].sock.is_some();
                self.owner = n as usize;
                self.trace(|| format!("node {n} takes over"));
                let (d, node) = (&mut self.daemons[n as usize], &mut self.nodes[n as usize]);
                // Its SYN-ACK may still be on the way.
                let begun = self.sock.state != State::SynSent || answered;
                if d.store.is_none() && begun {
                    self.excuse.get_or_insert("no record yet");
                }
                if matches!(
                    d.store.as_ref().map(|r| &r.state),
                    Some(RecordState::Unprotected(_))
                ) {
                    self.excuse.get_or_insert("unprotected");
                }
                d.take_over(node, self.now);
            }
        }
    }

    /// Lets everybody work who can.
    fn pump(&mut self) {
        let mut out = Vec::new();
        self.sock.tick(self.now);
        if self.sock.state == State::Open || self.client.reads_on(&self.sock) {
            self.client.poll(&mut self.sock, &self.sc.objects, self.now);
        }
        self.sock.output(self.now, &mut out);
        for p in out {
            self.up(&p);
        }
        for i in 0..self.nodes.len() {
            if !self.nodes[i].alive {
                continue;
            }
            self.work(i);
        }
    }

    fn work(&mut self, i: usize) {
        let now = self.now;
        let peers: Vec<u32> = self
            .nodes
            .iter()
            .filter(|n| n.alive && n.id as usize != i)
            .map(|n| n.id)
            .collect();
        let (node, daemon) = (&mut self.nodes[i], &mut self.daemons[i]);
        daemon.next.clone_from(&peers);
        node.tick(now);
        node.poll(&self.sc.objects, now);
        if node.unprotected() {
            daemon.committed = None;
        }
        daemon.commit_safe(node, &peers, now);
        let due = daemon.due().is_some_and(|t| now >= t);
        let run = !node.log.is_empty() || due;
        for (odd, p) in std::mem::take(&mut node.odd) {
            // A ghost offers its own window, not the client's.
            let other = matches!(odd, Odd::Shrunk(_)) && !self.crashes.is_empty();
            self.referee
                .odd(&format!("the socket of node {i}"), &p, odd, other);
        }
        for fault in std::mem::take(&mut node.faults) {
            self.referee.blame(format!("node {i}: {fault}"));
        }
        self.referee.committed = daemon.committed;
        let outbox = std::mem::take(&mut daemon.outbox);
        let tx = std::mem::take(&mut node.tx);
        if run && !self.busy[i] {
            self.busy[i] = true;
            let at = now + self.rng.range(20, self.sc.daemon_delay);
            self.schedule(at, Event::Daemon(i as u32));
        }
        for (seq, bytes) in outbox {
            for to in &peers {
                // One stream each: in order.
                let at = now + self.sc.peer_delay;
                self.schedule(
                    at,
                    Event::Record {
                        from: i as u32,
                        to: *to,
                        seq,
                        bytes: bytes.clone(),
                    },
                );
            }
        }
        for p in tx {
            self.down(i, p);
        }
    }

    fn up(&mut self, p: &Tcp) {
        self.trace(|| format!("client ->    {p}"));
        let bytes = p.encode();
        let mut last = self.last_up;
        self.travel(&mut last, |_| Event::ToService(bytes.clone()));
        self.last_up = last;
    }

    fn down(&mut self, i: usize, p: Tcp) {
        self.referee.leaves(&self.nodes[i], &p, &self.sock);
        if i != self.owner {
            // The address is elsewhere; only a node that was wrongly declared dead gets here.
            self.referee
                .blame(format!("node {i} speaks for {}: {p}", self.owner));
        }
        for p in p.segments(self.sc.wire_mss()) {
            self.trace(|| format!("node {i}   -> {p}"));
            let bytes = p.encode();
            let mut last = self.last_down;
            let arrives = self.travel(&mut last, |_| Event::ToClient(i as u32, bytes.clone()));
            self.last_down = last;
            // Without the data gate, bytes that no client ever gets may be others next time.
            if arrives || self.sc.strict {
                self.referee.binds(&p, &self.sock);
            }
        }
    }

    /// Says whether any copy arrives.
    fn travel(&mut self, last: &mut u64, event: impl Fn(()) -> Event) -> bool {
        let mut arrives = false;
        let copies = 1 + u32::from(self.rng.permille(self.sc.dup));
        for _ in 0..copies {
            if self.rng.permille(self.sc.loss) {
                continue;
            }
            let mut at = self.now + self.sc.delay + self.rng.below(self.sc.jitter + 1);
            if self.rng.permille(self.sc.reorder) {
                at += self.rng.below(4 * self.sc.delay + 1000);
            } else {
                at = at.max(*last);
                *last = at;
            }
            self.schedule(at, event(()));
            arrives = true;
        }
        arrives
    }
}
