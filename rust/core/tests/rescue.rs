// SPDX-License-Identifier: GPL-2.0

//! A flow without server: where its client stands, who may claim it, and what time it is.

use super::super::client::{newer, TS_MARGIN};
use super::super::counter::Counter;
use super::super::effects::Effects;
use super::super::flow::Phase;
use super::super::rescue::Misfit;
use super::super::ring::Kind;
use super::super::seq::Seq;
use super::super::wire::{flags, Dir};
use super::kit::{at, counted, emitted, logged, tcp, told, Rig, Tcp, C, L, S};
use std::vec;
use std::vec::Vec;

/// A packet of the client while its flow has no server: it never goes further.
#[track_caller]
fn located(rig: &mut Rig, p: Tcp) -> Vec<(u64, u64)> {
    let out = rig.client(p).dropped(Counter::OrphanSwallowed);
    logged(&out.fx, Kind::Located)
        .iter()
        .map(|l| (l.pos, l.ack))
        .collect()
}

#[test]
fn only_a_plausible_packet_says_where_the_client_stands() {
    let mut rig = Rig::locating();
    for wrong in [
        tcp(C + (1 << 16) + 1, S),
        tcp(C - (1 << 16) - 1, S),
        tcp(C ^ (1 << 31), S),
        // The probe is below what the client expects.
        tcp(C, S - 1),
        tcp(C, S - 2),
        tcp(C, S - 1 + (1 << 30)),
        tcp(C, S ^ (1 << 31)),
        tcp(C, S).flags(0),
    ] {
        assert!(located(&mut rig, wrong.clone()).is_empty(), "{wrong:?}");
        assert_eq!(rig.flow.phase(), Phase::Locating, "{wrong:?}");
    }
    for right in [
        tcp(C + (1 << 16), S),
        tcp(C - (1 << 16), S),
        tcp(C, S - 2 + (1 << 30)),
    ] {
        let mut rig = Rig::locating();
        assert_eq!(located(&mut rig, right.clone()).len(), 1, "{right:?}");
        assert_eq!(rig.flow.phase(), Phase::Located, "{right:?}");
    }
}

#[test]
fn a_reset_ends_a_lost_flow_only_at_the_next_byte() {
    let mut rig = Rig::locating();
    rig.client(tcp(C + 1, 0).flags(flags::RST))
        .dropped(Counter::OrphanSwallowed);
    assert_eq!(rig.flow.phase(), Phase::Locating);
    rig.client(tcp(C, 0).flags(flags::RST))
        .dropped(Counter::OrphanSwallowed);
    assert_eq!(rig.flow.phase(), Phase::Closing);
}

#[test]
fn a_newer_word_of_the_client_counts() {
    // What was on its way when its server died has arrived.
    let mut rig = Rig::located();
    assert_eq!(
        located(&mut rig, tcp(C, S + 700)),
        [(u64::from(S) + 700, u64::from(C))]
    );
    assert!(
        located(&mut rig, tcp(C, S + 700)).is_empty(),
        "that is known"
    );
    assert!(
        located(&mut rig, tcp(C, S + 100)).is_empty(),
        "that was overtaken"
    );
    assert!(
        located(&mut rig, tcp(C ^ (1 << 31), S + 900)).is_empty(),
        "that is not the client's"
    );
    assert_eq!(rig.recover(S), Err(Misfit::Position));
    assert_eq!(rig.recover(S + 900), Err(Misfit::Position));
    assert_eq!(rig.recover(S + 700), Ok(()));
}

/// Claims the flow for takeover `generation` and returns the TSval of the probe.
fn locate(rig: &mut Rig, generation: u32) -> Result<u32, Misfit> {
    let claim = rig.claim(generation);
    let (done, fx) = rig.act(|f, env, fx| f.locate(&claim, Seq::new(S - 1), false, env, fx));
    done.map(|()| told(&fx).ts.unwrap().0)
}

