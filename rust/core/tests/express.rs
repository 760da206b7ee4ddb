// SPDX-License-Identifier: GPL-2.0

//! The express way does what the long way does, whatever the flow and whatever the packet.
//!
//! [`Flow::both_ways`] compares verdict, bytes, effects and the flow afterwards. Here are the flows
//! and packets: each field that a decision looks at has a value near those of the others or none,
//! so that every comparison goes either way, and numbers wrap.

use super::super::brief::Briefed;
use super::super::client::{Clock as ClientClock, Handshake};
use super::super::effects::Effects;
use super::super::flow::{Env, Flow, Object, Phase, Policy};
use super::super::lost::Lost;
use super::super::plain::{Plain, V4};
use super::super::seq::{Delta, Pos, Seq};
use super::super::splice::{Clock, Rescale, Rewrite, Splice};
use super::super::wire::{flags, Csum, Dir, Endpoint};

use super::kit::{at, tcp, Rig, C, L, S};
use super::{key, sack_option, ts_option, Spec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::vec;
use std::vec::Vec;

/// A distance: mostly none or little, sometimes beyond a bound that matters somewhere.
fn off() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => Just(0i64),
        6 => -3..4i64,
        3 => -2000..2000i64,
        1 => -200_000..200_000i64,
        1 => -(3i64 << 30)..3 << 30,
    ]
}

/// Something that is mostly absent.
fn rarely<T: Clone + core::fmt::Debug>(
    some: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.2, some)
}

/// The numbers around which all others are.
#[derive(Clone, Copy, Debug)]
struct Base {
    c: u64,
    s: u64,
    ts: u32,
    echo: u32,
    now: u64,
}

fn base() -> impl Strategy<Value = Base> {
    // Before, at and behind a wrap of 2^32, and anywhere.
    let at = || prop_oneof![(1u64 << 32) - 5..(1 << 32) + 3000, 1u64 << 32..1 << 40];
    (at(), at(), any::<(u32, u32)>(), 1000..1u64 << 40).prop_map(|(c, s, (ts, echo), now)| Base {
        c: c + (1 << 32),
        s: s + (1 << 32),
        ts,
        echo,
        now,
    })
}

fn near<D>(base: u64, off: i64) -> Pos<D> {
    Pos::new(base.wrapping_add_signed(off))
}

fn shift() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0u8), 0..=14u8]
}

prop_compose! {
    fn policy()(
        (protect, strict, reader) in any::<(bool, bool, bool)>(),
        (head_limit, request_limit) in (0..4000u32, 0..4000u32),
    ) -> Policy {
        Policy { protect, strict, reader, head_limit, request_limit, hold_ms: 1000, verdict_ms: 500, head_end: 0, body_whole: 0, body_part: 0 }
    }
}

prop_compose! {
    fn splice(base: Base)(
        (c2s, s2c, ts) in any::<(u32, u32, u32)>(),
        (same_c, same_s, same_ts) in any::<(bool, bool, bool)>(),
        floor in rarely(off()),
        first in rarely(off()),
        boundary in prop::option::weighted(0.03, (off(), -100..100i32)),
        address in prop::option::weighted(0.03, any::<bool>()),
        scales in prop::option::of((shift(), shift(), shift(), shift())),
    ) -> Splice {
        let c2s = Delta::new(if same_c { 0 } else { c2s });
        let s2c = Delta::new(if same_s { 0 } else { s2c });
        let delta = if same_ts { 0 } else { ts };
        let first = first.map(|off| base.ts.wrapping_sub(delta).wrapping_add(off as u32));
        let mut splice = Splice::new(c2s, s2c, Clock { delta, first });
        let local = |off| s2c.to_local(near(base.s, off).seq());
        if let Some(off) = floor {
            splice = splice.with_ack_floor(local(off));
        }
        if let Some((c1, c2, s1, s2)) = scales {
            let scale = |from, to| Rescale { from, to };
            splice = splice.with_windows(scale(c1, c2), scale(s1, s2));
        }
        let other = Rewrite { source: Some(Endpoint::default()), destination: None };
        match address {
            Some(true) => splice = splice.with_addresses(other, Rewrite::default()),
            Some(false) => splice = splice.with_addresses(Rewrite::default(), other),
            None => {}
        }
        if let Some((off, by)) = boundary {
            let _ = splice.move_boundary_s2c(local(off), Delta::new(s2c.raw().wrapping_add_signed(by)));
        }
        splice
    }
}

