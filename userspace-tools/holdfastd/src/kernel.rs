// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What the daemon wants of the kernel module: a trait, so that everything above it runs
//! against a stand-in too.

use std::net::SocketAddr;

use libholdfast::http::Doubt;
use libholdfast::record::{Clock, Record};
use libholdfast::recovery::Word;
use libholdfast::tracker::Release;
use libholdfast::types::{FlowKey, TcpOptions};

use crate::config::Service;

/// Why the kernel did not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// More of the answer has come: read the log and ask again.
    Again,
    /// Positions do not fit what the flow has come to, in words.
    Misfit(String),
    /// Anything else, in words.
    Other(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Again => f.write_str("again"),
            Refused::Misfit(why) | Refused::Other(why) => f.write_str(why),
        }
    }
}

/// A verdict of `flow-end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stack answers.
    Pass,
    /// Reset the client.
    Reset,
    /// Drop the socket without a word to the client.
    Abandon,
}

/// A flow that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowInfo {
    pub id: u64,
    pub key: FlowKey,
    pub generation: u32,
    pub options: TcpOptions,
    /// Its client's timestamps, if there are any.
    pub clock: Option<Clock>,
    pub c2s_next: u64,
    pub s2c_acked: u64,
    /// Served by a local socket.
    pub open: bool,
    /// Its handshake is under way.
    pub opening: bool,
}

/// What is asked of `flow-recover`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recover<'a> {
    pub record: &'a Record,
    pub ts_age: u32,
    pub at: u64,
    pub c2s_next: u64,
    /// Empty: join at once.
    pub request: &'a [u8],
    pub window: u32,
    /// Port of the loopback listener that the connection is for; `None`: the local server.
    pub local_port: Option<u16>,
}

/// What is asked of `flow-join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice<'a> {
    pub id: u64,
    pub key: FlowKey,
    pub prefix: &'a [u8],
    pub answer_length: u64,
    /// Bytes of the answer behind them that are discarded.
    pub skip: u64,
    pub object_start: u64,
    pub object_end: Option<u64>,
}

/// The operations of the family that the daemon uses. None of them blocks for long.
pub trait Kernel {
    /// Protects a service, or changes its policy.
    fn service_add(&mut self, service: &Service) -> Result<(), Refused>;
    /// Protects a service no more.
    fn service_del(&mut self, service: SocketAddr) -> Result<(), Refused>;
    /// The counters of the module.
    fn stats(&mut self) -> Result<Vec<(String, u64)>, Refused>;
    /// Bytes in the log that were not read yet, as of the last look, and bytes that fit.
    fn log_fill(&self) -> (u64, u64);
    /// The flows that are there.
    fn flows(&mut self) -> Result<Vec<FlowInfo>, Refused>;
    /// Lets go what is safe.
    fn commit(&mut self, releases: &[(u64, FlowKey, Release)]) -> Result<(), Refused>;
    /// Makes a client say where it stands. The number of the flow.
    fn locate(&mut self, record: &Record, ts_age: u32, probe_seq: u32) -> Result<u64, Refused>;
    /// Connects in the client's name. The number of the flow.
    fn recover(&mut self, ask: &Recover<'_>) -> Result<u64, Refused>;
    /// Joins the answer to the client.
    fn join(&mut self, splice: &Splice<'_>) -> Result<(), Refused>;
    /// Gives a flow up: the one with the number `flow`, or whichever is there.
    fn end(&mut self, flow: Option<u64>, key: &FlowKey, verdict: Verdict) -> Result<(), Refused>;
}

/// The name and options of a flow, as some entries of the log bring them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desc {
    pub key: FlowKey,
    pub generation: u32,
    pub options: TcpOptions,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the flow.
    pub flow: u64,
    /// Monotonic clock in nanoseconds.
    pub time: i64,
    /// Entries lost so far.
    pub lost: u64,
    pub what: What,
}

/// What an entry tells; see `rust/core/ring.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Opened {
        desc: Desc,
        start: u64,
        request: u64,
        ts: Option<(u32, u32)>,
    },
    C2s {
        pos: u64,
        ack: u64,
        data: Vec<u8>,
        ts: Option<(u32, u32)>,
    },
    S2c {
        pos: u64,
        ack: u64,
        data: Vec<u8>,
    },
    /// The service has closed, and that waits for a commit.
    Closing {
        pos: u64,
        ack: u64,
    },
    Object {
        start: u64,
        request: u64,
    },
    Orphan {
        desc: Desc,
        word: Word,
        ts: Option<(u32, u32)>,
    },
    Located {
        desc: Desc,
        word: Word,
        ts: Option<(u32, u32)>,
    },
    /// A connection was opened in the client's name: what answers came before are another's.
    Asked,
    Answer {
        pos: u64,
        data: Vec<u8>,
        fin: bool,
    },
    Spliced {
        pos: u64,
    },
    Failed {
        why: Failure,
    },
    /// `ended`: by its peers; otherwise it was abandoned or forgotten.
    Closed {
        ended: bool,
    },
    /// The local server has closed before it should have; that is held back.
    Lost {
        acked: u64,
    },
    Progress {
        acked: u64,
        ts: Option<(u32, u32)>,
    },
    Unprotected {
        reason: u32,
    },
}

/// Why the kernel could not continue a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The local server did not want the connection; the client still waits.
    Server,
    /// The client did not answer the probes; it may speak later.
    Silent,
    /// The number of a counter; the client was reset.
    Reset(u32),
}

/// The name of a count of unprotected flows and responses.
pub fn doubt_counter(doubt: Doubt) -> String {
    format!("unprotected-{doubt}")
}
