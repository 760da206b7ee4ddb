// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Answers of a service that declares that it always answers alike.

use super::*;

/// A response in a framing that no range continues, and its record of the first `seen` bytes.
fn said(fields: &str, body: &[u8], seen: usize) -> (Vec<u8>, Record) {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let whole = [head.as_bytes(), body].concat();
    let seen = &whole[..(head.len() + seen).min(whole.len())];
    let o = object(GET, Asked::Whole, false, START, seen, true);
    let mut r = record(START, State::Responding(o.unwrap().unwrap()));
    r.declare(true);
    (whole, r)
}

fn body(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i % 251) as u8).collect()
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const CLOSE: &str = "Connection: close\r\n";

/// What the client has in the end that has `delivered` bytes of the first server's answer, if the
/// second one says `answer`, which comes in steps.
fn replay(
    record: &Record,
    answer: &[u8],
    original: &[u8],
    delivered: usize,
    steps: &[usize],
) -> Result<Vec<u8>, Refusal> {
    let ask = ask(record, record.start + delivered as u64);
    assert_eq!(ask.request, GET);
    let mut seen = 0;
    for step in steps.iter().chain(std::iter::repeat(&1000)) {
        seen = (seen + step).min(answer.len()).min(ask.window as usize);
        // A server that has said all may close; one that is cut off by the window does not.
        let fin = seen == answer.len();
        match judge(record, &ask, &answer[..seen], fin) {
            Judgement::NeedMore => assert!(!fin, "never satisfied"),
            Judgement::Refuse(why) => return Err(why),
            Judgement::Join(join) => {
                assert_eq!(join.answer_length, seen as u64);
                assert!(join.skip == 0 || join.prefix.is_empty());
                let joint = seen as u64 + join.skip;
                let rest = answer.get(joint as usize..).ok_or(Refusal::Closed)?;
                return Ok([&original[..delivered], &join.prefix, rest].concat());
            }
        }
    }
    unreachable!()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Wherever the server died, the client gets the response of the first one.
    #[test]
    fn the_client_gets_what_the_first_server_said(
        len in 0usize..100_000,
        kind in 0..3,
        seen in 0usize..9000,
        cut in any::<prop::sample::Index>(),
        pad in "[a-z]{0,3000}",
        steps in prop::collection::vec(1usize..9000, 0..8),
    ) {
        let fields = match kind {
            0 => CHUNKED.to_owned(),
            1 => CLOSE.to_owned(),
            _ => format!("Content-Length: {len}\r\n"),
        };
        let (original, record) = said(&fields, &body(len), seen);
        let State::Responding(o) = &record.state else { panic!() };
        prop_assume!(matches!(o.way, Way::Replay(_)));
        let (answer, _) = said(&format!("{fields}Via: {pad}\r\n"), &body(len), 0);
        // A known end that was reached is no matter of a server.
        let most = original.len() + usize::from(o.end.is_none());
        let delivered = cut.index(most);
        let got = replay(&record, &answer, &original, delivered, &steps);
        prop_assert_eq!(got, Ok(original));
    }

    /// Whatever the second server says instead, what the record shows to be wrong is not joined.
    #[test]
    fn what_the_record_contradicts_is_not_joined(
        at in 0usize..4000,
        cut in any::<prop::sample::Index>(),
    ) {
        let (original, record) = said(CHUNKED, &body(50_000), 4000);
        let mut other = body(50_000);
        other[at] ^= 1;
        let (answer, _) = said(CHUNKED, &other, 0);
        let got = replay(&record, &answer, &original, cut.index(original.len()), &[]);
        prop_assert_eq!(got, Err(Refusal::WrongBytes));
    }
}

