// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a tracker makes of logs, cut and mixed in every way.

use super::*;
use crate::record::{tests::key, Way};
use proptest::prelude::*;

const REQ: u64 = 0xffff_fff0;
const START: u64 = 0x1_ffff_ff00;
const GET: &[u8] = b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nETag: \"t\"\r\nContent-Length: 5000\r\n\r\n";

fn tracker() -> Tracker {
    Tracker::opened(key(), 0, TcpOptions::default(), None, true, REQ, START)
}

fn c2s(t: &mut Tracker, pos: u64, data: &[u8]) -> Vec<Action> {
    let ack = t.record().start;
    t.hear(Event::C2s {
        pos,
        ack,
        data,
        ts: Some((7, 8)),
        time: 9,
    })
}

fn s2c(t: &mut Tracker, pos: u64, ack: u64, data: &[u8]) -> Vec<Action> {
    t.hear(Event::S2c { pos, ack, data })
}

fn begin(t: &mut Tracker, request: u64, start: u64) {
    assert_eq!(t.hear(Event::Object { request, start }), vec![]);
}

fn committed(actions: &[Action]) -> Release {
    match actions {
        [.., Action::Replicate, Action::Commit(r)] => *r,
        other => panic!("no commit in {other:?}"),
    }
}

fn assert_dead(actions: &[Action], why: Doubt) {
    let release = Release {
        unprotected: true,
        ..Release::default()
    };
    let want = [
        Action::Count(why),
        Action::Replicate,
        Action::Commit(release),
    ];
    assert_eq!(actions, want);
}

/// A tracker whose request is complete.
fn asked(request: &[u8]) -> Tracker {
    let mut t = tracker();
    begin(&mut t, REQ, START);
    assert_eq!(c2s(&mut t, REQ, request), vec![Action::ReplicateSoon]);
    t
}

#[test]
fn a_response_is_committed_when_its_record_is_whole() {
    let mut t = asked(GET);
    assert_eq!(t.record().state, State::Requesting(GET.to_vec()));
    let got = s2c(&mut t, START, REQ + GET.len() as u64, OK);
    let end = START + OK.len() as u64 + 5000;
    let want = Release {
        object_start: Some(START),
        object_end: Some(end),
        ..Release::default()
    };
    assert_eq!(committed(&got), want);
    let State::Responding(o) = &t.record().state else {
        panic!()
    };
    assert_eq!(
        (&o.request[..], &o.sent[..], o.head as usize),
        (GET, OK, OK.len())
    );
    assert!(matches!(
        o.way,
        Way::Range {
            first: 0,
            total: 5000,
            ..
        }
    ));
    assert_eq!(
        t.record().clock,
        Some(Clock {
            tsval: 7,
            tsecr: 8,
            heard: 9
        })
    );
}

#[test]
fn nothing_is_committed_before_the_request_is_final() {
    let mut t = asked(GET);
    let end = REQ + GET.len() as u64;
    assert_eq!(s2c(&mut t, START, end - 1, OK), vec![]);
    committed(&s2c(&mut t, START + OK.len() as u64, end, b""));
}

#[test]
fn a_pause_inside_the_head_of_a_request_releases_it() {
    for n in 1..GET.len() {
        let mut t = tracker();
        begin(&mut t, REQ, START);
        let got = c2s(&mut t, REQ, &GET[..n]);
        let release = Release {
            ack_release: true,
            ..Release::default()
        };
        assert_eq!(got, vec![Action::Replicate, Action::Commit(release)], "{n}");
        assert_eq!(t.record().state, State::Requesting(GET[..n].to_vec()));
        assert_eq!(
            c2s(&mut t, REQ + n as u64, &GET[n..]),
            vec![Action::Replicate]
        );
        committed(&s2c(&mut t, START, REQ + GET.len() as u64, OK));
    }
}

#[test]
fn a_server_that_closes_inside_its_head_has_died() {
    let ack = REQ + GET.len() as u64;
    let closing = |pos: usize| Event::Closing {
        pos: START + pos as u64,
        ack,
    };
    let lost = Release {
        object_start: Some(START),
        broken_off: true,
        ..Release::default()
    };
    for n in [1, 10, 30] {
        let mut t = asked(GET);
        assert_eq!(s2c(&mut t, START, ack, &OK[..n]), vec![]);
        assert_eq!(t.hear(closing(n)), vec![Action::Commit(lost)], "{n}");
        assert_eq!(t.hear(closing(n + 1)), vec![], "bytes are missing");
        assert!(t.record().can_be_asked());
    }
    // The close is known before the request is final.
    let mut t = asked(GET);
    assert_eq!(s2c(&mut t, START, ack - 1, &OK[..9]), vec![]);
    let early = Event::Closing {
        pos: START + 9,
        ack: ack - 1,
    };
    assert_eq!(t.hear(early), vec![]);
    assert_eq!(s2c(&mut t, START, ack, b""), vec![Action::Commit(lost)]);
    // A whole head is an answer.
    let mut t = asked(GET);
    committed(&s2c(&mut t, START, ack, OK));
    assert_eq!(t.hear(closing(OK.len())), vec![]);
}