#[test]
fn a_muted_flow_comes_back_to_a_newer_generation_only() {
    let mut rig = Rig::located();
    rig.act(|f, env, fx| f.mute(env, fx));
    for p in [
        tcp(C, S),
        tcp(C, S).len(10),
        tcp(C - 1, 0).flags(flags::SYN),
    ] {
        rig.client(p.clone()).dropped(Counter::Muted);
        rig.service(p).dropped(Counter::Muted);
    }
    assert_eq!(locate(&mut rig, 0), Err(Misfit::Phase));
    assert_eq!(locate(&mut rig, 1), Err(Misfit::Phase));
    assert!(locate(&mut rig, 2).is_ok());
    assert_eq!(
        located(&mut rig, tcp(C, S)).len(),
        1,
        "it is not muted any more"
    );
}

#[test]
fn a_flow_that_was_joined_here_before_comes_back_as_any_other() {
    let (mut rig, _) = Rig::joining(0);
    assert!(rig.flow.depends_on_us());
    rig.act(|f, env, fx| f.mute(env, fx));
    assert!(locate(&mut rig, 2).is_ok());
    assert!(
        !rig.flow.depends_on_us(),
        "nothing of the old socket is left"
    );
    let claim = rig.claim(3);
    let at = at(S).plus(9);
    let (done, _) = rig.act(|f, env, fx| f.recover(&claim, at, 10, 1000, env, fx));
    assert_eq!(done, Ok(()));
    assert_eq!(rig.flow.phase(), Phase::Ghost);
}

#[test]
fn a_closed_flow_does_not_come_back() {
    let mut rig = Rig::locating();
    rig.client(tcp(C, 0).flags(flags::RST));
    assert_eq!(locate(&mut rig, 9), Err(Misfit::Phase));
}

#[test]
fn an_old_generation_claims_nothing() {
    let mut rig = Rig::orphan();
    assert!(locate(&mut rig, 3).is_ok());
    assert_eq!(locate(&mut rig, 2), Err(Misfit::Generation));
    assert!(locate(&mut rig, 3).is_ok());
}

/// The TSval of `n` more probes.
fn probe(rig: &mut Rig, n: usize) -> Vec<u32> {
    (0..n).map(|_| told(&rig.tick()).ts.unwrap().0).collect()
}

/// Whether each is later than the one before, or the same if `same`.
fn forwards(all: &[u32], same: bool) -> bool {
    all.windows(2)
        .all(|w| newer(w[1], w[0]) || (same && w[1] == w[0]))
}

#[test]
fn each_probe_is_later_than_the_one_before() {
    let mut rig = Rig::orphan();
    let mut all = vec![900 + TS_MARGIN - 1];
    all.push(locate(&mut rig, 1).unwrap());
    all.extend(probe(&mut rig, 10));
    // A word from before the first probe is heard late: its echo is news, and old.
    rig.client(tcp(C, S - 5).ts(102, 905));
    rig.client(tcp(C, S).ts(102, 905));
    all.push(locate(&mut rig, 1).unwrap());
    all.extend(probe(&mut rig, 3));
    assert!(
        forwards(&all[..12], false) && forwards(&all, true),
        "{all:?}"
    );
}

#[test]
fn any_word_of_a_client_that_was_not_followed_is_an_answer() {
    let upload = tcp(C + (1 << 30), S - 77).ts(102, 905).len(1000);
    let mut rig = Rig::locating();
    rig.client(upload.clone()).dropped(Counter::OrphanSwallowed);
    assert_eq!(
        rig.flow.phase(),
        Phase::Locating,
        "not that of a protected one"
    );

    let mut rig = Rig::orphan();
    let claim = rig.claim(1);
    let (done, _) = rig.act(|f, env, fx| f.locate(&claim, Seq::new(S - 1), true, env, fx));
    assert_eq!(done, Ok(()));
    let heard = rig.client(upload);
    assert_eq!(rig.flow.phase(), Phase::Located);
    let word = &logged(&heard.fx, Kind::Located)[0];
    assert_eq!((word.pos as u32, word.ack as u32), (S - 77, C + (1 << 30)));
    // It is told of the end where it is.
    let (_, fx) = rig.act(|f, env, fx| {
        f.reset_client(Counter::GivenUp, env, fx);
    });
    assert_eq!(told(&fx).seq, S - 77);
}

