// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Records of another node, and what a continuation makes of them.

use holdfast_fuzz::{noise, number, run, spoil, Rng};
use libholdfast::http::{Doubt, Validator};
use libholdfast::record::{Clock, Object, Record, State, Way};
use libholdfast::recovery::{judge, plan, Plan, Word};
use libholdfast::tracker::{Event, Tracker};
use libholdfast::types::{FlowKey, TcpOptions};

const REQUEST: &[u8] = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nETag: \"a\"\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 100-99999/100000\r\nContent-Length: 99900\r\nETag: \"a\"\r\n\r\nbody";

fn key() -> FlowKey {
    FlowKey {
        client: "198.51.100.7:40000".parse().unwrap(),
        service: "192.0.2.10:80".parse().unwrap(),
    }
}

/// A record with numbers that may be anything.
fn record(rng: &mut Rng) -> Record {
    let request = number(rng, 1000);
    let start = number(rng, 2000);
    let state = match rng.below(5) {
        0 => State::Idle,
        1 => State::Requesting(REQUEST[..rng.below(REQUEST.len() as u64) as usize].to_vec()),
        2 => State::Unprotected(rng.pick(&Doubt::ALL)),
        _ => {
            let extra = rng.below(20);
            let sent = [HEAD, &noise(rng, extra)].concat();
            let end = start.wrapping_add(HEAD.len() as u64 + 100_000);
            let honest = rng.permille(600);
            let way = match rng.below(5) {
                0 => Way::Stored,
                2 => Way::Replay(rng.pick(&Doubt::ALL)),
                1 => Way::None(rng.pick(&Doubt::ALL)),
                _ => Way::Range {
                    first: if honest { 0 } else { number(rng, 0) },
                    total: if honest {
                        100_000
                    } else {
                        number(rng, 100_000)
                    },
                    validator: Validator::Etag("\"a\"".into()),
                    coding: None,
                    partial: rng.permille(300),
                },
            };
            State::Responding(Object {
                request: REQUEST.to_vec(),
                to_head: rng.permille(100),
                head: if honest {
                    HEAD.len() as u32
                } else {
                    number(rng, 50) as u32
                },
                end: match rng.below(6) {
                    0 => None,
                    1 => Some(number(rng, end)),
                    2 => Some(start.wrapping_add(sent.len() as u64)),
                    _ => Some(end),
                },
                sent,
                way,
            })
        }
    };
    Record {
        key: key(),
        generation: number(rng, 1) as u32,
        options: TcpOptions::default(),
        clock: rng.permille(800).then(|| Clock {
            tsval: rng.bits() as u32,
            tsecr: rng.bits() as u32,
            heard: number(rng, 0) as i64,
        }),
        strict: rng.permille(500),
        deterministic: rng.permille(500),
        request,
        start,
        acked: number(rng, start),
        state,
    }
}

/// A forged or spoiled record is refused or harmless: all that is computed from it stays within
/// its bounds, and nothing of the client's stream is made up.
#[test]
fn records() {
    run("records", |rng| {
        let now = number(rng, 0) as i64;
        let mut bytes = record(rng).encode(now);
        if rng.permille(500) {
            for _ in 0..=rng.below(4) {
                spoil(rng, &mut bytes);
            }
        }
        let Ok(record) = Record::decode(&bytes, now) else {
            return;
        };
        let again =
            Record::decode(&record.encode(now), now).expect("what was taken is taken again");
        assert_eq!(
            (again.state, again.start),
            (record.state.clone(), record.start)
        );
        record.ts_age(number(rng, 0) as i64);
        assert!(record.request_end() >= record.request);
        let word = Word {
            ack: number(rng, record.start) as u32,
            seq: number(rng, record.request) as u32,
            payload: rng.permille(300),
            sacked: rng.permille(100),
        };
        if let Plan::Ask(ask) = plan(&record, word) {
            let mut answer = ANSWER.to_vec();
            for _ in 0..rng.below(3) {
                spoil(rng, &mut answer);
            }
            judge(&record, &ask, &answer, rng.permille(200));
        }
        Tracker::resume(record);
    });
}

/// A log that tells nonsense leads to an unprotected flow, not to a wrong record.
#[test]
fn tracker() {
    run("tracker", |rng| {
        // As the kernel counts: from a sequence number on.
        let (c, s) = (rng.bits() >> 32, rng.bits() >> 32);
        let mut tracker = Tracker::opened(key(), 1, TcpOptions::default(), None, true, c, s);
        tracker.declare(rng.permille(500));
        for _ in 0..rng.below(30) {
            let mut data = rng.pick(&[REQUEST, HEAD, ANSWER, b"x"]).to_vec();
            if rng.permille(200) {
                spoil(rng, &mut data);
            }
            let (cut, end) = (rng.below(data.len() as u64 + 1), data.len());
            let data = if rng.permille(500) {
                &data[..]
            } else {
                &data[(cut as usize).min(end)..]
            };
            let (cp, sp) = (number(rng, c), number(rng, s));
            let cp = if rng.permille(600) { c } else { cp };
            let sp = if rng.permille(600) { s } else { sp };
            let event = match rng.below(12) {
                0..=3 => Event::C2s {
                    pos: cp,
                    ack: sp,
                    data,
                    ts: Some((rng.bits() as u32, 1)),
                    time: number(rng, 0) as i64,
                },
                4..=7 => Event::S2c {
                    pos: sp,
                    ack: cp.saturating_add(rng.below(100)),
                    data,
                },
                8 | 9 => Event::Object {
                    request: cp,
                    start: sp,
                },
                10 => Event::Progress {
                    acked: sp,
                    ts: None,
                    time: 0,
                },
                _ => rng.pick(&[Event::Unprotected, Event::Lost, Event::Closed]),
            };
            tracker.hear(event);
            // What it would tell the peers must be something that they take.
            Record::decode(&tracker.record().encode(0), 0).expect("a sound record");
        }
    });
}
