// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! From a dead server's record to the exact byte where another server goes on.
//!
//! [`plan`] says, from the record and what the client said, what to ask the local server;
//! [`judge`] compares the answer with the record and says what joins it to the client.
//! Neither guesses: what does not match is refused, and the client is reset. A reset is an
//! honest failure; a wrong byte is not.
//!
//! ```text
//!   original   [ head ......... | body ................................... ]
//!              S                S+H        a                               end
//!   answer                            [ head' | body from a on ........... ]
//!   client gets                            [ prefix .. | server's own .... ]
//! ```
//!
//! A client may hold bytes of the original beyond `a` that arrived out of order. They are
//! merged with what we send, so that from `a` on only bytes of the *same* response may follow,
//! once one of its bytes may have left.

use crate::http::{parse_request, HEAD_LIMIT};
use crate::http::{parse_response, range_request, Doubt, Framing, Parsed, ResponseHead};
use crate::record::{object, Object, Record, State, Way};

/// Bytes of an answer to a range request that are taken before it is joined: its head, and
/// little of its body, since the prefix carries it.
const RANGE_WINDOW: u32 = 8 * 1024;

/// Bytes of an answer that are taken where all of it must be seen.
const WHOLE_WINDOW: u32 = 32 * 1024;

/// What the client said in an orphan or in answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Sequence number of the next byte that it expects.
    pub ack: u32,
    /// Its own sequence number.
    pub seq: u32,
    /// It carried payload.
    pub payload: bool,
    /// It carried SACK blocks: bytes beyond `ack` have arrived.
    pub sacked: bool,
}

/// What to do with a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Connect and join at `at`; the client sends its request (again) from `c2s_next` on.
    Silent {
        /// S2c position of the join.
        at: u64,
        /// C2s position of the next byte of the client.
        c2s_next: u64,
    },
    /// Connect, send a request, show the answer to [`judge`].
    Ask(Ask),
    /// The client's word is older than the record: make it speak again.
    Again,
    /// The client has everything, and the end of the stream: nothing is left to do.
    Finished,
    /// It cannot be continued.
    Refuse(Refusal),
}

/// A question to the local server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// S2c position of the client's next byte.
    pub at: u64,
    /// C2s position of the client's byte behind the request.
    pub c2s_next: u64,
    /// What to send.
    pub request: Vec<u8>,
    /// Bytes of the answer to take.
    pub window: u32,
    want: Want,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Want {
    /// The bytes `first` to `last` of the representation.
    Range { first: u64, last: u64 },
    /// Any complete answer; the client gets the recorded one.
    Stored,
    /// Any answer: the client has nothing of one.
    Fresh,
}

/// What [`judge`] makes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "looked at once and not kept")]
pub enum Judgement {
    /// It is not complete enough.
    NeedMore,
    /// It is the right one.
    Join(Join),
    /// It is not.
    Refuse(Refusal),
}

/// How an answer is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// What the client gets from `at` on, before the server's own bytes.
    pub prefix: Vec<u8>,
    /// Bytes of the answer that the prefix stands for: all that were seen.
    pub answer_length: u64,
    /// Position of the first byte of the response.
    pub object_start: u64,
    /// Position behind its last byte; absent if unknown.
    pub object_end: Option<u64>,
    /// The flow from then on.
    pub record: Record,
}

/// Why a flow cannot be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It was not protected when its server died.
    Unprotected(Doubt),
    /// The client has bytes of which no record tells.
    Ahead,
    /// The client does not hold its request any more, and neither do we.
    RequestLost,
    /// The client may hold bytes of a response that was never recorded.
    Escaped,
    /// The answer cannot be read.
    Answer(Doubt),
    /// The local server does not have the object (the status of its answer).
    Missing(u16),
    /// The local server did not answer with the range; it may not know ranges, or its copy
    /// differs (the status of its answer).
    NotPartial(u16),
    /// Another range than the one asked for.
    WrongRange,
    /// Another representation.
    WrongValidator,
    /// Bytes of the answer differ from bytes of the record.
    WrongBytes,
    /// The server closed before its answer was complete.
    Closed,
}

