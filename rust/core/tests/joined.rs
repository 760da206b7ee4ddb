// SPDX-License-Identifier: GPL-2.0

//! A flow that is joined to another server.
//!
//! ```text
//!   client   ... S |--- prefix ---| S + len |--- the server's own ---> ...
//!   server   L |--- answer, 200 ---| L + 200 |--- the same bytes ----> ...
//! ```

use super::super::counter::Counter;
use super::super::effects::Effects;
use super::super::flow::Phase;
use super::super::ring::Kind;
use super::super::wire::{flags, Dir};
use super::kit::{counted, emitted, logged, pos, prefix, tcp, told, Rig, Tcp, C, L, S};

/// `len` bytes of the server, the first of them `n` behind the answer.
fn own(n: u32, len: usize) -> Tcp {
    tcp(L + 200 + n, C).len(len).ts(300_020, 101)
}

/// The client at `S + n`, with a window of 4000 bytes.
fn client(n: u32) -> Tcp {
    tcp(C, S + n).ts(102, 901)
}

#[test]
fn the_prefix_stays_where_it_is_while_the_server_goes_on() {
    let (mut rig, fx) = Rig::joining(100);
    assert_eq!(prefix(&fx), [(S, 0, 100)]);
    assert_eq!(rig.service(own(0, 500)).accepted().seq, S + 100);
    assert_eq!(prefix(&rig.tick()), [(S, 0, 100)]);
    rig.client(client(40)).accepted();
    assert_eq!(prefix(&rig.tick()), [(S + 40, 40, 60)]);
    assert_eq!(rig.flow.phase(), Phase::Joining);
    let out = rig.client(client(100)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Open);
    let spliced = logged(&out.fx, Kind::Spliced);
    assert_eq!((spliced[0].pos, spliced[0].ack), (pos(S) + 100, pos(C)));
}

#[test]
fn a_lost_part_of_the_prefix_comes_again_while_the_server_goes_on() {
    let (mut rig, fx) = Rig::joining(3000);
    assert_eq!(
        prefix(&fx),
        [(S, 0, 1200), (S + 1200, 1200, 1200), (S + 2400, 2400, 600)]
    );
    rig.service(own(0, 500)).accepted();
    rig.client(client(1200)).accepted();
    for _ in 0..2 {
        assert_eq!(prefix(&rig.client(client(1200)).accepted().fx), []);
    }
    let out = rig.client(client(1200)).accepted();
    assert_eq!(
        prefix(&out.fx),
        [(S + 1200, 1200, 1200), (S + 2400, 2400, 600)]
    );
    assert!(counted(&out.fx, Counter::PrefixAgain));
    // The server's own bytes arrived with it.
    let out = rig.client(client(3500)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Open);
    assert_eq!(logged(&out.fx, Kind::Spliced)[0].pos, pos(S) + 3000);
}

#[test]
fn a_packet_across_the_joint_moves_nothing() {
    let (mut rig, _) = Rig::joining(100);
    let before = rig.flow.snapshot(rig.env.now);
    let across = tcp(L + 150, C).len(100).fin().ts(300_020, 101);
    let out = rig.service(across);
    let after = rig.flow.snapshot(rig.env.now);
    assert_eq!(
        (after.s2c_next, after.tsval),
        (before.s2c_next, before.tsval)
    );
    assert!(logged(&out.fx, Kind::S2c).is_empty());
    assert_eq!(
        emitted(&out.fx, Dir::ToService)[0].ack,
        L + 200,
        "the server learns where it stands"
    );
    out.dropped(Counter::Straddle);
    // The same bytes in two parts, as a sender that learned so says them.
    assert_eq!(rig.service(own(0, 50)).accepted().seq, S + 100);
    rig.client(client(150)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Open, "no FIN of it counted");
}

