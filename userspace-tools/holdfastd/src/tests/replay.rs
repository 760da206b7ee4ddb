// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Responses that are said again from their first byte, where the service declares that it always
//! answers alike.

use super::*;
use libholdfast::record::Way;

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n";

/// An engine whose service declares, or does not, that it is deterministic.
fn declaring(deterministic: bool) -> (Engine<FakeKernel>, FakeKernel) {
    let (mut e, kernel) = engine();
    e.services[0].deterministic = deterministic;
    (e, kernel)
}

/// What the log tells of a request and of a response whose length is not known.
fn served_in_chunks(e: &mut Engine<FakeKernel>) {
    let mut log = served();
    if let Some(What::S2c { data, .. }) = log.last_mut().map(|entry| &mut entry.what) {
        *data = CHUNKED.to_vec();
    }
    log.into_iter().for_each(|entry| e.hear(entry, 0));
}

/// What `a` has recorded of flow 1 is taken over; the client is `delivered` bytes into the
/// response.
fn taken_over(e: &mut Engine<FakeKernel>, kernel: &FakeKernel, delivered: u64) -> Vec<Call> {
    let (mut a, _) = declaring(true);
    served_in_chunks(&mut a);
    assert_eq!(a.counts.get("responses-replay"), Some(&1));
    for (_, update) in a.take_updates() {
        e.store.apply("a", update, 0);
    }
    e.take_over(key(1).service.ip(), 10);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    locate(e, 1001, delivered, 20);
    kernel.take()
}

fn locate(e: &mut Engine<FakeKernel>, flow: u64, delivered: u64, now: i64) {
    let located = What::Located {
        desc: desc(1),
        word: word(2000 + delivered, 1000 + GET.len() as u64),
        ts: None,
    };
    e.hear(entry(flow, located), now);
}

fn recover(delivered: u64) -> Call {
    Call::Recover {
        key: key(1),
        at: 2000 + delivered,
        c2s_next: 1000 + GET.len() as u64,
        request: GET.to_vec(),
        local_port: None,
    }
}

fn says(e: &mut Engine<FakeKernel>, flow: u64, data: &[u8], now: i64) {
    let (pos, data, fin) = (0, data.to_vec(), false);
    e.hear(entry(flow, What::Asked), now);
    e.hear(entry(flow, What::Answer { pos, data, fin }), now);
}

fn join(skip: u64) -> Call {
    Call::Join {
        prefix: Vec::new(),
        answer_length: CHUNKED.len() as u64,
        skip,
        object_end: None,
    }
}

const FAILED: What = What::Failed {
    why: Failure::Server,
};

#[test]
fn what_has_no_length_is_said_again() {
    let (mut e, kernel) = declaring(true);
    assert_eq!(taken_over(&mut e, &kernel, 700), vec![recover(700)]);
    says(&mut e, 1002, CHUNKED, 30);
    assert_eq!(kernel.take(), vec![join(700 - CHUNKED.len() as u64)]);
    assert_eq!(e.counts.get("replays"), Some(&1));
    // However long that takes; and others need not wait for it.
    assert_eq!(e.rescues.len(), (1, 0));
    e.tick(3_600_000 * 1_000_000);
    assert_eq!(kernel.take(), vec![]);
    e.hear(entry(1002, What::Spliced { pos: 2700 }), 40);
    assert_eq!(e.counts.get("flows-recovered"), Some(&1));
    // It can be said again once more.
    let (_, t) = e.flows().next().unwrap();
    let State::Responding(o) = &t.record().state else {
        panic!()
    };
    assert_eq!(o.way, Way::Replay(Doubt::UnknownLength));
    assert!(t.record().can_be_asked());
}

#[test]
fn both_nodes_must_declare_it() {
    let (mut e, kernel) = declaring(false);
    let calls = taken_over(&mut e, &kernel, 700);
    assert_eq!(calls, vec![Call::End(key(1), Verdict::Reset)]);
    let (mut a, _) = declaring(false);
    served_in_chunks(&mut a);
    assert_eq!(a.counts.get("unprotected-unknown-length"), Some(&1));
}

/// The local server breaks off four times; each attempt takes longer than a server is given to
/// answer.
fn breaks_off(e: &mut Engine<FakeKernel>, kernel: &FakeKernel) {
    taken_over(e, kernel, 700);
    let minute = 60_000_000_000;
    for n in 0..4u64 {
        let (flow, now) = (1002 + 2 * n, minute * (n as i64 + 1));
        says(e, flow, CHUNKED, now);
        e.tick(now);
        assert!(matches!(kernel.take()[..], [Call::Join { .. }]), "{n}");
        e.hear(entry(flow, FAILED), now + minute / 2);
        if n < 3 {
            assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)], "{n}");
            locate(e, flow + 1, 700, now + minute / 2);
            assert_eq!(kernel.take(), vec![recover(700)], "{n}");
            e.tick(now + minute / 2 + 1);
            assert_eq!(kernel.take(), vec![], "{n}");
        }
    }
}

#[test]
fn a_server_that_breaks_off_is_asked_again_and_then_no_more() {
    let (mut e, kernel) = declaring(true);
    breaks_off(&mut e, &kernel);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
    assert_eq!(e.counts.get("answers-broken-off"), Some(&3));
}

#[test]
fn a_server_that_breaks_off_each_time_is_not_the_only_one() {
    let (mut e, kernel) = declaring(true);
    e.next.relay = Some(crate::relay::Relay::at([Some(8041), None]));
    e.next.peers = vec![("c".to_owned(), [192, 0, 2, 3].into())];
    breaks_off(&mut e, &kernel);
    let [Call::Recover { local_port, .. }] = kernel.take()[..] else {
        panic!("another server is asked")
    };
    assert_eq!((local_port, e.rescues.len()), (Some(8041), (1, 1)));
    says(&mut e, 1009, CHUNKED, 0);
    assert!(matches!(kernel.take()[..], [Call::Join { .. }]));
    assert_eq!(e.rescues.len(), (1, 0));
}

#[test]
fn a_reload_changes_what_is_said_again() {
    let (mut e, _) = declaring(true);
    served_in_chunks(&mut e);
    e.take_updates();
    let mut service = e.services[0].clone();
    service.deterministic = false;
    e.declare(&service, 0);
    let updates = e.take_updates();
    let [(_, Update::Put(bytes))] = &updates[..] else {
        panic!("{updates:?}")
    };
    assert!(!Record::decode(bytes, 0).unwrap().can_be_asked());
    assert_eq!(e.stuck(key(1).service.ip()), vec![(1, key(1))]);
}
