// SPDX-License-Identifier: GPL-2.0

//! An answer of which the client has a part: the ghost discards that part, and the flow is joined
//! behind it, at the exact byte.

use super::super::counter::Counter;
use super::super::flow::Phase;
use super::super::rescue::Misfit;
use super::super::ring::Kind;
use super::super::wire::{flags, Csum, Dir, Packet};
use super::kit::{
    counted, emitted, logged, pos, prefix, tcp, Out, Rig, Tcp, C, CLIENT_SHIFT, L, S,
};
use proptest::prelude::*;

/// The server's byte behind what [`Rig::answered`] has taken.
const TAKEN: u32 = L + 200;

/// A ghost that is to discard `skip` bytes behind the 200 that it took.
fn skipping(skip: u64) -> Rig {
    let mut rig = Rig::answered();
    let (done, fx) = rig.act(|f, env, fx| f.join(200, skip, 0, Some(pos(S) - 5000), None, env, fx));
    assert_eq!(done, Ok(()));
    assert!(counted(&fx, Counter::Replayed));
    assert_eq!(rig.flow.phase(), Phase::Ghost);
    rig
}

/// Bytes of the server's answer.
fn bytes(seq: u32, len: usize) -> Tcp {
    tcp(seq, C).len(len).ts(300_010, 101)
}

/// The acknowledgement of a packet that goes no further and is not logged.
#[track_caller]
fn acked(out: Out) -> Option<(u32, u16)> {
    let out = out.dropped(Counter::GhostHeard);
    assert!(logged(&out.fx, Kind::Answer).is_empty());
    assert!(emitted(&out.fx, Dir::ToClient).is_empty());
    let all = emitted(&out.fx, Dir::ToService);
    assert!(all.len() <= 1, "{all:?}");
    all.first().map(|s| (s.ack, s.window))
}

#[test]
fn what_the_client_has_is_discarded() {
    let mut rig = skipping(5000);
    assert_eq!(
        acked(rig.service(bytes(TAKEN, 3000))).unwrap().0,
        TAKEN + 3000
    );
    assert_eq!(rig.flow.phase(), Phase::Ghost);
    // The joint is inside of this one: the rest of it is for the server to say again.
    assert_eq!(
        acked(rig.service(bytes(TAKEN + 3000, 3000))).unwrap().0,
        TAKEN + 5000
    );
    assert_eq!(rig.flow.phase(), Phase::Open);
    let again = rig
        .service(bytes(TAKEN + 3000, 3000))
        .dropped(Counter::Straddle);
    assert_eq!(emitted(&again.fx, Dir::ToService)[0].ack, TAKEN + 5000);
    let out = rig.service(bytes(TAKEN + 5000, 1000)).accepted();
    assert_eq!(out.seq, S);
}

#[test]
fn the_window_ends_one_segment_behind_the_joint() {
    let mut rig = Rig::answered();
    let (_, fx) = rig.act(|f, env, fx| f.join(200, 5001, 0, None, None, env, fx));
    let opened = emitted(&fx, Dir::ToService)[0];
    let edge = |ack: u32, window: u16| ack + (u32::from(window) << CLIENT_SHIFT);
    let behind = edge(opened.ack, opened.window) - (TAKEN + 5001);
    assert!((1460..1460 + 4).contains(&behind), "{behind}");
    let (ack, window) = acked(rig.service(bytes(TAKEN, 4000))).unwrap();
    assert!((1460..1460 + 4).contains(&(edge(ack, window) - (TAKEN + 5001))));
    // As much as the field can say, where there is more to come.
    let mut rig = Rig::answered();
    let (_, fx) = rig.act(|f, env, fx| f.join(200, 1 << 33, 0, None, None, env, fx));
    assert_eq!(emitted(&fx, Dir::ToService)[0].window, u16::MAX);
}

