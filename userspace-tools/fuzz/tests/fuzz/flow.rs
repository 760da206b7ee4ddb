// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The flow state machine between a client, a server and a userspace of which none behaves.

use holdfast_core::brief::Briefed;
use holdfast_core::client::{Clock, Handshake};
use holdfast_core::counter::Counter;
use holdfast_core::csum::{pseudo, Sum};
use holdfast_core::effects::{Bytes, Effects, LogData, Verdict};
use holdfast_core::flow::{Env, Flow, Phase, Policy};
use holdfast_core::rescue::Claim;
use holdfast_core::seq::{Delta, Pos, S2c, Seq};
use holdfast_core::wire::{flags, measure, Csum, Dir, Endpoint, Key, Packet, MAX_HEADER};
use holdfast_fuzz::{number, run, spoil, Rng};
use holdfast_sim::packet::Tcp;

/// Whether the TCP checksum of a packet is right.
pub fn checksum_is_right(bytes: &[u8]) -> bool {
    let Ok(m) = measure(bytes, bytes.len() as u32) else {
        return false;
    };
    let (from, n) = if m.family == 4 { (12, 4) } else { (8, 16) };
    let Some(tcp) = bytes.get(m.tcp_offset..m.header_len + m.payload_len as usize) else {
        return false;
    };
    let (source, destination) = (&bytes[from..from + n], &bytes[from + n..from + 2 * n]);
    // A field of zero where all ones are meant is as good.
    pseudo(source, destination, 6, tcp.len() as u32)
        .add(Sum::of(tcp))
        .check()
        == 0
}

/// One flow, and all that may be done to it.
struct Case<'r> {
    rng: &'r mut Rng,
    flow: Briefed,
    env: Env,
    /// Near where the client's, the service's and the ghost's server's numbers are.
    c: u32,
    s: u32,
    l: u32,
    /// Bytes of request and prefix that were given.
    request: u32,
    prefix: u32,
    gone: bool,
}

fn end(a: u8, port: u8) -> Endpoint {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&[10, 0, 0, a]);
    Endpoint {
        addr,
        port: [0x20, port],
    }
}

