// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Whole recoveries against a stand-in for the kernel.

use super::*;

/// The states of the records that are told, in order.
fn told(e: &mut Engine<FakeKernel>) -> Vec<State> {
    let put = |update| match update {
        Update::Put(bytes) => Record::decode(&bytes, 0).unwrap().state,
        other => panic!("{other:?}"),
    };
    let updates = e.take_updates();
    updates.into_iter().map(|(_, update)| put(update)).collect()
}

#[test]
fn a_request_is_told_with_its_response_or_when_it_has_waited() {
    let (mut e, _) = engine();
    serve(&mut e);
    // Nor is that it was idle before.
    assert!(matches!(told(&mut e)[..], [State::Responding(_)]));
    e.tell_requests(0);
    assert_eq!(told(&mut e), []);

    let (mut e, _) = engine();
    let mut log = served();
    log.pop();
    log.into_iter().for_each(|entry| e.hear(entry, 0));
    assert_eq!(told(&mut e), [State::Idle]);
    e.tell_requests(0);
    assert_eq!(told(&mut e), [State::Requesting(GET.to_vec())]);
    e.tell_requests(0);
    assert_eq!(told(&mut e), []);
}

#[test]
fn of_responses_that_are_safe_together_the_last_one_is_committed() {
    let (mut e, kernel) = engine();
    e.quorum.join("b");
    let (number, _) = e.snapshot(1, 0);
    e.quorum.confirm("b", number);
    serve(&mut e);
    let (end, asked) = (2000 + HEAD.len() as u64 + 1000, 1000 + GET.len() as u64);
    let whats = [
        What::Object {
            start: end,
            request: asked,
        },
        What::C2s {
            pos: asked,
            ack: end,
            data: GET.to_vec(),
            ts: None,
        },
        What::S2c {
            pos: end,
            ack: asked + GET.len() as u64,
            data: HEAD.to_vec(),
        },
    ];
    whats.into_iter().for_each(|what| e.hear(entry(1, what), 0));
    let updates = e.take_updates();
    assert_eq!(updates.len(), 1, "the last record tells of both");
    e.quorum.confirm("b", updates[0].0);
    e.settle();
    let last = Release {
        object_start: Some(end),
        object_end: Some(end + HEAD.len() as u64 + 1000),
        ..Release::default()
    };
    assert_eq!(kernel.take(), [Call::Commit(last)]);
    assert_eq!(e.counts["responses-range"], 2);
}

#[test]
fn a_response_leaves_when_a_peer_has_its_record() {
    let (mut e, kernel) = engine();
    e.quorum.join("b");
    let (number, all) = e.snapshot(1, 0);
    assert_eq!(all, vec![Update::Begin { boot: 1 }]);
    e.quorum.confirm("b", number);
    serve(&mut e);
    assert_eq!(kernel.take(), vec![]);
    let updates = e.take_updates();
    assert!(matches!(updates.last(), Some((_, Update::Put(_)))));
    e.quorum.confirm("b", updates.last().unwrap().0);
    e.settle();
    let end = Some(2000 + HEAD.len() as u64 + 1000);
    let want = Release {
        object_start: Some(2000),
        object_end: end,
        ..Release::default()
    };
    assert_eq!(kernel.take(), vec![Call::Commit(want)]);
}

#[test]
fn how_far_a_response_has_come_travels_with_heartbeats() {
    let (mut e, _) = engine();
    serve(&mut e);
    e.take_updates();
    assert_eq!(e.take_marks(0), []);
    for acked in [2500, 2700] {
        let ts = Some((3, 4));
        e.hear(entry(1, What::Progress { acked, ts }), 0);
    }
    assert_eq!(e.take_updates(), [], "nothing waits for it");
    let marks = e.take_marks(0);
    assert!(matches!(
        marks[..],
        [Update::Mark {
            acked: 2700,
            ts: Some((3, 4)),
            ..
        }]
    ));
    assert_eq!(e.take_marks(0), []);
}

#[test]
fn without_peers_a_response_leaves_at_once_and_is_counted() {
    let (mut e, kernel) = engine();
    serve(&mut e);
    assert!(matches!(kernel.take()[..], [Call::Commit(_)]));
    assert_eq!(e.quorum.alone, 1);
}

