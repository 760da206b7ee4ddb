// SPDX-License-Identifier: GPL-2.0

//! Handshake, positions and timestamps of a flow that a local socket serves.

use super::super::counter::Counter;
use super::super::flow::Phase;
use super::super::ring::Kind;
use super::super::wire::flags;
use super::kit::{counted, logged, pos, tcp, Rig, C, CLIENT_SHIFT, S, SERVICE_SHIFT};
use std::vec;
use std::vec::Vec;

const BOTH: u8 = flags::SYN | flags::ACK;

fn syn() -> Rig {
    let (rig, out) = Rig::syn(tcp(C - 1, 0).syn(flags::SYN, CLIENT_SHIFT));
    out.accepted();
    rig
}

#[test]
fn a_flow_is_open_once_the_client_has_answered() {
    let mut rig = syn();
    let out = rig
        .service(tcp(S - 1, C).syn(BOTH, SERVICE_SHIFT))
        .accepted();
    assert_eq!(
        rig.flow.phase(),
        Phase::Opening,
        "anybody can send a SYN in anybody's name"
    );
    assert_eq!(out.fx.logs.iter().count(), 0);
    // Neither a guess nor bytes beyond the first make it open.
    for wrong in [tcp(C, S + 1), tcp(C + 1, S), tcp(C, S).flags(flags::PSH)] {
        let out = rig.client(wrong);
        assert_eq!(
            (rig.flow.phase(), out.fx.logs.iter().count()),
            (Phase::Opening, 0)
        );
    }
    let out = rig.client(tcp(C, S)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Open);
    let opened = logged(&out.fx, Kind::Opened);
    assert_eq!((opened[0].pos, opened[0].ack), (pos(S), pos(C)));
    assert_eq!(rig.flow.deadline(), None);
}

#[test]
fn who_goes_on_with_a_handshake_is_told_of_it() {
    // A SYN that was not answered is for the next server to answer.
    let (_, fx) = syn().act(|f, env, fx| f.mute(env, fx));
    assert_eq!(logged(&fx, Kind::Opened).len(), 0);
    let mut rig = syn();
    rig.service(tcp(S - 1, C).syn(BOTH, SERVICE_SHIFT))
        .accepted();
    let (_, fx) = rig.act(|f, env, fx| f.mute(env, fx));
    let kinds: Vec<_> = fx.logs.iter().map(|l| (l.kind, l.pos, l.ack)).collect();
    let both = |kind| (kind, pos(S), pos(C));
    assert_eq!(kinds, [both(Kind::Opened), both(Kind::Closed)]);
    // The client knows nothing of that.
    rig.client(tcp(C, S)).dropped(Counter::Muted);
}

#[test]
fn a_second_syn_ack_with_another_number_counts() {
    // A listener without request socket (SYN cookies, a restart) may choose anew.
    let mut rig = syn();
    rig.service(tcp(S - 1, C).syn(BOTH, SERVICE_SHIFT))
        .accepted();
    rig.service(tcp(S + 999, C).syn(BOTH, SERVICE_SHIFT))
        .accepted();
    rig.client(tcp(C, S));
    assert_eq!(rig.flow.phase(), Phase::Opening, "that one is forgotten");
    let out = rig.client(tcp(C, S + 1000)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Open);
    assert_eq!(logged(&out.fx, Kind::Opened)[0].pos, pos(S) + 1000);
    assert_eq!(rig.flow.desc().isn_s2c, S + 999);
}

#[test]
fn a_handshake_without_answer_ends() {
    let mut rig = syn();
    assert_eq!(rig.flow.deadline(), Some(rig.env.now + 60_000));
    let fx = rig.tick();
    assert!(fx.gone && counted(&fx, Counter::HandshakeTimeout));
}