#[test]
fn an_acknowledgement_inside_the_prefix_is_raised_and_keeps_the_right_edge() {
    let (mut rig, _) = Rig::joining(100);
    let out = rig.client(client(0)).accepted();
    assert_eq!((out.ack, out.window), (L + 200, 975));
    let out = rig.client(client(60)).accepted();
    assert_eq!((out.ack, out.window), (L + 200, 990));
    let out = rig.client(client(100)).accepted();
    assert_eq!((out.ack, out.window), (L + 200, 1000));
    let (mut rig, _) = Rig::joining(100);
    let out = rig.client(client(0).window(20)).accepted();
    assert_eq!(
        (out.ack, out.window),
        (L + 200, 0),
        "the window ends inside the prefix"
    );
}

#[test]
fn a_block_at_a_raised_acknowledgement_is_removed() {
    // The prefix was lost, the server's own bytes arrived.
    let (mut rig, _) = Rig::joining(100);
    rig.service(own(0, 500)).accepted();
    let blocks = [(S + 100, S + 300), (S + 350, S + 400), (S + 20, S + 60)];
    let out = rig.client(tcp(C, S).sack(&blocks)).accepted();
    assert_eq!(
        (out.ack, &out.sack[..]),
        (L + 200, &[(L + 450, L + 500)][..])
    );
    assert!(counted(&out.fx, Counter::SackRemoved));
    let out = rig
        .client(tcp(C, S + 40).sack(&[(S + 50, S + 300)]))
        .accepted();
    assert!(out.sack.is_empty(), "{:?}", out.sack);
}

/// A client that has bytes of the dead server: its window was 4000 bytes from [`S`] on, and
/// the new server has sent 300 of them.
fn ahead() -> Rig {
    let (mut rig, _) = Rig::joining(0);
    assert_eq!(rig.flow.phase(), Phase::Open);
    rig.service(own(0, 300)).accepted();
    rig
}

#[test]
fn an_acknowledgement_of_the_dead_servers_bytes_is_lowered() {
    // Its window of 4000 bytes, and once more for packets that overtook what located it.
    for n in [1000, 8000] {
        let mut rig = ahead();
        let out = rig.client(client(n).window(500)).accepted();
        assert!(counted(&out.fx, Counter::AckCapped));
        assert_eq!(out.ack, L + 200 + 300, "what was sent");
        assert_eq!(
            u32::from(out.window),
            500 + (n - 300) / 4,
            "the right edge stays"
        );
        assert_eq!(rig.flow.snapshot(0).s2c_acked, pos(S) + 300);
    }
    let out = ahead().client(client(300)).accepted();
    assert_eq!((out.ack, out.window), (L + 200 + 300, 1000));
}

#[test]
fn an_acknowledgement_of_what_nobody_sent_is_left_alone() {
    for n in [8001, 1 << 30] {
        let mut rig = ahead();
        let out = rig.client(client(n)).accepted();
        assert!(!counted(&out.fx, Counter::AckCapped));
        assert_eq!(
            (out.ack, out.window),
            (L + 200 + n, 1000),
            "it is refused with a challenge"
        );
        assert_eq!(rig.flow.snapshot(0).s2c_acked, pos(S));
    }
}

#[test]
fn a_client_that_has_more_than_its_server_has_sent_is_reset_where_it_is() {
    let mut rig = ahead();
    rig.client(client(1000)).accepted();
    let (_, fx) = rig.act(|f, env, fx| f.reset_client(Counter::GivenUp, env, fx));
    let resets = emitted(&fx, Dir::ToClient);
    assert_eq!(resets.last().map(|r| r.seq), Some(S + 1000));
}

#[test]
fn blocks_of_the_dead_servers_bytes_are_cut() {
    let blocks = [(S + 200, S + 900), (S + 1000, S + 1200), (S + 120, S + 150)];
    let out = ahead().client(tcp(C, S + 100).sack(&blocks)).accepted();
    assert_eq!(out.ack, L + 300);
    assert_eq!(out.sack, [(L + 400, L + 500), (L + 320, L + 350)]);
    assert!(counted(&out.fx, Counter::SackRemoved));
}

