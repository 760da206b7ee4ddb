// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The tables of `Documentation/answers.md`: what becomes of a flow whose server dies, by its
//! request, its answer, and what the successor says.

use super::*;

/// What becomes of a flow whose service declares nothing, and of one whose service is deterministic.
#[derive(Clone, Copy)]
enum Rest {
    /// Continued by a range, of which this is asked for.
    Range(&'static str),
    /// From the record.
    Stored,
    /// Replayed if declared, else reset for this reason.
    Replay(&'static str),
    /// Reset.
    Reset(&'static str),
}

fn declaring(deterministic: bool) -> (Engine<FakeKernel>, FakeKernel) {
    let (mut e, kernel) = engine();
    e.services[0].deterministic = deterministic;
    (e, kernel)
}

/// The log of a request and what was said to it.
fn exchange(request: &[u8], said: &[u8]) -> Vec<Entry> {
    let mut log = served();
    for what in log.iter_mut().map(|entry| &mut entry.what) {
        match what {
            What::C2s { data, .. } => *data = request.to_vec(),
            What::S2c { data, ack, .. } => {
                *data = said.to_vec();
                *ack = 1000 + request.len() as u64;
            }
            _ => {}
        }
    }
    log
}

/// Node a has heard this log and dies; b takes over, and the client says that it has `delivered`
/// bytes of the answer. Also how the answer was counted on a.
fn dies(
    log: Vec<Entry>,
    (request, delivered): (&[u8], usize),
    declared: bool,
) -> (Engine<FakeKernel>, FakeKernel, Vec<String>) {
    let (mut a, _) = declaring(declared);
    a.hear_all(log, 0);
    let (mut b, kernel) = declaring(declared);
    for (_, update) in a.take_updates() {
        b.store.apply("a", update, 0);
    }
    assert_eq!(b.take_over(key(1).service.ip(), 0), 1);
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2000 + delivered as u64, 1000 + request.len() as u64),
        ts: None,
    };
    b.hear(entry(1001, orphan), 0);
    let ways = |name: &&String| name.starts_with("unprotected-") || name.starts_with("responses-");
    let counted = a.counts.keys().filter(ways).cloned().collect();
    (b, kernel, counted)
}

fn last_why(e: &Engine<FakeKernel>) -> String {
    let last = e.timeline.events().last().unwrap();
    assert_eq!(last["event"], "recovery-refused");
    last["why"].as_str().unwrap().to_owned()
}

fn check(name: &str, log: Vec<Entry>, (request, delivered): (&[u8], usize), rest: Rest) {
    for declared in [false, true] {
        let (e, kernel, counted) = dies(log.clone(), (request, delivered), declared);
        let asked = kernel.take().into_iter().find_map(|call| match call {
            Call::Recover { request, .. } => Some(request),
            Call::End(_, verdict) => {
                assert_eq!(verdict, Verdict::Reset, "{name}");
                None
            }
            _ => None,
        });
        let way = match rest {
            Rest::Range(_) => "responses-range".to_owned(),
            Rest::Stored => "responses-stored".to_owned(),
            Rest::Replay(_) if declared => "responses-replay".to_owned(),
            Rest::Replay(why) | Rest::Reset(why) => format!("unprotected-{why}"),
        };
        assert_eq!(counted, [way], "{name}, declared: {declared}");
        match rest {
            Rest::Range(range) => {
                let asked = asked.expect(name);
                let asked = String::from_utf8_lossy(&asked);
                let range = format!("\r\nRange: bytes={range}\r\nIf-Range: ");
                assert!(asked.contains(&range), "{name}: {asked}");
            }
            Rest::Replay(why) | Rest::Reset(why) if asked.is_none() => {
                assert_eq!(last_why(&e), format!("unprotected ({why})"), "{name}");
            }
            _ => assert_eq!(asked.as_deref(), Some(request), "{name}"),
        }
    }
}

#[test]
fn by_the_kind_of_answer() {
    let get = |more: &str| format!("GET /f HTTP/1.1\r\nHost: h\r\n{more}\r\n");
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}\r\n");
    let (plain, tag) = (get(""), "ETag: \"e\"\r\n");
    let (one, range) = (get("Range: bytes=100-599\r\n"), "Content-Range: bytes");
    let several = get("Range: bytes=0-99,200-299\r\n");
    let long = "Content-Length: 10000\r\n";
    let cases = [
        ("strong tag", &plain, head("200 O", &format!("{long}{tag}")), Rest::Range("100-")),
        (
            "strong date",
            &plain,
            head(
                "200 O",
                &format!(
                    "{long}Date: Sun, 06 Nov 1994 10:00:00 GMT\r\n\
                     Last-Modified: Sun, 06 Nov 1994 09:59:59 GMT\r\n"
                ),
            ),
            Rest::Range("100-"),
        ),
        (
            "a date of this second",
            &plain,
            head(
                "200 O",
                &format!(
                    "{long}Date: Sun, 06 Nov 1994 10:00:00 GMT\r\n\
                     Last-Modified: Sun, 06 Nov 1994 10:00:00 GMT\r\n"
                ),
            ),
            Rest::Replay("no-validator"),
        ),
        (
            "a range of the client",
            &one,
            head("206 P", &format!("Content-Length: 500\r\n{range} 100-599/10000\r\n{tag}")),
            Rest::Range("200-599"),
        ),
        (
            "a suffix",
            &get("Range: bytes=-500\r\n"),
            head("206 P", &format!("Content-Length: 500\r\n{range} 9500-9999/10000\r\n{tag}")),
            Rest::Range("9600-9999"),
        ),
        (
            "a coding",
            &plain,
            head("200 O", &format!("{long}{tag}Content-Encoding: gzip\r\n")),
            Rest::Range("100-"),
        ),
        (
            "behind 103",
            &plain,
            head("103 E", "Link: </x>\r\n") + &head("200 O", &format!("{long}{tag}")),
            Rest::Range("100-"),
        ),
        (
            "behind 100",
            &plain,
            head("100 C", "") + &head("200 O", &format!("{long}{tag}")),
            Rest::Range("100-"),
        ),
        ("a weak tag", &plain, head("200 O", &format!("{long}ETag: W/\"e\"\r\n")), Rest::Replay("no-validator")),
        ("no validator", &plain, head("200 O", long), Rest::Replay("no-validator")),
        (
            "several ranges",
            &several,
            head(
                "206 P",
                &format!("Content-Length: 700\r\n{tag}Content-Type: multipart/byteranges; boundary=x\r\n"),
            ),
            Rest::Replay("ranges"),
        ),
        (
            "206 that was not asked for",
            &plain,
            head("206 P", &format!("Content-Length: 500\r\n{range} 100-599/10000\r\n{tag}")),
            Rest::Replay("ranges"),
        ),
        (
            "a Content-Range that does not fit",
            &one,
            head("206 P", &format!("Content-Length: 500\r\n{range} 100-600/10000\r\n{tag}")),
            Rest::Replay("ranges"),
        ),
        (
            "200 with a Content-Range",
            &one,
            head("200 O", &format!("Content-Length: 500\r\n{range} 100-599/10000\r\n{tag}")),
            Rest::Replay("ranges"),
        ),
        ("chunked", &plain, head("200 O", &format!("{tag}Transfer-Encoding: chunked\r\n")), Rest::Replay("unknown-length")),
        ("until close", &plain, head("200 O", tag), Rest::Replay("unknown-length")),
        ("404", &plain, head("404 N", &format!("{long}{tag}")), Rest::Replay("status")),
        ("two lengths", &plain, head("200 O", &format!("{long}Content-Length: 10001\r\n{tag}")), Rest::Reset("framing")),
        (
            "length and chunks",
            &plain,
            head("200 O", &format!("{long}{tag}Transfer-Encoding: chunked\r\n")),
            Rest::Reset("framing"),
        ),
        ("more than its length", &plain, head("200 O", &format!("Content-Length: 49\r\n{tag}")), Rest::Reset("framing")),
        ("a change of protocol", &plain, head("101 S", "Upgrade: x\r\n"), Rest::Reset("upgrade")),
    ];
    for (name, request, head, rest) in cases {
        let said = [head.as_bytes(), &[b'x'; 50]].concat();
        let log = exchange(request.as_bytes(), &said);
        check(name, log, (request.as_bytes(), head.len() + 100), rest);
    }
    let short = [
        (
            "200",
            get(""),
            head("200 O", "Content-Length: 3\r\n") + "abc",
        ),
        (
            "404",
            get(""),
            head("404 N", "Content-Length: 3\r\n") + "no!",
        ),
        ("204", get(""), head("204 N", "")),
        ("304", get("If-None-Match: \"e\"\r\n"), head("304 N", tag)),
        (
            "HEAD",
            get("").replace("GET", "HEAD"),
            head("200 O", &format!("{long}{tag}")),
        ),
    ];
    for (name, request, said) in short {
        let log = exchange(request.as_bytes(), said.as_bytes());
        check(
            name,
            log,
            (request.as_bytes(), said.len() - 1),
            Rest::Stored,
        );
    }
}

