// SPDX-License-Identifier: GPL-2.0

//! One flow between a client and a service, and what it does to their packets.
//!
//! ```text
//!   client --- client() ---> Flow ---> Out      Out: the verdict, the effects, and the
//!   Out <--- Flow <--- service() --- service         packet as it is afterwards
//! ```
//!
//! Positions are counted from the first byte that a side sent: [`C`] of the client, [`S`] of
//! the service, [`L`] of the server that a ghost meets.

use super::super::brief::Briefed;
use super::super::client::{Clock, Handshake};
use super::super::counter::Counter;
use super::super::effects::{Bytes, Effects, Emit, Log, Verdict};
use super::super::flow::{Env, Flow, Phase, Policy};
use super::super::rescue::{Claim, Misfit};
use super::super::ring::Kind;
use super::super::seq::{Pos, S2c, Seq};
use super::super::wire::{flags, Csum, Dir, Endpoint, Key, Packet, Segment};
use super::{sack_option, ts_option, Spec};
use std::vec;
use std::vec::Vec;

/// The client's first byte.
pub(super) const C: u32 = 300_001;
/// The service's first byte.
pub(super) const S: u32 = 500_001;
/// The first byte of the server that a ghost meets, in its own numbering.
pub(super) const L: u32 = 777_001;
/// Window scales of the client and of the service.
pub(super) const CLIENT_SHIFT: u8 = 2;
pub(super) const SERVICE_SHIFT: u8 = 3;

/// A packet to be: an acknowledgement of `ack` at `seq`, and what the methods make of it.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    len: usize,
}

pub(super) fn tcp(seq: u32, ack: u32) -> Tcp {
    Tcp {
        seq,
        ack,
        flags: flags::ACK,
        window: 1000,
        options: vec![],
        len: 0,
    }
}

impl Tcp {
    pub(super) fn len(self, len: usize) -> Self {
        Tcp { len, ..self }
    }

    pub(super) fn flags(self, flags: u8) -> Self {
        Tcp { flags, ..self }
    }

    pub(super) fn fin(self) -> Self {
        self.flags(flags::ACK | flags::FIN)
    }

    pub(super) fn window(self, window: u16) -> Self {
        Tcp { window, ..self }
    }

    pub(super) fn ts(self, tsval: u32, tsecr: u32) -> Self {
        // Aligned, as nearly all have them.
        self.option(&[1, 1]).option(&ts_option(tsval, tsecr))
    }

    pub(super) fn sack(self, blocks: &[(u32, u32)]) -> Self {
        self.option(&sack_option(blocks))
    }

    pub(super) fn option(mut self, option: &[u8]) -> Self {
        self.options.extend(option);
        self
    }

    /// A SYN with the usual options.
    pub(super) fn syn(self, flags: u8, wscale: u8) -> Self {
        self.flags(flags)
            .option(&[2, 4, 5, 180, 4, 2, 3, 3, wscale])
    }

    pub(super) fn bytes(&self, key: Key, dir: Dir) -> Vec<u8> {
        Spec {
            key,
            dir,
            extra: (0, vec![]),
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            options: self.options.clone(),
            payload: vec![0x55; self.len],
            csum: Csum::Full,
        }
        .bytes()
    }
}

/// What became of a packet.
pub(super) struct Out {
    pub(super) verdict: Verdict,
    pub(super) fx: Effects,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) ts: Option<(u32, u32)>,
    pub(super) sack: Vec<(u32, u32)>,
    /// It leaves with other bytes than it came with.
    pub(super) changed: bool,
    /// It could take the express way.
    pub(super) express: bool,
}

impl Out {
    /// The packet has to go on.
    #[track_caller]
    pub(super) fn accepted(self) -> Self {
        assert_eq!(self.verdict, Verdict::Accept);
        self
    }

    #[track_caller]
    pub(super) fn dropped(self, why: Counter) -> Self {
        assert_eq!(self.verdict, Verdict::Drop(why));
        self
    }

    #[track_caller]
    pub(super) fn held(self) -> Self {
        assert_eq!(self.verdict, Verdict::Hold);
        self
    }

    pub(super) fn tsval(&self) -> u32 {
        self.ts.unwrap().0
    }
}

/// The segments of `fx` in direction `dir`.
pub(super) fn emitted(fx: &Effects, dir: Dir) -> Vec<Segment> {
    fx.emits
        .iter()
        .map(|e| e.segment)
        .filter(|s| s.dir == dir)
        .collect()
}