#[test]
fn nothing_is_lowered_once_the_server_is_where_the_dead_one_was() {
    let mut rig = ahead();
    rig.service(own(300, 7750)).accepted();
    let out = rig.client(tcp(C, S + 7900).sack(&[(S + 8000, S + 8100)]));
    assert_eq!(out.sack, [(L + 200 + 8000, L + 200 + 8100)]);
    let out = rig.client(client(8000)).accepted();
    assert_eq!((out.ack, out.window), (L + 200 + 8000, 1000));
    // Nor what is beyond, from then on: the local socket judges by itself.
    let out = rig.client(client(8100)).accepted();
    assert_eq!((out.ack, out.window), (L + 200 + 8100, 1000));
}

/// What the local socket is told again: everything up to the joint.
#[track_caller]
fn nudged(fx: &Effects, window: u16) {
    let all = emitted(fx, Dir::ToService);
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].seq, all[0].ack, all[0].flags),
        (C, L + 200, flags::ACK)
    );
    assert_eq!(all[0].window, window);
}

#[test]
fn the_answer_never_reaches_the_client() {
    let (mut rig, _) = Rig::joining(100);
    let out = rig
        .service(tcp(L, C).len(200).ts(300_005, 101))
        .dropped(Counter::Erased);
    nudged(&out.fx, 975);
    let out = rig
        .service(tcp(L + 150, C).len(200).ts(300_005, 101))
        .dropped(Counter::Straddle);
    nudged(&out.fx, 975);
    // Without bytes it may: a keep-alive probe.
    assert_eq!(rig.service(tcp(L + 199, C)).accepted().seq, S + 99);
    rig.client(client(100)).accepted();
    let out = rig.service(tcp(L, C).len(200)).dropped(Counter::Erased);
    nudged(&out.fx, 1000);
    assert_eq!(rig.service(own(0, 10)).accepted().seq, S + 100);
}

#[test]
fn the_handshake_of_the_ghost_never_reaches_the_client() {
    let (mut rig, _) = Rig::joining(100);
    let both = flags::SYN | flags::ACK;
    let out = rig.service(tcp(L - 1, C - 100).syn(both, 5).ts(300_000, 101));
    let out = out.dropped(Counter::GhostHandshake);
    nudged(&out.fx, 975);
}

#[test]
fn a_reader_that_pauses_inside_the_prefix_is_asked_and_waited_for() {
    let (mut rig, _) = Rig::joining(100);
    rig.client(client(40).window(0)).accepted();
    for _ in 0..40 {
        let fx = rig.tick();
        assert_eq!(prefix(&fx), [], "there is no room");
        let probe = told(&fx);
        assert_eq!(
            (probe.seq, probe.flags),
            (S + 39, flags::ACK),
            "below what it expects"
        );
        rig.wait(1);
        rig.client(client(40).window(0)).accepted();
        assert_eq!(rig.flow.phase(), Phase::Joining);
    }
    let out = rig.client(client(40).window(1000)).accepted();
    assert_eq!(prefix(&out.fx), [(S + 40, 40, 60)]);
    rig.client(client(100)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Open);
}

#[test]
fn a_reader_that_had_no_room_at_the_join_is_asked_and_waited_for() {
    let mut rig = Rig::answered();
    rig.client(client(0).window(0))
        .dropped(Counter::OrphanSwallowed);
    assert_eq!(prefix(&rig.join(100)), []);
    for _ in 0..40 {
        assert_eq!(told(&rig.tick()).seq, S - 1);
        rig.client(client(0).window(0)).accepted();
        assert_eq!(rig.flow.phase(), Phase::Joining);
    }
    assert_eq!(prefix(&rig.client(client(0)).accepted().fx), [(S, 0, 100)]);
}

#[test]
fn a_client_that_is_silent_inside_the_prefix_is_reset() {
    for window in [0, 1000] {
        let (mut rig, _) = Rig::joining(100);
        rig.client(client(40).window(window)).accepted();
        let tries = (0..)
            .take_while(|_| !counted(&rig.tick(), Counter::PrefixLost))
            .count();
        assert_eq!((tries, rig.flow.phase()), (8, Phase::Closing));
    }
}