#[test]
fn a_head_that_is_not_complete_in_time() {
    let mut log = exchange(GET, &HEAD[..20]);
    log.push(entry(1, What::Unprotected { reason: 1 }));
    check("late", log, (GET, 20), Rest::Reset("late"));
}

#[test]
fn by_the_request() {
    let get = |more: &str| format!("GET /f HTTP/1.1\r\nHost: h\r\n{more}\r\n").into_bytes();
    let cases = [
        ("method", b"POST /f HTTP/1.1\r\n".to_vec()),
        ("method", b"PUT /f HTTP/1.1\r\n".to_vec()),
        ("body", get("Content-Length: 5\r\n")),
        ("body", get("Transfer-Encoding: chunked\r\n")),
        ("body", get("Expect: 100-continue\r\n")),
        ("upgrade", get("Upgrade: websocket\r\n")),
        ("upgrade", b"CONNECT h:443 HTTP/1.1\r\n".to_vec()),
        ("http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("tls", vec![0x16, 3, 1, 2, 0]),
        ("malformed", b"hello\r\n".to_vec()),
        ("too-long", get(&format!("X: {}\r\n", "y".repeat(16 << 10)))),
        ("too-long", get(&"X: y\r\n".repeat(96))),
        ("pipelined", [GET, GET].concat()),
    ];
    for (why, request) in cases {
        let mut log = exchange(&request, b"");
        log.pop();
        check(why, log, (&request, 0), Rest::Reset(why));
    }
}

/// The successor is asked for the rest of an answer behind 20 bytes of its body, of which the record
/// has 50; its connection is the flow with this number.
fn asked(declared: bool) -> (Engine<FakeKernel>, FakeKernel, u64) {
    let said = [HEAD, &[b'x'; 50]].concat();
    let delivered = HEAD.len() + 20;
    let (e, kernel, _) = dies(exchange(GET, &said), (GET, delivered), declared);
    let calls = kernel.take();
    assert!(
        matches!(calls[..], [Call::Locate(..), Call::Recover { .. }]),
        "{calls:?}"
    );
    (e, kernel, 1000 + calls.len() as u64)
}

fn says(e: &mut Engine<FakeKernel>, flow: u64, data: &[u8], fin: bool) {
    let (pos, data) = (0, data.to_vec());
    e.hear(entry(flow, What::Asked), 0);
    e.hear(entry(flow, What::Answer { pos, data, fin }), 0);
}

fn partial(more: &str) -> String {
    format!("HTTP/1.1 206 P\r\n{more}\r\n{}", "x".repeat(100))
}

#[test]
fn by_the_successor() {
    let (length, range) = ("Content-Length: 980\r\n", "Content-Range: bytes");
    let (tag, fits) = ("ETag: \"e\"\r\n", "20-999/1000\r\n");
    let right = partial(&format!("{length}{tag}{range} {fits}"));
    let cases = [
        (
            "HTTP/1.1 200 O\r\nContent-Length: 1000\r\nETag: \"f\"\r\n\r\n".into(),
            "not-partial (status 200)",
        ),
        (
            "HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n".into(),
            "missing (status 404)",
        ),
        (
            "HTTP/1.1 410 G\r\nContent-Length: 0\r\n\r\n".into(),
            "missing (status 410)",
        ),
        (
            "HTTP/1.1 416 R\r\nContent-Length: 0\r\n\r\n".into(),
            "not-partial (status 416)",
        ),
        (
            "HTTP/1.1 503 U\r\nContent-Length: 0\r\n\r\n".into(),
            "not-partial (status 503)",
        ),
        (partial(&format!("{length}{tag}")), "wrong-range"),
        (
            partial(&format!("{length}{tag}{range} 21-999/1000\r\n")),
            "wrong-range",
        ),
        (
            partial(&format!("{length}{tag}{range} 20-998/1000\r\n")),
            "wrong-range",
        ),
        (
            partial(&format!("{length}{tag}{range} 20-999/1001\r\n")),
            "wrong-range",
        ),
        (
            partial(&format!("{length}{tag}{range} 20-999/*\r\n")),
            "wrong-range",
        ),
        (
            partial(&format!("Content-Length: 979\r\n{tag}{range} {fits}")),
            "wrong-range",
        ),
        (
            partial(&format!(
                "{length}{tag}{range} {fits}Content-Type: multipart/byteranges\r\n"
            )),
            "wrong-range",
        ),
        (
            partial(&format!("{length}ETag: \"f\"\r\n{range} {fits}")),
            "wrong-validator",
        ),
        (
            partial(&format!("{length}{range} {fits}")),
            "wrong-validator",
        ),
        (
            partial(&format!(
                "{length}{tag}{range} {fits}Content-Encoding: gzip\r\n"
            )),
            "wrong-validator",
        ),
        (right.replacen("xxx", "xyx", 1), "wrong-bytes"),
        (
            "HTTP/1.1 206 P\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(),
            "answer (framing)",
        ),
        ("SSH-2.0-x\r\n".into(), "answer (malformed)"),
    ];
    for (said, why) in cases {
        let (mut e, kernel, flow) = asked(false);
        says(&mut e, flow, said.as_bytes(), false);
        assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)], "{said}");
        assert_eq!(last_why(&e), why, "{said}");
    }
    // The right one.
    let (mut e, kernel, flow) = asked(false);
    says(&mut e, flow, right.as_bytes(), false);
    let join = Call::Join {
        prefix: vec![b'x'; 100],
        answer_length: right.len() as u64,
        skip: 0,
        object_end: Some(2000 + HEAD.len() as u64 + 1000),
    };
    assert_eq!(kernel.take(), [join]);
    // All of it, which is joined where that is declared to be the same.
    let whole = [HEAD, &[b'x'; 50]].concat();
    let (mut e, _, flow) = asked(false);
    says(&mut e, flow, &whole, false);
    assert_eq!(last_why(&e), "not-partial (status 200)");
    let (mut e, kernel, flow) = asked(true);
    says(&mut e, flow, &whole, false);
    let join = Call::Join {
        prefix: vec![b'x'; 30],
        answer_length: whole.len() as u64,
        skip: 0,
        object_end: Some(2000 + HEAD.len() as u64 + 1000),
    };
    assert_eq!(kernel.take(), [join]);
}

