// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Whole continuations between two servers that may differ.

mod replay;

use super::*;
use crate::http::{parse_request, Asked, Parsed};
use crate::record::tests::record;
use crate::record::{object, State, Way};
use proptest::prelude::*;

const GET: &[u8] = b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n";
const START: u64 = 0xffff_f000;

fn word(ack: u64, seq: u64) -> Word {
    Word {
        ack: ack as u32,
        seq: seq as u32,
        payload: false,
        sacked: false,
    }
}

/// A server with one file.
#[derive(Clone, Debug)]
struct Server {
    file: Vec<u8>,
    etag: String,
    fields: String,
    ranges: bool,
    /// Answers with a range whatever If-Range says.
    careless: bool,
}

impl Server {
    /// All that it says to `request`.
    fn answer(&self, request: &[u8]) -> Vec<u8> {
        let text = String::from_utf8(request.to_vec()).unwrap();
        let field = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name))
                .map(|v| v.trim().to_owned())
        };
        let total = self.file.len();
        let range = field("Range: bytes=").filter(|_| self.ranges);
        let range =
            range.filter(|_| self.careless || field("If-Range:").is_none_or(|v| v == self.etag));
        let (status, from, to, extra) = match range.as_deref().and_then(|r| r.split_once('-')) {
            Some((a, b)) => {
                let a: usize = a.parse().unwrap();
                let b = b.parse().unwrap_or(total - 1).min(total - 1);
                (
                    206,
                    a,
                    b + 1,
                    format!("Content-Range: bytes {a}-{b}/{total}\r\n"),
                )
            }
            None => (200, 0, total, String::new()),
        };
        let (etag, fields) = (&self.etag, &self.fields);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nETag: {etag}\r\n{fields}{extra}\r\n",
            to - from
        );
        [head.as_bytes(), &self.file[from..to]].concat()
    }
}

/// The record that a tracker makes when it has seen `seen` bytes of `response`.
fn responding(request: &[u8], response: &[u8], seen: usize) -> Record {
    let asked = match parse_request(request) {
        Ok(Parsed::Head(h)) => h.asked,
        other => panic!("{other:?}"),
    };
    let o = object(request, asked, false, START, &response[..seen], false)
        .unwrap()
        .unwrap();
    record(START, State::Responding(o))
}

fn ask(record: &Record, at: u64) -> Ask {
    match plan(record, word(at, record.request_end())) {
        Plan::Ask(ask) => ask,
        other => panic!("{other:?}"),
    }
}

/// Lets `server` go on for the client that has `delivered` bytes of `original`, taking
/// its answer in steps. What the client has in the end, or why not.
fn deliver(
    record: &Record,
    server: &Server,
    original: &[u8],
    delivered: usize,
    steps: &[usize],
) -> Result<Vec<u8>, Refusal> {
    let ask = ask(record, record.start + delivered as u64);
    let answer = server.answer(&ask.request);
    let mut seen = 0;
    for step in steps.iter().chain(std::iter::repeat(&1000)) {
        seen = (seen + step).min(answer.len()).min(ask.window as usize);
        match judge(record, &ask, &answer[..seen], false) {
            Judgement::NeedMore => assert!(seen < answer.len(), "never satisfied"),
            Judgement::Refuse(why) => return Err(why),
            Judgement::Join(join) => {
                assert_eq!(join.answer_length, seen as u64);
                let rest = &answer[join.answer_length as usize..];
                return Ok([&original[..delivered], &join.prefix, rest].concat());
            }
        }
    }
    unreachable!()
}

fn server() -> impl Strategy<Value = Server> {
    (prop::collection::vec(any::<u8>(), 1..6000), "[a-z]{0,300}").prop_map(|(file, pad)| {
        let fields = format!("X-Pad: {pad}\r\n");
        Server {
            file,
            etag: "\"v1\"".into(),
            fields,
            ranges: true,
            careless: false,
        }
    })
}