#[test]
fn what_one_node_records_another_one_continues() {
    let (mut a, _) = engine();
    serve(&mut a);
    let (mut b, kernel) = engine();
    for (_, update) in a.take_updates() {
        b.store.apply("a", update, 0);
    }
    assert_eq!(b.take_over(key(1).service.ip(), 10), 1);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);

    let body = 2000 + HEAD.len() as u64;
    let c2s_next = 1000 + GET.len() as u64;
    let located = What::Located {
        desc: desc(1),
        word: word(body + 400, c2s_next),
        ts: None,
    };
    b.hear(entry(1001, located), 20);
    let calls = kernel.take();
    let [Call::Recover {
        at,
        c2s_next: next,
        request,
        ..
    }] = &calls[..]
    else {
        panic!("{calls:?}")
    };
    assert_eq!((*at, *next), (body + 400, c2s_next));
    assert!(String::from_utf8_lossy(request).contains("Range: bytes=400-"));

    let answer = b"HTTP/1.1 206 P\r\nContent-Length: 600\r\nETag: \"e\"\r\n\
        Content-Range: bytes 400-999/1000\r\n\r\n";
    let said = |pos, data: &[u8]| {
        entry(
            1002,
            What::Answer {
                pos,
                data: data.to_vec(),
                fin: false,
            },
        )
    };
    b.hear(said(0, b"of another ghost"), 30);
    b.hear(entry(1002, What::Asked), 30);
    b.hear(said(0, &answer[..30]), 30);
    assert_eq!(kernel.take(), vec![]);
    // More comes between our look at the log and the join.
    kernel.joins.borrow_mut().push(Refused::Again);
    b.hear(said(30, &answer[30..]), 31);
    assert_eq!(kernel.take(), vec![]);
    b.hear(said(answer.len() as u64, b"body"), 32);
    let answer_length = answer.len() as u64 + 4;
    let join = Call::Join {
        prefix: b"body".to_vec(),
        answer_length,
        skip: 0,
        object_end: Some(body + 1000),
    };
    assert_eq!(kernel.take(), vec![join]);
    // However long the client does not read.
    b.tick(3_600_000 * 1_000_000);
    assert_eq!(kernel.take(), vec![]);
    b.hear(entry(1002, What::Spliced { pos: body + 404 }), 33);
    assert_eq!(b.counts.get("flows-recovered"), Some(&1));
    // From here on it is a flow like any other, and the others know whose it is.
    let (_, t) = b.flows().next().unwrap();
    assert_eq!(t.record().generation, 1);
    b.hear(
        entry(
            1002,
            What::Object {
                start: body + 1000,
                request: c2s_next,
            },
        ),
        40,
    );
    assert_eq!(b.flows().filter(|(_, t)| t.is_dead()).count(), 0);
    b.hear(entry(1002, What::Closed { ended: true }), 50);
    assert!(matches!(
        b.take_updates().last(),
        Some((_, Update::Drop { generation: 1, .. }))
    ));
}

#[test]
fn an_idle_flow_waits_for_its_client() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(record(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    assert_eq!(kernel.take(), vec![]);
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2000, 1000),
        ts: None,
    };
    e.hear(entry(1, orphan), 0);
    let want = Call::Recover {
        key: key(1),
        at: 2000,
        c2s_next: 1000,
        request: vec![],
        local_port: None,
    };
    assert_eq!(kernel.take(), vec![want]);
}

#[test]
fn an_unprotected_flow_ends_though_its_client_is_silent() {
    let (mut e, kernel) = engine();
    let mut lost = record(1);
    lost.state = State::Unprotected(Doubt::Tls);
    e.store.apply("b", Update::Put(lost.encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    e.tick(1_999 * 1_000_000);
    assert_eq!(kernel.take(), vec![]);
    e.tick(2_000 * 1_000_000);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    let located = What::Located {
        desc: desc(1),
        word: word(99_000, 1500),
        ts: None,
    };
    e.hear(entry(1001, located), 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn an_orphan_without_record_is_left_to_the_stack() {
    let (mut e, kernel) = engine();
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2000, 1000),
        ts: None,
    };
    e.hear(entry(1, orphan), 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Pass)]);
}

