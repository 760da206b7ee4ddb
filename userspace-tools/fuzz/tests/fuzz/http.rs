// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Heads of requests and responses, split at any byte.

use holdfast_fuzz::{run, spoiled, Rng};
use libholdfast::http::{parse_request, parse_response, Doubt, Parsed};
use std::fmt::Debug;

const REQUESTS: [&[u8]; 6] = [
    b"GET /big HTTP/1.1\r\nHost: a.example\r\nRange: bytes=5-\r\nUser-Agent: curl/8.14\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nAccept: */*\r\nRange: bytes=0-1,5-6\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\nHost: a\nContent-Length: 0\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
];

const RESPONSES: [&[u8]; 5] = [
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 21 Nov 2026 04:46:07 GMT\r\n\
      Last-Modified: Fri, 20 Nov 2026 04:46:07 GMT\r\nContent-Length: 12\r\nETag: \"6a-1\"\r\n\r\nhello, world",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-10/200\r\nContent-Length: 6\r\nETag: W/\"1\"\r\n\r\nabcdef",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nContent-Type: text/html\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 18446744073709551615\r\n\r\n",
];

/// However the bytes come, in one piece or in many, the verdict is the same.
fn same_in_pieces<T: Clone + Debug + PartialEq>(
    rng: &mut Rng,
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<Parsed<T>, Doubt>,
    len: impl Fn(&T) -> usize,
) {
    let whole = parse(bytes);
    let mut cuts: Vec<usize> = (0..8)
        .map(|_| rng.below(bytes.len() as u64 + 1) as usize)
        .collect();
    if let Ok(Parsed::Head(head)) = &whole {
        let end = len(head);
        assert!(end <= bytes.len());
        cuts.extend([end.saturating_sub(1), end]);
    }
    for cut in cuts {
        match (parse(&bytes[..cut]), &whole) {
            (Ok(Parsed::Partial), Ok(Parsed::Head(head))) => assert!(cut < len(head)),
            (Ok(Parsed::Partial), _) => {}
            (Ok(Parsed::Head(part)), whole) => {
                assert!(len(&part) <= cut);
                assert_eq!(&Ok(Parsed::Head(part)), whole, "cut at {cut}");
            }
            (Err(why), whole) => {
                assert!(whole.is_err(), "cut at {cut}: {why}, but {whole:?}");
            }
        }
    }
}

/// A head as somebody spoiled it; now and then one of any size.
fn head(rng: &mut Rng, seeds: &[&[u8]]) -> Vec<u8> {
    let mut bytes = spoiled(rng, seeds);
    if rng.permille(50) {
        let fields = rng.below(400);
        let field = format!(
            "X-{}: {}\r\n",
            rng.below(1000),
            "y".repeat(rng.below(200) as usize)
        );
        let at = bytes.iter().position(|b| *b == b'\n').map_or(0, |p| p + 1);
        bytes.splice(at..at, field.repeat(fields as usize).into_bytes());
    }
    bytes
}

#[test]
fn requests() {
    run("requests", |rng| {
        let bytes = head(rng, &REQUESTS);
        same_in_pieces(rng, &bytes, parse_request, |h| h.len);
    });
}

#[test]
fn responses() {
    run("responses", |rng| {
        let bytes = head(rng, &RESPONSES);
        let to_head = rng.permille(200);
        same_in_pieces(rng, &bytes, |b| parse_response(b, to_head), |h| h.len);
    });
}