/// Phases, mostly the one in which the express way is open.
fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        20 => Just(Phase::Open),
        1 => Just(Phase::Opening),
        1 => Just(Phase::Joining),
        1 => Just(Phase::Closing),
        1 => Just(Phase::Passing),
        1 => Just(Phase::Located),
    ]
}

fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.03)
}

prop_compose! {
    /// The client's stream and what is asked of it.
    fn from_client(base: Base)(
        (next, acked, edge, gate, told) in (off(), off(), off(), rarely(off()), rarely((off(), off()))),
        fin in prop::option::weighted(0.1, off()),
        (since, retransmitted) in (0..400u64, seldom()),
        (mut flow, joined) in (key(), any::<bool>())
            .prop_map(|(key, joined)| (Flow::blank(key, Phase::Open), joined)),
    ) -> Flow {
        let c = |off| near(base.c, off);
        flow.joined = joined;
        flow.answered = !joined;
        flow.c2s.next = c(next);
        flow.c2s.acked = c(acked);
        flow.c2s.edge = c(edge + 60_000);
        flow.c2s.fin = fin.map(c);
        if let Some((ack, edge)) = told {
            flow.c2s.gate.tell(super::super::gate::Word { ack: c(ack), edge: c(edge + 60_000) });
        }
        if let Some(gate) = gate {
            flow.c2s.gate.close(c(gate), base.now - since);
            if retransmitted {
                flow.c2s.gate.retransmission(c(next), base.now);
            }
        }
        flow
    }
}

prop_compose! {
    /// The service's stream besides.
    fn to_client(base: Base)(
        mut flow in from_client(base),
        (next, acked, reported, window) in (off(), off(), off(), any::<u16>()),
        (gate, logged, log_end) in (rarely(off()), off(), off()),
        fin in prop::option::weighted(0.1, off()),
        reported_at in 0..300u64,
        due in prop::option::of(prop_oneof![Just(100u64), 0..300u64]),
        dead in prop::option::weighted(0.05, off()),
        object in prop::option::of((off(), off(), prop::option::of(off()))),
        shadow in prop::option::weighted(0.1, (off(), prop::option::of(off()), any::<bool>())),
    ) -> Flow {
        let (c, s) = (|off| near(base.c, off), |off| near(base.s, off));
        flow.s2c.next = s(next);
        flow.s2c.acked = s(acked);
        flow.s2c.window = window;
        flow.s2c.fin = fin.map(s);
        if let Some(gate) = gate {
            flow.s2c.gate.close(s(gate));
        }
        flow.s2c.logged = s(logged);
        flow.s2c.log_end = s(log_end);
        flow.s2c.reported = s(reported);
        flow.s2c.reported_at = base.now - reported_at;
        flow.progress_deadline = due.map_or(u64::MAX, |due| flow.s2c.reported_at + due);
        flow.dead_edge = dead.map(s);
        flow.object = object.map(|(request, start, end)| Object {
            request: c(request),
            start: s(start),
            end: end.map(s),
        });
        if let Some((request, start, open)) = shadow {
            flow.shadow.close(c(request), start.map(s));
            if open {
                flow.shadow.open_ack();
            }
        }
        flow
    }
}

