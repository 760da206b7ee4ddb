// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! As much of HTTP/1 as a continuation needs: where a request ends, where its response ends,
//! and whether a byte range of that response can be asked for again (RFC 9110, RFC 9112).
//!
//! Everything here judges bytes that somebody else's software understands too, so that doubt
//! is always an error: what two readers could frame differently is not protected.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Most bytes of a head, request or response, that are looked at.
pub const HEAD_LIMIT: usize = 16 * 1024;

/// Most header fields of a head.
const FIELDS: usize = 96;

/// A Last-Modified is a strong validator if the response was made at least this much later
/// (RFC 9110, section 8.8.2.2).
const STRONG_DATE_GAP: Duration = Duration::from_secs(1);

/// Why a request or a response is left unprotected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Doubt {
    /// TLS records: what they carry cannot be read.
    Tls,
    /// The HTTP/2 connection preface.
    Http2,
    /// Not HTTP/1, or a head that is read in two ways.
    Malformed,
    /// A head longer than [`HEAD_LIMIT`] or with too many fields.
    TooLong,
    /// A method other than GET and HEAD.
    Method,
    /// CONNECT, or a change of protocol was asked for or made.
    Upgrade,
    /// A request with a body.
    Body,
    /// A second request came before the response to the first was delivered.
    Pipelined,
    /// The response came before the request was complete.
    Early,
    /// The same position carried two different bytes.
    Conflict,
    /// The length of the response is known to its last byte only (chunked, until close).
    UnknownLength,
    /// Content-Length contradicts itself or Transfer-Encoding.
    Framing,
    /// A status whose content no range request can continue.
    Status,
    /// Neither a strong ETag nor a strong Last-Modified.
    NoValidator,
    /// Several ranges in one response, or a Content-Range that does not fit it.
    Ranges,
    /// The kernel let bytes go before the record was safe.
    Late,
    /// The log has lost what was needed.
    Lost,
    /// The log does not fit what is known of the flow.
    OutOfStep,
}

impl Doubt {
    /// All of them, in the order of their numbers.
    pub const ALL: [Doubt; 18] = [
        Doubt::Tls,
        Doubt::Http2,
        Doubt::Malformed,
        Doubt::TooLong,
        Doubt::Method,
        Doubt::Upgrade,
        Doubt::Body,
        Doubt::Pipelined,
        Doubt::Early,
        Doubt::Conflict,
        Doubt::UnknownLength,
        Doubt::Framing,
        Doubt::Status,
        Doubt::NoValidator,
        Doubt::Ranges,
        Doubt::Late,
        Doubt::Lost,
        Doubt::OutOfStep,
    ];

    /// The name of its counter.
    pub const fn name(self) -> &'static str {
        match self {
            Doubt::Tls => "tls",
            Doubt::Http2 => "http2",
            Doubt::Malformed => "malformed",
            Doubt::TooLong => "too-long",
            Doubt::Method => "method",
            Doubt::Upgrade => "upgrade",
            Doubt::Body => "body",
            Doubt::Pipelined => "pipelined",
            Doubt::Early => "early",
            Doubt::Conflict => "conflict",
            Doubt::UnknownLength => "unknown-length",
            Doubt::Framing => "framing",
            Doubt::Status => "status",
            Doubt::NoValidator => "no-validator",
            Doubt::Ranges => "ranges",
            Doubt::Late => "late",
            Doubt::Lost => "lost",
            Doubt::OutOfStep => "out-of-step",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What some bytes from the start of a head are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A beginning; more bytes will tell.
    Partial,
    /// A complete head.
    Head(T),
}

/// A range of bytes as a request names it (RFC 9110, section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// No Range field.
    Whole,
    /// `first-` or `first-last`, or a suffix: one range.
    One,
    /// Several, or a unit other than bytes.
    Other,
}

/// The head of a request that can be continued: GET or HEAD, without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Its length in bytes, with empty lines before it.
    pub len: usize,
    /// HEAD, not GET: the response has no body.
    pub is_head: bool,
    /// What its Range field asks for.
    pub asked: Asked,
}