impl Refusal {
    /// The name of its counter.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Unprotected(_) => "unprotected",
            Refusal::Ahead => "ahead",
            Refusal::RequestLost => "request-lost",
            Refusal::Escaped => "escaped",
            Refusal::Answer(_) => "answer",
            Refusal::Missing(_) => "missing",
            Refusal::NotPartial(_) => "not-partial",
            Refusal::WrongRange => "wrong-range",
            Refusal::WrongValidator => "wrong-validator",
            Refusal::WrongBytes => "wrong-bytes",
            Refusal::Closed => "closed",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        match self {
            Refusal::Unprotected(d) | Refusal::Answer(d) => write!(f, " ({d})"),
            Refusal::Missing(s) | Refusal::NotPartial(s) => write!(f, " (status {s})"),
            _ => Ok(()),
        }
    }
}

/// What is to be done with the flow of `record` whose client said `word`.
pub fn plan(record: &Record, word: Word) -> Plan {
    let at = record.resolve(word.ack);
    match &record.state {
        State::Unprotected(doubt) => Plan::Refuse(Refusal::Unprotected(*doubt)),
        _ if at < record.start => Plan::Again,
        _ if at > record.start && !matches!(record.state, State::Responding(_)) => {
            Plan::Refuse(Refusal::Ahead)
        }
        State::Idle | State::Requesting(_) if !nothing_escaped(record, word) => {
            Plan::Refuse(Refusal::Escaped)
        }
        State::Idle => silent(record.request, at, word),
        State::Requesting(request) => unanswered(record, request, at, word),
        State::Responding(object) => answered(record, object, at, word),
    }
}

/// Whether the client surely has no byte of an unrecorded response.
fn nothing_escaped(record: &Record, word: Word) -> bool {
    // Strict: no byte left before its record. Eager: a client that permits SACK would say so.
    !word.sacked && (record.strict || record.options.sack)
}

/// The client will send the bytes from `c2s_next` on, or holds them already.
fn silent(c2s_next: u64, at: u64, word: Word) -> Plan {
    let ahead = word.seq.wrapping_sub(c2s_next as u32) as i32;
    match ahead {
        // What it sends again begins behind what we know: an earlier packet may follow.
        1.. if word.payload => Plan::Again,
        _ => Plan::Silent { at, c2s_next },
    }
}

fn unanswered(record: &Record, request: &[u8], at: u64, word: Word) -> Plan {
    let held = word.payload && word.seq == record.request as u32;
    if held {
        // The client itself says what it wants; nobody could have forged that before.
        return Plan::Silent {
            at,
            c2s_next: record.request,
        };
    }
    let c2s_next = record.request_end();
    if word.seq.wrapping_sub(c2s_next as u32) as i32 > 0 {
        return Plan::Refuse(Refusal::RequestLost);
    }
    if !matches!(parse_request(request), Ok(Parsed::Head(_))) {
        // Half a request that the client may have forgotten, and no answer to join it by.
        return Plan::Refuse(Refusal::RequestLost);
    }
    let (request, window) = (request.to_vec(), WHOLE_WINDOW);
    Plan::Ask(Ask {
        at,
        c2s_next,
        request,
        window,
        want: Want::Fresh,
    })
}

