// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A machine: the flow state machine of the core between hooks, a local stack, the log.
//!
//! ```text
//!   wire --> pre_routing --> Flow --> local stack --> post_routing --> Flow --> wire
//!                             |  emits to the service ^      emits to the client ^
//!                             +--> log, timers, held packets
//! ```

use crate::app::{Object, Server};
use crate::packet::Tcp;
use crate::tcp::{Config, Odd, Sock, State};
use holdfast_core::brief::Briefed;
use holdfast_core::counter::Counter;
use holdfast_core::effects::{Bytes, Effects, Emit, Log, LogData, Verdict};
use holdfast_core::flow::{Env, Flow, Phase, Policy};
use holdfast_core::ring::{Desc, Kind};
use holdfast_core::wire::{flags, Csum, Dir, Key, Packet, MAX_HEADER};
use std::collections::VecDeque;

/// Most packets that wait for a commit.
const HELD: usize = 32;

/// A record of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it says.
    pub log: Log,
    /// Its data.
    pub data: Vec<u8>,
    /// Name and options of the flow, if it says them.
    pub desc: Option<Desc>,
    /// Clock in milliseconds.
    pub time: u64,
}

/// One server machine.
pub struct Node {
    /// Its number.
    pub id: u32,
    /// It has not died.
    pub alive: bool,
    /// The flow of the connection, if the module knows one.
    pub flow: Option<Briefed>,
    /// The local socket.
    pub sock: Option<Sock>,
    /// The application.
    pub server: Server,
    /// How its sockets are set up.
    pub cfg: Config,
    /// The service's policy.
    pub policy: Policy,
    held: VecDeque<Tcp>,
    /// The log, oldest first.
    pub log: VecDeque<Entry>,
    /// What a ghost sends.
    pub request: Vec<u8>,
    /// What the client is sent before the server's bytes.
    pub prefix: Vec<u8>,
    /// How often each branch was taken.
    pub counts: Vec<u64>,
    /// Packets for the local stack.
    local: VecDeque<Tcp>,
    /// Packets for the wire.
    pub tx: Vec<Tcp>,
    /// What went wrong in the glue: packets that were malformed.
    pub faults: Vec<String>,
    /// What the local socket found odd, and in which packet.
    pub odd: Vec<(Odd, Tcp)>,
    /// No process listens before then.
    listens: u64,
    /// The process of the local socket has died.
    orphaned: bool,
    /// How many local sockets were dropped.
    pub dropped: u32,
    key: Key,
    log_room: usize,
    pub(crate) trace: bool,
}

impl Node {
    /// A machine that is up.
    pub fn new(id: u32, key: Key, server: Server, cfg: Config, policy: Policy) -> Self {
        Node {
            id,
            alive: true,
            flow: None,
            sock: None,
            server,
            cfg,
            policy,
            held: VecDeque::new(),
            log: VecDeque::new(),
            request: Vec::new(),
            prefix: Vec::new(),
            counts: vec![0; Counter::COUNT],
            local: VecDeque::new(),
            tx: Vec::new(),
            faults: Vec::new(),
            odd: Vec::new(),
            listens: 0,
            orphaned: false,
            dropped: 0,
            key,
            log_room: 4096,
            trace: false,
        }
    }

    /// What a decision at `now` (microseconds) depends on.
    pub fn env(&self, now: u64) -> Env {
        Env {
            now: now / 1000,
            policy: self.policy,
        }
    }

    /// The 4-tuple.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Takes a packet from the wire.
    pub fn receive(&mut self, p: &Tcp, now: u64) {
        self.pre_routing(p, now);
        self.settle(now);
    }

    fn pre_routing(&mut self, p: &Tcp, now: u64) {
        let env = self.env(now);
        let mut bytes = p.encode();
        let len = bytes.len() as u32;
        let mut fx = Effects::new();
        let Ok(mut packet) = Packet::parse(&mut bytes, len, Csum::Full) else {
            self.faults.push(format!("not parsed: {p}"));
            return;
        };
        if self.flow.is_none() && p.has(flags::SYN) && !p.has(flags::ACK) {
            self.flow = Some(Flow::opening(self.key, &mut packet, &env).into());
        } else if self.flow.is_none()
            && self.sock.is_none()
            && !p.has(flags::RST)
            && env.policy.protect
        {
            self.flow = Some(Flow::orphan(self.key, &env).into());
        }
        let verdict = self.flow.as_mut().map_or(Ok(Verdict::Accept), |flow| {
            let shown = flow.both_ways(&mut bytes, Csum::Full, Dir::ToService, &env, &mut fx);
            shown.map(|(verdict, _)| verdict)
        });
        let Ok(verdict) = verdict else {
            self.faults.push(format!("not parsed: {p}"));
            return;
        };
        self.apply(fx, &p.payload, now);
        match verdict {
            Verdict::Accept => self.deliver(&bytes),
            Verdict::Drop(why) => self.counts[why as usize] += 1,
            Verdict::Hold => self.faults.push("a packet of the client was held".into()),
        }
    }