/// Reads the head of a request.
///
/// # Errors
///
/// The request is not one that can be continued. Said as early as the bytes allow, so that
/// the ack gate does not hold back an upload.
pub fn parse_request(bytes: &[u8]) -> Result<Parsed<RequestHead>, Doubt> {
    screen(bytes)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let len = match head.parse(&bytes[..bytes.len().min(HEAD_LIMIT)]) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_LIMIT => return Err(Doubt::TooLong),
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
        Err(httparse::Error::TooManyHeaders) => return Err(Doubt::TooLong),
        Err(_) => return Err(Doubt::Malformed),
    };
    let is_head = match head.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Doubt::Method),
    };
    let mut asked = Asked::Whole;
    for field in head.headers.iter() {
        if is(field, "transfer-encoding") || is(field, "expect") {
            return Err(Doubt::Body);
        } else if is(field, "content-length") {
            if field.value != b"0" {
                return Err(Doubt::Body);
            }
        } else if is(field, "upgrade") {
            return Err(Doubt::Upgrade);
        } else if is(field, "range") {
            asked = match (asked, one_range(field.value)) {
                (Asked::Whole, true) => Asked::One,
                _ => Asked::Other,
            };
        }
    }
    Ok(Parsed::Head(RequestHead {
        len,
        is_head,
        asked,
    }))
}

/// Refuses what cannot become a GET or HEAD request, from its first bytes.
fn screen(bytes: &[u8]) -> Result<(), Doubt> {
    // RFC 9112, section 2.2: empty lines before a request are ignored.
    let skip = bytes
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let bytes = &bytes[skip..];
    let starts = |word: &[u8]| {
        let n = bytes.len().min(word.len());
        bytes[..n] == word[..n]
    };
    if starts(b"GET ") || starts(b"HEAD ") {
        return Ok(());
    }
    Err(match bytes[0] {
        0x16 => Doubt::Tls,
        b'P' if bytes.starts_with(b"PRI * HTTP/2") => Doubt::Http2,
        b'C' if starts(b"CONNECT ") => Doubt::Upgrade,
        b if b.is_ascii_uppercase() => Doubt::Method,
        _ => Doubt::Malformed,
    })
}

/// Whether a Range field asks for one range of bytes.
fn one_range(value: &[u8]) -> bool {
    let Some((unit, spec)) = text(value).and_then(|v| v.split_once('=')) else {
        return false;
    };
    let spec = spec.trim_matches([' ', '\t']);
    let Some((first, last)) = spec.split_once('-') else {
        return false;
    };
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    unit.eq_ignore_ascii_case("bytes")
        && (number(first) || first.is_empty())
        && (number(last) || last.is_empty())
        && !(first.is_empty() && last.is_empty())
}

/// Where a response ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Framing {
    /// So many bytes after the head. 0 for HEAD, 204 and 304.
    Length(u64),
    /// Where its last chunk says.
    Chunked,
    /// Where the connection closes.
    Close,
}

/// What Content-Range says of the bytes that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
    /// Length of the whole representation.
    pub total: u64,
}

/// What tells two representations apart, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Validator {
    /// A strong entity tag, with its quotes.
    Etag(String),
    /// A Last-Modified that is strong, as it was written.
    LastModified(String),
}

impl Validator {
    /// The value of an If-Range field.
    pub fn as_str(&self) -> &str {
        match self {
            Validator::Etag(s) | Validator::LastModified(s) => s,
        }
    }
}

/// The head of a final response, with the interim (1xx) ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes from the first interim response to the end of the final head.
    pub len: usize,
    /// The status code.
    pub status: u16,
    /// Where its content ends.
    pub framing: Framing,
    /// The range that a 206 brings.
    pub range: Option<ContentRange>,
    /// The strong validator, if there is one.
    pub validator: Option<Validator>,
    /// The entity tag as written, weak or strong.
    pub etag: Option<String>,
    /// The Last-Modified as written.
    pub last_modified: Option<String>,
    /// The content is of type multipart/byteranges.
    pub multipart: bool,
    /// A coding was applied on the way or at rest, as written.
    pub coding: Option<String>,
}

