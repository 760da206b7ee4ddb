// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A daemon that starts beside flows that are there, and a second node that dies while it recovers
//! what a first one has left.

use libholdfast::record::Clock;
use libholdfast::types::TcpOptions;

use super::*;
use crate::kernel::FlowInfo;

/// A flow that the kernel has served before the daemon was there.
fn before(n: u16, id: u64) -> FlowInfo {
    FlowInfo {
        id,
        key: key(n),
        generation: 3,
        options: TcpOptions {
            timestamps: true,
            ..Default::default()
        },
        clock: Some(Clock {
            tsval: 100,
            tsecr: 900,
            heard: 0,
        }),
        c2s_next: 5000,
        s2c_acked: 9000,
        open: true,
        opening: false,
    }
}

/// A daemon that starts beside these flows.
fn beside(flows: Vec<FlowInfo>) -> (Engine<FakeKernel>, FakeKernel) {
    let kernel = FakeKernel::default();
    kernel.there.replace(flows);
    let config = Config::parse(EXAMPLE).unwrap();
    let mut e = Engine::new(kernel.clone(), &config, Timeline::new("a", true));
    e.start().unwrap();
    kernel.take();
    (e, kernel)
}

/// What `from` has told goes to the stores of these.
fn told(from: (&str, &mut Engine<FakeKernel>), to: &mut [&mut Engine<FakeKernel>]) {
    for (_, update) in from.1.take_updates() {
        for e in &mut *to {
            e.store.apply(from.0, update.clone(), 0);
        }
    }
}

fn snapshot(e: &mut Engine<FakeKernel>) -> Vec<Record> {
    let record = |update| match update {
        Update::Put(bytes) => Some(Record::decode(&bytes, 0).unwrap()),
        Update::Begin { .. } => None,
        other => panic!("{other:?}"),
    };
    e.snapshot(1, 0).1.into_iter().filter_map(record).collect()
}

/// A request at these positions and the head of its response.
fn exchange(flow: u64, request: u64, start: u64) -> Vec<Entry> {
    let ack = request + GET.len() as u64;
    let whats = [
        What::Object { start, request },
        What::C2s {
            pos: request,
            ack: start,
            data: GET.to_vec(),
            ts: None,
        },
        What::S2c {
            pos: start,
            ack,
            data: HEAD.to_vec(),
        },
    ];
    whats.into_iter().map(|what| entry(flow, what)).collect()
}

fn located(n: u16, ack: u64, seq: u64) -> What {
    What::Located {
        desc: desc(n),
        word: word(ack, seq),
        ts: None,
    }
}

#[test]
fn flows_that_were_there_before_the_daemon_are_protected_from_their_next_request_on() {
    let half_open = FlowInfo {
        open: false,
        ..before(2, 8)
    };
    let (mut e, kernel) = beside(vec![before(1, 7), half_open]);
    assert_eq!(e.counts.get("flows-adopted"), Some(&1));
    // What is under way says nothing.
    let under_way = [
        What::C2s {
            pos: 5000,
            ack: 9000,
            data: b"more".to_vec(),
            ts: None,
        },
        What::S2c {
            pos: 9000,
            ack: 5004,
            data: b"the rest".to_vec(),
        },
    ];
    under_way
        .into_iter()
        .for_each(|what| e.hear(entry(7, what), 0));
    assert_eq!((kernel.take(), e.take_updates()), (vec![], vec![]));
    let [known] = &snapshot(&mut e)[..] else {
        panic!()
    };
    assert_eq!((known.key, known.generation), (key(1), 3));
    assert_eq!(known.state, State::Unprotected(Doubt::Lost));

    e.hear_all(exchange(7, 5004, 9008), 0);
    let end = 9008 + HEAD.len() as u64 + 1000;
    let release = Release {
        object_start: Some(9008),
        object_end: Some(end),
        ..Release::default()
    };
    assert_eq!(kernel.take(), [Call::Commit(release)]);
    assert_eq!(e.counts.get("responses-range"), Some(&1));

    // It outlives this node, in the middle of the response.
    let (mut b, kernel) = engine();
    told(("a", &mut e), &mut [&mut b]);
    assert_eq!(b.take_over(key(1).service.ip(), 0), 1);
    assert_eq!(kernel.take(), [Call::Locate(key(1), 9007)]);
    let (at, seq) = (end - 1000 + 400, 5004 + GET.len() as u64);
    b.hear(entry(1001, located(1, at, seq)), 0);
    let calls = kernel.take();
    let [Call::Recover {
        at: from, request, ..
    }] = &calls[..]
    else {
        panic!("{calls:?}")
    };
    assert_eq!(*from, at);
    assert!(String::from_utf8_lossy(request).contains("Range: bytes=400-"));
}

#[test]
fn a_flow_that_was_there_and_asked_nothing_more_ends_with_its_node() {
    let (mut a, _) = beside(vec![before(1, 7)]);
    let (mut b, kernel) = engine();
    for record in snapshot(&mut a) {
        b.store.apply("a", Update::Put(record.encode(0)), 0);
    }
    b.take_over(key(1).service.ip(), 0);
    assert_eq!(kernel.take(), vec![]);
    let word = word(9400, 5000);
    let desc = desc(1);
    let ts = None;
    b.hear(entry(1, What::Orphan { desc, word, ts }), 0);
    assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)]);
    let last = b.timeline.events().last().unwrap();
    assert_eq!(last["why"], "unprotected (lost)");
}

