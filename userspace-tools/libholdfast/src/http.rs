// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! As much of HTTP/1 as a continuation needs: where a request ends, where its response ends,
//! and whether a byte range of that response can be asked for again (RFC 9110, RFC 9112).
//!
//! Everything here judges bytes that somebody else's software understands too, so that doubt
//! is always an error: what two readers could frame differently is not protected.

mod content;
mod doubt;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use content::same_content;
pub use doubt::Doubt;
pub use request::{parse_request, range_request, Asked, RequestHead};
pub use response::{parse_response, ContentRange, Framing, ResponseHead, Validator};

/// Most bytes of a head, request or response, that are looked at.
pub const HEAD_LIMIT: usize = 16 * 1024;

/// Most header fields of a head.
const FIELDS: usize = 96;

/// What some bytes from the start of a head are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A beginning; more bytes will tell.
    Partial,
    /// A complete head.
    Head(T),
}

fn is(field: &httparse::Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .map(|s| s.trim_matches([' ', '\t']))
}