prop_compose! {
    /// Any flow.
    fn flow(base: Base)(
        mut flow in to_client(base),
        phase in phase(),
        splice in prop_oneof![1 => Just(Splice::identity()), 2 => splice(base)],
        (client, service, local) in (prop::option::of(shift()), prop::option::of(shift()), shift()),
        (muted, lost, closing) in (seldom(), seldom(), seldom()),
        protected: bool,
        clock in prop::option::weighted(0.9, (off(), off(), 0..500u64)),
        sent in off(),
        deadlines in (seldom(), prop::bool::weighted(0.3)),
    ) -> Flow {
        flow.phase = phase;
        flow.splice = splice;
        flow.local_shift = local;
        flow.handshake = Handshake {
            wscale_client: client,
            wscale_service: service,
            timestamps: true,
            ..flow.handshake
        };
        flow.muted = muted;
        flow.lost = lost.then_some(Lost { rst: false });
        flow.closing = closing.then_some(Lost { rst: false });
        flow.protected = protected;
        if let Some((val, ecr, age)) = clock {
            let around = |n: u32, off: i64| n.wrapping_add(off as u32);
            flow.clock = ClientClock::told(around(base.echo, val), around(base.ts, ecr), base.now, age as u32);
            flow.clock.say(around(base.ts, sent));
        }
        if deadlines.0 {
            flow.hold_deadline = base.now + 5;
        }
        if deadlines.1 {
            flow.ack_deadline = base.now + 5;
        }
        flow
    }
}

/// A packet, by its distances from what is expected.
#[derive(Clone, Debug)]
struct Shot {
    dir: Dir,
    seq: i64,
    ack: i64,
    window: u16,
    len: usize,
    flags: u8,
    ts: Option<(i64, i64)>,
    sack: Option<(i64, u32)>,
    csum: Csum,
    wait: u64,
}

prop_compose! {
    fn shot()(
        dir in super::dir(),
        (seq, ack) in (off(), off()),
        window in prop_oneof![Just(1000u16), any::<u16>()],
        len in prop_oneof![Just(0usize), 1..40usize, 1..2000usize],
        flags in prop_oneof![
            12 => Just(flags::ACK),
            4 => Just(flags::ACK | flags::PSH),
            1 => any::<u8>(),
        ],
        ts in prop::option::weighted(0.8, (off(), off())),
        sack in prop::option::weighted(0.05, (off(), 1..3000u32)),
        csum in super::csum(),
        wait in prop_oneof![Just(0u64), 0..150u64],
    ) -> Shot {
        Shot { dir, seq, ack, window, len, flags, ts, sack, csum, wait }
    }
}

impl Shot {
    /// The bytes of it for `flow` as it is now, which expects the numbers that it has seen last.
    fn bytes(&self, flow: &Flow, base: &Base) -> Vec<u8> {
        let (c, s) = (flow.c2s.next.seq().raw(), flow.s2c.next.seq().raw());
        let (val, ecr) = (flow.clock.tsval, flow.clock.sent);
        let by = |n: u32, off: i64| n.wrapping_add(off as u32);
        let local_c = |n: u32| flow.splice.delta_c2s().to_local(Seq::new(n)).raw();
        let local_s = |n: u32| flow.splice.delta_s2c().to_local(Seq::new(n)).raw();
        let acked = flow.s2c.acked.seq().raw();
        let (seq, ack, ts) = match self.dir {
            Dir::ToService => (c, if self.window % 2 == 0 { s } else { acked }, (val, ecr)),
            Dir::ToClient => {
                let tsval = ecr.wrapping_sub(flow.splice.clock().delta);
                (local_s(s), local_c(c), (tsval, base.echo))
            }
        };
        let mut options = vec![];
        if let Some((val, ecr)) = self.ts {
            options.extend([1, 1]);
            options.extend(ts_option(by(ts.0, val), by(ts.1, ecr)));
        }
        if let Some((left, len)) = self.sack {
            let left = by(ack, left);
            options.extend(sack_option(&[(left, left.wrapping_add(len))]));
        }
        let spec = Spec {
            key: flow.key,
            dir: self.dir,
            extra: (0, vec![]),
            seq: by(seq, self.seq),
            ack: by(ack, self.ack),
            flags: self.flags,
            window: self.window,
            options,
            payload: vec![7; self.len],
            csum: self.csum,
        };
        spec.bytes()
    }
}

/// A flow, the policy of its service, and packets, one after the other.
fn story() -> impl Strategy<Value = (Base, Flow, Policy, Vec<Shot>)> {
    base().prop_flat_map(|base| {
        let shots = prop::collection::vec(shot(), 1..12);
        (Just(base), flow(base), policy(), shots)
    })
}