#[test]
fn a_response_is_understood_wherever_it_is_cut() {
    let final_ack = REQ + GET.len() as u64;
    for n in 1..OK.len() {
        let mut t = asked(GET);
        assert_eq!(s2c(&mut t, START, final_ack, &OK[..n]), vec![], "{n}");
        committed(&s2c(&mut t, START + n as u64, final_ack, &OK[n..]));
    }
}

fn progress(acked: u64) -> Event<'static> {
    Event::Progress {
        acked,
        ts: Some((7, 9)),
        time: 11,
    }
}

#[test]
fn three_objects_on_one_connection() {
    let mut t = tracker();
    let (mut req, mut start) = (REQ, START);
    for i in 0..3 {
        begin(&mut t, req, start);
        assert_eq!(c2s(&mut t, req, GET), vec![Action::ReplicateSoon], "{i}");
        req += GET.len() as u64;
        let end = committed(&s2c(&mut t, start, req, OK)).object_end.unwrap();
        // Late copies and bytes behind the commit change nothing.
        assert_eq!(c2s(&mut t, req - 4, &GET[GET.len() - 4..]), vec![]);
        assert_eq!(s2c(&mut t, start + 60, req, &[b'x'; 100]), vec![]);
        let acked = start + 2000;
        assert_eq!(t.hear(progress(acked)), vec![Action::Checkpoint]);
        assert_eq!(t.record().acked, acked);
        assert_eq!(t.record().clock.map(|c| (c.tsval, c.tsecr)), Some((7, 9)));
        start = end;
    }
    assert_eq!(t.hear(Event::Closed), vec![Action::Forget]);
    assert_eq!(t.hear(Event::Lost), vec![]);
}

#[test]
fn pipelining_is_not_protected() {
    let two = [GET, GET].concat();
    let mut t = tracker();
    begin(&mut t, REQ, START);
    assert_dead(&c2s(&mut t, REQ, &two), Doubt::Pipelined);

    let mut t = asked(GET);
    assert_dead(&c2s(&mut t, REQ + GET.len() as u64, GET), Doubt::Pipelined);

    let mut t = asked(GET);
    committed(&s2c(&mut t, START, REQ + GET.len() as u64, OK));
    assert_dead(&c2s(&mut t, REQ + GET.len() as u64, GET), Doubt::Pipelined);

    let mut t = tracker();
    begin(&mut t, REQ, START);
    let early = Event::C2s {
        pos: REQ,
        ack: START - 1,
        data: GET,
        ts: None,
        time: 0,
    };
    assert_dead(&t.hear(early), Doubt::Pipelined);
    assert!(t.is_dead());
    assert_eq!(c2s(&mut t, REQ, GET), vec![], "said once");
}

#[test]
fn two_copies_that_differ_are_not_protected() {
    let mut t = asked(GET);
    let mut other = GET.to_vec();
    other[5] = b'F';
    assert_dead(&c2s(&mut t, REQ, &other), Doubt::Conflict);
    // Behind the acknowledgement of the local socket the first copy has won.
    let mut t = asked(GET);
    assert_eq!(s2c(&mut t, START, REQ + GET.len() as u64, &OK[..9]), vec![]);
    assert_eq!(c2s(&mut t, REQ, &other), vec![]);
    assert_dead(&s2c(&mut t, START, 0, b"HTTP/1.0"), Doubt::Conflict);
}

#[test]
fn what_cannot_be_continued() {
    for (request, why) in [
        (&b"POST / HTTP/1.1\r\n"[..], Doubt::Method),
        (b"\x16\x03\x01", Doubt::Tls),
        (
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            Doubt::Upgrade,
        ),
    ] {
        let mut t = tracker();
        begin(&mut t, REQ, START);
        assert_dead(&c2s(&mut t, REQ, request), why);
    }
    let mut t = tracker();
    begin(&mut t, REQ, START);
    c2s(&mut t, REQ, &GET[..10]);
    assert_dead(
        &s2c(&mut t, START, REQ + 10, b"HTTP/1.1 408 "),
        Doubt::Early,
    );
    let mut t = tracker();
    assert_dead(&s2c(&mut t, START, REQ, b"220 hello\r\n"), Doubt::Early);
    let mut t = asked(GET);
    assert_dead(
        &s2c(&mut t, START, REQ + 99, b"SSH-2.0-x\r\n"),
        Doubt::Malformed,
    );
    for (event, why) in [
        (Event::Lost, Doubt::Lost),
        (Event::Unprotected, Doubt::Late),
    ] {
        assert_dead(&asked(GET).hear(event), why);
    }
}