#[test]
fn a_wrong_answer_and_a_silent_client_are_reset() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.store.apply("b", Update::Put(downloading(2).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    let located = What::Located {
        desc: desc(1),
        word: word(2300, 1000),
        ts: None,
    };
    e.hear(entry(1001, located), 0);
    kernel.take();
    let id = 1003;
    let wrong = b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n".to_vec();
    e.hear(entry(id, What::Asked), 0);
    e.hear(
        entry(
            id,
            What::Answer {
                pos: 0,
                data: wrong,
                fin: false,
            },
        ),
        0,
    );
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
    e.tick(59_999 * 1_000_000);
    assert_eq!(kernel.take(), vec![]);
    e.tick(60_000 * 1_000_000);
    assert_eq!(kernel.take(), vec![Call::End(key(2), Verdict::Abandon)]);
    assert_eq!(e.counts.get("recovery-silent"), Some(&1));
    // It is kept as an idle one and goes on when it speaks.
    let orphan = What::Orphan {
        desc: desc(2),
        word: word(2300, 1000),
        ts: None,
    };
    e.hear(entry(9, orphan), 60_001 * 1_000_000);
    assert!(matches!(
        kernel.take()[..],
        [Call::Recover { at: 2300, .. }]
    ));
}

#[test]
fn a_silent_client_is_probed_anew_until_its_time_is_over() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    let silent = || What::Failed {
        why: Failure::Silent,
    };
    for n in 1..6 {
        let now = n * 10_000_000_000;
        e.hear(entry(1000 + n as u64, silent()), now);
        e.tick(now + 1);
        assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)], "{n}");
    }
    e.hear(entry(1006, silent()), 60_000_000_000);
    e.tick(60_000_000_001);
    assert_eq!(kernel.take(), vec![]);
    assert_eq!(e.rescues.len(), (1, 0));
}

#[test]
fn an_idle_flow_is_forgotten_everywhere_when_its_time_is_over() {
    let (mut e, kernel) = engine();
    e.limits.idle_s = 600;
    let mut third = engine().0;
    for store in [&mut e.store, &mut third.store] {
        store.apply("b", Update::Put(record(1).encode(0)), 0);
    }
    e.take_over(key(1).service.ip(), 0);
    e.tick(599_000_000_000);
    assert_eq!(e.rescues.len(), (1, 0));
    e.tick(601_000_000_000);
    assert_eq!(e.rescues.len(), (0, 0));
    assert_eq!(e.counts.get("recovery-expired"), Some(&1));
    assert_eq!(kernel.take(), vec![]);
    for (_, update) in e.take_updates() {
        third.store.apply("a", update, 0);
    }
    assert_eq!((third.store.count(), third.store.refused), (0, 0));
}

#[test]
fn a_server_that_is_not_up_yet_is_asked_again_and_a_silent_client_may_speak_later() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    let silent = What::Failed {
        why: Failure::Silent,
    };
    e.hear(entry(1001, silent), 0);
    kernel.take();
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2300, 1000),
        ts: None,
    };
    e.hear(entry(7, orphan), 0);
    assert!(matches!(
        kernel.take()[..],
        [Call::Recover { at: 2300, .. }]
    ));
    let mut now = 0;
    for id in 1002..1010 {
        e.hear(entry(id, What::Asked), now);
        e.hear(
            entry(
                id,
                What::Failed {
                    why: Failure::Server,
                },
            ),
            now,
        );
        assert_eq!(kernel.take(), vec![]);
        e.tick(now + 40_000_000);
        assert_eq!(kernel.take(), vec![]);
        now += 50_000_000;
        e.tick(now);
        assert!(matches!(
            kernel.take()[..],
            [Call::Recover { at: 2300, .. }]
        ));
    }
    e.hear(entry(1010, What::Asked), now);
    e.hear(
        entry(
            1010,
            What::Failed {
                why: Failure::Server,
            },
        ),
        9_960_000_000,
    );
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn no_more_flows_at_once_than_the_limit() {
    let (mut e, kernel) = engine();
    e.limits.concurrency = 3;
    for n in 0..10 {
        e.store.apply("b", Update::Put(downloading(n).encode(0)), 0);
    }
    e.take_over(key(1).service.ip(), 0);
    for now in 0..10 {
        e.tick(now);
    }
    assert_eq!(kernel.take().len(), 10, "all are asked where they stand");
    for n in 0..10 {
        let located = What::Located {
            desc: desc(n),
            word: word(2300, 1000),
            ts: None,
        };
        e.hear(entry(1001, located), 10);
    }
    assert_eq!(kernel.take().len(), 3);
    let why = Failure::Reset(1);
    e.hear(entry(1011, What::Failed { why }), 10);
    e.tick(11);
    assert_eq!(kernel.take().len(), 1);
}