impl Case<'_> {
    fn near(&mut self, around: u32) -> u32 {
        match self.rng.below(3) {
            0 => around,
            _ => number(self.rng, u64::from(around)) as u32,
        }
    }

    fn position(&mut self, around: u32) -> u64 {
        let around = (1 << 32) + u64::from(around);
        match self.rng.below(3) {
            0 => around,
            _ => number(self.rng, around),
        }
    }

    /// A position that netlink lets through.
    fn checked<D>(&mut self, around: u32) -> Pos<D> {
        Pos::checked(self.position(around)).unwrap_or(Pos::starting(Seq::new(around)))
    }

    /// A packet that somebody could send.
    fn packet(&mut self, dir: Dir) -> Vec<u8> {
        let key = *self.flow.key();
        let (from, to) = key.ends(dir);
        let lost = matches!(self.flow.phase(), Phase::Ghost);
        let theirs = if lost { self.l } else { self.s };
        let (seq, ack) = match dir {
            Dir::ToService => (self.c, self.s),
            Dir::ToClient => (theirs, self.c),
        };
        let flags = match self.rng.below(20) {
            0 => flags::SYN,
            1 | 2 => flags::SYN | flags::ACK,
            3 => flags::FIN | flags::ACK,
            4 => flags::RST,
            5 => flags::RST | flags::ACK,
            6 => self.rng.bits() as u8,
            _ => flags::ACK | flags::PSH,
        };
        let mut t = Tcp {
            family: 4,
            from,
            to,
            seq: self.near(seq),
            ack: self.near(ack),
            flags,
            window: self.near(1000) as u16,
            payload: vec![0x55; self.rng.pick(&[0, 0, 1, 100, 1400])],
            ..Tcp::default()
        };
        if self.rng.permille(700) {
            t.ts = Some((self.near(100), self.near(900)));
        }
        if flags & flags::SYN != 0 {
            t.mss = Some(self.near(1460) as u16);
            t.wscale = Some(self.near(3) as u8);
            t.sack_ok = true;
        } else if self.rng.permille(300) {
            for _ in 0..self.rng.below(4) {
                let block = (self.near(ack), self.near(ack));
                t.sack.push(block);
            }
        }
        let mut bytes = t.encode();
        if self.rng.permille(100) {
            // The options, the flags, the data offset.
            let at = 32 + self.rng.below(bytes.len() as u64 - 32) as usize;
            bytes[at] = self.rng.bits() as u8;
        }
        if self.rng.permille(20) {
            spoil(self.rng, &mut bytes);
        }
        bytes
    }

    fn show(&mut self, dir: Dir) {
        let mut bytes = self.packet(dir);
        let was = bytes.clone();
        let right = checksum_is_right(&bytes);
        let total = bytes.len() as u32;
        let mut fx = Effects::new();
        let shown = self
            .flow
            .both_ways(&mut bytes, Csum::Full, dir, &self.env, &mut fx);
        let Ok((verdict, _)) = shown else {
            return;
        };
        let p = Packet::parse(&mut bytes, total, Csum::Full).expect("it was read before");
        let payload = p.payload_len();
        let header = p.header().len();
        let (seq, ack, has_ack, len) = (p.seq(), p.ack(), p.has_ack(), payload);
        let sack = p.options().sack().to_vec();
        // Whatever a reset carries is no part of the stream; a SYN-ACK of a socket that is open
        // acknowledges nothing but the SYN.
        let other = p.rst() || p.flags() & flags::SYN != 0;
        assert_eq!(
            bytes[header..],
            was[header..],
            "payload is not ours to change"
        );
        match verdict {
            Verdict::Accept => {
                assert!(
                    !right || checksum_is_right(&bytes),
                    "{was:02x?} became {bytes:02x?}"
                );
                if dir == Dir::ToClient && !other {
                    self.gates_hold(seq, ack, has_ack, len, &sack, &fx);
                }
            }
            Verdict::Hold => assert!(self.flow.deadline().is_some(), "held for ever"),
            Verdict::Drop(_) => {}
        }
        self.effects(&fx, payload);
    }

    /// Nothing leaves for the client beyond a gate.
    fn gates_hold(
        &self,
        seq: u32,
        ack: u32,
        has_ack: bool,
        len: u32,
        sack: &[(u32, u32)],
        fx: &Effects,
    ) {
        let snap = self.flow.snapshot(self.env.now);
        if !matches!(snap.phase, Phase::Open | Phase::Joining) {
            return;
        }
        // A number far from the gate is on no side of it.
        let beyond =
            |n: u32, gate: u64| (1..1 << 29).contains(&(n.wrapping_sub(gate as u32) as i32));
        if let Some(gate) = snap.ack_gate {
            assert!(
                !has_ack || !beyond(ack, gate),
                "ack {ack} beyond {gate}: {:?}",
                self.flow
            );
            assert!(
                !has_ack || sack.iter().all(|b| !beyond(b.1, gate)),
                "SACK {sack:?} beyond {gate}"
            );
        }
        // Where it stands in the stream.
        let pos = Pos::<S2c>::new(snap.s2c_next).nearest(Seq::new(seq)).raw();
        // A packet without data may stand behind what is held: it is what the socket has sent. Nor
        // does a close between two responses wait.
        if let Some(gate) = snap.data_gate.filter(|_| len > 0 && !fx.release) {
            assert!(pos + u64::from(len) <= gate, "{pos}+{len} beyond {gate}");
        }
    }

    /// What is asked of the caller can be done.
    fn effects(&mut self, fx: &Effects, payload: u32) {
        let mut out = [0; MAX_HEADER];
        for e in fx.emits.iter() {
            let (of, part) = match e.bytes {
                Bytes::None => (0, 0),
                Bytes::Request { from, len } => (self.request, from.checked_add(len).unwrap()),
                Bytes::Prefix { from, len } => (self.prefix, from.checked_add(len).unwrap()),
            };
            assert!(part <= of, "{:?} of {of} bytes", e.bytes);
            let len = match e.bytes {
                Bytes::None => 0,
                Bytes::Request { len, .. } | Bytes::Prefix { len, .. } => len,
            };
            assert!(len < 65_000);
            let payload = vec![0; len as usize];
            e.segment
                .write(self.flow.key(), &payload, &mut out)
                .unwrap();
        }
        for log in fx.logs.iter() {
            if let LogData::Payload { from, len } = log.data {
                assert!(
                    from.checked_add(len).is_some_and(|end| end <= payload),
                    "{log:?}"
                );
                let mut less = *log;
                self.flow.excerpt(&mut less, &self.env, |at, to| {
                    assert!(at as usize + to.len() <= payload as usize);
                    let bytes = b"\r\n".iter().cycle();
                    to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
                    true
                });
                let LogData::Payload {
                    from: same,
                    len: fewer,
                } = less.data
                else {
                    panic!("{less:?}")
                };
                assert!(same == from && fewer <= len, "{log:?} {less:?}");
            }
        }
        self.gone |= fx.gone;
    }

    fn claim(&mut self) -> Claim {
        Claim {
            generation: self.rng.pick(&[0, 1, 1, 1, 2, 3, u32::MAX]),
            next: self.checked(self.c),
            handshake: Handshake {
                mss: self.rng.pick(&[0, 1, 536, 1460, u16::MAX]),
                wscale_client: Some(self.rng.below(15) as u8),
                wscale_service: Some(self.rng.below(15) as u8),
                sack: true,
                timestamps: self.rng.permille(800),
            },
            clock: match self.rng.below(3) {
                0 => Clock::default(),
                _ => Clock::told(self.near(100), self.near(900), self.env.now, self.near(0)),
            },
        }
    }

    /// Userspace says something, right or wrong.
    fn told(&mut self) {
        let mut fx = Effects::new();
        let claim = self.claim();
        let (a, b) = (self.position(self.s), self.position(self.s));
        let env = self.env;
        match self.rng.below(14) {
            0 | 1 => self
                .flow
                .commit(Some(a), self.rng.permille(700).then_some(b), &env, &mut fx),
            2 | 3 => {
                let anywhere = self.rng.permille(200);
                let seq = Seq::new(a as u32);
                let _ = self.flow.locate(&claim, seq, anywhere, &env, &mut fx);
            }
            4 | 5 => {
                let request = self.rng.pick(&[0, 1, 100, 32_768]);
                let window = self.rng.range(1, 65_535) as u32;
                let at = match self.rng.below(2) {
                    0 => self.flow.snapshot(env.now).s2c_acked,
                    _ => a,
                };
                let Some(at) = Pos::checked(at) else { return };
                if self
                    .flow
                    .recover(&claim, at, request, window, &env, &mut fx)
                    .is_ok()
                {
                    self.request = request;
                }
            }
            6..=8 => {
                let len = self.rng.pick(&[0, 1, 3000, 65_535]);
                // Most often as much as was taken: then it is done.
                let answer = self.rng.pick(&[0, 0, 100, 1400, a]);
                let end = self.rng.permille(500).then_some(b);
                let skip = self.rng.pick(&[0, 0, 1, 5000, 1 << 33, b]);
                if self
                    .flow
                    .join(answer, skip, len, Some(a), end, &env, &mut fx)
                    .is_ok()
                {
                    self.prefix = len;
                }
            }
            9 => {
                let _ = self.flow.disown(&env, &mut fx);
            }
            10 => self.flow.unprotect(&mut fx),
            11 => self.flow.release_ack(&mut fx),
            12 => match self.rng.below(3) {
                0 => self.flow.mute(&env, &mut fx),
                1 => self.flow.reset_client(Counter::GivenUp, &env, &mut fx),
                _ => self.flow.log_failed(&env, &mut fx),
            },
            _ => self.flow.reader_gone(&env, &mut fx),
        }
        self.effects(&fx, 0);
    }

    /// Time passes; what is due is done, and not over and over again.
    fn wait(&mut self) {
        self.env.now += self.rng.pick(&[0, 1, 10, 300, 1000, 10_000, 130_000]);
        for n in 0.. {
            if self.gone || self.flow.deadline().is_none_or(|d| d > self.env.now) {
                break;
            }
            assert!(n < 4, "always due: {:?}", self.flow);
            let mut fx = Effects::new();
            self.flow.tick(&self.env, &mut fx);
            self.effects(&fx, 0);
        }
        self.flow.desc();
        self.flow.depends_on_us();
    }

    /// The numbers that are spoken about follow the flow.
    fn follow(&mut self) {
        let snap = self.flow.snapshot(self.env.now);
        if !matches!(snap.phase, Phase::Orphan | Phase::Passing) && self.rng.permille(500) {
            (self.c, self.s) = (snap.c2s_next as u32, snap.s2c_next as u32);
        }
        if let Phase::Ghost = snap.phase {
            if self.rng.permille(500) {
                self.l = self.l.wrapping_add(self.rng.pick(&[0, 1, 100]));
            }
        }
    }
}

