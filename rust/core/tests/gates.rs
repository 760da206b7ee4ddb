// SPDX-License-Identifier: GPL-2.0

//! What the gates of a served flow let the client hear, and when.

use super::super::counter::Counter;
use super::super::flow::Phase;
use super::super::ring::Kind;
use super::super::wire::{flags, Dir};
use super::kit::{counted, emitted, logged, pos, tcp, told, Rig, C, S};

/// The local socket's acknowledgement of all the request: the right edge is `C + 8100`.
fn ack_all(rig: &mut Rig) {
    let out = rig.service(tcp(S, C + 100).window(1000)).accepted();
    assert_eq!(
        (out.ack, out.window),
        (C, 1012),
        "lowered; 8100 bytes in units of 8"
    );
}

#[test]
fn a_lowered_acknowledgement_keeps_the_right_edge() {
    let mut rig = Rig::asked();
    ack_all(&mut rig);
}

#[test]
fn blocks_beyond_the_ack_gate_are_removed() {
    let mut rig = Rig::asked();
    let blocks = [(C + 50, C + 80), (C - 300, C - 200), (C + 120, C + 150)];
    let out = rig.service(tcp(S, C + 20).sack(&blocks)).accepted();
    assert_eq!(out.ack, C);
    assert_eq!(
        out.sack,
        [(C - 300, C - 200)],
        "the client must keep all from the gate on"
    );
    assert!(counted(&out.fx, Counter::SackRemoved));
    let out = rig.service(tcp(S, C + 20).sack(&blocks[1..2])).accepted();
    assert!(!counted(&out.fx, Counter::SackRemoved));
}

#[test]
fn a_block_behind_a_gap_at_the_ack_gate_is_removed() {
    // The first segment of the request was lost behind us: the acknowledgement is that of the
    // gate, and need not be lowered.
    let mut rig = Rig::asked();
    let out = rig.service(tcp(S, C).sack(&[(C + 50, C + 100)])).accepted();
    assert_eq!(out.ack, C);
    assert!(out.sack.is_empty());
}

#[test]
fn no_block_hides_behind_another_option() {
    let mut rig = Rig::asked();
    let hidden = tcp(S, C)
        .sack(&[(C + 50, C + 100)])
        .sack(&[(C + 50, C + 60)]);
    assert!(rig.service(hidden).accepted().sack.is_empty());
}

#[test]
fn a_copy_of_the_network_gives_no_byte() {
    let mut rig = Rig::asked();
    ack_all(&mut rig);
    rig.wait(149);
    rig.client(tcp(C, S).len(100).ts(101, 900)).accepted();
    assert_eq!(rig.ack_gate(), Some(pos(C)));
    rig.wait(1);
    rig.client(tcp(C, S).len(100).ts(101, 900)).accepted();
    assert_eq!(rig.ack_gate(), Some(pos(C) + 1), "no timeout is shorter");
}

#[test]
fn a_retransmission_of_lost_bytes_gives_no_byte() {
    // The local socket has never seen the first copy.
    let mut rig = Rig::asked();
    rig.wait(300);
    let out = rig.client(tcp(C, S).len(100).ts(300, 900)).accepted();
    assert_eq!(rig.ack_gate(), Some(pos(C)));
    assert!(!counted(&out.fx, Counter::AckGateAdvanced));
}

/// The client has closed its direction behind its request, and the local socket has all of it.
fn half_closed() -> Rig {
    let mut rig = Rig::asked();
    rig.client(tcp(C + 100, S).fin().ts(101, 900)).accepted();
    let out = rig.service(tcp(S, C + 101).window(1000)).accepted();
    assert_eq!(out.ack, C, "who forgets the FIN has forgotten the request");
    rig
}

#[test]
fn a_fin_behind_the_request_is_held_with_it() {
    let mut rig = half_closed();
    assert_eq!(rig.ack_gate(), Some(pos(C)));
    assert_eq!(told(&rig.commit(pos(S), None)).ack, C + 101);
}

#[test]
fn a_fin_that_comes_again_and_again_is_let_go() {
    let mut rig = half_closed();
    let again = tcp(C + 100, S).fin().ts(101, 900);
    rig.client(again.clone()).accepted();
    assert_eq!(rig.ack_gate(), Some(pos(C)), "a copy of the network");
    rig.wait(150);
    for n in 1..=100 {
        rig.client(tcp(C, S).len(100).ts(101, 900)).accepted();
        assert_eq!(rig.ack_gate(), Some(pos(C) + n));
    }
    for _ in 0..7 {
        rig.client(again.clone()).accepted();
        assert_eq!(rig.ack_gate(), Some(pos(C) + 100));
    }
    rig.client(again).accepted();
    assert_eq!(rig.ack_gate(), None);
}