/// The local server of flow 1 closes where the client is at `acked`.
fn lose(e: &mut Engine<FakeKernel>, acked: u64, now: i64) {
    e.hear(entry(1, What::Lost { acked }), now);
}

/// The local server of flow 1 dies, and its client is found.
fn lose_and_locate(e: &mut Engine<FakeKernel>, kernel: &FakeKernel) {
    serve(e);
    kernel.take();
    lose(e, 2400, 0);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    let body = 2000 + HEAD.len() as u64;
    let located = What::Located {
        desc: desc(1),
        word: word(body + 400, 1000 + GET.len() as u64),
        ts: None,
    };
    e.hear(entry(1001, located), 0);
}

#[test]
fn a_server_that_is_waited_for_has_its_time_with_each_attempt() {
    let (mut e, kernel) = engine();
    lose_and_locate(&mut e, &kernel);
    for id in 1002..1082u64 {
        assert!(matches!(kernel.take()[..], [Call::Recover { .. }]), "{id}");
        // At last long after answer-ms: the kernel is slow, or another node is about to take over.
        let now = (id as i64 - 1002) * 300_000_000;
        e.hear(entry(id, What::Asked), now);
        e.tick(now + 10_000_000);
        assert_eq!(kernel.take(), vec![]);
        let why = Failure::Server;
        e.hear(entry(id, What::Failed { why }), now + 20_000_000);
        e.tick(now + 290_000_000);
    }
    // One that accepts and never answers is not waited for.
    kernel.take();
    e.tick(100_000_000_000);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn a_server_that_dies_is_waited_for_and_then_another_node() {
    let (mut e, kernel) = engine();
    lose_and_locate(&mut e, &kernel);
    let failed = || What::Failed {
        why: Failure::Server,
    };
    for id in 1002..1012 {
        assert!(matches!(kernel.take()[..], [Call::Recover { .. }]));
        let now = i64::from(id as u16 - 1002) * 300_000_000;
        e.hear(entry(id, What::Asked), now);
        e.hear(entry(id, failed()), now);
        assert!(!e.restarts.take_gone(), "before restart-ms");
        e.tick(now + 250_000_000);
    }
    kernel.take();
    e.hear(entry(1012, What::Asked), 3_100_000_000);
    e.hear(entry(1012, failed()), 3_100_000_000);
    assert!(e.restarts.take_gone());
    // Nobody else is there.
    e.server_is_gone(3_100_000_000);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn a_close_that_cannot_be_made_up_for_passes() {
    // Nothing was asked.
    let (mut e, kernel) = engine();
    let opened = What::Opened {
        desc: desc(1),
        start: 2000,
        request: 1000,
        ts: None,
    };
    e.hear(entry(1, opened), 0);
    lose(&mut e, 2000, 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Pass)]);
    assert_eq!(e.flows().count(), 1, "it is tracked on");
    // The server closes at the same byte again.
    let (mut e, kernel) = engine();
    serve(&mut e);
    kernel.take();
    e.restarts.seen_at(key(1), 2400);
    lose(&mut e, 2400, 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Pass)]);
}

#[test]
fn an_old_owner_lets_its_flows_go_without_a_word() {
    let (mut e, kernel) = engine();
    serve(&mut e);
    kernel.take();
    e.abandon(key(1).service.ip());
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Abandon)]);
}

#[test]
fn a_connection_is_handed_over_in_the_middle_of_its_handshake() {
    let (mut e, kernel) = engine();
    let addr = key(1).service.ip();
    // One that the client may take for open, one that it does not.
    kernel.opening.replace(vec![(1, key(1)), (2, key(2))]);
    assert_eq!(e.hand_over(addr, 0), (2, 0));
    let silenced = |n| Call::End(key(n), Verdict::Abandon);
    assert_eq!(kernel.take(), vec![silenced(1), silenced(2)]);
    e.hear(served().remove(0), 0);
    e.hear(entry(1, What::Closed { ended: false }), 0);
    assert!(!e.handed.is_complete());
    e.hear(entry(2, What::Closed { ended: false }), 0);
    assert!(e.handed.is_complete());
    assert_eq!(kernel.take(), vec![], "it was silenced once");
    let told: Vec<_> = e.handed.records().collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].key, &told[0].state), (key(1), &State::Idle));
    let updates = e.take_updates();
    assert!(matches!(updates[..], [(_, Update::Put(_))]));
}