fn begin(rng: &mut Rng) -> Case<'_> {
    let policy = Policy {
        protect: rng.permille(900),
        strict: rng.permille(700),
        hold_ms: 1000,
        verdict_ms: 500,
        head_limit: number(rng, 4096) as u32 % 65_537,
        request_limit: number(rng, 4096) as u32 % 65_537,
        head_end: if rng.permille(500) {
            0
        } else {
            u32::from_be_bytes(*b"\r\n\r\n")
        },
        body_whole: number(rng, 4096) as u32 % 65_537,
        body_part: number(rng, 4096) as u32 % 65_537,
        reader: rng.permille(900),
    };
    let env = Env {
        now: 10_000,
        policy,
    };
    let key = Key::new(4, end(1, 1), end(2, 80));
    let (c, s, l) = (
        number(rng, 0) as u32,
        number(rng, 0) as u32,
        number(rng, 0) as u32,
    );
    let flow = match rng.below(10) {
        0..=5 => Flow::orphan(key, &env),
        6 => Flow::spliced(
            key,
            Delta::new(rng.bits() as u32),
            Delta::new(rng.bits() as u32),
            rng.bits() as u32,
        ),
        _ => Flow::orphan(key, &env),
    };
    let mut case = Case {
        rng,
        flow: flow.into(),
        env,
        c,
        s,
        l,
        request: 0,
        prefix: 0,
        gone: false,
    };
    if case.rng.permille(600) {
        case.opened(c, s);
    }
    case
}