/// Reads the head of the response to a request, `to_head` if that was HEAD.
///
/// # Errors
///
/// The response cannot be framed without doubt.
pub fn parse_response(bytes: &[u8], to_head: bool) -> Result<Parsed<ResponseHead>, Doubt> {
    let seen = &bytes[..bytes.len().min(HEAD_LIMIT)];
    let mut start = 0;
    loop {
        // httparse skips empty lines before a head; in a response they are a server's error.
        if seen.get(start).is_some_and(|b| *b != b'H') {
            return Err(Doubt::Malformed);
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let len = match head.parse(&seen[start..]) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() >= HEAD_LIMIT => {
                return Err(Doubt::TooLong);
            }
            Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
            Err(httparse::Error::TooManyHeaders) => return Err(Doubt::TooLong),
            Err(_) => return Err(Doubt::Malformed),
        };
        start += len;
        match head.code {
            Some(101) => return Err(Doubt::Upgrade),
            Some(100..=199) => continue,
            Some(status @ 200..=599) => {
                return final_head(start, status, &head, to_head).map(Parsed::Head);
            }
            _ => return Err(Doubt::Malformed),
        }
    }
}

fn final_head(
    len: usize,
    status: u16,
    head: &httparse::Response<'_, '_>,
    to_head: bool,
) -> Result<ResponseHead, Doubt> {
    let http10 = head.version == Some(0);
    let mut out = ResponseHead {
        len,
        status,
        framing: Framing::Close,
        range: None,
        validator: None,
        etag: None,
        last_modified: None,
        multipart: false,
        coding: None,
    };
    let (mut length, mut date): (Option<u64>, Option<String>) = (None, None);
    let mut transfer: Option<String> = None;
    for field in head.headers.iter() {
        if is(field, "content-length") {
            length = Some(content_length(field.value, length)?);
        } else if is(field, "transfer-encoding") {
            // Several fields are one list; only the plain "chunked" is told apart from doubt.
            if transfer.is_some() {
                return Err(Doubt::Framing);
            }
            transfer = Some(
                text(field.value)
                    .ok_or(Doubt::Framing)?
                    .to_ascii_lowercase(),
            );
        } else if is(field, "content-range") {
            if out.range.is_some() {
                return Err(Doubt::Ranges);
            }
            out.range = content_range(field.value);
        } else if is(field, "content-type") {
            let kind = text(field.value).unwrap_or_default().to_ascii_lowercase();
            out.multipart |= kind.starts_with("multipart/byteranges");
        } else if is(field, "etag") {
            once(&mut out.etag, field.value)?;
        } else if is(field, "last-modified") {
            once(&mut out.last_modified, field.value)?;
        } else if is(field, "date") {
            once(&mut date, field.value)?;
        } else if is(field, "content-encoding") {
            once(&mut out.coding, field.value)?;
        }
    }
    out.framing = match (transfer.as_deref(), length) {
        // Both, or a coding in HTTP/1.0: an error of the sender (RFC 9112, section 6.1).
        (Some(_), Some(_)) => return Err(Doubt::Framing),
        (Some(_), None) if http10 => return Err(Doubt::Framing),
        _ if to_head || status == 204 || status == 304 => Framing::Length(0),
        (Some("chunked"), None) => Framing::Chunked,
        (Some(_), None) => return Err(Doubt::Framing),
        (None, Some(n)) => Framing::Length(n),
        (None, None) => Framing::Close,
    };
    out.validator = strong(&out, date.as_deref());
    Ok(out)
}