#[test]
fn an_orphan_is_reset_where_its_client_stands() {
    let mut rig = Rig::orphan();
    for stands in [S, S + 1400] {
        rig.client(tcp(C, stands).ts(102, 905))
            .dropped(Counter::OrphanSwallowed);
    }
    let (_, fx) = rig.act(|f, env, fx| f.reset_client(Counter::GivenUp, env, fx));
    let reset = told(&fx);
    assert_eq!((reset.seq, reset.ack), (S + 1400, C));
}

#[test]
fn a_client_that_has_gone_on_is_reset_where_it_is_now() {
    for mut rig in [Rig::located(), Rig::ghost(), Rig::answered()] {
        // What was under way from its old server has arrived; an older word follows.
        for stands in [S + 1400, S + 700] {
            rig.client(tcp(C, stands).ts(102, 905))
                .dropped(Counter::OrphanSwallowed);
        }
        let (_, fx) = rig.act(|f, env, fx| f.reset_client(Counter::GivenUp, env, fx));
        assert_eq!(told(&fx).seq, S + 1400);
    }
    // Nobody has waited for what userspace says of it.
    let mut rig = Rig::orphan();
    rig.client(tcp(C, S).ts(102, 905))
        .dropped(Counter::OrphanSwallowed);
    rig.tick();
    let (_, fx) = rig.act(|f, env, fx| f.reset_client(Counter::GivenUp, env, fx));
    assert_eq!(told(&fx).seq, S);
    // Another node has it.
    let mut rig = Rig::located();
    rig.act(|f, env, fx| f.mute(env, fx));
    let (_, fx) = rig.act(|f, env, fx| f.reset_client(Counter::GivenUp, env, fx));
    assert!(emitted(&fx, Dir::ToClient).is_empty());
    // One that has not answered is where its record says.
    let mut rig = Rig::locating();
    let (_, fx) = rig.act(|f, env, fx| f.reset_client(Counter::GivenUp, env, fx));
    assert_eq!(told(&fx).seq, S);
}

#[test]
fn an_orphan_that_is_left_to_the_stack_is_made_to_repeat_its_word() {
    let leave: [fn(&mut Rig) -> Effects; 2] = [
        |rig| rig.tick(),
        |rig| rig.act(|f, env, fx| f.disown(env, fx).unwrap()).1,
    ];
    for leave in leave {
        let mut rig = Rig::orphan();
        rig.client(tcp(C, S).ts(102, 905))
            .dropped(Counter::OrphanSwallowed);
        let asked = told(&leave(&mut rig));
        assert_eq!((asked.seq, asked.ack, asked.flags), (S - 1, C, flags::ACK));
        assert!(asked.ts.is_some_and(|(tsval, _)| newer(tsval, 905)));
        rig.client(tcp(C, S).ts(103, 905)).accepted();
        // Nobody is asked that has said nothing.
        let fx = leave(&mut Rig::orphan());
        assert!(emitted(&fx, Dir::ToClient).is_empty());
    }
}

#[test]
fn a_claim_does_not_turn_the_clients_clock_back() {
    // The record is as old as it was: only what was said here meanwhile tells the time.
    let mut rig = Rig::orphan();
    let mut all = vec![locate(&mut rig, 1).unwrap()];
    all.extend(probe(&mut rig, 10));
    all.push(locate(&mut rig, 1).unwrap());
    assert!(forwards(&all, true), "{all:?}");
}