impl Case<'_> {
    /// A connection as it should begin.
    fn opened(&mut self, c: u32, s: u32) {
        let key = *self.flow.key();
        let mut syn = Tcp {
            family: 4,
            seq: c.wrapping_sub(1),
            flags: flags::SYN,
            window: 1000,
            mss: Some(1460),
            wscale: Some(2),
            sack_ok: true,
            ts: Some((100, 0)),
            ..Tcp::default()
        };
        (syn.from, syn.to) = key.ends(Dir::ToService);
        let mut bytes = syn.encode();
        let total = bytes.len() as u32;
        let mut fx = Effects::new();
        let mut p = Packet::parse(&mut bytes, total, Csum::Full).unwrap();
        self.flow = Flow::opening(key, &mut p, &self.env).into();
        self.flow.hear_client(&mut p, &self.env, &mut fx);
        let mut answer = Tcp {
            seq: s.wrapping_sub(1),
            ack: c,
            flags: flags::SYN | flags::ACK,
            ts: Some((900, 100)),
            ..syn
        };
        (answer.from, answer.to) = key.ends(Dir::ToClient);
        let mut bytes = answer.encode();
        let mut p = Packet::parse(&mut bytes, total, Csum::Full).unwrap();
        self.flow.hear_service(&mut p, &self.env, &mut fx);
    }
}

/// No panic, nothing beyond a gate, nothing asked that cannot be done, nothing due for ever.
#[test]
fn flow() {
    run("flow", |rng| {
        let mut case = begin(rng);
        for _ in 0..120 {
            if case.gone {
                break;
            }
            match case.rng.below(20) {
                0..=8 => case.show(Dir::ToService),
                9..=15 => case.show(Dir::ToClient),
                16 | 17 => case.told(),
                _ => case.wait(),
            }
            case.follow();
        }
    });
}