#[test]
fn a_signed_flow_is_left_alone_for_a_while() {
    let md5 = [&[19, 18][..], &[0; 16]].concat();
    let ao = [29, 4, 1, 1].to_vec();
    for option in [md5, ao] {
        let (mut rig, out) = Rig::syn(tcp(C - 1, 0).flags(flags::SYN).option(&option));
        out.accepted();
        assert_eq!(rig.flow.phase(), Phase::Passing);
        assert_eq!(rig.flow.deadline(), Some(rig.env.now + 125_000));
        rig.service(tcp(S - 1, C).flags(BOTH).option(&option))
            .accepted();
        assert_eq!(rig.flow.phase(), Phase::Passing);
        assert!(rig.tick().gone);
    }
}

#[test]
fn a_port_that_is_used_again_by_a_signed_flow_is_left_alone() {
    let mut rig = syn();
    let out = rig
        .client(tcp(C + 77, 0).flags(flags::SYN).option(&[29, 4, 1, 1]))
        .accepted();
    assert!(counted(&out.fx, Counter::Signed));
    assert_eq!(rig.flow.phase(), Phase::Passing);
    assert_eq!(rig.flow.deadline(), Some(rig.env.now + 125_000));
}

/// Whoever knows the old connection by its number is told of its end, and does not reach the new one.
#[test]
fn a_connection_whose_port_is_used_again_is_told_to_be_over() {
    let again = || tcp(C + 7000, 0).syn(flags::SYN, 7);

    // Its end was told when it came.
    let mut rig = Rig::open();
    rig.client(tcp(C, S).flags(flags::RST | flags::ACK));
    assert_eq!(rig.flow.phase(), Phase::Closing);
    let out = rig.client(again()).accepted();
    assert!(out.fx.anew && out.fx.discard && logged(&out.fx, Kind::Closed).is_empty());

    // It is open until the local stack takes the new one.
    let mut rig = Rig::asked();
    let out = rig.client(again()).accepted();
    assert!(!out.fx.anew && logged(&out.fx, Kind::Closed).is_empty());
    let out = rig
        .service(tcp(S + 9000, C + 7001).syn(flags::SYN | flags::ACK, 7))
        .accepted();
    assert!(out.fx.anew && out.fx.discard);
    assert_eq!(logged(&out.fx, Kind::Closed).len(), 1);
    assert_eq!(rig.flow.phase(), Phase::Opening);

    // Its server has died.
    for mut rig in [Rig::orphan(), Rig::locating(), Rig::located(), Rig::ghost()] {
        let out = rig.client(again());
        assert!(out.fx.anew && out.fx.discard);
        assert_eq!(logged(&out.fx, Kind::Closed).len(), 1);
        assert_eq!(rig.flow.phase(), Phase::Opening);
    }

    // Nobody was told of it.
    let mut rig = syn();
    let out = rig.client(again()).accepted();
    assert!(out.fx.anew && logged(&out.fx, Kind::Closed).is_empty());
}

/// A challenge (RFC 5961, section 4) of the socket that the ghost has left, or of a TIME_WAIT, is no word
/// of the new connection, however far ahead its numbers are.
#[test]
fn the_socket_of_the_connection_before_is_not_heard() {
    let mut rig = Rig::ghost();
    let isn = C.wrapping_sub(1 << 30);
    assert!(rig.client(tcp(isn, 0).syn(flags::SYN, 7)).fx.anew);
    rig.service(tcp(S + 500, C + 100)).accepted();
    rig.service(tcp(S + 9000, isn + 1).syn(flags::SYN | flags::ACK, 7))
        .accepted();
    let out = rig.client(tcp(isn + 1, S + 9001)).accepted();
    assert_eq!(logged(&out.fx, Kind::Opened).len(), 1);
    let out = rig.client(tcp(isn + 1, S + 9001).len(100)).accepted();
    assert_eq!(logged(&out.fx, Kind::Object).len(), 1);
    assert_eq!(rig.ack_gate().map(|g| g as u32), Some(isn + 1));
}

