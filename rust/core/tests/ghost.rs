// SPDX-License-Identifier: GPL-2.0

//! The ghost in a flow: what it takes, and when it may be joined.

use super::super::counter::Counter;
use super::super::effects::{Bytes, LogData};
use super::super::flow::Phase;
use super::super::rescue::Misfit;
use super::super::ring::Kind;
use super::super::wire::{flags, Dir};
use super::kit::{counted, emitted, logged, pos, tcp, Out, Rig, C, L, S};

fn join(rig: &mut Rig, answer: u64) -> Result<(), Misfit> {
    let end = Some(pos(S) + 1000);
    rig.act(|f, env, fx| f.join(answer, 0, 100, Some(pos(S)), end, env, fx))
        .0
}

#[test]
fn a_flow_without_ghost_is_not_joined() {
    assert_eq!(join(&mut Rig::located(), 0), Err(Misfit::Phase));
    let (mut rig, _) = Rig::joining(100);
    assert_eq!(join(&mut rig, 200), Err(Misfit::Phase), "nor a second time");
}

#[test]
fn a_ghost_without_server_is_not_joined() {
    let mut rig = Rig::ghost();
    assert_eq!(join(&mut rig, 0), Err(Misfit::Again));
    assert_eq!(rig.flow.phase(), Phase::Ghost);
    rig.connect();
    assert_eq!(join(&mut rig, 0), Ok(()));
}

#[test]
fn a_join_must_know_the_whole_answer() {
    let mut rig = Rig::answered();
    for wrong in [0, 199, 201, 200 + (1 << 32)] {
        assert_eq!(join(&mut rig, wrong), Err(Misfit::Again), "{wrong}");
    }
    // More came while userspace was thinking.
    rig.service(tcp(L + 200, C).len(50).ts(300_011, 101))
        .dropped(Counter::GhostHeard);
    assert_eq!(join(&mut rig, 200), Err(Misfit::Again));
    assert_eq!(join(&mut rig, 250), Ok(()));
}

#[test]
fn a_response_does_not_end_before_the_joint() {
    let mut rig = Rig::answered();
    let end = Some(pos(S) + 99);
    let (done, _) = rig.act(|f, env, fx| f.join(200, 0, 100, None, end, env, fx));
    assert_eq!(done, Err(Misfit::Position));
    assert_eq!(rig.flow.phase(), Phase::Ghost);
}

/// Offset in the answer, offset in the payload and length of what was logged.
fn taken(out: &Out) -> Option<(u64, u32, u32)> {
    let log = logged(&out.fx, Kind::Answer).first().copied()?;
    let LogData::Payload { from, len } = log.data else {
        return None;
    };
    Some((log.pos, from, len))
}

#[test]
fn the_answer_is_taken_once_and_in_order() {
    let mut rig = Rig::connected();
    let answer = |n, len| tcp(L + n, C).len(len).ts(300_010, 101);
    assert_eq!(taken(&rig.service(answer(100, 50))), None, "a gap");
    assert_eq!(taken(&rig.service(answer(0, 100))), Some((0, 0, 100)));
    assert_eq!(taken(&rig.service(answer(0, 100))), None, "once more");
    let out = rig.service(answer(60, 60));
    assert_eq!(taken(&out), Some((100, 40, 20)));
    let acks = emitted(&out.fx, Dir::ToService);
    assert_eq!((acks[0].ack, acks[0].flags), (L + 120, flags::ACK));
    assert_eq!(
        taken(&rig.service(answer(120, 5000))),
        Some((120, 0, 3880)),
        "no more than asked"
    );
}

#[test]
fn the_request_ends_where_the_client_goes_on() {
    let mut rig = Rig::located();
    let claim = rig.claim(1);
    let at = super::kit::at(S);
    let (_, fx) = rig.act(|f, env, fx| f.recover(&claim, at, 100, 4000, env, fx).unwrap());
    let syn = emitted(&fx, Dir::ToService)[0];
    assert_eq!(
        (syn.seq, syn.flags, syn.ts),
        (C - 101, flags::SYN, Some((101, 0)))
    );
    assert_eq!(
        syn.syn.map(|o| (o.mss, o.wscale, o.sack_ok)),
        Some((1460, Some(2), true))
    );
    let both = flags::SYN | flags::ACK;
    let out = rig.service(tcp(L - 1, C - 100).syn(both, 5).ts(300_000, 101));
    let emit = out.fx.emits.iter().next().unwrap();
    assert_eq!((emit.segment.seq, emit.segment.ack), (C - 100, L));
    assert_eq!(emit.bytes, Bytes::Request { from: 0, len: 100 });
    assert_eq!(
        emit.segment.ts,
        Some((101, 300_000)),
        "never beyond the client's own clock"
    );
}

#[test]
fn a_server_without_timestamps_is_no_server_for_a_client_with() {
    let mut rig = Rig::ghost();
    let both = flags::SYN | flags::ACK;
    let out = rig.service(tcp(L - 1, C - 100).syn(both, 5));
    assert!(counted(&out.fx, Counter::GhostLost));
    assert_eq!(rig.flow.phase(), Phase::Located);
}

#[test]
fn an_answer_that_cannot_be_logged_loses_the_ghost() {
    let mut rig = Rig::answered();
    let (_, fx) = rig.act(|f, env, fx| f.log_failed(env, fx));
    assert_eq!(rig.flow.phase(), Phase::Located);
    assert!(counted(&fx, Counter::GhostLost));
    assert_eq!(
        logged(&fx, Kind::Failed)[0].window,
        Counter::GhostLost as u32
    );
    assert!(logged(&fx, Kind::Unprotected).is_empty());
    let resets = emitted(&fx, Dir::ToService);
    assert_eq!(
        resets.len(),
        1,
        "the server must not go on talking to nobody"
    );
    assert_ne!(resets[0].flags & flags::RST, 0);
    assert_eq!(join(&mut rig, 200), Err(Misfit::Phase));
    assert_eq!(rig.recover(S), Ok(()), "another one may do better");
}

#[test]
fn a_client_that_is_not_recovered_is_reset() {
    let mut rig = Rig::located();
    let fx = rig.tick();
    let reset = super::kit::told(&fx);
    assert_eq!((reset.seq, reset.flags), (S, flags::RST | flags::ACK));
    assert!(counted(&fx, Counter::NotRecovered));
    assert_eq!(rig.flow.phase(), Phase::Closing);
}