#[test]
fn both_ways_are_the_same() {
    let (taken, shown) = (Cell::new(0u32), Cell::new(0u32));
    let config = Config {
        cases: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&story(), |(base, flow, policy, shots)| {
            let mut flow = Briefed::from(flow);
            let mut now = base.now;
            for shot in &shots {
                now += shot.wait;
                let mut bytes = shot.bytes(&flow, &base);
                let env = Env { now, policy };
                let mut fx = Effects::new();
                let shown_to = flow.both_ways(&mut bytes, shot.csum, shot.dir, &env, &mut fx);
                if let Ok((_, express)) = shown_to {
                    taken.set(taken.get() + u32::from(express));
                    shown.set(shown.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap();
    let (taken, shown) = (taken.get(), shown.get());
    assert!(taken > shown / 8, "only {taken} of {shown}");
}

/// What is usual goes the express way: otherwise all of this is for nothing.
#[test]
fn a_protected_response_takes_it_once_its_record_is_safe() {
    let mut rig = Rig::asked();
    let response = |from, len| tcp(S + from, C + 100).len(len).ts(900, 101);
    let out = rig.service(response(0, 500));
    assert!(!out.express, "it is held");
    rig.commit(at::<()>(S).raw(), Some(at::<()>(S + 100_000).raw()));
    rig.service(response(0, 500));
    let out = rig.service(response(500, 1000)).accepted();
    assert!(out.express);
    assert_eq!(
        out.ack, C,
        "the last byte of the request is not acknowledged"
    );
    assert!(rig.client(tcp(C + 100, S + 1500).ts(102, 900)).express);
    let out = rig.client(tcp(C + 100, S + 1500).len(10).ts(102, 900));
    assert!(!out.express, "it is told");
}

#[test]
fn a_flow_without_reader_takes_it_both_ways() {
    let mut rig = Rig::open();
    rig.env.policy.reader = false;
    for i in 0..3 {
        let (c, s) = (C + i * 100, S + i * 100);
        assert!(rig.client(tcp(c, s).len(100).ts(101, 900)).express);
        assert!(rig.service(tcp(s, c + 100).len(100).ts(901, 101)).express);
    }
}

#[test]
fn a_joined_flow_takes_it_behind_what_the_dead_server_may_have_sent() {
    let (mut rig, _) = Rig::joining(0);
    assert_eq!(rig.flow.phase(), Phase::Open);
    let mut sent = 0;
    while sent < 20_000 {
        let p = tcp(L + 200 + sent, C).len(1000).ts(300_020, 101);
        let out = rig.service(p).accepted();
        assert!(out.changed && out.express, "{sent}");
        sent += 1000;
    }
    let acks = |to| tcp(C, S + to).ts(102, 300_020);
    assert!(!rig.client(acks(10_000)).express);
    let out = rig.client(acks(11_000)).accepted();
    assert!(out.changed && out.express);
}

/// Whether a brief says calm: of the client's packets without timestamps and with, and of the service's.
fn calm(flow: &mut Briefed) -> [bool; 4] {
    let brief = flow.brief();
    assert!(!flow.is_stale());
    let of = |dir, stamped| brief.is_calm(dir, stamped);
    [
        of(Dir::ToService, false),
        of(Dir::ToService, true),
        of(Dir::ToClient, false),
        of(Dir::ToClient, true),
    ]
}

type Change<'a> = &'a dyn Fn(&mut Flow);

/// Nothing that the express way asks of a brief can change without it.
#[test]
fn each_change_of_a_calm_flow_is_in_its_brief() {
    const BOTH: [bool; 4] = [false; 4];
    const CLIENT: [bool; 4] = [false, false, true, true];
    const SERVICE: [bool; 4] = [true, true, false, false];
    const STAMPS: [bool; 4] = [true, false, true, false];
    let other = Rewrite {
        source: Some(Endpoint::default()),
        destination: None,
    };
    let wider = Rescale { from: 1, to: 2 };
    let changes: [(&str, Change<'_>, [bool; 4]); 16] = [
        ("phase", &|f| f.phase = Phase::Closing, BOTH),
        ("muted", &|f| f.muted = true, BOTH),
        ("lost", &|f| f.lost = Some(Lost { rst: true }), BOTH),
        ("closing", &|f| f.s2c.fin = Some(f.s2c.next), BOTH),
        ("dead edge", &|f| f.dead_edge = Some(f.s2c.next), CLIENT),
        ("report", &|f| f.progress_deadline = 1, CLIENT),
        ("ack gate", &|f| f.c2s.gate.close(f.c2s.next, 0), BOTH),
        ("shadow", &|f| f.shadow.close(f.c2s.next, None), BOTH),
        ("data gate", &|f| f.s2c.gate.close(f.s2c.next), SERVICE),
        (
            "its shadow",
            &|f| f.shadow.commit(Some(f.s2c.next)),
            SERVICE,
        ),
        ("clock", &|f| f.clock = ClientClock::default(), STAMPS),
        (
            "boundary",
            &|f| assert!(f.splice.move_boundary_s2c(Seq::new(1), Delta::new(1))),
            BOTH,
        ),
        ("addresses", &|f| f.splice.rewrite_c2s = other, CLIENT),
        (
            "their addresses",
            &|f| f.splice.rewrite_s2c = other,
            SERVICE,
        ),
        ("window", &|f| f.splice.window_c2s = wider, CLIENT),
        ("its window", &|f| f.splice.window_s2c = wider, SERVICE),
    ];
    let mut rig = Rig::open();
    rig.env.policy.reader = false;
    rig.client(tcp(C, S).len(100).ts(101, 900));
    rig.service(tcp(S, C + 100).len(100).ts(901, 101));
    let was = rig.flow;
    for (what, change, left) in changes {
        let mut flow = was;
        assert_eq!(calm(&mut flow), [true; 4]);
        change(&mut flow);
        assert_eq!(calm(&mut flow), left, "{what}");
    }
}

/// Whether anything is changed must be known before a packet is read.
#[test]
fn a_brief_knows_what_moves() {
    let moves: [&dyn Fn(&mut Flow); 4] = [
        &|f| f.splice.c2s = Delta::new(1),
        &|f| f.splice.s2c.delta = Delta::new(1),
        &|f| f.splice.clock.delta = 1,
        &|f| f.splice.clock.first = Some(1),
    ];
    for change in moves {
        let mut flow = Rig::open().flow;
        assert!(!flow.brief().moves());
        change(&mut flow);
        assert!(flow.brief().moves());
    }
}

/// A sum that is zero has two names, and a change of several fields at once need not keep that which
/// the sender has chosen.
#[test]
fn the_other_zero_is_left_to_the_long_way() {
    let plain = Plain {
        seq: 1,
        ack: 2,
        window: 3,
        ts: None,
        len: 0,
    };
    let new = Plain { seq: 7, ..plain };
    let mut headers = [0; V4 + 20];
    headers[V4 + 16..V4 + 18].fill(0xff);
    let was = headers;
    assert!(!plain.write::<V4>(&new, &mut headers, Csum::Full));
    assert_eq!(headers, was);
    assert!(plain.write::<V4>(&new, &mut headers, Csum::Partial));
    assert_ne!(headers, was);
}

#[test]
fn a_super_packet_without_length_is_as_long_as_it_is() {
    let key = *Rig::open().flow.key();
    let mut bytes = tcp(C, S).len(10).ts(101, 900).bytes(key, Dir::ToService);
    let read = |bytes: &[u8], total| Plain::read::<V4>(bytes, total).map(|p| p.len);
    let len = bytes.len() as u32;
    assert_eq!(read(&bytes, len), Some(10));
    assert_eq!(read(&bytes, len + 6), Some(10), "padded");
    assert_eq!(read(&bytes, len - 1), None, "cut off");
    bytes[2..4].fill(0);
    assert_eq!(read(&bytes, 70_052), Some(70_000));
}