fn request(range: Option<(usize, usize)>) -> Vec<u8> {
    let range = range.map_or(String::new(), |(a, b)| format!("Range: bytes={a}-{b}\r\n"));
    format!("GET /file HTTP/1.1\r\nHost: a\r\n{range}\r\n").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Wherever the server died, the client gets the response of the first one.
    #[test]
    fn the_client_gets_what_it_was_promised(
        first in server(),
        fields in "[a-z]{0,300}",
        cut in any::<prop::sample::Index>(),
        seen in any::<prop::sample::Index>(),
        range in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
        steps in prop::collection::vec(1usize..700, 0..8),
    ) {
        let range = range.map(|(a, b)| {
            let (a, b) = (a.index(first.file.len()), b.index(first.file.len()));
            (a.min(b), a.max(b))
        });
        let request = request(range);
        let original = first.answer(&request);
        let head = original.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let seen = head + seen.index(original.len() - head + 1);
        let record = responding(&request, &original, seen);
        // The other server says the same in another way.
        let second = Server { fields: format!("Via: {fields}\r\n"), ..first };
        let delivered = cut.index(original.len());
        let got = deliver(&record, &second, &original, delivered, &steps);
        prop_assert_eq!(got, Ok(original));
    }

    /// Whatever the second server has instead, the client gets no wrong byte.
    #[test]
    fn another_object_is_never_joined(
        first in server(),
        cut in any::<prop::sample::Index>(),
        other in server(),
        what in 0..5,
    ) {
        let original = first.answer(GET);
        let head = original.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let record = responding(GET, &original, head);
        let second = match what {
            0 => Server { etag: "\"v2\"".into(), ..other },
            1 => Server { etag: "W/\"v1\"".into(), ..first.clone() },
            2 => Server { ranges: false, ..first.clone() },
            3 => Server { etag: "\"v2\"".into(), careless: true, ..first.clone() },
            _ => Server { file: [&first.file[..], b"!"].concat(), ..first.clone() },
        };
        let delivered = cut.index(original.len());
        prop_assert!(deliver(&record, &second, &original, delivered, &[]).is_err());
    }

    /// No answer at all makes it panic or join what it did not ask for.
    #[test]
    fn any_answer_is_survived(answer in prop::collection::vec(any::<u8>(), 0..80), cut in 0u64..50) {
        let original = b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 90\r\n\r\n";
        let record = responding(GET, original, original.len());
        let ask = ask(&record, START + cut);
        let judgement = judge(&record, &ask, &answer, false);
        prop_assert!(!matches!(judgement, Judgement::Join(_)));
    }
}

fn example() -> (Server, Vec<u8>, Record) {
    let server = Server {
        file: (0..20_000u32).map(|i| (i % 251) as u8).collect(),
        etag: "\"v1\"".into(),
        fields: String::new(),
        ranges: true,
        careless: false,
    };
    let original = server.answer(GET);
    let record = responding(GET, &original, 200);
    (server, original, record)
}

#[test]
fn the_rest_of_nine_gibibytes() {
    let total: u64 = 9 << 30;
    let head = format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: {total}\r\n\r\n");
    let mut r = responding(GET, head.as_bytes(), head.len());
    r.acked = START + (7 << 30);
    let offset = (7 << 30) + 123_456_789;
    let got = ask(&r, START + head.len() as u64 + offset);
    let text = String::from_utf8(got.request.clone()).unwrap();
    assert!(
        text.contains(&format!("Range: bytes={offset}-\r\nIf-Range: \"a\"\r\n")),
        "{text}"
    );
    let length = total - offset;
    let answer = format!(
        "HTTP/1.1 206 P\r\nETag: \"a\"\r\nContent-Length: {length}\r\n\
         Content-Range: bytes {offset}-{}/{total}\r\n\r\nbody",
        total - 1
    );
    let Judgement::Join(join) = judge(&r, &got, answer.as_bytes(), false) else {
        panic!()
    };
    assert_eq!(join.prefix, b"body");
    assert_eq!(join.object_end, Some(START + head.len() as u64 + total));
}

#[test]
fn everything_delivered_is_idle_again() {
    let (_, original, r) = example();
    let (end, next) = (START + original.len() as u64, r.request_end());
    assert_eq!(
        plan(&r, word(end, next)),
        Plan::Silent {
            at: end,
            c2s_next: next
        }
    );
    assert_eq!(plan(&r, word(end + 1, next)), Plan::Finished);
    assert_eq!(plan(&r, word(end + 2, next)), Plan::Refuse(Refusal::Ahead));
    assert_eq!(plan(&r, word(START - 1, next)), Plan::Again);
    let sacked = Word {
        sacked: true,
        ..word(end, next)
    };
    assert_eq!(plan(&r, sacked), Plan::Refuse(Refusal::Escaped));
    let behind = Word {
        payload: true,
        ..word(end, next + 9)
    };
    assert_eq!(plan(&r, behind), Plan::Again);
    let pipelined = plan(&r, word(end - 1, next + 9));
    assert_eq!(
        pipelined,
        Plan::Refuse(Refusal::Unprotected(Doubt::Pipelined))
    );
}

#[test]
fn a_request_without_response_is_held_by_the_client_or_sent_again() {
    let r = record(START, State::Requesting(GET.to_vec()));
    let held = Word {
        payload: true,
        ..word(START, r.request)
    };
    assert_eq!(
        plan(&r, held),
        Plan::Silent {
            at: START,
            c2s_next: r.request
        }
    );
    let Plan::Ask(ask) = plan(&r, word(START, r.request_end())) else {
        panic!()
    };
    assert_eq!((&ask.request[..], ask.c2s_next), (GET, r.request_end()));
    let (server, ..) = example();
    let answer = server.answer(GET);
    assert_eq!(judge(&r, &ask, &answer[..20], false), Judgement::NeedMore);
    let Judgement::Join(join) = judge(&r, &ask, &answer[..300], false) else {
        panic!()
    };
    assert_eq!(join.prefix, &answer[..300]);
    assert_eq!(join.object_end, Some(START + answer.len() as u64));
    assert!(matches!(join.record.state, State::Responding(_)));
    assert_eq!(
        plan(&r, word(START + 1, r.request_end())),
        Plan::Refuse(Refusal::Ahead)
    );
    let closed = plan(&r, word(START, r.request_end() + 1));
    assert!(matches!(closed, Plan::Ask(_)), "a FIN");
    let lost = plan(&r, word(START, r.request_end() + 2));
    assert_eq!(lost, Plan::Refuse(Refusal::RequestLost));
}

