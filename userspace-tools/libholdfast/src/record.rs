// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a successor must know to continue a flow.
//!
//! A [`Record`] is made when a connection opens and replaced when its state changes; between
//! changes only [`Record::acked`] and the clock move. It holds no address of any local
//! thing, so that it means the same on every node. All positions are those of the client.

use serde::{Deserialize, Serialize};

use crate::http::{parse_request, parse_response, HEAD_LIMIT};
use crate::http::{Asked, Doubt, Framing, Parsed, ResponseHead, Validator};
use crate::types::{FlowKey, TcpOptions};

/// Version of the encoding.
const VERSION: u8 = 2;

/// Most bytes of an encoded record.
pub const ENCODED_LIMIT: usize = 64 * 1024;

/// Room for an encoded record without the bytes of request and response, as a rule.
const FIXED: usize = 192;

/// Most bytes of a request that are kept.
pub const REQUEST_LIMIT: usize = HEAD_LIMIT;

/// Most bytes of a body that is kept whole, if it is there when the head is complete. Such a
/// response is continued from the record, whatever it is.
pub const BODY_LIMIT: usize = 8 * 1024;

/// Bytes of a longer body that are kept, to be compared with those of whoever continues it.
pub const BODY_COMPARED: usize = 256;

/// Bytes of a body that is not kept whole that may be kept, of a service that is `deterministic` or
/// not. No more than these of a long one need be known.
pub fn kept_of_body(deterministic: bool) -> usize {
    match deterministic {
        // Nothing but the bytes tells whether it is the same.
        true => BODY_LIMIT,
        false => BODY_COMPARED,
    }
}

/// No stream comes so far in the life of a machine: sums of positions and lengths cannot wrap.
pub const FARTHEST: u64 = 1 << 62;

/// No flow has had so many owners.
const LAST_GENERATION: u32 = 1 << 31;

/// The timestamps of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Newest TSval of the client.
    pub tsval: u32,
    /// Newest TSecr of the client.
    pub tsecr: u32,
    /// When that was, in nanoseconds of this node's monotonic clock; encoded, how long ago.
    /// Negative: before this node was up.
    pub heard: i64,
}

impl Clock {
    /// Turns the moment into its age, and back.
    fn rebased(self, now: i64) -> Self {
        let heard = now.saturating_sub(self.heard);
        Clock { heard, ..self }
    }
}

/// A flow, as far as it can be continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The 4-tuple.
    pub key: FlowKey,
    /// Raised by each takeover; an older record never replaces a newer one.
    pub generation: u32,
    /// What client and first server agreed on.
    pub options: TcpOptions,
    /// Absent if the client does not use timestamps.
    pub clock: Option<Clock>,
    /// No byte of a response left before its record was safe.
    pub strict: bool,
    /// Its service declares that the same request is always answered by the same bytes.
    pub deterministic: bool,
    /// C2s position of the first byte of the current or, if there is none, the next request.
    pub request: u64,
    /// S2c position of the first byte of its response.
    pub start: u64,
    /// S2c position that the client has acknowledged, as far as it is known.
    pub acked: u64,
    /// Where the flow is.
    pub state: State,
}

/// Where a flow is between two responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing of the next request is known.
    Idle,
    /// No byte of the response is known; so much of the request. The client may have been
    /// told that it arrived.
    Requesting(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The response is under way or delivered.
    Responding(Object),
    /// It cannot be continued.
    Unprotected(Doubt),
}

impl State {
    /// Bytes of requests and responses in it.
    fn bytes(&self) -> usize {
        match self {
            State::Idle | State::Unprotected(_) => 0,
            State::Requesting(request) => request.len(),
            State::Responding(o) => o.request.len() + o.sent.len(),
        }
    }
}