#[test]
fn a_signed_connection_that_follows_an_open_one_is_left_alone() {
    let mut rig = Rig::asked();
    let signed = tcp(C + 7000, 0).flags(flags::SYN).option(&[29, 4, 1, 1]);
    rig.client(signed).accepted();
    assert_eq!(rig.flow.phase(), Phase::Open);
    let out = rig
        .service(tcp(S + 9000, C + 7001).flags(flags::SYN | flags::ACK))
        .accepted();
    assert!(counted(&out.fx, Counter::Signed) && out.fx.anew);
    assert_eq!(rig.flow.phase(), Phase::Passing);
}

#[test]
fn positions_begin_behind_the_syn_even_where_numbers_wrap() {
    // Both SYNs have the number 2^32 - 1, and both first bytes the number 0.
    const FIRST: u64 = 2 << 32;
    let mut rig = Rig::open_at(0, 0);
    let out = rig.client(tcp(0, 0).len(100)).accepted();
    let object = logged(&out.fx, Kind::Object);
    assert_eq!((object[0].pos, object[0].ack), (FIRST, FIRST));
    assert_eq!(logged(&out.fx, Kind::C2s)[0].pos, FIRST);
    let out = rig.service(tcp(0, 100).len(500)).held();
    assert_eq!(logged(&out.fx, Kind::S2c)[0].pos, FIRST);
    let fx = rig.commit(FIRST >> 1, Some((FIRST >> 1) + 500));
    assert!(
        counted(&fx, Counter::LateCommit),
        "that is another position"
    );
    let fx = rig.commit(FIRST, Some(FIRST + 500));
    assert!(counted(&fx, Counter::Committed) && fx.release);
    rig.service(tcp(0, 100).len(500)).accepted();
}

#[test]
fn a_response_may_be_longer_than_the_numbers_are() {
    const STEP: u32 = 1 << 30;
    let mut rig = Rig::asked();
    let start = pos(S);
    let end = start + 5 * u64::from(STEP);
    rig.service(tcp(S, C + 100).len(500)).held();
    rig.commit(start, Some(end));
    rig.service(tcp(S, C + 100).len(500)).accepted();
    // The last byte of each GiB, and its acknowledgement.
    let mut progress = vec![];
    let mut next = S;
    for n in 1..=5 {
        next = S.wrapping_add(STEP.wrapping_mul(n));
        if n == 5 {
            assert_eq!(
                rig.ack_gate(),
                Some(pos(C)),
                "the end is not the number, once round"
            );
        }
        rig.service(tcp(next.wrapping_sub(1), C + 100).len(1))
            .accepted();
        rig.wait(100);
        let out = rig.client(tcp(C + 100, next)).accepted();
        progress.extend(logged(&out.fx, Kind::Progress).iter().map(|l| l.pos));
    }
    let gib = u64::from(STEP);
    let want: Vec<u64> = (1..=5).map(|n| start + n * gib).collect();
    assert_eq!(progress, want);
    assert_eq!(rig.ack_gate(), None);
    // The next response begins behind it, and waits.
    let out = rig.client(tcp(C + 100, next).len(60)).accepted();
    let object = logged(&out.fx, Kind::Object);
    assert_eq!((object[0].pos, object[0].ack), (end, pos(C) + 100));
    rig.service(tcp(next, C + 160).len(10)).held();
    let fx = rig.commit(end, Some(end + 10));
    assert!(counted(&fx, Counter::Committed));
    rig.service(tcp(next, C + 160).len(10)).accepted();
}

#[test]
fn no_request_begins_before_the_response_has_ended() {
    const STEP: u32 = 1 << 30;
    let mut rig = Rig::asked();
    let start = pos(S);
    rig.service(tcp(S, C + 100).len(500)).held();
    // Its end has the number of its 500th byte, once round.
    rig.commit(start, Some(start + 500 + (1 << 32)));
    rig.service(tcp(S, C + 100).len(500)).accepted();
    rig.client(tcp(C + 100, S + 500)).accepted();
    let out = rig.client(tcp(C + 100, S + 500).len(60)).accepted();
    assert!(logged(&out.fx, Kind::Object).is_empty());
    for n in 1..=4 {
        let next = (S + 500).wrapping_add(STEP.wrapping_mul(n));
        rig.service(tcp(next.wrapping_sub(1), C + 160).len(1))
            .accepted();
        rig.client(tcp(C + 160, next)).accepted();
    }
    let out = rig.client(tcp(C + 160, S + 500).len(60)).accepted();
    assert_eq!(
        logged(&out.fx, Kind::Object)[0].pos,
        start + 500 + (1 << 32)
    );
}