fn answered(record: &Record, object: &Object, at: u64, word: Word) -> Plan {
    let c2s_next = record.request_end();
    if let Some(end) = object.end {
        if at == end && !nothing_escaped(record, word) {
            return Plan::Refuse(Refusal::Escaped);
        } else if at == end {
            return silent(c2s_next, at, word);
        } else if at == end + 1 {
            // The FIN behind it has arrived too.
            return Plan::Finished;
        } else if at > end {
            return Plan::Refuse(Refusal::Ahead);
        }
    }
    if word.seq.wrapping_sub(c2s_next as u32) as i32 > 1 {
        // The next request, before the end of this response; one alone is a FIN.
        return Plan::Refuse(Refusal::Unprotected(Doubt::Pipelined));
    }
    let ask = |request, window, want| {
        Plan::Ask(Ask {
            at,
            c2s_next,
            request,
            window,
            want,
        })
    };
    match (&object.way, object.end) {
        (Way::None(doubt), _) => Plan::Refuse(Refusal::Unprotected(*doubt)),
        (Way::Stored, _) => ask(object.request.clone(), WHOLE_WINDOW, Want::Stored),
        (Way::Range { .. }, None) => Plan::Refuse(Refusal::Unprotected(Doubt::UnknownLength)),
        (
            Way::Range {
                first,
                validator,
                partial,
                ..
            },
            Some(end),
        ) => {
            let body = record.start + u64::from(object.head);
            let (from, last) = (first + at.saturating_sub(body), first + (end - body) - 1);
            let to = partial.then_some(last);
            match range_request(&object.request, from, to, validator) {
                Some(request) => ask(request, RANGE_WINDOW, Want::Range { first: from, last }),
                None => Plan::Refuse(Refusal::Unprotected(Doubt::Malformed)),
            }
        }
    }
}

/// Whether `answer`, all that the server has said so far, continues the flow of `record`.
/// `fin`: the server will say no more.
pub fn judge(record: &Record, ask: &Ask, answer: &[u8], fin: bool) -> Judgement {
    match weigh(record, ask, answer, fin) {
        Ok(Some(join)) => Judgement::Join(join),
        Ok(None) if fin => Judgement::Refuse(Refusal::Closed),
        Ok(None) if answer.len() >= ask.window as usize || answer.len() >= 2 * HEAD_LIMIT => {
            Judgement::Refuse(Refusal::Answer(Doubt::TooLong))
        }
        Ok(None) => Judgement::NeedMore,
        Err(refusal) => Judgement::Refuse(refusal),
    }
}

fn weigh(record: &Record, ask: &Ask, answer: &[u8], fin: bool) -> Result<Option<Join>, Refusal> {
    match (&ask.want, &record.state) {
        (Want::Fresh, State::Requesting(request)) => fresh(record, request, answer),
        (Want::Stored, State::Responding(object)) => stored(record, object, ask, answer),
        (Want::Range { first, last }, State::Responding(object)) => {
            ranged(record, object, ask.at, (*first, *last), answer, fin)
        }
        // A plan for another state of the flow.
        _ => Err(Refusal::Ahead),
    }
}

fn joined(
    record: &Record,
    prefix: Vec<u8>,
    answer: &[u8],
    object_end: Option<u64>,
    change: impl FnOnce(&mut Record),
) -> Join {
    let mut record = record.clone();
    let object_start = record.start;
    change(&mut record);
    Join {
        prefix,
        answer_length: answer.len() as u64,
        object_start,
        object_end,
        record,
    }
}

/// The client has nothing of a response: any is right, from its first byte on.
fn fresh(record: &Record, request: &[u8], answer: &[u8]) -> Result<Option<Join>, Refusal> {
    let Ok(Parsed::Head(head)) = parse_request(request) else {
        return Err(Refusal::RequestLost);
    };
    let made = match object(request, head.asked, head.is_head, record.start, answer) {
        Ok(None) => return Ok(None),
        Ok(Some(made)) => Ok(made),
        Err(doubt) => Err(doubt),
    };
    let end = made.as_ref().ok().and_then(|o| o.end);
    Ok(Some(joined(record, answer.to_vec(), answer, end, |r| {
        r.state = match made {
            Ok(made) => State::Responding(made),
            Err(doubt) => State::Unprotected(doubt),
        };
    })))
}

fn head_of(answer: &[u8], to_head: bool) -> Result<Option<ResponseHead>, Refusal> {
    match parse_response(answer, to_head).map_err(Refusal::Answer)? {
        Parsed::Partial => Ok(None),
        Parsed::Head(head) => Ok(Some(head)),
    }
}