/// A request and its response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// The request, byte for byte.
    #[serde(with = "serde_bytes")]
    pub request: Vec<u8>,
    /// The request was HEAD.
    pub to_head: bool,
    /// The first bytes of the response as they were sent: the head at least.
    #[serde(with = "serde_bytes")]
    pub sent: Vec<u8>,
    /// Length in bytes of the head, interim responses included.
    pub head: u32,
    /// Position behind the last byte of the response; absent if unknown.
    pub end: Option<u64>,
    /// How its rest can be had.
    pub way: Way,
}

/// How the rest of a response can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// By asking for a range of the same representation.
    Range {
        /// Offset in the representation of the first byte of the body.
        first: u64,
        /// Length in bytes of the representation.
        total: u64,
        /// What tells it from others.
        validator: Validator,
        /// Its coding, as the response said.
        coding: Option<String>,
        /// The response was a 206: not the whole representation.
        partial: bool,
    },
    /// It is all in [`Object::sent`].
    Stored,
    /// Not at all.
    None(Doubt),
    /// By asking for all of it again, and discarding what the client has; only of a
    /// [`Record::deterministic`] service. Why it cannot be had more cheaply.
    Replay(Doubt),
}

/// Why an encoded record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord;

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("record of another version, too long or not well formed")
    }
}

impl std::error::Error for BadRecord {}

impl Record {
    /// Its bytes for another node. `now`: this node's monotonic clock in nanoseconds.
    pub fn encode(&self, now: i64) -> Vec<u8> {
        // The fields in the order in which they are decoded, so that none of the bytes is copied.
        let told = (
            &self.key,
            self.generation,
            &self.options,
            self.clock.map(|c| c.rebased(now)),
            self.strict,
            self.deterministic,
            self.request,
            self.start,
            self.acked,
            &self.state,
        );
        let mut out = Vec::with_capacity(FIXED + self.state.bytes());
        out.push(VERSION);
        // Writing to a vector fails only for types that this one is not made of.
        postcard::to_extend(&told, out).unwrap_or_default()
    }

    /// The record that another node encoded.
    ///
    /// # Errors
    ///
    /// [`BadRecord`], also where its positions do not fit each other.
    pub fn decode(bytes: &[u8], now: i64) -> Result<Record, BadRecord> {
        let (&version, rest) = bytes.split_first().ok_or(BadRecord)?;
        if version != VERSION || bytes.len() > ENCODED_LIMIT {
            return Err(BadRecord);
        }
        let (record, rest) = postcard::take_from_bytes::<Record>(rest).map_err(|_| BadRecord)?;
        if !rest.is_empty() || !record.is_sound() {
            return Err(BadRecord);
        }
        let clock = record.clock.map(|c| c.rebased(now));
        Ok(Record { clock, ..record })
    }

    fn is_sound(&self) -> bool {
        let far = |position: u64| position >= FARTHEST;
        let late = self.generation >= LAST_GENERATION;
        if late || far(self.request) || far(self.start) || far(self.acked) {
            return false;
        }
        match &self.state {
            State::Idle | State::Unprotected(_) => true,
            State::Requesting(bytes) => bytes.len() <= REQUEST_LIMIT,
            State::Responding(o) => {
                if o.end.is_some_and(far) {
                    return false;
                }
                let behind = self.start.checked_add(o.sent.len() as u64);
                let (Some(behind), head) = (behind, o.head as usize) else {
                    return false;
                };
                let fits = match (&o.way, o.end) {
                    (Way::Stored, end) => end == Some(behind),
                    (Way::Range { first, total, .. }, Some(end)) => {
                        let body = end.checked_sub(self.start + u64::from(o.head));
                        let last = body.and_then(|b| first.checked_add(b));
                        end >= behind && last.is_some_and(|l| l <= *total && *first < l)
                    }
                    (Way::Range { .. }, None) => false,
                    (Way::Replay(_), _) if !self.deterministic => false,
                    (Way::None(_) | Way::Replay(_), end) => end.is_none_or(|e| e >= behind),
                };
                fits && head <= o.sent.len()
                    && o.sent.len() <= HEAD_LIMIT + BODY_LIMIT
                    && o.request.len() <= REQUEST_LIMIT
            }
        }
    }