    fn deliver(&mut self, bytes: &[u8]) {
        match Tcp::decode(bytes) {
            Ok(p) => self.local.push_back(p),
            Err(e) => self.faults.push(format!("towards the socket: {e}")),
        }
    }

    /// Lets the local stack run until nothing is left to do.
    pub fn settle(&mut self, now: u64) {
        while let Some(p) = self.local.pop_front() {
            if self.trace {
                println!("{:>12} node {} stack  {p}", now, self.id);
            }
            self.stack(&p, now);
        }
    }

    fn stack(&mut self, p: &Tcp, now: u64) {
        let known = self.sock.as_ref().is_some_and(|s| s.state != State::Closed);
        let again = self
            .sock
            .as_ref()
            .is_some_and(|s| s.state == State::TimeWait)
            && p.has(flags::SYN);
        let mut out = Vec::new();
        // Nobody will ever read what comes now (RFC 9293, section 3.10.7.4).
        let unread = self.orphaned && known && !p.payload.is_empty();
        if unread
            && self
                .sock
                .as_ref()
                .is_some_and(|s| s.offset(p.seq) >= s.received() as i64)
        {
            out.extend(self.sock.as_mut().and_then(|s| s.abort(now)));
        } else if known && !again {
            if let Some(sock) = &mut self.sock {
                sock.input(p, now);
                self.odd
                    .extend(sock.oddities.drain(..).map(|odd| (odd, p.clone())));
                sock.output(now, &mut out);
            }
        } else if p.has(flags::SYN) && !p.has(flags::ACK) && now >= self.listens {
            self.orphaned = false;
            self.server = self.server.restarted();
            let mut cfg = self.cfg.clone();
            cfg.isn = cfg.isn.wrapping_add((now as u32).wrapping_mul(977));
            let mut sock = Sock::accept(cfg, p, now);
            sock.output(now, &mut out);
            self.sock = Some(sock);
        } else if !p.has(flags::RST) {
            // RFC 9293, section 3.10.7.1.
            let acked = p.has(flags::ACK);
            out.push(Tcp {
                family: p.family,
                from: p.to,
                to: p.from,
                seq: if acked { p.ack } else { 0 },
                ack: if acked {
                    0
                } else {
                    p.seq.wrapping_add(p.seq_len())
                },
                flags: if acked {
                    flags::RST
                } else {
                    flags::RST | flags::ACK
                },
                ..Tcp::default()
            });
        }
        for p in out {
            self.post_routing(p, now);
        }
    }

    /// Lets application and socket work, for as long as what it says is taken at once.
    pub fn poll(&mut self, objects: &[Object], now: u64) {
        loop {
            self.poll_once(objects, now);
            let more = self.server.is_saying() && !self.orphaned;
            let taken = |s: &Sock| s.state == State::Open && s.queued() == 0;
            if !more || !self.sock.as_ref().is_some_and(taken) {
                break;
            }
        }
    }

    fn poll_once(&mut self, objects: &[Object], now: u64) {
        let mut out = Vec::new();
        if let Some(sock) = &mut self.sock {
            sock.tick(now);
            if sock.state == State::Open && !self.orphaned {
                self.server.poll(sock, objects, now);
            }
            sock.output(now, &mut out);
        }
        for p in out {
            self.post_routing(p, now);
        }
        self.settle(now);
    }

    /// The process of the application dies; another one listens from `back` on. `rst`: what it
    /// has not read makes its socket say a reset.
    pub fn kill_process(&mut self, rst: bool, back: u64, now: u64) {
        if self.trace {
            println!("{:>12} node {} its process dies, rst {rst}", now, self.id);
        }
        self.listens = back;
        self.server = self.server.restarted();
        self.orphaned = true;
        let mut out = Vec::new();
        match &mut self.sock {
            Some(sock) if sock.state == State::SynRcvd => self.sock = None,
            Some(sock) if rst => out.extend(sock.abort(now)),
            Some(sock) => {
                sock.close();
                sock.output(now, &mut out);
            }
            None => {}
        }
        for p in out {
            self.post_routing(p, now);
        }
        self.settle(now);
    }

    /// The next connection is served by the application of node `id`, through a relay of ours.
    pub fn serve_by(&mut self, id: u32) {
        self.server = self.server.of(id);
    }

    /// Drops the local socket without a word.
    pub fn drop_socket(&mut self) {
        self.dropped += u32::from(self.sock.take().is_some());
    }

    fn post_routing(&mut self, p: Tcp, now: u64) {
        let env = self.env(now);
        let Some(flow) = &mut self.flow else {
            self.tx.push(p);
            return;
        };
        let mut bytes = p.encode();
        let mut fx = Effects::new();
        let shown = flow.both_ways(&mut bytes, Csum::Full, Dir::ToClient, &env, &mut fx);
        let verdict = match shown {
            Ok((verdict, _)) => verdict,
            Err(e) => {
                self.faults.push(format!("not parsed: {e:?} {p}"));
                return;
            }
        };
        if self.trace {
            println!("{:>12} node {} output {p} -> {verdict:?}", now, self.id);
        }
        self.apply(fx, &p.payload, now);
        match verdict {
            Verdict::Accept => match Tcp::decode(&bytes) {
                Ok(p) => self.tx.push(p),
                Err(e) => self.faults.push(format!("towards the client: {e}: {p}")),
            },
            Verdict::Drop(why) => self.counts[why as usize] += 1,
            Verdict::Hold if self.held.len() < HELD => self.held.push_back(p),
            Verdict::Hold => self.counts[Counter::HoldLimit as usize] += 1,
        }
    }