#[test]
fn a_chunked_response_is_counted_and_the_next_one_is_protected() {
    let mut t = asked(GET);
    let req = REQ + GET.len() as u64;
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let got = s2c(&mut t, START, req, chunked);
    assert_eq!(got[0], Action::Count(Doubt::UnknownLength));
    let want = Release {
        object_start: Some(START),
        ..Release::default()
    };
    assert_eq!(committed(&got), want);
    let start = START + 777;
    begin(&mut t, req, start);
    c2s(&mut t, req, GET);
    assert!(committed(&s2c(&mut t, start, req + GET.len() as u64, OK))
        .object_end
        .is_some());
}

#[test]
fn a_request_behind_a_response_that_would_be_said_again_is_told_at_once() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let req = REQ + GET.len() as u64;
    for (deterministic, told) in [(true, Action::Replicate), (false, Action::ReplicateSoon)] {
        let mut t = asked(GET);
        t.declare(deterministic);
        let got = s2c(&mut t, START, req, chunked);
        assert_eq!(
            got.contains(&Action::Count(Doubt::UnknownLength)),
            !deterministic
        );
        begin(&mut t, req, START + 777);
        assert_eq!(c2s(&mut t, req, GET), vec![told]);
    }
}

#[test]
fn an_object_where_none_can_begin_ends_protection() {
    let mut t = asked(GET);
    committed(&s2c(&mut t, START, REQ + GET.len() as u64, OK));
    let wrong = Event::Object {
        request: REQ + GET.len() as u64,
        start: START + 99,
    };
    assert_dead(&t.hear(wrong), Doubt::OutOfStep);
}

#[test]
fn an_adopted_flow_is_protected_from_its_next_request_on() {
    let mut t = Tracker::adopted(key(), 3, TcpOptions::default(), None, true, 50, 60);
    assert_eq!(s2c(&mut t, 60, 50, b"middle of something"), vec![]);
    assert_eq!(c2s(&mut t, 50, b"rest"), vec![]);
    begin(&mut t, 1000, 2000);
    c2s(&mut t, 1000, GET);
    committed(&s2c(&mut t, 2000, 1000 + GET.len() as u64, OK));
}

proptest! {
    /// However the log cuts, repeats and mixes the bytes, the record is the same.
    #[test]
    fn the_record_does_not_depend_on_the_cuts(
        up in prop::collection::vec((0usize..40, 1usize..40), 0..20),
        down in prop::collection::vec((0usize..80, 1usize..80), 0..20),
        ts in prop::option::of(any::<(u32, u32)>()),
    ) {
        let response = [OK, &[b'x'; 40][..]].concat();
        let mut t = tracker();
        begin(&mut t, REQ, START);
        for (from, len) in up {
            let from = from % GET.len();
            let data = &GET[from..(from + len).min(GET.len())];
            t.hear(Event::C2s { pos: REQ + from as u64, ack: START, data, ts, time: 1 });
        }
        t.hear(Event::C2s { pos: REQ, ack: START, data: GET, ts, time: 1 });
        let settled = REQ + GET.len() as u64;
        let mut commits = 0;
        for (from, len) in down.into_iter().chain([(0, response.len())]) {
            let from = from % response.len();
            let data = &response[from..(from + len).min(response.len())];
            let actions = s2c(&mut t, START + from as u64, settled, data);
            commits += usize::from(!actions.is_empty());
        }
        prop_assert_eq!(commits, 1);
        let State::Responding(o) = &t.record().state else { panic!("{:?}", t.record()) };
        prop_assert_eq!(&o.request[..], GET);
        prop_assert_eq!(&o.sent[..o.head as usize], OK);
        prop_assert_eq!(o.end, Some(START + OK.len() as u64 + 5000));
    }

    /// No bytes of anybody make it panic or speak after it gave up.
    #[test]
    fn any_bytes_are_survived(
        up in prop::collection::vec(any::<u8>(), 0..60),
        down in prop::collection::vec(any::<u8>(), 0..60),
        pos in any::<u64>(),
    ) {
        let mut t = tracker();
        begin(&mut t, REQ, START);
        c2s(&mut t, REQ, &up);
        c2s(&mut t, pos, &up);
        s2c(&mut t, START, REQ + 60, &down);
        s2c(&mut t, pos, pos, &down);
        t.hear(Event::Object { request: pos, start: pos });
        if t.is_dead() {
            prop_assert_eq!(c2s(&mut t, REQ, GET), vec![]);
        }
    }
}
