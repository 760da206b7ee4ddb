// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Heads as they are, as they should not be, and at random.

use super::response::content_range;
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
    let head = b"GET /a HTTP/1.1\r\nHost: x\r\nrange: bytes=5-9\r\nIf-Range: \"o\"\r\nX: z\r\n\r\n";
    let out = range_request(head, 7, Some(9), &tag).unwrap();
    let want = "GET /a HTTP/1.1\r\nHost: x\r\nX: z\r\nRange: bytes=7-9\r\nIf-Range: \"t\"\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), want);
    assert_eq!(range_request(b"GET / HTTP/1.1\r\n", 0, None, &tag), None);
}
