// SPDX-License-Identifier: GPL-2.0

//! A service that is only observed: every packet leaves as it came.

use super::super::counter::Counter;
use super::super::effects::Verdict;
use super::super::flow::Phase;
use super::super::ring::Kind;
use super::super::wire::flags;
use super::kit::{
    counted, logged, pos, tcp, told, Out, Rig, Tcp, C, CLIENT_SHIFT, S, SERVICE_SHIFT,
};
use proptest::prelude::*;

/// The packet went on as it was, and nothing was sent because of it.
#[track_caller]
fn untouched(out: &Out) {
    assert_eq!(out.verdict, Verdict::Accept);
    assert!(!out.changed);
    assert_eq!(out.fx.emits.iter().count(), 0);
}

fn open() -> Rig {
    let syn = tcp(C - 1, 0).syn(flags::SYN, CLIENT_SHIFT).ts(100, 0);
    let (mut rig, out) = Rig::observed(syn);
    untouched(&out);
    let both = flags::SYN | flags::ACK;
    untouched(&rig.service(tcp(S - 1, C).syn(both, SERVICE_SHIFT).ts(900, 100)));
    let out = rig.client(tcp(C, S).ts(100, 900));
    untouched(&out);
    assert_eq!(logged(&out.fx, Kind::Opened).len(), 1);
    assert_eq!(rig.flow.phase(), Phase::Open);
    rig
}

#[test]
fn a_request_and_its_response_are_logged_and_counted_and_nothing_waits() {
    let mut rig = open();
    let out = rig.client(tcp(C, S).len(100));
    untouched(&out);
    assert_eq!(logged(&out.fx, Kind::Object).len(), 1);
    assert_eq!(logged(&out.fx, Kind::C2s).len(), 1);
    let out = rig.service(tcp(S, C + 100));
    untouched(&out);
    assert!(counted(&out.fx, Counter::WouldLower));
    let out = rig.service(tcp(S, C + 100).len(500));
    untouched(&out);
    assert!(counted(&out.fx, Counter::WouldHold));
    assert_eq!(logged(&out.fx, Kind::S2c).len(), 1);
    assert_eq!(rig.flow.deadline(), None);

    let fx = rig.commit(pos(S), Some(pos(S) + 1000));
    assert_eq!(fx.emits.iter().count(), 0);
    let out = rig.service(tcp(S + 500, C + 100).len(400));
    untouched(&out);
    assert!(!counted(&out.fx, Counter::WouldHold));
    assert!(counted(&out.fx, Counter::WouldLower), "until its end");
    let out = rig.service(tcp(S + 900, C + 100).len(100));
    untouched(&out);
    assert!(!counted(&out.fx, Counter::WouldLower));
    // What follows would wait for its own record.
    let out = rig.service(tcp(S + 1000, C + 100).len(1));
    untouched(&out);
    assert!(counted(&out.fx, Counter::WouldHold));
}

#[test]
fn options_that_would_be_taken_stay() {
    let mptcp = [30, 12, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    let syn = tcp(C - 1, 0).syn(flags::SYN, CLIENT_SHIFT).option(&mptcp);
    let (_, out) = Rig::observed(syn);
    untouched(&out);
    assert!(counted(&out.fx, Counter::WouldBlank));
    assert!(!counted(&out.fx, Counter::MptcpBlanked));
}

#[test]
fn what_waits_goes_when_the_service_is_only_observed_from_now_on() {
    let mut rig = Rig::asked();
    rig.service(tcp(S, C + 100).window(1000)).accepted();
    rig.service(tcp(S, C + 100).len(500)).held();
    rig.env.policy.protect = false;
    let (_, fx) = rig.act(|f, env, fx| f.only_observed(env, fx));
    assert!(fx.release);
    assert_eq!(told(&fx).ack, C + 100, "it learns what it was not told");
    untouched(&rig.service(tcp(S, C + 100).len(500)));
    assert_eq!((rig.ack_gate(), rig.flow.deadline()), (None, None));
    let fx = rig.commit(pos(S), Some(pos(S) + 500));
    assert_eq!(fx.emits.iter().count(), 0);

    let mut orphan = Rig::orphan();
    orphan.env.policy.protect = false;
    orphan.act(|f, env, fx| f.only_observed(env, fx));
    untouched(&orphan.client(tcp(C, S)));
}

/// Any segment near where the flow stands.
fn segment(own: u32, other: u32) -> impl Strategy<Value = Tcp> {
    let bits = prop_oneof![
        10 => Just(flags::ACK),
        1 => Just(flags::ACK | flags::FIN),
        1 => Just(flags::RST),
        1 => Just(flags::SYN),
    ];
    let near = || -300i32..900;
    let block = proptest::option::of((0u32..900, 1u32..400));
    let tail = (0usize..500, any::<u16>(), any::<u16>(), block);
    (bits, near(), near(), tail).prop_map(move |(bits, seq, ack, (len, window, ts, block))| {
        let seq = own.wrapping_add_signed(seq);
        let mut p = tcp(seq, other.wrapping_add_signed(ack)).window(window);
        if bits & (flags::SYN | flags::RST) == 0 {
            p = p.len(len);
        }
        p = p.flags(bits).ts(u32::from(ts), u32::from(ts / 2));
        match block {
            Some((from, len)) => p.sack(&[(other + from, other + from + len)]),
            None => p,
        }
    })
}

#[derive(Clone, Debug)]
enum Step {
    Client(Tcp),
    Service(Tcp),
    Commit(Option<u64>),
    Unprotect,
    LogFailed,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => segment(C, S).prop_map(Step::Client),
        6 => segment(S, C).prop_map(Step::Service),
        2 => proptest::option::of(0u64..1000).prop_map(Step::Commit),
        1 => Just(Step::Unprotect),
        1 => Just(Step::LogFailed),
        2 => (0u64..3000).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_packet_is_changed_held_dropped_or_made(steps in proptest::collection::vec(step(), 1..40)) {
        let mut rig = open();
        for step in steps {
            let quiet = |fx: &super::super::effects::Effects| fx.emits.iter().count() == 0;
            match step {
                Step::Client(p) => untouched(&rig.client(p)),
                Step::Service(p) => untouched(&rig.service(p)),
                Step::Commit(end) => {
                    let start = rig.flow.snapshot(0).object_start.unwrap_or(pos(S));
                    prop_assert!(quiet(&rig.commit(start, end.map(|e| start + e))));
                }
                Step::Unprotect => prop_assert!(quiet(&rig.act(|f, _, fx| f.unprotect(fx)).1)),
                Step::LogFailed => {
                    prop_assert!(quiet(&rig.act(|f, env, fx| f.log_failed(env, fx)).1));
                }
                Step::Wait(ms) => {
                    rig.wait(ms);
                    prop_assert!(quiet(&rig.act(|f, env, fx| f.tick(env, fx)).1));
                }
            }
        }
    }
}