    /// Calls `decide` on the flow and does what it asks for.
    pub fn with_flow<T>(
        &mut self,
        now: u64,
        decide: impl FnOnce(&mut Flow, &Env, &mut Effects) -> T,
    ) -> Option<T> {
        let env = self.env(now);
        let mut fx = Effects::new();
        let done = decide(self.flow.as_mut()?, &env, &mut fx);
        self.apply(fx, &[], now);
        self.settle(now);
        Some(done)
    }

    /// Does what a decision about a packet with `payload` asks for.
    pub fn apply(&mut self, fx: Effects, payload: &[u8], now: u64) {
        let env = self.env(now);
        let read = |at: u32, to: &mut [u8]| match payload.get(at as usize..) {
            Some(rest) if rest.len() >= to.len() => {
                to.copy_from_slice(&rest[..to.len()]);
                true
            }
            _ => false,
        };
        for log in fx.logs.iter() {
            let mut log = *log;
            if let Some(flow) = &mut self.flow {
                flow.excerpt(&mut log, &env, read);
            }
            self.write_log(log, payload, now);
        }
        for count in fx.counts.iter() {
            self.counts[*count as usize] += 1;
        }
        for emit in fx.emits.iter() {
            self.emit(emit);
        }
        if fx.discard {
            self.held.clear();
        }
        if fx.gone {
            self.flow = None;
        }
        if fx.release {
            for p in std::mem::take(&mut self.held) {
                self.post_routing(p, now);
            }
        }
    }

    fn write_log(&mut self, log: Log, payload: &[u8], now: u64) {
        let mut entry = Entry {
            log,
            data: Vec::new(),
            desc: None,
            time: now / 1000,
        };
        match log.data {
            LogData::None => {}
            LogData::Desc => entry.desc = self.flow.as_ref().map(|f| f.desc()),
            LogData::Payload { from, len } => {
                match payload.get(from as usize..(from + len) as usize) {
                    Some(data) => entry.data = data.to_vec(),
                    None => self
                        .faults
                        .push(format!("log of bytes that are not there: {log:?}")),
                }
            }
        }
        if self.trace {
            println!(
                "{:>12} node {} log    {:?} pos {} ack {} len {} flags {}",
                now,
                self.id,
                log.kind,
                log.pos,
                log.ack,
                entry.data.len(),
                log.flags
            );
        }
        if self.log.len() < self.log_room {
            self.log.push_back(entry);
        } else {
            self.faults.push("log is full".into());
        }
    }

    fn emit(&mut self, emit: &Emit) {
        let (from, of) = match emit.bytes {
            Bytes::None => (0..0, &self.request),
            Bytes::Request { from, len } => (from as usize..(from + len) as usize, &self.request),
            Bytes::Prefix { from, len } => (from as usize..(from + len) as usize, &self.prefix),
        };
        let Some(payload) = of.get(from) else {
            self.faults
                .push(format!("emit of bytes that are not there: {emit:?}"));
            return;
        };
        let mut head = [0u8; MAX_HEADER];
        let written = emit.segment.write(&self.key, payload, &mut head);
        let packet = written.map_err(|e| format!("{e:?}")).and_then(|n| {
            let mut bytes = head[..n].to_vec();
            bytes.extend(payload);
            Tcp::decode(&bytes)
        });
        match (packet, emit.segment.dir) {
            (Ok(p), Dir::ToClient) => self.tx.push(p),
            (Ok(p), Dir::ToService) => self.local.push_back(p),
            (Err(e), _) => self.faults.push(format!("emitted: {e}: {emit:?}")),
        }
    }

    /// When it has something to do by itself, in microseconds.
    pub fn deadline(&self) -> Option<u64> {
        let flow = self
            .flow
            .as_ref()
            .and_then(|f| f.deadline())
            .map(|d| d.saturating_mul(1000));
        let sock = self.sock.as_ref().and_then(Sock::deadline);
        let open = self.sock.as_ref().is_some_and(|s| s.state == State::Open);
        let server = self.server.deadline().filter(|_| open && !self.orphaned);
        [flow, sock, server].into_iter().flatten().min()
    }

    /// A timer of the flow may have run out.
    pub fn tick(&mut self, now: u64) {
        let due = self
            .flow
            .as_ref()
            .and_then(|f| f.deadline())
            .is_some_and(|d| d <= now / 1000);
        if due {
            self.with_flow(now, |flow, env, fx| flow.tick(env, fx));
        }
    }

    /// The phase of the flow.
    pub fn phase(&self) -> Option<Phase> {
        self.flow.as_ref().map(|f| f.phase())
    }

    /// Whether the log says that the flow is unprotected.
    pub fn unprotected(&self) -> bool {
        self.log.iter().any(|e| e.log.kind == Kind::Unprotected)
    }
}