    /// Whether a server that is asked again can continue the flow: it owes the client a response
    /// whose request or whose end is known, or that can be said again to its end.
    pub fn can_be_asked(&self) -> bool {
        match &self.state {
            State::Requesting(request) => matches!(parse_request(request), Ok(Parsed::Head(_))),
            State::Responding(o) => match o.way {
                Way::None(_) => false,
                Way::Replay(_) => true,
                Way::Range { .. } | Way::Stored => o.end.is_some(),
            },
            State::Idle | State::Unprotected(_) => false,
        }
    }

    /// Its service declares from now on that it is deterministic, or no more.
    pub fn declare(&mut self, deterministic: bool) {
        self.deterministic = deterministic;
        if let State::Responding(o) = &mut self.state {
            o.way = match std::mem::replace(&mut o.way, Way::Stored) {
                Way::Replay(doubt) if !deterministic => Way::None(doubt),
                way => way,
            };
        }
    }

    /// Milliseconds since the client's timestamps were new.
    pub fn ts_age(&self, now: i64) -> u32 {
        let heard = self.clock.map_or(now, |c| c.heard);
        u32::try_from(now.saturating_sub(heard).max(0) / 1_000_000).unwrap_or(u32::MAX)
    }

    /// C2s position behind the current request, as far as it is known.
    pub fn request_end(&self) -> u64 {
        let len = match &self.state {
            State::Idle | State::Unprotected(_) => 0,
            State::Requesting(bytes) => bytes.len(),
            State::Responding(o) => o.request.len(),
        };
        self.request + len as u64
    }

    /// The 64-bit position of a sequence number of the service's stream: the one nearest to
    /// what the client is known to have.
    pub fn resolve(&self, seq: u32) -> u64 {
        let known = self.acked.max(self.start);
        known.wrapping_add_signed(i64::from(seq.wrapping_sub(known as u32) as i32))
    }
}

/// The record of a response whose head is complete in `response`, which begins at position
/// `start`; `deterministic`: as of its [`Record`]. `None`: the head is not complete.
///
/// # Errors
///
/// The response cannot be framed without doubt.
pub fn object(
    request: &[u8],
    asked: Asked,
    to_head: bool,
    start: u64,
    response: &[u8],
    deterministic: bool,
) -> Result<Option<Object>, Doubt> {
    let head = match parse_response(response, to_head)? {
        Parsed::Partial => return Ok(None),
        Parsed::Head(head) => head,
    };
    let behind = start + head.len as u64;
    let end = match head.framing {
        Framing::Length(n) => Some(behind.checked_add(n).ok_or(Doubt::Framing)?),
        Framing::Chunked | Framing::Close => None,
    };
    let all = response.len() <= head.len + BODY_LIMIT && end == Some(start + response.len() as u64);
    if end.is_some_and(|e| e < start + response.len() as u64) {
        // More bytes than the response has: it is framed in another way than it says.
        return Err(Doubt::Framing);
    }
    let way = if all {
        Way::Stored
    } else {
        match range_way(&head, asked) {
            Way::None(doubt) if deterministic => Way::Replay(doubt),
            way => way,
        }
    };
    let keep = match way {
        Way::Stored => BODY_LIMIT,
        Way::Replay(_) => kept_of_body(true),
        Way::Range { .. } | Way::None(_) => kept_of_body(false),
    };
    Ok(Some(Object {
        request: request.to_vec(),
        to_head,
        sent: response[..response.len().min(head.len + keep)].to_vec(),
        head: head.len as u32,
        end,
        way,
    }))
}