#[test]
fn the_silent_client_of_a_flow_that_was_there_is_looked_for() {
    let (mut a, _) = beside(vec![before(1, 7)]);
    let (mut b, kernel) = engine();
    for record in snapshot(&mut a) {
        b.store.apply("a", Update::Put(record.encode(0)), 0);
    }
    b.take_over(key(1).service.ip(), 0);
    b.tick(3_000_000_000);
    assert!(matches!(kernel.take()[..], [Call::Locate(..)]));
    b.hear(entry(1001, located(1, 9400, 5000)), 3_000_000_000);
    assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn the_end_of_a_flow_that_was_there_is_not_that_of_the_next_one_from_its_port() {
    let (mut a, _) = beside(vec![before(1, 7)]);
    let (mut b, _) = engine();
    let opened = What::Opened {
        desc: desc(1),
        start: 2000,
        request: 1000,
        ts: None,
    };
    a.hear(entry(9, opened), 0);
    a.hear_all(exchange(9, 1000, 2000), 0);
    a.hear(entry(7, What::Closed { ended: true }), 0);
    assert_eq!(a.flows().map(|(id, _)| id).collect::<Vec<_>>(), [9]);
    told(("a", &mut a), &mut [&mut b]);
    assert_eq!((b.store.owned("a"), b.store.refused), (1, 0));
    a.hear(entry(9, What::Closed { ended: true }), 0);
    told(("a", &mut a), &mut [&mut b]);
    assert_eq!(b.store.count(), 0);
}

/// The server's answer behind the first `offset` bytes of the body.
fn rest(offset: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 P\r\nContent-Length: {}\r\nETag: \"e\"\r\n\
         Content-Range: bytes {offset}-999/1000\r\n\r\n",
        1000 - offset
    );
    [head.as_bytes(), b"body"].concat()
}

fn answer(data: Vec<u8>) -> What {
    What::Answer {
        pos: 0,
        data,
        fin: false,
    }
}

#[test]
fn a_flow_goes_on_wherever_in_its_recovery_the_second_node_dies() {
    let body = 2000 + HEAD.len() as u64;
    let next = 1000 + GET.len() as u64;
    let whole = || {
        vec![
            entry(1001, located(1, body + 400, next)),
            entry(1002, What::Asked),
            entry(1002, answer(rest(400)[..30].to_vec())),
            entry(1002, answer(rest(400))),
            entry(1002, What::Spliced { pos: body + 404 }),
        ]
    };
    for steps in 0..=whole().len() {
        let ((mut a, _), (mut b, _), (mut c, kernel)) = (engine(), engine(), engine());
        serve(&mut a);
        told(("a", &mut a), &mut [&mut b, &mut c]);
        b.take_over(key(1).service.ip(), 0);
        whole()
            .into_iter()
            .take(steps)
            .for_each(|entry| b.hear(entry, 0));
        let spliced = b.counts.get("flows-recovered");
        assert_eq!(spliced.is_some(), steps == whole().len());
        told(("b", &mut b), &mut [&mut c]);
        assert_eq!((c.store.owned("b"), c.store.refused), (1, 0), "{steps}");
        // An old owner's last words are nothing any more.
        let late = Update::Drop {
            key: key(1),
            generation: 0,
        };
        c.store.apply("a", late, 0);
        assert_eq!((c.store.owned("b"), c.store.refused), (1, 1), "{steps}");

        assert_eq!(c.take_over(key(1).service.ip(), 0), 1);
        assert_eq!(kernel.take(), [Call::Locate(key(1), 1999)], "{steps}");
        // Of what b's server said, the client has a little from the fourth step on.
        let had = if steps < 4 { 400 } else { 404 };
        c.hear(entry(1001, located(1, body + had, next)), 0);
        let calls = kernel.take();
        let [Call::Recover { at, request, .. }] = &calls[..] else {
            panic!("{steps}: {calls:?}")
        };
        assert_eq!(*at, body + had);
        let range = format!("Range: bytes={had}-\r\n");
        assert!(String::from_utf8_lossy(request).contains(&range));
        c.hear(entry(1002, What::Asked), 0);
        let said = rest(had as usize);
        let join = Call::Join {
            prefix: b"body".to_vec(),
            answer_length: said.len() as u64,
            skip: 0,
            object_end: Some(body + 1000),
        };
        c.hear(entry(1002, answer(said)), 0);
        assert_eq!(kernel.take(), [join], "{steps}");
        let pos = body + had + 4;
        c.hear(entry(1002, What::Spliced { pos }), 0);
        assert_eq!(c.counts.get("flows-recovered"), Some(&1));
        let generations: Vec<_> = c.flows().map(|(_, t)| t.record().generation).collect();
        assert_eq!(generations, [2], "{steps}");
    }
}
