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
//! A service that always answers alike can be asked for all of it instead. Then the kernel
//! discards what lies between the bytes that were seen and `a`:
//!
//! ```text
//!   answer           [ head' | body that is seen | skipped .... | server's own .... ]
//!                                                              a
//! ```
//!
//! A client may hold bytes of the original beyond `a` that arrived out of order. They are
//! merged with what we send, so that from `a` on only bytes of the *same* response may follow,
//! once one of its bytes may have left.

mod judge;
mod plan;
#[cfg(test)]
mod tests;

use crate::http::Doubt;
use crate::record::Record;

pub use judge::judge;
pub use plan::plan;

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
    /// The same answer, from its first byte on.
    Replay,
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
    /// Bytes of the answer behind them that the client has already.
    pub skip: u64,
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
    /// An answer with another status than the recorded one (the status of the answer).
    OtherStatus(u16),
    /// An answer whose head speaks of another content than the recorded one.
    OtherContent,
    /// Bytes of the answer differ from bytes of the record.
    WrongBytes,
    /// The server closed before its answer was complete.
    Closed,
}

impl Refusal {
    /// One of each kind, with particulars that mean nothing.
    pub const EACH: [Refusal; 13] = [
        Refusal::Unprotected(Doubt::Lost),
        Refusal::Ahead,
        Refusal::RequestLost,
        Refusal::Escaped,
        Refusal::Answer(Doubt::Malformed),
        Refusal::Missing(404),
        Refusal::NotPartial(200),
        Refusal::WrongRange,
        Refusal::WrongValidator,
        Refusal::OtherStatus(200),
        Refusal::OtherContent,
        Refusal::WrongBytes,
        Refusal::Closed,
    ];

    /// Whether another server may well give a right answer: this one lacks the object, has another
    /// one, or says something else than it should.
    pub fn is_of_the_server(self) -> bool {
        match self {
            Refusal::Answer(_)
            | Refusal::Missing(_)
            | Refusal::NotPartial(_)
            | Refusal::WrongRange
            | Refusal::WrongValidator
            | Refusal::OtherStatus(_)
            | Refusal::OtherContent
            | Refusal::WrongBytes => true,
            Refusal::Unprotected(_)
            | Refusal::Ahead
            | Refusal::RequestLost
            | Refusal::Escaped
            | Refusal::Closed => false,
        }
    }

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
            Refusal::OtherStatus(_) => "other-status",
            Refusal::OtherContent => "other-content",
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
            Refusal::Missing(s) | Refusal::NotPartial(s) | Refusal::OtherStatus(s) => {
                write!(f, " (status {s})")
            }
            _ => Ok(()),
        }
    }
}
