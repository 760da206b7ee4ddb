// SPDX-License-Identifier: GPL-2.0

//! Servers that close before they should.

use super::super::counter::Counter;
use super::super::flow::Phase;
use super::super::ring::{flags as log_flags, Kind};
use super::super::seq::Seq;
use super::super::wire::{flags, Dir};
use super::kit::{counted, emitted, logged, pos, prefix, tcp, told, Out, Rig, Tcp, C, L, S};

/// A request of 100 bytes, and a response from `S` to `S + 1000` of which 400 bytes have gone.
fn responding() -> Rig {
    let mut rig = Rig::open();
    rig.client(tcp(C, S).len(100)).accepted();
    rig.service(tcp(S, C + 100).len(400)).held();
    let (start, end) = (pos(S), pos(S) + 1000);
    rig.act(|f, env, fx| f.commit(Some(start), Some(end), env, fx));
    rig.service(tcp(S, C + 100).len(400)).accepted();
    rig
}

fn rst(seq: u32) -> Tcp {
    tcp(seq, 0).flags(flags::RST)
}

#[track_caller]
fn lost(rig: &Rig, out: Out, flag: u16) {
    let out = out.dropped(Counter::CloseHeld);
    let log = logged(&out.fx, Kind::Lost);
    assert_eq!((log.len(), log[0].flags), (1, flag));
    assert!(emitted(&out.fx, Dir::ToClient).is_empty());
    assert!(rig.flow.is_lost());
}

#[test]
fn a_close_inside_a_response_is_held_back() {
    let mut rig = responding();
    let out = rig.service(tcp(S + 400, C + 100).fin());
    lost(&rig, out, log_flags::FIN);
    // Whatever the old socket says now, and whatever the client says to it.
    for p in [
        tcp(S + 400, C + 100).fin(),
        tcp(S + 200, C + 100).len(200),
        rst(S + 401),
    ] {
        rig.service(p).dropped(Counter::LateSocket);
    }
    rig.client(tcp(C + 100, S + 400))
        .dropped(Counter::OrphanSwallowed);
    let mut rig = responding();
    let out = rig.service(tcp(S + 400, C + 100).len(100).fin());
    lost(&rig, out, log_flags::FIN);
    let mut rig = responding();
    let out = rig.service(rst(S + 400));
    lost(&rig, out, log_flags::RST);
}

#[test]
fn a_close_in_place_of_a_response_is_held_back() {
    for close in [tcp(S, C + 100).fin(), rst(S)] {
        let mut rig = Rig::open();
        rig.client(tcp(C, S).len(100)).accepted();
        let rst = rig.service(close);
        let flag = logged(&rst.fx, Kind::Lost)[0].flags;
        lost(&rig, rst, flag);
    }
}

#[test]
fn ordinary_closes_pass() {
    // At the end.
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).len(600).fin()).accepted();
    // Before the first request.
    Rig::open().service(tcp(S, C).fin()).accepted();
    // With a response whose end is unknown.
    let mut rig = Rig::open();
    rig.client(tcp(C, S).len(100)).accepted();
    rig.service(tcp(S, C + 100).len(400)).held();
    let start = pos(S);
    rig.act(|f, env, fx| f.commit(Some(start), None, env, fx));
    rig.service(tcp(S, C + 100).len(400)).accepted();
    rig.service(tcp(S + 400, C + 100).fin()).accepted();
    // After the client's.
    let mut rig = responding();
    rig.client(tcp(C + 100, S + 400).fin()).accepted();
    rig.service(tcp(S + 400, C + 101).fin()).accepted();
    // Without protection, or a reader.
    let mut rig = responding();
    rig.act(|f, _, fx| f.unprotect(fx));
    rig.service(tcp(S + 400, C + 100).fin()).accepted();
    let mut rig = responding();
    rig.env.policy.reader = false;
    rig.service(rst(S + 400)).accepted();
}

#[test]
fn a_reset_that_overtakes_bytes_on_their_way_is_held_back() {
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).len(600)).accepted();
    let out = rig.service(rst(S + 1000));
    lost(&rig, out, log_flags::RST);
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).len(600)).accepted();
    rig.client(tcp(C + 100, S + 1000)).accepted();
    rig.service(rst(S + 1000)).accepted();
}

/// A reset at a number that nobody believes may acknowledge more: there is nobody to tell that to, and no
/// time at which it is due.
#[test]
fn a_lost_flow_has_no_progress_to_tell() {
    let mut rig = responding();
    let (start, end) = (pos(S), pos(S) + 100_000);
    rig.act(|f, env, fx| f.commit(Some(start), Some(end), env, fx));
    for n in 0..90 {
        rig.service(tcp(S + 400 + n * 1000, C + 100).len(1000))
            .accepted();
    }
    let out = rig.client(tcp(C + 100, S + 40_400)).accepted();
    assert_eq!(logged(&out.fx, Kind::Progress).len(), 1);
    rig.service(rst(S + 90_400));
    assert!(rig.flow.is_lost());
    let due = rig.flow.deadline();
    rig.client(tcp(C + 50, S + 90_400).flags(flags::RST | flags::ACK));
    assert!(rig.flow.is_lost());
    assert_eq!(rig.flow.deadline(), due);
}

#[test]
fn a_lost_flow_is_located_by_a_newer_generation() {
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).fin());
    let claim = rig.claim(0);
    let (done, _) = rig.act(|f, env, fx| f.locate(&claim, Seq::new(S - 1), false, env, fx));
    assert!(done.is_err());
    let claim = rig.claim(1);
    let (done, fx) = rig.act(|f, env, fx| f.locate(&claim, Seq::new(S - 1), false, env, fx));
    assert_eq!(done, Ok(()));
    assert_eq!(told(&fx).seq, S - 1);
    assert_eq!(rig.flow.phase(), Phase::Locating);
    assert!(!rig.flow.is_lost());
    // The socket is dropped now; its reset is not the client's business.
    rig.service(rst(S + 401)).dropped(Counter::LateSocket);
}