#[test]
fn bytes_are_discarded_once_and_in_order() {
    let mut rig = skipping(5000);
    assert_eq!(
        acked(rig.service(bytes(TAKEN + 100, 50))).unwrap().0,
        TAKEN,
        "a gap"
    );
    assert_eq!(
        acked(rig.service(bytes(TAKEN - 100, 150))).unwrap().0,
        TAKEN + 50
    );
    assert_eq!(
        acked(rig.service(bytes(TAKEN, 50))).unwrap().0,
        TAKEN + 50,
        "once more"
    );
    assert_eq!(
        acked(rig.service(bytes(TAKEN + 50, 0))),
        None,
        "it says nothing"
    );
    assert_eq!(
        acked(rig.service(bytes(TAKEN + 49, 0))).unwrap().0,
        TAKEN + 50,
        "a probe of the window"
    );
}

#[test]
fn a_prefix_goes_before_the_joint() {
    let mut rig = Rig::answered();
    rig.act(|f, env, fx| f.join(200, 1000, 100, None, None, env, fx).unwrap());
    let out = rig.service(bytes(TAKEN, 1000)).dropped(Counter::GhostHeard);
    assert_eq!(prefix(&out.fx), [(S, 0, 100)]);
    assert_eq!(rig.flow.phase(), Phase::Joining);
    assert_eq!(rig.service(bytes(TAKEN + 1000, 10)).accepted().seq, S + 100);
}

#[test]
fn it_is_joined_once() {
    let mut rig = skipping(5000);
    assert!(!rig.flow.waits_for_join());
    let (again, _) = rig.act(|f, env, fx| f.join(200, 0, 0, None, None, env, fx));
    assert_eq!(again, Err(Misfit::Phase));
    let mut rig = Rig::answered();
    let (far, _) = rig.act(|f, env, fx| f.join(200, 1 << 62, 0, None, None, env, fx));
    assert_eq!(far, Err(Misfit::Position));
    assert!(rig.flow.waits_for_join());
}

#[test]
fn a_server_that_closes_before_the_joint_is_lost() {
    for flag in [flags::FIN, flags::RST] {
        let mut rig = skipping(5000);
        rig.service(bytes(TAKEN, 4999)).dropped(Counter::GhostHeard);
        let out = rig.service(bytes(TAKEN + 4999, 0).flags(flags::ACK | flag));
        assert!(counted(&out.fx, Counter::GhostLost));
        assert_eq!(rig.flow.phase(), Phase::Located);
        assert_eq!(rig.recover(S), Ok(()), "another one may do better");
    }
    // At the joint it has said all, and closes later.
    let mut rig = skipping(5000);
    rig.service(bytes(TAKEN, 5000).fin())
        .dropped(Counter::GhostHeard);
    assert_eq!(rig.flow.phase(), Phase::Open);
    let out = rig.service(bytes(TAKEN + 5000, 0).fin()).accepted();
    assert_eq!(out.seq, S);
    // What has ended is not skipped.
    let mut rig = Rig::answered();
    rig.service(bytes(TAKEN, 0).fin())
        .dropped(Counter::GhostHeard);
    let (ended, _) = rig.act(|f, env, fx| f.join(200, 1, 0, None, None, env, fx));
    assert_eq!(ended, Err(Misfit::Again));
}

#[test]
fn it_may_take_any_time_as_long_as_it_goes_on() {
    let mut rig = skipping(1 << 20);
    for n in 0..10 {
        rig.wait(9_000);
        rig.service(bytes(TAKEN + n * 100, 100))
            .dropped(Counter::GhostHeard);
        rig.act(|f, env, fx| f.tick(env, fx));
        assert_eq!(rig.flow.phase(), Phase::Ghost, "{n}");
    }
    // What is said again is no progress.
    rig.wait(9_000);
    rig.service(bytes(TAKEN, 100)).dropped(Counter::GhostHeard);
    rig.wait(1_000);
    let (_, fx) = rig.act(|f, env, fx| f.tick(env, fx));
    assert!(counted(&fx, Counter::GhostLost));
    assert_ne!(emitted(&fx, Dir::ToService)[0].flags & flags::RST, 0);
}

