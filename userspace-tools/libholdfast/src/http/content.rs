// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Whether two heads announce the same bytes.
//!
//! Two answers to one request, of servers that always answer alike, differ where they say when
//! and by whom they were made (Date, Server, Via, Age, cookies). What they say of the content and
//! of how it is sent must agree to the letter: a difference there is a difference of the bytes,
//! or a sign of one.

use super::{ResponseHead, FIELDS};

/// Fields that speak of the content besides all those whose names begin with "content-":
/// framing (RFC 9112, section 6), validators (RFC 9110, section 8.8), digests (RFC 9530, RFC 3230).
const OTHERS: [&str; 6] = [
    "transfer-encoding",
    "trailer",
    "etag",
    "last-modified",
    "repr-digest",
    "digest",
];

/// What the head `head`, the first bytes of `response`, says of its content: names in lower case
/// and values, ordered by name. `None`: it cannot be read again.
fn told(response: &[u8], head: &ResponseHead) -> Option<Vec<(String, Vec<u8>)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    parsed.parse(response.get(head.start..head.len)?).ok()?;
    let named = |f: &httparse::Header<'_>| (f.name.to_ascii_lowercase(), f.value.to_vec());
    let mut told: Vec<_> = parsed.headers.iter().map(named).collect();
    told.retain(|(name, _)| name.starts_with("content-") || OTHERS.contains(&name.as_str()));
    // Of fields with one name the order counts.
    told.sort_by(|a, b| a.0.cmp(&b.0));
    Some(told)
}

/// Whether the answers that begin with `a` and `b`, whose heads are known, have the same status
/// and say the same of their content.
pub fn same_content(a: (&[u8], &ResponseHead), b: (&[u8], &ResponseHead)) -> bool {
    let alike = a.1.status == b.1.status && a.1.framing == b.1.framing;
    let told = told(a.0, a.1);
    alike && told.is_some() && told == self::told(b.0, b.1)
}

#[cfg(test)]
mod tests {
    use super::super::{parse_response, Parsed};
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        let whole = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
        let (a, b) = (whole(a), whole(b));
        let head = |bytes: &[u8]| match parse_response(bytes, false) {
            Ok(Parsed::Head(head)) => head,
            other => panic!("{other:?}"),
        };
        same_content((&a, &head(&a)), (&b, &head(&b)))
    }

    #[test]
    fn what_does_not_speak_of_the_content_may_differ() {
        let a = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: W/\"a\"\r\nContent-Type: x\r\n";
        let b = "content-type: x\r\nServer: y\r\nSet-Cookie: z\r\netag: W/\"a\"\r\n";
        assert!(same(a, b));
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let head = |bytes: &[u8]| match parse_response(bytes, false) {
            Ok(Parsed::Head(head)) => head,
            other => panic!("{other:?}"),
        };
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n".to_vec();
        let hinted = [early.as_bytes(), &plain].concat();
        let heads = (head(&plain), head(&hinted));
        assert!(same_content((&plain, &heads.0), (&hinted, &heads.1)));
    }

    #[test]
    fn what_speaks_of_the_content_must_agree() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        assert!(same(chunked, chunked));
        for (a, b) in [
            (chunked, ""),
            (chunked, "Content-Length: 4\r\n"),
            ("Content-Length: 5\r\n", "Content-Length: 4\r\n"),
            ("ETag: W/\"a\"\r\n", "ETag: W/\"b\"\r\n"),
            ("ETag: W/\"a\"\r\n", ""),
            ("Last-Modified: x\r\n", "Last-Modified: y\r\n"),
            ("Content-Encoding: gzip\r\n", "Content-Encoding: br\r\n"),
            ("Content-Range: bytes 0-1/2\r\n", ""),
            ("Content-Language: de\r\n", "Content-Language: en\r\n"),
            (
                "Repr-Digest: sha-256=:a=:\r\n",
                "Repr-Digest: sha-256=:b=:\r\n",
            ),
            (
                "Content-Type: multipart/byteranges; boundary=a\r\n",
                "Content-Type: multipart/byteranges; boundary=b\r\n",
            ),
        ] {
            assert!(!same(a, b) && !same(b, a), "{a:?} {b:?}");
        }
    }
}