/// The only segment that `fx` sends to the client.
#[track_caller]
pub(super) fn told(fx: &Effects) -> Segment {
    let all = emitted(fx, Dir::ToClient);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

/// Sequence number, first byte and length of the parts of the prefix in `fx`.
pub(super) fn prefix(fx: &Effects) -> Vec<(u32, u32, u32)> {
    let part = |e: &Emit| match e.bytes {
        Bytes::Prefix { from, len } => Some((e.segment.seq, from, len)),
        _ => None,
    };
    fx.emits.iter().filter_map(part).collect()
}

/// The records of `kind` in `fx`.
pub(super) fn logged(fx: &Effects, kind: Kind) -> Vec<Log> {
    fx.logs.iter().filter(|l| l.kind == kind).copied().collect()
}

pub(super) fn counted(fx: &Effects, counter: Counter) -> bool {
    fx.counts.iter().any(|c| *c == counter)
}

fn end(a: u8, port: u8) -> Endpoint {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&[10, 0, 0, a]);
    Endpoint {
        addr,
        port: [0x20, port],
    }
}

/// A flow, and the clock and policy of its machine.
pub(super) struct Rig {
    pub(super) flow: Briefed,
    pub(super) env: Env,
}

impl Rig {
    fn around(flow: impl FnOnce(Key, &Env) -> Flow) -> Self {
        let policy = Policy {
            protect: true,
            strict: true,
            hold_ms: 1000,
            verdict_ms: 500,
            head_limit: 4096,
            request_limit: 1 << 20,
            head_end: 0,
            body_whole: 0,
            body_part: 0,
            reader: true,
        };
        let env = Env {
            now: 10_000,
            policy,
        };
        Rig {
            flow: flow(Key::new(4, end(1, 1), end(2, 80)), &env).into(),
            env,
        }
    }

    /// A flow that has seen `syn` and nothing else.
    pub(super) fn syn(syn: Tcp) -> (Self, Out) {
        let mut rig = Self::around(|key, env| {
            let mut bytes = syn.bytes(key, Dir::ToService);
            let len = bytes.len() as u32;
            Flow::opening(
                key,
                &mut Packet::parse(&mut bytes, len, Csum::Full).unwrap(),
                env,
            )
        });
        let out = rig.client(syn);
        (rig, out)
    }

    /// A flow of a service that is only observed, which has seen `syn` and nothing else.
    pub(super) fn observed(syn: Tcp) -> (Self, Out) {
        let mut rig = Self::around(|key, env| {
            let mut env = *env;
            env.policy.protect = false;
            let mut bytes = syn.bytes(key, Dir::ToService);
            let len = bytes.len() as u32;
            let mut p = Packet::parse(&mut bytes, len, Csum::Full).unwrap();
            Flow::opening(key, &mut p, &env)
        });
        rig.env.policy.protect = false;
        let out = rig.client(syn);
        (rig, out)
    }

    /// A flow in phase Open, whose client began at `c` and whose service at `s`; timestamps
    /// of the client are near 100, those of the service near 900.
    pub(super) fn open_at(c: u32, s: u32) -> Self {
        let (isn_c, isn_s) = (c.wrapping_sub(1), s.wrapping_sub(1));
        let (mut rig, _) = Self::syn(tcp(isn_c, 0).syn(flags::SYN, CLIENT_SHIFT).ts(100, 0));
        let both = flags::SYN | flags::ACK;
        rig.service(tcp(isn_s, c).syn(both, SERVICE_SHIFT).ts(900, 100))
            .accepted();
        rig.client(tcp(c, s).ts(100, 900)).accepted();
        assert_eq!(rig.flow.phase(), Phase::Open);
        rig
    }

    pub(super) fn open() -> Self {
        Self::open_at(C, S)
    }

    /// An open flow whose client has sent a request of 100 bytes.
    pub(super) fn asked() -> Self {
        Self::open().ask()
    }

    /// As [`Rig::asked`], where the response need not wait for its record.
    pub(super) fn asked_eagerly() -> Self {
        let mut rig = Self::open();
        rig.env.policy.strict = false;
        rig.ask()
    }

    /// The client sends a request of 100 bytes.
    pub(super) fn ask(mut self) -> Self {
        self.client(tcp(C, S).len(100).ts(101, 900)).accepted();
        self
    }

    /// A flow whose server died. Nobody has asked its client yet.
    pub(super) fn orphan() -> Self {
        Self::around(Flow::orphan)
    }

    /// As [`Rig::orphan`], and its client was asked with a number below [`S`].
    pub(super) fn locating() -> Self {
        let mut rig = Self::orphan();
        let claim = rig.claim(1);
        rig.act(|f, env, fx| f.locate(&claim, Seq::new(S - 1), false, env, fx).unwrap());
        rig
    }

    /// As [`Rig::locating`], and its client has said that it stands at [`S`] and that its
    /// window is 1000 units.
    pub(super) fn located() -> Self {
        let mut rig = Self::locating();
        rig.client(tcp(C, S).ts(101, 900))
            .dropped(Counter::OrphanSwallowed);
        assert_eq!(rig.flow.phase(), Phase::Located);
        rig
    }

