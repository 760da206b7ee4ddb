// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The head of a request: what it asks for, where it ends, and how a part of it is asked for again.

use serde::{Deserialize, Serialize};

use super::{is, text, Doubt, Parsed, Validator, FIELDS, HEAD_LIMIT};

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