/// The strong validator of a response (RFC 9110, sections 8.8 and 13.1.5).
fn strong(head: &ResponseHead, date: Option<&str>) -> Option<Validator> {
    if let Some(etag) = &head.etag {
        // A date may stand for a representation only where it has no tag at all.
        return is_strong_etag(etag).then(|| Validator::Etag(etag.clone()));
    }
    let written = head.last_modified.as_deref()?;
    let modified = httpdate::parse_http_date(written).ok()?;
    let made = httpdate::parse_http_date(date?).ok()?;
    let gap = made.duration_since(modified).ok()?;
    let known = modified > SystemTime::UNIX_EPOCH;
    (known && gap >= STRONG_DATE_GAP).then(|| Validator::LastModified(written.to_owned()))
}

fn is_strong_etag(etag: &str) -> bool {
    let inner = etag.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
    inner.is_some_and(|e| e.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b)))
}

fn is(field: &httparse::Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .map(|s| s.trim_matches([' ', '\t']))
}

/// A field that may stand once.
fn once(slot: &mut Option<String>, value: &[u8]) -> Result<(), Doubt> {
    if slot.is_some() {
        return Err(Doubt::Malformed);
    }
    // Bytes above ASCII make a validator useless, not the response wrong.
    *slot = Some(
        String::from_utf8_lossy(value)
            .trim_matches([' ', '\t'])
            .to_owned(),
    );
    Ok(())
}

fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// RFC 9110, section 8.6: a list of the same number is that number, all else is an error.
fn content_length(value: &[u8], before: Option<u64>) -> Result<u64, Doubt> {
    let value = text(value).ok_or(Doubt::Framing)?;
    let mut length = before;
    for part in value.split(',') {
        let n = number(part.trim_matches([' ', '\t'])).ok_or(Doubt::Framing)?;
        // Positions have 64 bits; nothing real comes near their half.
        if n > u64::MAX >> 2 || length.is_some_and(|l| l != n) {
            return Err(Doubt::Framing);
        }
        length = Some(n);
    }
    length.ok_or(Doubt::Framing)
}

/// RFC 9110, section 14.4. `None` also for an unknown total, which proves nothing.
fn content_range(value: &[u8]) -> Option<ContentRange> {
    let value = text(value)?;
    let (unit, rest) = value.split_once(' ')?;
    let (span, total) = rest.trim_start().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let range = ContentRange {
        first: number(first)?,
        last: number(last)?,
        total: number(total)?,
    };
    let sound = range.first <= range.last && range.last < range.total;
    (unit.eq_ignore_ascii_case("bytes") && sound && range.total <= u64::MAX >> 2).then_some(range)
}