#[test]
fn half_a_request_goes_on_only_if_the_client_sends_all_of_it_again() {
    let r = record(START, State::Requesting(GET[..9].to_vec()));
    let lost = plan(&r, word(START, r.request + 9));
    assert_eq!(lost, Plan::Refuse(Refusal::RequestLost));
    let held = Word {
        payload: true,
        ..word(START, r.request)
    };
    assert_eq!(
        plan(&r, held),
        Plan::Silent {
            at: START,
            c2s_next: r.request
        }
    );
}

#[test]
fn eager_cannot_know_what_escaped() {
    let mut r = record(START, State::Idle);
    assert!(matches!(
        plan(&r, word(START, r.request)),
        Plan::Silent { .. }
    ));
    r.strict = false;
    assert_eq!(
        plan(&r, word(START, r.request)),
        Plan::Refuse(Refusal::Escaped)
    );
    r.options.sack = true;
    assert_eq!(
        plan(&r, word(START, r.request)),
        Plan::Refuse(Refusal::Escaped)
    );
}

#[test]
fn what_the_second_server_may_say_instead() {
    let (server, original, r) = example();
    let refused = |answer: &str| {
        let at = START + original.len() as u64 - 50;
        match judge(&r, &ask(&r, at), answer.as_bytes(), false) {
            Judgement::Refuse(why) => why,
            other => panic!("{other:?}"),
        }
    };
    let length = "Content-Length: 50\r\nETag: \"v1\"\r\n";
    assert_eq!(
        refused("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"),
        Refusal::Missing(404)
    );
    assert_eq!(refused("HTTP/1.1 503 X\r\n\r\n"), Refusal::NotPartial(503));
    assert_eq!(
        refused(&format!("HTTP/1.1 206 X\r\n{length}\r\n")),
        Refusal::WrongRange
    );
    let total = server.file.len();
    let (from, to) = (total - 50, total - 1);
    let range = format!("Content-Range: bytes {from}-{to}/{total}\r\n");
    let bad = |more: &str| refused(&format!("HTTP/1.1 206 X\r\n{range}{more}\r\n"));
    let longer = range.replace(&format!("/{total}"), &format!("/{}", total + 1));
    let other = refused(&format!("HTTP/1.1 206 X\r\n{longer}{length}\r\n"));
    assert_eq!(other, Refusal::WrongRange);
    assert_eq!(bad("Content-Length: 50\r\n"), Refusal::WrongValidator);
    assert_eq!(
        bad("Content-Length: 49\r\nETag: \"v1\"\r\n"),
        Refusal::WrongRange
    );
    assert_eq!(
        bad(&format!("{length}Content-Encoding: gzip\r\n")),
        Refusal::WrongValidator
    );
    assert_eq!(
        bad("Transfer-Encoding: chunked\r\nETag: \"v1\"\r\n"),
        Refusal::WrongRange
    );
    let ok = ask(&r, START + original.len() as u64 - 50);
    let short = format!("HTTP/1.1 206 X\r\n{range}{length}\r\nab");
    assert_eq!(
        judge(&r, &ok, short.as_bytes(), true),
        Judgement::Refuse(Refusal::Closed)
    );
}

#[test]
fn recorded_bytes_of_the_body_must_agree() {
    let (mut server, original, r) = example();
    let head = original.len() - server.file.len();
    server.file[3] ^= 1;
    let got = deliver(&r, &server, &original, head, &[]);
    assert_eq!(got, Err(Refusal::WrongBytes));
}

#[test]
fn a_small_response_of_any_kind_comes_from_the_record() {
    let original = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!";
    let r = responding(GET, original, original.len());
    for delivered in 0..original.len() {
        let a = ask(&r, START + delivered as u64);
        assert_eq!(a.request, GET);
        let answer = b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nother";
        let n = answer.len();
        assert_eq!(judge(&r, &a, &answer[..n - 1], false), Judgement::NeedMore);
        let Judgement::Join(join) = judge(&r, &a, answer, false) else {
            panic!()
        };
        assert_eq!(join.prefix, &original[delivered..]);
        assert_eq!(join.answer_length, n as u64);
    }
}

#[test]
fn what_was_unprotected_stays_so() {
    let r = record(START, State::Unprotected(Doubt::Tls));
    let want = Plan::Refuse(Refusal::Unprotected(Doubt::Tls));
    assert_eq!(plan(&r, word(START, 0)), want);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let o = object(GET, Asked::Whole, false, START, chunked, false)
        .unwrap()
        .unwrap();
    let r = record(START, State::Responding(o));
    let want = Plan::Refuse(Refusal::Unprotected(Doubt::UnknownLength));
    assert_eq!(plan(&r, word(START + 9, r.request_end())), want);
}
