// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The head of a response: where its content ends, and what tells its representation apart.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{is, text, Doubt, Parsed, FIELDS, HEAD_LIMIT};

/// A Last-Modified is a strong validator if the response was made at least this much later
/// (RFC 9110, section 8.8.2.2).
const STRONG_DATE_GAP: Duration = Duration::from_secs(1);

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
    /// Where the final head begins: behind the interim ones.
    pub start: usize,
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
        let (begin, end) = (start, start + len);
        start = end;
        match head.code {
            Some(101) => return Err(Doubt::Upgrade),
            Some(100..=199) => continue,
            Some(status @ 200..=599) => {
                return final_head(begin..end, status, &head, to_head).map(Parsed::Head);
            }
            _ => return Err(Doubt::Malformed),
        }
    }
}

fn final_head(
    place: Range<usize>,
    status: u16,
    head: &httparse::Response<'_, '_>,
    to_head: bool,
) -> Result<ResponseHead, Doubt> {
    let http10 = head.version == Some(0);
    let mut out = ResponseHead {
        len: place.end,
        start: place.start,
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
pub(super) fn content_range(value: &[u8]) -> Option<ContentRange> {
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