#[test]
fn only_what_a_successor_cannot_continue_is_waited_for() {
    let (mut e, kernel) = engine();
    serve(&mut e);
    let addr = key(1).service.ip();
    assert_eq!(e.stuck(addr), vec![]);
    e.hear(entry(1, What::Unprotected { reason: 1 }), 0);
    assert_eq!(e.stuck(addr), vec![(1, key(1))]);
    kernel.take();
    assert_eq!(e.hand_over(addr, 0), (0, 1));
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
    e.hear(entry(1, What::Closed { ended: true }), 0);
    assert!(e.handed.is_complete());
    assert_eq!(e.flows().count(), 0);
}

#[test]
fn an_answer_is_joined_behind_its_own_record_and_not_behind_that_of_another() {
    let (mut e, kernel) = engine();
    e.quorum.join("b");
    let (number, _) = e.snapshot(1, 0);
    e.quorum.confirm("b", number.max(1));
    let mut asked = record(1);
    asked.state = State::Requesting(GET.to_vec());
    e.store.apply("a", Update::Put(asked.encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    let located = What::Located {
        desc: desc(1),
        word: word(2000, 1000 + GET.len() as u64),
        ts: None,
    };
    e.hear(entry(1001, located), 0);
    e.take_updates();
    kernel.take();
    let says = |e: &mut Engine<FakeKernel>, flow, data: &[u8]| {
        let (pos, data, fin) = (0, data.to_vec(), false);
        e.hear(entry(flow, What::Asked), 0);
        e.hear(entry(flow, What::Answer { pos, data, fin }), 0);
    };
    // A server that dies when it has answered, and another one that answers otherwise.
    says(&mut e, 1002, HEAD);
    let first = e.take_updates().last().unwrap().0;
    let why = Failure::Server;
    e.hear(entry(1002, What::Failed { why }), 0);
    e.tick(50_000_000);
    assert!(matches!(kernel.take()[..], [Call::Recover { .. }]));
    let other = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nETag: \"f\"\r\n\r\n";
    says(&mut e, 1003, other);
    let second = e.take_updates().last().unwrap().0;
    e.quorum.confirm("b", first);
    e.settle();
    assert_eq!(kernel.take(), vec![], "no peer knows what it would say");
    e.quorum.confirm("b", second);
    e.settle();
    let end = Some(2000 + other.len() as u64 + 2000);
    let join = Call::Join {
        prefix: other.to_vec(),
        answer_length: other.len() as u64,
        skip: 0,
        object_end: end,
    };
    assert_eq!(kernel.take(), vec![join]);
}

#[test]
fn a_client_that_answers_late_has_the_time_of_one_that_answers_at_once() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    let second = 1_000_000_000;
    let located = || What::Located {
        desc: desc(1),
        word: word(2300, 1000),
        ts: None,
    };
    let (silent, closed) = (
        || What::Failed {
            why: Failure::Silent,
        },
        || What::Answer {
            pos: 0,
            data: Vec::new(),
            fin: true,
        },
    );
    // The server that has its last second breaks off, and the client sleeps.
    e.hear(entry(1001, located()), second);
    e.hear(entry(1002, What::Asked), second);
    e.hear(entry(1002, closed()), 10 * second);
    e.hear(entry(1003, silent()), 20 * second);
    e.tick(20 * second);
    kernel.take();
    e.hear(entry(1004, located()), 21 * second);
    e.tick(22 * second);
    assert!(matches!(kernel.take()[..], [Call::Recover { .. }]));

    // And so does one that speaks when nobody asks any more, to a server that is not up yet.
    e.hear(entry(1005, What::Asked), 22 * second);
    e.hear(entry(1005, closed()), 23 * second);
    let why = Failure::Silent;
    e.hear(entry(1006, What::Failed { why }), 33 * second);
    for n in 1..=5 {
        e.tick(34 * second + n);
        e.hear(entry(1006 + n as u64, silent()), (33 + 10 * n) * second);
    }
    assert_eq!(e.counts.get("recovery-silent"), Some(&1));
    kernel.take();
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2300, 1000),
        ts: None,
    };
    let late = 3_600 * second;
    e.hear(entry(9, orphan), late);
    e.tick(late);
    assert!(matches!(kernel.take()[..], [Call::Recover { .. }]));
    e.hear(entry(1012, What::Asked), late);
    let why = Failure::Server;
    e.hear(entry(1012, What::Failed { why }), late);
    e.tick(late + second);
    assert!(matches!(kernel.take()[..], [Call::Recover { .. }]));
}