/// The request `head` once more, for the bytes `first` to `last` of the same representation.
/// Range and If-Range are replaced; everything else stays byte for byte.
///
/// `None` if `head` is not a request head, or `validator` is none.
pub fn range_request(
    head: &[u8],
    first: u64,
    last: Option<u64>,
    validator: &Validator,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(head.len() + 128);
    let mut lines = head.split_inclusive(|b| *b == b'\n');
    // The request line, after empty lines that a server ignores.
    loop {
        let line = lines.next()?;
        out.extend_from_slice(line);
        if !matches!(line, b"\r\n" | b"\n") {
            break;
        }
    }
    for line in lines {
        if matches!(line, b"\r\n" | b"\n") {
            let last = last.map_or_else(String::new, |l| l.to_string());
            let range = format!("Range: bytes={first}-{last}\r\n");
            out.extend_from_slice(range.as_bytes());
            out.extend_from_slice(format!("If-Range: {}\r\n", validator.as_str()).as_bytes());
            out.extend_from_slice(line);
            return Some(out);
        }
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        let dropped = [
            &b"range"[..],
            b"if-range",
            // What the first server has found true must not turn the rest into a 304 or 412.
            b"if-none-match",
            b"if-modified-since",
            b"if-match",
            b"if-unmodified-since",
        ];
        if !dropped.iter().any(|d| name.eq_ignore_ascii_case(d)) {
            out.extend_from_slice(line);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=5-9\r\nX-Y: z\r\n\r\n";

    fn request(bytes: &[u8]) -> RequestHead {
        match parse_request(bytes) {
            Ok(Parsed::Head(h)) => h,
            other => panic!("{other:?}"),
        }
    }

    fn response(bytes: &[u8]) -> ResponseHead {
        match parse_response(bytes, false) {
            Ok(Parsed::Head(h)) => h,
            other => panic!("{other:?}"),
        }
    }

    fn refused(bytes: &[u8]) -> Doubt {
        parse_request(bytes).unwrap_err()
    }

    #[test]
    fn a_request_is_complete_at_its_last_byte_and_not_before() {
        for n in 1..GET.len() {
            assert_eq!(parse_request(&GET[..n]), Ok(Parsed::Partial), "{n}");
        }
        let head = request(GET);
        assert_eq!(
            (head.len, head.is_head, head.asked),
            (GET.len(), false, Asked::One)
        );
        assert_eq!(request(b"\r\nHEAD / HTTP/1.0\n\nmore").len, 19);
    }

    #[test]
    fn what_is_not_a_plain_get_is_refused_from_its_first_byte() {
        assert_eq!(refused(b"P"), Doubt::Method);
        assert_eq!(refused(b"POST /"), Doubt::Method);
        assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM"), Doubt::Http2);
        assert_eq!(refused(&[0x16, 3, 1]), Doubt::Tls);
        assert_eq!(refused(b"CONNECT a:1 HTTP/1.1\r\n\r\n"), Doubt::Upgrade);
        assert_eq!(refused(b"\0"), Doubt::Malformed);
        assert_eq!(parse_request(b"H"), Ok(Parsed::Partial));
        assert_eq!(parse_request(b""), Ok(Parsed::Partial));
        assert_eq!(parse_request(b"\r\n"), Ok(Parsed::Partial));
        let with = |f: &str| format!("GET / HTTP/1.1\r\n{f}\r\n\r\n").into_bytes();
        assert_eq!(refused(&with("Content-Length: 4")), Doubt::Body);
        assert_eq!(refused(&with("Transfer-Encoding: chunked")), Doubt::Body);
        assert_eq!(refused(&with("Expect: 100-continue")), Doubt::Body);
        assert_eq!(refused(&with("Upgrade: h2c")), Doubt::Upgrade);
        assert_eq!(refused(&with("A : b")), Doubt::Malformed);
        assert_eq!(refused(&with("A: b\r\n folded")), Doubt::Malformed);
        assert_eq!(request(&with("Content-Length: 0")).asked, Asked::Whole);
        let mut long = b"GET /".to_vec();
        long.resize(HEAD_LIMIT, b'x');
        assert_eq!(refused(&long), Doubt::TooLong);
    }

    #[test]
    fn ranges_of_a_request() {
        for (value, want) in [
            ("bytes=0-", Asked::One),
            ("Bytes=7-9", Asked::One),
            ("bytes=-5", Asked::One),
            ("bytes=-", Asked::Other),
            ("bytes=1-2,4-5", Asked::Other),
            ("lines=1-2", Asked::Other),
            ("bytes=1-2\r\nRange: bytes=3-4", Asked::Other),
        ] {
            let bytes = format!("GET / HTTP/1.1\r\nRange: {value}\r\n\r\n");
            assert_eq!(request(bytes.as_bytes()).asked, want, "{value}");
        }
    }

    #[test]
    fn framing_follows_rfc_9112() {
        let framing = |fields: &str| {
            let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            match parse_response(bytes.as_bytes(), false) {
                Ok(Parsed::Head(h)) => Ok(h.framing),
                Ok(Parsed::Partial) => panic!("partial"),
                Err(e) => Err(e),
            }
        };
        assert_eq!(framing("Content-Length: 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("Content-Length: 7, 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(
            framing("Content-Length: 7\r\ncontent-length: 7\r\n"),
            Ok(Framing::Length(7))
        );
        assert_eq!(
            framing("Content-Length: 7\r\nContent-Length: 8\r\n"),
            Err(Doubt::Framing)
        );
        assert_eq!(framing("Content-Length: +7\r\n"), Err(Doubt::Framing));
        assert_eq!(framing("Content-Length: \r\n"), Err(Doubt::Framing));
        assert_eq!(
            framing("Content-Length: 99999999999999999999\r\n"),
            Err(Doubt::Framing)
        );
        assert_eq!(
            framing("Transfer-Encoding: Chunked\r\n"),
            Ok(Framing::Chunked)
        );
        assert_eq!(
            framing("Transfer-Encoding: gzip, chunked\r\n"),
            Err(Doubt::Framing)
        );
        let both = "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n";
        assert_eq!(framing(both), Err(Doubt::Framing));
        assert_eq!(framing(""), Ok(Framing::Close));
    }

    #[test]
    fn responses_without_content() {
        let to = |bytes: &[u8], head| match parse_response(bytes, head) {
            Ok(Parsed::Head(h)) => h.framing,
            other => panic!("{other:?}"),
        };
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(to(ok, true), Framing::Length(0));
        assert_eq!(to(ok, false), Framing::Length(9));
        assert_eq!(to(b"HTTP/1.1 204 No\r\n\r\n", false), Framing::Length(0));
        let not = b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(to(not, false), Framing::Length(0));
    }

    #[test]
    fn interim_responses_count_as_part_of_the_head() {
        let bytes: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for n in 0..bytes.len() - 3 {
            assert_eq!(
                parse_response(&bytes[..n], false),
                Ok(Parsed::Partial),
                "{n}"
            );
        }
        assert_eq!(response(bytes).len, bytes.len() - 3);
        let up = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
        assert_eq!(parse_response(up, false), Err(Doubt::Upgrade));
        assert_eq!(
            parse_response(b"\r\nHTTP/1.1 200 OK", false),
            Err(Doubt::Malformed)
        );
    }

    #[test]
    fn only_strong_validators_count() {
        let validator = |fields: &str| {
            let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{fields}\r\n\r\n");
            response(bytes.as_bytes())
                .validator
                .map(|v| v.as_str().to_owned())
        };
        assert_eq!(validator("ETag: \"a-1\"").as_deref(), Some("\"a-1\""));
        assert_eq!(validator("ETag: W/\"a-1\""), None);
        assert_eq!(validator("ETag: a"), None);
        let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Date: Sun, 06 Nov 1994 08:49:38 GMT";
        let same = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
        assert!(validator(&format!("{modified}\r\n{later}")).is_some());
        assert_eq!(validator(&format!("{modified}\r\n{same}")), None);
        assert_eq!(validator(modified), None);
        // With a weak tag, a date may not be used (RFC 9110, section 13.1.5).
        assert_eq!(
            validator(&format!("ETag: W/\"a\"\r\n{modified}\r\n{later}")),
            None
        );
    }

    #[test]
    fn content_ranges() {
        let range = |v: &str| content_range(v.as_bytes());
        let want = ContentRange {
            first: 5,
            last: 9,
            total: 10,
        };
        assert_eq!(range("bytes 5-9/10"), Some(want));
        for bad in [
            "bytes 5-9/*",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "5-9/10",
            "",
        ] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_request_changes_nothing_else() {
        let tag = Validator::Etag("\"t\"".into());
        let head =
            b"GET /a HTTP/1.1\r\nHost: x\r\nrange: bytes=5-9\r\nIf-Range: \"o\"\r\nX: z\r\n\r\n";
        let out = range_request(head, 7, Some(9), &tag).unwrap();
        let want =
            "GET /a HTTP/1.1\r\nHost: x\r\nX: z\r\nRange: bytes=7-9\r\nIf-Range: \"t\"\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
        assert_eq!(range_request(b"GET / HTTP/1.1\r\n", 0, None, &tag), None);
    }
}