#[test]
fn what_comes_too_late_changes_nothing() {
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).fin());
    let start = pos(S);
    let (_, fx) = rig.act(|f, env, fx| f.commit(Some(start), None, env, fx));
    assert!(counted(&fx, Counter::LateCommit) && !fx.release);
    rig.act(|f, _, fx| f.unprotect(fx));
    let (_, fx) = rig.act(|f, _, fx| f.release_ack(fx));
    assert!(emitted(&fx, Dir::ToClient).is_empty() && rig.flow.is_lost());
    let (done, _) = rig.act(|f, env, fx| f.join(0, 0, 0, None, None, env, fx));
    assert!(done.is_err());
}

#[test]
fn a_close_that_nobody_makes_up_for_is_let_through() {
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).fin());
    let fx = rig.tick();
    assert!(counted(&fx, Counter::ClosePassed));
    rig.service(tcp(S + 400, C + 100).fin()).accepted();
    // A socket that has sent a reset says nothing more: it is said again.
    let mut rig = responding();
    rig.client(tcp(C + 100, S + 300)).accepted();
    rig.service(rst(S + 400));
    let fx = rig.tick();
    assert!(counted(&fx, Counter::ClosePassed));
    // It has said that it has 300 bytes, and will have the other 100 when it hears of the end.
    let resets = emitted(&fx, Dir::ToClient);
    assert!(resets.iter().all(|r| r.flags & flags::RST != 0));
    assert_eq!(
        resets.iter().map(|r| r.seq).collect::<Vec<_>>(),
        [S + 300, S + 400]
    );
    assert_eq!(rig.flow.phase(), Phase::Closing);
    // Userspace says so, or goes.
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).fin());
    let (done, _) = rig.act(|f, env, fx| f.disown(env, fx));
    assert_eq!(done, Ok(()));
    rig.service(tcp(S + 400, C + 100).fin()).accepted();
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).fin());
    rig.act(|f, env, fx| f.reader_gone(env, fx));
    rig.service(tcp(S + 400, C + 100).fin()).accepted();
}

#[test]
fn the_client_may_end_it_first() {
    let mut rig = responding();
    rig.service(tcp(S + 400, C + 100).fin());
    rig.client(rst(C + 100)).accepted();
    assert_eq!(rig.flow.phase(), Phase::Closing);
    assert!(!rig.flow.is_lost());
}

#[test]
fn a_joined_server_may_die_too() {
    let mut rig = Rig::answered();
    let (start, end) = (Some(pos(S)), Some(pos(S) + 1000));
    rig.act(|f, env, fx| f.join(200, 0, 100, start, end, env, fx).unwrap());
    let out = rig.service(tcp(L + 200, C).fin());
    lost(&rig, out, log_flags::FIN);
    rig.client(tcp(C, S).ts(102, 901))
        .dropped(Counter::OrphanSwallowed);
    assert!(prefix(&rig.tick()).is_empty());
}

#[test]
fn a_close_inside_a_head_goes_out_with_it_once_no_record_has_come() {
    let mut rig = Rig::open();
    rig.client(tcp(C, S).len(100)).accepted();
    rig.service(tcp(S, C + 100).len(30)).held();
    rig.service(tcp(S + 30, C + 100).fin()).held();
    let fx = rig.tick();
    assert_eq!(logged(&fx, Kind::Lost).len(), 0);
    assert_eq!(logged(&fx, Kind::Unprotected).len(), 1);
    assert!(fx.release && !fx.discard && !rig.flow.is_lost());
}

/// A request of 100 bytes; 30 bytes of a response wait for their record, and the close behind them.
fn cut_off(close: Tcp) -> Rig {
    let mut rig = Rig::asked();
    rig.service(tcp(S, C + 100).len(30)).held();
    let out = rig.service(close.clone()).held();
    let told = logged(&out.fx, Kind::S2c);
    assert_eq!((told.len(), told[0].pos), (1, pos(S) + 30));
    // The local stack says it again.
    let out = rig.service(close).held();
    assert!(logged(&out.fx, Kind::S2c).is_empty());
    rig
}

#[test]
fn a_close_inside_a_head_is_a_loss_if_userspace_says_so() {
    for (close, flag) in [
        (tcp(S + 30, C + 100).fin(), log_flags::FIN),
        (rst(S + 30), log_flags::RST),
    ] {
        let mut rig = cut_off(close);
        let start = Some(pos(S));
        // Of another response.
        let (_, fx) = rig.act(|f, env, fx| f.broken_off(Some(pos(S) + 1), env, fx));
        assert!(counted(&fx, Counter::LateCommit) && !rig.flow.is_lost());
        let (_, fx) = rig.act(|f, env, fx| f.broken_off(start, env, fx));
        let log = logged(&fx, Kind::Lost);
        assert_eq!((log.len(), log[0].flags), (1, flag));
        assert!(fx.discard && !fx.release && rig.flow.is_lost());
        assert!(emitted(&fx, Dir::ToClient).is_empty());
        let (_, fx) = rig.act(|f, env, fx| f.broken_off(start, env, fx));
        assert!(counted(&fx, Counter::LateCommit), "once");
    }
    // Too late: it went out after hold-ms.
    let mut rig = cut_off(tcp(S + 30, C + 100).fin());
    rig.tick();
    let (_, fx) = rig.act(|f, env, fx| f.broken_off(Some(pos(S)), env, fx));
    assert!(counted(&fx, Counter::LateCommit) && !rig.flow.is_lost());
}
