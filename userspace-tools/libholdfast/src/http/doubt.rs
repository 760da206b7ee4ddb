// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Why a request or a response is left unprotected.

use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::HEAD_LIMIT;

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