#[test]
fn of_a_flow_that_is_over_no_server_is_waited_for() {
    let reset = What::Failed {
        why: Failure::Reset(1),
    };
    let closed = What::Closed { ended: true };
    for (what, over) in [("reset", reset), ("closed", closed)] {
        let (mut e, kernel) = engine();
        lose_and_locate(&mut e, &kernel);
        e.hear(entry(1002, over), 0);
        assert!(e.restarts.is_empty(), "{what}");
    }
    let (mut e, kernel) = engine();
    lose_and_locate(&mut e, &kernel);
    e.refuse(&key(1), "timeout", Verdict::Reset);
    assert!(e.restarts.is_empty());

    // A server refuses once, long after another connection of this name had lost its own.
    e.adopt(downloading(1), 0);
    let long = 60_000_000_000;
    e.tick(long);
    let located = What::Located {
        desc: desc(1),
        word: word(2300, 1000),
        ts: None,
    };
    e.hear(entry(1003, located), long);
    e.hear(entry(1004, What::Asked), long);
    let why = Failure::Server;
    e.hear(entry(1004, What::Failed { why }), long);
    assert!(!e.restarts.take_gone(), "the node would be drained");
}

#[test]
fn only_who_has_said_more_is_waited_for() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    kernel.take();
    let located = |ack| What::Located {
        desc: desc(1),
        word: word(ack, 1000),
        ts: None,
    };
    let refuse = |why| kernel.recovers.borrow_mut().push(why);
    refuse(Refused::Misfit("the positions do not fit".into()));
    e.hear(entry(1001, located(2300)), 0);
    e.tick(0);
    assert_eq!(kernel.take(), vec![], "its next word is there already");
    refuse(Refused::Other("out of memory".into()));
    e.hear(entry(1001, located(2400)), 0);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    // That attempt counts no more.
    let late = 11_000_000_000;
    e.hear(entry(1002, located(2400)), late);
    e.tick(late);
    assert!(matches!(
        kernel.take()[..],
        [Call::Recover { at: 2400, .. }]
    ));
    assert_eq!(e.rescues.len(), (1, 1));
}

#[test]
fn what_a_client_says_while_its_server_is_away_counts() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    let located = |ack| What::Located {
        desc: desc(1),
        word: word(ack, 1000),
        ts: None,
    };
    e.hear(entry(1001, located(2300)), 0);
    let why = Failure::Server;
    e.hear(entry(1002, What::Asked), 0);
    e.hear(entry(1002, What::Failed { why }), 0);
    kernel.take();
    e.hear(entry(1002, located(2300)), 0);
    assert_eq!(kernel.take(), vec![], "nothing new");
    e.hear(entry(1002, located(2400)), 0);
    assert!(matches!(
        kernel.take()[..],
        [Call::Recover { at: 2400, .. }]
    ));
}

#[test]
fn what_is_given_up_is_that_flow_and_not_another_one_of_its_name() {
    let (mut e, kernel) = engine();
    let orphan = |n| What::Orphan {
        desc: desc(n),
        word: word(99_000, 1500),
        ts: None,
    };
    e.hear(entry(7, orphan(1)), 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Pass)]);
    e.adopt(record(2), 0);
    e.hear(entry(8, orphan(2)), 0);
    assert_eq!(kernel.take(), vec![Call::End(key(2), Verdict::Reset)]);
    e.adopt(downloading(3), 0);
    e.tick(0);
    e.tick(60_000_000_000);
    assert_eq!(
        kernel.take()[1..],
        [Call::End(key(3), Verdict::Abandon)],
        "silent"
    );
    serve(&mut e);
    kernel.take();
    lose(&mut e, 2400, 0);
    e.refuse(&key(1), "timeout", Verdict::Reset);
    let ended = kernel.ended.take();
    assert_eq!(ended, [Some(7), Some(8), Some(1001), Some(1002)]);

    // Its client has a new connection from the same port.
    e.adopt(downloading(4), 0);
    let why = Refused::Other("the flow is in another phase".into());
    kernel.locates.borrow_mut().push(why);
    kernel.take();
    e.tick(0);
    assert_eq!((kernel.take(), e.counts["recovery-refused"]), (vec![], 3));
}