#[test]
fn what_the_kernel_is_to_discard() {
    let (original, record) = said(CHUNKED, &body(50_000), 4000);
    let head = original.len() - 50_000;
    let skip = |delivered: usize, seen: usize| {
        let ask = ask(&record, START + delivered as u64);
        match judge(&record, &ask, &original[..seen], false) {
            Judgement::Join(join) => (join.prefix, join.skip, join.object_end),
            other => panic!("{other:?}"),
        }
    };
    // In the head: the recorded one goes on.
    let (prefix, skipped, end) = skip(10, head + 4000);
    assert_eq!(
        (&prefix[..], skipped, end),
        (&original[10..head + 4000], 0, None)
    );
    // In what was seen.
    let (prefix, skipped, _) = skip(head + 3000, head + 4000);
    assert_eq!(
        (&prefix[..], skipped),
        (&original[head + 3000..head + 4000], 0)
    );
    // Behind it.
    let (prefix, skipped, _) = skip(head + 30_000, head + 4100);
    assert_eq!((&prefix[..], skipped), (&[][..], 25_900));
    // All that can be compared is compared first.
    let ask = ask(&record, START + 40_000);
    let judged = judge(&record, &ask, &original[..head + 3999], false);
    assert_eq!(judged, Judgement::NeedMore);
}

#[test]
fn nine_gibibytes_are_discarded() {
    let fields = format!("Content-Length: {}\r\n", 9u64 << 30);
    let (original, mut record) = said(&fields, &body(100), 100);
    let head = original.len() - 100;
    let offset = (7 << 30) + 5;
    record.acked = START + (7 << 30);
    let ask = ask(&record, START + head as u64 + offset);
    let Judgement::Join(join) = judge(&record, &ask, &original, false) else {
        panic!()
    };
    assert_eq!((join.prefix, join.skip), (vec![], offset - 100));
    let end = START + head as u64 + (9 << 30);
    assert_eq!(join.object_end, Some(end));
}

#[test]
fn what_the_second_server_may_not_say() {
    let fields = "Content-Length: 50000\r\nETag: W/\"a\"\r\n";
    let (original, record) = said(fields, &body(50_000), 100);
    let refused = |status: &str, fields: &str, body: &[u8]| {
        let answer = [
            format!("HTTP/1.1 {status}\r\n{fields}\r\n").as_bytes(),
            body,
        ]
        .concat();
        replay(&record, &answer, &original, 20_000, &[]).unwrap_err()
    };
    let rest = body(50_000);
    assert_eq!(refused("404 No", fields, &rest), Refusal::Missing(404));
    assert_eq!(refused("503 No", fields, &rest), Refusal::OtherStatus(503));
    let other = fields.replace("\"a\"", "\"b\"");
    assert_eq!(refused("200 OK", &other, &rest), Refusal::WrongValidator);
    let longer = fields.replace("50000", "50001");
    assert_eq!(refused("200 OK", &longer, &rest), Refusal::OtherContent);
    let typed = format!("{fields}Content-Type: a\r\n");
    assert_eq!(refused("200 OK", &typed, &rest), Refusal::OtherContent);
    assert_eq!(refused("200 OK", fields, &rest[..99]), Refusal::Closed);
}

#[test]
fn without_the_declaration_nothing_is_said_again() {
    let (_, mut record) = said(CHUNKED, &body(50_000), 100);
    record.declare(false);
    let why = Refusal::Unprotected(Doubt::UnknownLength);
    let next = record.request_end();
    assert_eq!(plan(&record, word(START + 9, next)), Plan::Refuse(why));
}

/// A server that answers a request for a range with everything.
#[test]
fn a_server_without_ranges_says_all_of_it() {
    let (server, original, mut record) = example();
    let without = Server {
        ranges: false,
        ..server.clone()
    };
    let got = deliver(&record, &without, &original, 9000, &[]);
    assert_eq!(got, Err(Refusal::NotPartial(200)));
    record.declare(true);
    let ask = ask(&record, START + 9000);
    let answer = without.answer(&ask.request);
    let Judgement::Join(join) = judge(&record, &ask, &answer[..1000], false) else {
        panic!()
    };
    assert_eq!((join.prefix, join.skip), (vec![], 8000));
    let changed = Server {
        etag: "\"v2\"".into(),
        ..without
    };
    let answer = changed.answer(&ask.request);
    assert_eq!(
        judge(&record, &ask, &answer[..1000], false),
        Judgement::Refuse(Refusal::WrongValidator)
    );
}