fn range_way(head: &ResponseHead, asked: Asked) -> Way {
    let Framing::Length(length) = head.framing else {
        return Way::None(Doubt::UnknownLength);
    };
    let Some(validator) = head.validator.clone() else {
        return Way::None(Doubt::NoValidator);
    };
    if head.multipart {
        return Way::None(Doubt::Ranges);
    }
    let (first, total) = match (head.status, head.range) {
        (200, None) => (0, length),
        (206, Some(r)) if asked == Asked::One && r.last - r.first + 1 == length => {
            (r.first, r.total)
        }
        (200 | 206, _) => return Way::None(Doubt::Ranges),
        _ => return Way::None(Doubt::Status),
    };
    let partial = head.status == 206;
    Way::Range {
        first,
        total,
        validator,
        coding: head.coding.clone(),
        partial,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> FlowKey {
        FlowKey {
            client: "192.0.2.7:40000".parse().unwrap(),
            service: "198.51.100.1:80".parse().unwrap(),
        }
    }

    pub(crate) fn record(start: u64, state: State) -> Record {
        Record {
            key: key(),
            generation: 1,
            options: TcpOptions::default(),
            clock: Some(Clock {
                tsval: 1,
                tsecr: 2,
                heard: 5_000_000_000,
            }),
            strict: true,
            deterministic: false,
            request: 1000,
            start,
            acked: start,
            state,
        }
    }

    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: \"a\"\r\n\r\nabc";

    #[test]
    fn a_record_survives_the_journey_with_its_age() {
        let o = object(b"GET", Asked::Whole, false, 500, RESPONSE, false)
            .unwrap()
            .unwrap();
        let r = record(500, State::Responding(o));
        let bytes = r.encode(7_000_000_000);
        // The other node has been up for one second only.
        let got = Record::decode(&bytes, 1_000_000_000).unwrap();
        assert_eq!(got.ts_age(1_000_000_000), 2000);
        assert_eq!(got.ts_age(2_000_000_000), 3000);
        assert_eq!(
            Record {
                clock: r.clock,
                ..got
            },
            r
        );
        for n in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..n], 0), Err(BadRecord), "{n}");
        }
    }

    #[test]
    fn a_record_that_contradicts_itself_is_refused() {
        let mut o = object(b"GET", Asked::Whole, false, 500, RESPONSE, false)
            .unwrap()
            .unwrap();
        o.end = Some(501);
        let r = record(500, State::Responding(o));
        assert_eq!(Record::decode(&r.encode(0), 0), Err(BadRecord));
        let long = record(500, State::Requesting(vec![0; REQUEST_LIMIT + 1]));
        assert_eq!(Record::decode(&long.encode(0), 0), Err(BadRecord));
        let mut far = record(500, State::Requesting(b"GET".to_vec()));
        far.request = u64::MAX;
        assert_eq!(Record::decode(&far.encode(0), 0), Err(BadRecord));
    }

    #[test]
    fn ways_to_continue() {
        let way = |asked, bytes: &str| {
            object(b"GET", asked, false, 0, bytes.as_bytes(), false).map(|o| o.unwrap().way)
        };
        let tag = "ETag: \"a\"\r\n";
        let head =
            |status: &str, fields: &str| format!("HTTP/1.1 {status} X\r\n{tag}{fields}\r\n\r\n");
        let range = "Content-Range: bytes 5-9/20\r\nContent-Length: 5";
        assert!(matches!(
            way(Asked::Whole, &head("200", "Content-Length: 5")),
            Ok(Way::Range {
                first: 0,
                total: 5,
                partial: false,
                ..
            })
        ));
        assert!(matches!(
            way(Asked::One, &head("206", range)),
            Ok(Way::Range {
                first: 5,
                total: 20,
                partial: true,
                ..
            })
        ));
        let none = |d| Ok(Way::None(d));
        assert_eq!(way(Asked::Whole, &head("206", range)), none(Doubt::Ranges));
        let short = "Content-Range: bytes 5-9/20\r\nContent-Length: 4";
        assert_eq!(way(Asked::One, &head("206", short)), none(Doubt::Ranges));
        assert_eq!(
            way(Asked::Whole, &head("404", "Content-Length: 5")),
            none(Doubt::Status)
        );
        let chunked = head("200", "Transfer-Encoding: chunked");
        assert_eq!(way(Asked::Whole, &chunked), none(Doubt::UnknownLength));
        let whole = head("404", "Content-Length: 5") + "abcde";
        assert_eq!(way(Asked::Whole, &whole), Ok(Way::Stored));
        assert_eq!(way(Asked::Whole, &(whole + "f")), Err(Doubt::Framing));
    }

    #[test]
    fn of_a_long_body_enough_is_kept_to_compare() {
        let kept = |length: usize, here: usize| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let bytes = [head.as_bytes(), &vec![b'x'; here]].concat();
            let o = object(b"GET", Asked::Whole, false, 0, &bytes, false);
            let o = o.unwrap().unwrap();
            (o.way == Way::Stored, o.sent.len() - head.len())
        };
        assert_eq!(kept(BODY_LIMIT, BODY_LIMIT), (true, BODY_LIMIT));
        assert_eq!(kept(BODY_LIMIT, 4000), (false, BODY_COMPARED));
        assert_eq!(kept(BODY_LIMIT + 1, BODY_LIMIT + 1), (false, BODY_COMPARED));
        assert_eq!(kept(BODY_LIMIT, 100), (false, 100));
    }

    #[test]
    fn what_a_deterministic_service_says_can_be_said_again() {
        let way = |fields: &str| {
            let bytes = format!("HTTP/1.1 {fields}\r\n\r\nab");
            let o = object(b"GET", Asked::Whole, false, 0, bytes.as_bytes(), true);
            o.map(|o| o.unwrap().way)
        };
        let length = "Content-Length: 9";
        for (fields, doubt) in [
            ("200 OK\r\nTransfer-Encoding: chunked", Doubt::UnknownLength),
            ("200 OK\r\nETag: \"a\"", Doubt::UnknownLength),
            (&format!("200 OK\r\n{length}"), Doubt::NoValidator),
            (&format!("404 No\r\nETag: \"a\"\r\n{length}"), Doubt::Status),
            (&format!("206 OK\r\nETag: \"a\"\r\n{length}"), Doubt::Ranges),
        ] {
            assert_eq!(way(fields), Ok(Way::Replay(doubt)), "{fields}");
        }
        // A range is cheaper, and the record cheaper still.
        let tagged = format!("200 OK\r\nETag: \"a\"\r\n{length}");
        assert!(matches!(way(&tagged), Ok(Way::Range { .. })));
        assert_eq!(way("200 OK\r\nContent-Length: 2"), Ok(Way::Stored));
    }

    #[test]
    fn only_what_was_declared_is_asked_for_again() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let o = object(b"GET", Asked::Whole, false, 500, chunked, true);
        let mut r = record(500, State::Responding(o.unwrap().unwrap()));
        assert_eq!(Record::decode(&r.encode(0), 0), Err(BadRecord));
        r.declare(true);
        assert!(r.can_be_asked());
        assert_eq!(Record::decode(&r.encode(0), 0).unwrap().state, r.state);
        r.declare(false);
        assert!(!r.can_be_asked());
        let State::Responding(o) = &r.state else {
            panic!()
        };
        assert_eq!(o.way, Way::None(Doubt::UnknownLength));
    }

    #[test]
    fn a_sequence_number_is_resolved_near_what_is_known() {
        let mut r = record(0xffff_fff0, State::Idle);
        assert_eq!(r.resolve(5), 0x1_0000_0005);
        assert_eq!(r.resolve(0xffff_ffe0), 0xffff_ffe0);
        r.acked = r.start + (9 << 30);
        let a = r.acked + (1 << 30);
        assert_eq!(r.resolve(a as u32), a);
    }
}