#[test]
fn an_acknowledgement_waits_now_and_then() {
    let mut rig = skipping(1 << 30);
    let mut at = TAKEN;
    while let Some((ack, _)) = acked(rig.service(bytes(at, 60_000))) {
        at += 60_000;
        assert_eq!(ack, at);
        assert!(at < TAKEN + (3 << 20), "the server's socket is never full");
    }
    // What comes until then is discarded as well.
    assert_eq!(acked(rig.service(bytes(at + 60_000, 60_000))), None);
    let before = rig.env.now;
    let fx = rig.tick();
    assert_eq!(rig.env.now, before + 1);
    assert_eq!(emitted(&fx, Dir::ToService)[0].ack, at + 120_000);
    assert!(acked(rig.service(bytes(at + 120_000, 60_000))).is_some());
    // The joint waits for nothing.
    let mut rig = skipping(2 << 20);
    for n in 0..35 {
        rig.service(bytes(TAKEN + n * 60_000, 60_000));
    }
    assert_eq!(rig.flow.phase(), Phase::Open);
}

#[test]
fn another_server_may_be_asked_meanwhile() {
    let mut rig = skipping(5000);
    rig.service(bytes(TAKEN, 3000)).dropped(Counter::GhostHeard);
    assert_eq!(rig.recover(S), Ok(()));
    rig.connect();
    rig.answer();
    assert!(rig.flow.waits_for_join(), "nothing is left of the first");
}

#[test]
fn more_than_four_gigabytes_are_discarded() {
    let skip = 2 * (1 << 32) + 12_345;
    let mut rig = skipping(skip);
    let len = 60_000;
    let mut packet = bytes(0, len).bytes(*rig.flow.key(), Dir::ToClient);
    let total = packet.len() as u32;
    // Only headers are looked at.
    packet.truncate(packet.len() - len);
    let mut gone = 0;
    while gone < skip {
        assert_eq!(rig.flow.phase(), Phase::Ghost, "{gone}");
        let mut p = Packet::parse(&mut packet, total, Csum::Full).unwrap();
        p.set_seq(TAKEN.wrapping_add(gone as u32));
        rig.act(|f, env, fx| f.hear_service(&mut p, env, fx));
        gone += len as u64;
    }
    assert_eq!(rig.flow.phase(), Phase::Open);
    let joint = TAKEN.wrapping_add(skip as u32);
    assert_eq!(rig.service(bytes(joint, 10)).accepted().seq, S);
    rig.service(bytes(joint - 1, 10)).dropped(Counter::Straddle);
}

proptest! {
    /// However the answer is cut into packets, and whichever of them come twice or too early, the
    /// client's next byte is the one behind those that were discarded.
    #[test]
    fn the_joint_is_exact(
        skip in 1u64..100_000,
        cuts in proptest::collection::vec((1usize..40_000, 0usize..3), 1..40),
    ) {
        let mut rig = skipping(skip);
        let joint = TAKEN + skip as u32;
        let mut at = TAKEN;
        for (len, what) in cuts {
            let out = rig.service(bytes(at, len));
            if rig.flow.phase() == Phase::Ghost {
                at += len as u32;
                prop_assert!(at < joint);
                match what {
                    0 => drop(rig.service(bytes(at - len as u32, len))),
                    1 => drop(rig.service(bytes(at + 1, len))),
                    _ => {}
                }
                prop_assert_eq!(rig.flow.phase(), Phase::Ghost);
                continue;
            }
            prop_assert!(at + len as u32 >= joint);
            let acks = emitted(&out.fx, Dir::ToService);
            prop_assert_eq!(acks[0].ack, joint);
            prop_assert_eq!(rig.service(bytes(joint, 700)).accepted().seq, S);
            return Ok(());
        }
    }
}