#[test]
fn a_probe_of_the_local_socket_reaches_the_client() {
    // Both the keep-alive and the zero window probe have an old number, and no bytes.
    let mut rig = Rig::open();
    rig.service(tcp(S, C)).accepted();
    rig.client(tcp(C, S).len(100)).accepted();
    let out = rig.service(tcp(S - 1, C + 100).window(980)).accepted();
    assert_eq!(out.ack, C, "it is gated all the same");
}

#[test]
fn an_answer_of_the_local_socket_reaches_the_client() {
    // To a keep-alive probe of the client, or to what it repeats.
    let mut rig = Rig::asked();
    ack_all(&mut rig);
    assert_eq!(rig.service(tcp(S, C + 100).window(1000)).accepted().ack, C);
}

#[test]
fn an_acknowledgement_that_nobody_asked_for_is_swallowed() {
    let mut rig = Rig::asked();
    ack_all(&mut rig);
    rig.client(tcp(C + 100, S).len(80).ts(101, 900)).accepted();
    let out = rig.service(tcp(S, C + 180).window(990));
    out.dropped(Counter::AckSwallowed);
    rig.client(tcp(C + 180, S).len(80).ts(101, 900)).accepted();
    let out = rig.service(tcp(S, C + 260).window(1000)).accepted();
    assert_eq!((out.ack, out.window), (C, 1032), "the window has grown");
}

#[test]
fn a_reset_of_a_client_without_socket_reaches_the_local_socket() {
    let mut rig = Rig::asked();
    ack_all(&mut rig);
    // It takes its number from the acknowledgement that it got (RFC 9293, section 3.10.7.1).
    let out = rig.client(tcp(C, 0).flags(flags::RST)).accepted();
    assert_eq!(out.seq, C + 100, "at what the local socket expects");
    assert_eq!(rig.flow.phase(), Phase::Closing);
}

#[test]
fn a_reset_counts_only_at_the_next_byte() {
    let mut rig = Rig::asked();
    ack_all(&mut rig);
    for seq in [C + 1, C + 50, C + 101] {
        let out = rig.client(tcp(seq, 0).flags(flags::RST)).accepted();
        assert_eq!((out.seq, rig.flow.phase()), (seq, Phase::Open));
    }
    rig.client(tcp(C + 100, 0).flags(flags::RST)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Closing);
}

/// The response has left, with a lowered acknowledgement, and nothing else follows.
fn answered_eagerly() -> Rig {
    let mut rig = Rig::asked_eagerly();
    let out = rig.service(tcp(S, C + 100).len(500)).accepted();
    assert_eq!(out.ack, C);
    rig
}

#[test]
fn a_late_commit_opens_the_ack_gate_aloud() {
    let mut rig = answered_eagerly();
    let fx = rig.commit(pos(S), Some(pos(S) + 500));
    let segment = told(&fx);
    assert_eq!(
        (segment.seq, segment.ack, segment.flags),
        (S + 500, C + 100, flags::ACK)
    );
    assert_eq!(rig.ack_gate(), None);
}

#[test]
fn a_commit_without_end_opens_the_ack_gate_aloud() {
    let mut rig = answered_eagerly();
    assert_eq!(told(&rig.commit(pos(S), None)).ack, C + 100);
    assert_eq!(rig.ack_gate(), None);
}

#[test]
fn a_commit_while_bytes_are_to_come_leaves_the_ack_gate() {
    let mut rig = answered_eagerly();
    let fx = rig.commit(pos(S), Some(pos(S) + 501));
    assert!(emitted(&fx, Dir::ToClient).is_empty());
    assert_eq!(
        rig.ack_gate(),
        Some(pos(C)),
        "always leave something unacknowledged"
    );
    let out = rig.service(tcp(S + 500, C + 100).len(1)).accepted();
    assert_eq!(out.ack, C + 100, "the last byte carries it");
}