#[test]
fn a_successor_that_says_nothing_has_answer_ms() {
    for answers in [false, true] {
        let (mut e, kernel, flow) = asked(false);
        let limit = e.limits.answer_ms as i64 * 1_000_000;
        if answers {
            says(&mut e, flow, b"HTTP/1.1 206 P\r\n", false);
        }
        e.tick(limit - 1);
        assert_eq!(kernel.take(), []);
        e.tick(limit);
        assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)]);
        assert_eq!(last_why(&e), "timeout");
        let of = e.tally.get(key(1).service).unwrap();
        assert_eq!(of.counts.get("refused-timeout"), Some(&1));
    }
}

#[test]
fn a_successor_that_closes_is_asked_four_times() {
    let (mut e, kernel, mut flow) = asked(false);
    for _ in 0..3 {
        says(&mut e, flow, b"HTTP/1.1 206 P\r\n", true);
        assert!(matches!(kernel.take()[..], [Call::Locate(..)]));
        let located = What::Located {
            desc: desc(1),
            word: word(2020 + HEAD.len() as u64, 1000 + GET.len() as u64),
            ts: None,
        };
        e.hear(entry(flow + 1, located), 0);
        assert!(matches!(kernel.take()[..], [Call::Recover { .. }]));
        flow += 2;
    }
    says(&mut e, flow, b"HTTP/1.1 206 P\r\n", true);
    assert_eq!(kernel.take(), [Call::End(key(1), Verdict::Reset)]);
    assert_eq!(last_why(&e), "closed");
    assert_eq!(e.counts.get("answers-broken-off"), Some(&3));
}