#[test]
fn the_second_takeover_is_later_than_the_first() {
    // Neither was echoed to the record that both have.
    let mut first = Rig::orphan();
    locate(&mut first, 1).unwrap();
    let last = probe(&mut first, 10)[9];
    let mut second = Rig::orphan();
    assert!(newer(locate(&mut second, 2).unwrap(), last));
}

#[test]
fn the_clients_clock_goes_on_from_probe_to_server() {
    let mut rig = Rig::orphan();
    let mut all = vec![locate(&mut rig, 1).unwrap()];
    all.extend(probe(&mut rig, 2));
    located(&mut rig, tcp(C, S).ts(102, 910));
    rig.recover(S).unwrap();
    rig.connect();
    rig.answer();
    let fx = rig.join(100);
    all.push(told(&fx).ts.unwrap().0);
    // The server's bytes, and another one that was on its way before the newest it had said.
    let p = |n, tsval| tcp(L + n, C).len(10).ts(tsval, 102);
    for p in [
        p(210, 300_010),
        p(200, 300_004),
        p(220, 300_100),
        p(200, 300_004),
    ] {
        all.push(rig.service(p).accepted().tsval());
    }
    all.push(told(&rig.tick()).ts.unwrap().0);
    assert!(forwards(&all, true), "{all:?}");
    assert!(newer(all[6], all[5]), "and goes with the server's");
}

#[test]
fn the_prefix_is_later_than_the_old_server_even_without_a_probe() {
    let mut rig = Rig::orphan();
    rig.client(tcp(C, S).ts(101, 900))
        .dropped(Counter::OrphanSwallowed);
    rig.recover(S).unwrap();
    rig.connect();
    rig.answer();
    let fx = rig.join(100);
    assert!(newer(told(&fx).ts.unwrap().0, 900 + TS_MARGIN - 1));
    assert!(
        emitted(&fx, Dir::ToService)
            .iter()
            .all(|s| s.ts.unwrap().0 == 101),
        "the client's own"
    );
}

#[test]
fn another_server_is_asked_at_once_and_elsewhere() {
    let mut rig = Rig::answered();
    let claim = rig.claim(1);
    let ask =
        |rig: &mut Rig, n: u32| rig.act(|f, env, fx| f.recover(&claim, at(n), 20, 4096, env, fx));
    let (wrong, _) = ask(&mut rig, S + 1);
    assert_eq!(wrong, Err(Misfit::Position), "the client stands elsewhere");
    let (done, fx) = ask(&mut rig, S);
    assert_eq!(done, Ok(()));
    let out = emitted(&fx, Dir::ToService);
    let flags: Vec<_> = out.iter().map(|s| s.flags).collect();
    assert_eq!(
        flags,
        [flags::RST | flags::ACK, flags::SYN],
        "in this order"
    );
    assert_eq!(logged(&fx, Kind::Asked).len(), 1);
    assert_eq!(
        (rig.flow.phase(), rig.flow.local_port()),
        (Phase::Ghost, None)
    );
    rig.flow.direct(8041);
    assert_eq!(rig.flow.local_port(), Some(8041));
    // The next one is for the service's own server again.
    ask(&mut rig, S).0.unwrap();
    assert_eq!(rig.flow.local_port(), None);
    let old = rig.claim(0);
    let (late, _) = rig.act(|f, env, fx| f.recover(&old, at(S), 0, 1, env, fx));
    assert_eq!(late, Err(Misfit::Phase));
}

#[test]
fn an_orphan_without_verdict_is_left_to_the_stack() {
    let mut rig = Rig::orphan();
    rig.client(tcp(C, S)).dropped(Counter::OrphanSwallowed);
    assert_eq!(rig.flow.deadline(), Some(rig.env.now + 500));
    let fx = rig.tick();
    assert!(counted(&fx, Counter::VerdictTimeout));
    assert_eq!(rig.flow.phase(), Phase::Passing);
    rig.client(tcp(C, S)).accepted();
    assert!(rig.tick().gone);
}