    /// As [`Rig::located`], with a ghost that asks 100 bytes, the last before [`C`], and
    /// takes an answer of 4000 bytes at most.
    pub(super) fn ghost() -> Self {
        let mut rig = Self::located();
        rig.recover(S).unwrap();
        rig
    }

    /// As [`Rig::ghost`], and the server has answered the SYN.
    pub(super) fn connected() -> Self {
        let mut rig = Self::ghost();
        rig.connect();
        rig
    }

    /// As [`Rig::connected`], and the server has answered with 200 bytes.
    pub(super) fn answered() -> Self {
        let mut rig = Self::connected();
        rig.answer();
        rig
    }

    /// As [`Rig::answered`], and the flow is joined: the client gets `len` bytes of a prefix
    /// from [`S`] on, and then the server's own from `L + 200` on.
    pub(super) fn joining(len: u32) -> (Self, Effects) {
        let mut rig = Self::answered();
        let fx = rig.join(len);
        (rig, fx)
    }

    pub(super) fn recover(&mut self, stands: u32) -> Result<(), Misfit> {
        let claim = self.claim(1);
        self.act(|f, env, fx| f.recover(&claim, at(stands), 100, 4000, env, fx))
            .0
    }

    /// The server answers the ghost's SYN. It began before [`L`], and its timestamps are near
    /// 300 000.
    pub(super) fn connect(&mut self) {
        let both = flags::SYN | flags::ACK;
        let syn_ack = tcp(L - 1, C - 100)
            .window(60_000)
            .syn(both, 5)
            .ts(300_000, 101);
        self.service(syn_ack).dropped(Counter::GhostHeard);
    }

    /// The server answers with 200 bytes.
    pub(super) fn answer(&mut self) {
        self.service(tcp(L, C).len(200).ts(300_010, 101))
            .dropped(Counter::GhostHeard);
    }

    pub(super) fn join(&mut self, len: u32) -> Effects {
        self.act(|f, env, fx| f.join(200, 0, len, None, None, env, fx).unwrap())
            .1
    }

    /// What userspace knows of the client for takeover `generation`.
    pub(super) fn claim(&self, generation: u32) -> Claim {
        let handshake = Handshake {
            mss: 1460,
            wscale_client: Some(CLIENT_SHIFT),
            wscale_service: Some(SERVICE_SHIFT),
            sack: true,
            timestamps: true,
        };
        let clock = Clock::told(100, 900, self.env.now, 0);
        Claim {
            generation,
            next: at(C),
            handshake,
            clock,
        }
    }

    pub(super) fn client(&mut self, p: Tcp) -> Out {
        self.show(&p, Dir::ToService)
    }

    pub(super) fn service(&mut self, p: Tcp) -> Out {
        self.show(&p, Dir::ToClient)
    }

    fn show(&mut self, p: &Tcp, dir: Dir) -> Out {
        let mut bytes = p.bytes(*self.flow.key(), dir);
        let before = bytes.clone();
        let len = bytes.len() as u32;
        let mut fx = Effects::new();
        let (verdict, express) = self
            .flow
            .both_ways(&mut bytes, Csum::Full, dir, &self.env, &mut fx)
            .unwrap();
        let changed = bytes != before;
        let p = Packet::parse(&mut bytes, len, Csum::Full).unwrap();
        let (o, sack) = (*p.options(), p.options().sack().to_vec());
        let (seq, ack, window) = (p.seq(), p.ack(), p.window());
        Out {
            verdict,
            fx,
            seq,
            ack,
            window,
            ts: o.ts,
            sack,
            changed,
            express,
        }
    }

    /// Calls `f` on the flow.
    pub(super) fn act<T>(
        &mut self,
        f: impl FnOnce(&mut Flow, &Env, &mut Effects) -> T,
    ) -> (T, Effects) {
        let mut fx = Effects::new();
        let done = f(&mut self.flow, &self.env, &mut fx);
        (done, fx)
    }

    pub(super) fn commit(&mut self, start: u64, end: Option<u64>) -> Effects {
        self.act(|f, env, fx| f.commit(Some(start), end, env, fx)).1
    }

    /// Lets `ms` milliseconds pass.
    pub(super) fn wait(&mut self, ms: u64) {
        self.env.now += ms;
    }

    /// Waits for the next deadline and lets it pass.
    pub(super) fn tick(&mut self) -> Effects {
        self.env.now = self.flow.deadline().unwrap();
        self.act(|f, env, fx| f.tick(env, fx)).1
    }

    /// The position of the ack gate while it is closed.
    pub(super) fn ack_gate(&self) -> Option<u64> {
        self.flow.snapshot(self.env.now).ack_gate
    }
}

pub(super) fn at<D>(n: u32) -> Pos<D> {
    Pos::starting(Seq::new(n))
}

/// As [`at`], as it is told.
pub(super) fn pos(n: u32) -> u64 {
    at::<S2c>(n).raw()
}