/// The record has the whole response; the server only has to be brought behind its own.
fn stored(
    record: &Record,
    object: &Object,
    ask: &Ask,
    answer: &[u8],
) -> Result<Option<Join>, Refusal> {
    let Some(head) = head_of(answer, object.to_head)? else {
        return Ok(None);
    };
    let Framing::Length(length) = head.framing else {
        return Err(Refusal::Answer(Doubt::UnknownLength));
    };
    let whole = (head.len as u64)
        .checked_add(length)
        .ok_or(Refusal::Answer(Doubt::Framing))?;
    if whole > u64::from(ask.window) {
        return Err(Refusal::Answer(Doubt::TooLong));
    }
    match (answer.len() as u64).cmp(&whole) {
        std::cmp::Ordering::Less => return Ok(None),
        std::cmp::Ordering::Greater => return Err(Refusal::Answer(Doubt::Framing)),
        std::cmp::Ordering::Equal => {}
    }
    let delivered = (ask.at - record.start) as usize;
    let rest = object.sent.get(delivered..).ok_or(Refusal::Ahead)?;
    Ok(Some(joined(
        record,
        rest.to_vec(),
        answer,
        object.end,
        |_| {},
    )))
}

/// The range that was asked for, of the same representation.
fn ranged(
    record: &Record,
    object: &Object,
    at: u64,
    (first, last): (u64, u64),
    answer: &[u8],
    fin: bool,
) -> Result<Option<Join>, Refusal> {
    let Way::Range {
        total,
        validator,
        coding,
        ..
    } = &object.way
    else {
        return Err(Refusal::Ahead);
    };
    let Some(head) = head_of(answer, object.to_head)? else {
        return Ok(None);
    };
    match head.status {
        206 => {}
        404 | 410 => return Err(Refusal::Missing(head.status)),
        other => return Err(Refusal::NotPartial(other)),
    }
    let length = last - first + 1;
    let range = head.range.ok_or(Refusal::WrongRange)?;
    let same = (range.first, range.last, range.total) == (first, last, *total);
    if !same || head.multipart || head.framing != Framing::Length(length) {
        return Err(Refusal::WrongRange);
    }
    // A 206 to If-Range may leave Content-Encoding out (RFC 9110, section 15.3.7).
    let recoded = head.coding.is_some() && head.coding != *coding;
    if head.validator.as_ref() != Some(validator) || recoded {
        return Err(Refusal::WrongValidator);
    }
    let body = &answer[head.len..];
    if body.len() as u64 > length {
        return Err(Refusal::Answer(Doubt::Framing));
    }
    if fin && (body.len() as u64) < length {
        return Err(Refusal::Closed);
    }
    // What the record has of the head goes first; what it has of the body must agree.
    let delivered = usize::try_from(at - record.start).unwrap_or(usize::MAX);
    let head_len = object.head as usize;
    let rest = object.sent.get(delivered..head_len).unwrap_or_default();
    let recorded = object
        .sent
        .get(delivered.max(head_len)..)
        .unwrap_or_default();
    if recorded.iter().zip(body).any(|(a, b)| a != b) {
        return Err(Refusal::WrongBytes);
    }
    Ok(Some(joined(
        record,
        [rest, body].concat(),
        answer,
        object.end,
        |_| {},
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Asked;
    use crate::record::tests::record;
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
            let range = range
                .filter(|_| self.careless || field("If-Range:").is_none_or(|v| v == self.etag));
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
        let o = object(request, asked, false, START, &response[..seen])
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
        let lost = plan(&r, word(START, r.request_end() + 1));
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
    fn eager_without_sack_cannot_know_what_escaped() {
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
        assert!(matches!(
            plan(&r, word(START, r.request)),
            Plan::Silent { .. }
        ));
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
        let o = object(GET, Asked::Whole, false, START, chunked)
            .unwrap()
            .unwrap();
        let r = record(START, State::Responding(o));
        let want = Plan::Refuse(Refusal::Unprotected(Doubt::UnknownLength));
        assert_eq!(plan(&r, word(START + 9, r.request_end())), want);
    }
}