#[test]
fn who_gives_up_opens_the_ack_gate_aloud() {
    let mut rig = answered_eagerly();
    let (_, fx) = rig.act(|f, _, fx| f.unprotect(fx));
    assert_eq!(told(&fx).ack, C + 100);
    assert_eq!(logged(&fx, Kind::Unprotected).len(), 1);
    assert!(counted(&fx, Counter::Declined));

    let mut rig = answered_eagerly();
    let (_, fx) = rig.act(|f, env, fx| f.reader_gone(env, fx));
    assert_eq!(told(&fx).ack, C + 100);

    let mut rig = answered_eagerly();
    let (_, fx) = rig.act(|f, env, fx| f.log_failed(env, fx));
    assert_eq!(told(&fx).ack, C + 100);
}

#[test]
fn what_cannot_be_told_is_not_held() {
    let mut rig = Rig::asked();
    rig.service(tcp(S, C + 100).len(500)).held();
    assert!(rig.flow.is_holding());
    // The record of that very packet found no room: it comes behind a gate that is open.
    let (_, fx) = rig.act(|f, env, fx| f.log_failed(env, fx));
    assert!(fx.release && !rig.flow.is_holding());
    rig.service(tcp(S, C + 100).len(500)).accepted();
}

#[test]
fn part_of_a_request_is_acknowledged_in_the_end() {
    let mut rig = Rig::asked();
    assert_eq!(rig.flow.deadline(), None);
    ack_all(&mut rig);
    let until = rig.env.now + u64::from(rig.env.policy.hold_ms);
    rig.wait(10);
    rig.client(tcp(C + 100, S).len(10)).accepted();
    rig.service(tcp(S, C + 110)).accepted();
    assert_eq!(
        rig.flow.deadline(),
        Some(until),
        "from the first acknowledgement on"
    );
    let fx = rig.tick();
    assert_eq!(told(&fx).ack, C + 110);
    assert_eq!((rig.ack_gate(), rig.flow.deadline()), (None, None));
}

#[test]
fn the_ack_gate_stays_once_the_response_has_begun() {
    let mut rig = Rig::asked_eagerly();
    ack_all(&mut rig);
    rig.service(tcp(S, C + 100).len(500)).accepted();
    assert_eq!(rig.flow.deadline(), None);
    rig.service(tcp(S + 500, C + 100).window(2000)).accepted();
    assert_eq!((rig.flow.deadline(), rig.ack_gate()), (None, Some(pos(C))));
}

#[test]
fn a_close_between_two_responses_waits_for_no_record() {
    let mut rig = Rig::asked();
    rig.service(tcp(S, C + 100).len(500)).held();
    assert!(rig.commit(pos(S), Some(pos(S) + 500)).release);
    rig.service(tcp(S, C + 100).len(500)).accepted();
    rig.service(tcp(S + 500, C + 100).fin()).accepted();
}

#[test]
fn what_follows_a_response_waits_for_its_own_record() {
    let mut rig = Rig::asked();
    rig.service(tcp(S, C + 100).len(500)).held();
    rig.commit(pos(S), Some(pos(S) + 500));
    rig.service(tcp(S, C + 100).len(500)).accepted();
    rig.service(tcp(S + 500, C + 100).len(1).fin()).held();
}

#[test]
fn a_reset_does_not_overtake_what_is_held() {
    let mut rig = Rig::asked();
    rig.service(tcp(S, C + 100).len(500)).held();
    rig.service(tcp(S + 500, C + 100).flags(flags::RST | flags::ACK))
        .held();
    assert_eq!(rig.flow.phase(), Phase::Open);
    let fx = rig.commit(pos(S), None);
    assert!(fx.release && !fx.discard);
    rig.service(tcp(S, C + 100).len(500)).accepted();
    rig.service(tcp(S + 500, C + 100).flags(flags::RST | flags::ACK))
        .accepted();
    assert_eq!(rig.flow.phase(), Phase::Closing);
}

#[test]
fn a_request_that_is_too_long_is_not_held() {
    let mut rig = Rig::open();
    rig.env.policy.request_limit = 100;
    let out = rig.client(tcp(C, S).len(100)).accepted();
    assert!(!counted(&out.fx, Counter::RequestTooLong));
    ack_all(&mut rig);
    let out = rig.client(tcp(C + 100, S).len(1)).accepted();
    assert!(counted(&out.fx, Counter::RequestTooLong));
    assert_eq!(rig.ack_gate(), None);
    let out = rig.service(tcp(S, C + 101)).accepted();
    assert_eq!(out.ack, C + 101);
    // Once a request.
    let out = rig.client(tcp(C + 101, S).len(1)).accepted();
    assert!(!counted(&out.fx, Counter::RequestTooLong));
}
