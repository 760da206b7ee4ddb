// SPDX-License-Identifier: GPL-2.0

//! How much of the beginning of a response is told.

use super::super::effects::{Log, LogData};
use super::super::ring::Kind;
use super::kit::{logged, pos, tcp, Rig, C, S};
use std::vec::Vec;

const WHOLE: u32 = 1000;
const PART: u32 = 10;

/// A flow whose request was answered by a packet of `payload`, and what of it is told.
fn answered(payload: &[u8]) -> (Rig, Log) {
    let mut rig = Rig::open();
    rig.env.policy.head_limit = 32768;
    rig.env.policy.head_end = u32::from_be_bytes(*b"\r\n\r\n");
    (rig.env.policy.body_whole, rig.env.policy.body_part) = (WHOLE, PART);
    let mut rig = rig.ask();
    let out = rig.service(tcp(S, C + 100).len(payload.len()));
    let mut log = logged(&out.fx, Kind::S2c)[0];
    let read = |at: u32, to: &mut [u8]| {
        let at = at as usize;
        to.copy_from_slice(&payload[at..at + to.len()]);
        true
    };
    rig.flow.excerpt(&mut log, &rig.env, read);
    (rig, log)
}

fn told(payload: &[u8]) -> u32 {
    let LogData::Payload { from: 0, len } = answered(payload).1.data else {
        panic!("no bytes")
    };
    len
}

/// `len` bytes of which a head ends behind `head`.
fn response(head: usize, len: u32) -> Vec<u8> {
    let mut payload = std::vec![b'h'; head - 4];
    payload.extend(b"\r\n\r\n");
    payload.resize(len as usize, b'b');
    payload
}

#[test]
fn of_a_long_response_the_head_and_a_few_bytes_are_told() {
    for head in [4, 5, 255, 256, 257, 258, 259, 300, 4096] {
        let long = head as u32 + WHOLE + 1;
        assert_eq!(told(&response(head, long)), head as u32 + PART);
        assert_eq!(told(&response(head, 20_000)), head as u32 + PART);
        assert_eq!(
            told(&response(head, long - 1)),
            long - 1,
            "short: all of it"
        );
    }
    assert_eq!(
        told(&response(4097, 20_000)),
        20_000,
        "too far to be looked for"
    );
}

#[test]
fn an_interim_response_is_not_the_head() {
    for interim in [8, 200, 252, 256] {
        let mut both = response(interim, interim as u32);
        both.extend(response(300, 20_000));
        assert_eq!(told(&both), interim as u32 + 300 + PART);
        // What begins so and is no head: nobody can tell, and all of it is told.
        both.truncate(interim);
        both.resize(20_000, b'h');
        assert_eq!(told(&both), 20_000);
    }
}

#[test]
fn nothing_more_of_it_is_told() {
    let (mut rig, _) = answered(&response(300, 20_000));
    for from in [0, 100, 20_000] {
        let out = rig.service(tcp(S + from, C + 100).len(20_000));
        assert!(logged(&out.fx, Kind::S2c).is_empty());
    }
}

#[test]
fn what_is_no_beginning_is_told_as_it_is() {
    let (mut rig, _) = answered(&response(900, 950));
    let out = rig.service(tcp(S + 950, C + 100).len(5000));
    let mut log = logged(&out.fx, Kind::S2c)[0];
    let before = log;
    assert_eq!(log.pos, pos(S) + 950);
    rig.flow
        .excerpt(&mut log, &rig.env, |_, _| panic!("nothing is read"));
    assert_eq!(log, before);
}

#[test]
fn where_nobody_knows_how_a_head_ends_all_is_told() {
    let mut rig = Rig::asked();
    let out = rig.service(tcp(S, C + 100).len(4000));
    let mut log = logged(&out.fx, Kind::S2c)[0];
    let before = log;
    rig.flow
        .excerpt(&mut log, &rig.env, |_, _| panic!("nothing is read"));
    assert_eq!(log, before);
}