#[test]
fn a_late_commit_knows_the_end_by_its_position() {
    let mut rig = Rig::asked_eagerly();
    rig.service(tcp(S, C + 100).len(500)).accepted();
    let fx = rig.commit(pos(S), Some(pos(S) + 400 + (1 << 32)));
    assert_eq!(fx.emits.iter().count(), 0);
    assert_eq!(rig.ack_gate(), Some(pos(C)), "4 GiB are to come");
}

#[test]
fn the_end_of_a_response_is_not_before_its_start() {
    let mut rig = Rig::asked();
    rig.service(tcp(S, C + 100).len(500)).held();
    rig.commit(pos(S), Some(pos(S) - 1));
    let s = rig.flow.snapshot(0);
    assert_eq!((s.object_start, s.object_end), (Some(pos(S)), None));
}

#[test]
fn what_was_held_does_not_turn_the_clients_clock_back() {
    let mut rig = Rig::asked();
    let head = || tcp(S, C + 100).len(500).ts(950, 101);
    rig.service(head()).held();
    let out = rig
        .service(tcp(S, C + 100).window(2000).ts(960, 101))
        .accepted();
    assert_eq!(out.tsval(), 960, "it has overtaken what is held");
    assert!(!counted(&out.fx, Counter::TimestampRaised));
    rig.commit(pos(S), Some(pos(S) + 500));
    let out = rig.service(head()).accepted();
    assert_eq!(out.ts, Some((960, 101)), "PAWS would drop it");
    assert!(counted(&out.fx, Counter::TimestampRaised));
}

#[test]
fn what_we_say_does_not_turn_the_clients_clock_back() {
    let mut rig = Rig::asked_eagerly();
    rig.service(tcp(S, C + 100).len(500).ts(950, 101))
        .accepted();
    let fx = rig.commit(pos(S), Some(pos(S) + 500));
    assert_eq!(super::kit::told(&fx).ts, Some((950, 101)));
}

#[test]
fn progress_is_told_by_quarters_of_the_window_and_not_too_often() {
    let mut rig = Rig::asked();
    let start = pos(S);
    rig.service(tcp(S, C + 100).len(500)).held();
    rig.commit(start, Some(start + (1 << 30)));
    let mut sent = 0;
    // The client has acknowledged all of so many bytes, and has a window of 200 KiB.
    let mut heard = |rig: &mut Rig, bytes: u32| {
        while sent < bytes {
            rig.service(tcp(S + sent, C + 100).len(1000)).accepted();
            sent += 1000;
        }
        let window = ((200 * 1024) >> super::kit::CLIENT_SHIFT) as u16;
        let out = rig.client(tcp(C + 100, S + bytes).window(window).ts(200, 950));
        let told = logged(&out.accepted().fx, Kind::Progress);
        told.iter().map(|l| l.pos - start).collect::<Vec<_>>()
    };
    rig.wait(100);
    assert_eq!(heard(&mut rig, 51_000), [], "less than a quarter");
    assert_eq!(heard(&mut rig, 52_000), [52_000]);
    // Again before its time: with the newest position once that has come.
    assert_eq!(heard(&mut rig, 104_000), []);
    assert_eq!(heard(&mut rig, 106_000), []);
    rig.wait(100);
    let told = logged(&rig.tick(), Kind::Progress);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].pos, told[0].ts),
        (start + 106_000, Some((200, 950)))
    );
    assert_eq!(rig.flow.deadline(), None, "nothing more is due");
}
