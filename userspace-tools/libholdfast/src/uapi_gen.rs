// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)

//! Numbers of the generic netlink family `holdfast`.
//!
//! Made by `scripts/ynl-regen` from `Documentation/netlink/specs/holdfast.yaml`:
//! do not edit.

/// Name of the family.
pub const FAMILY_NAME: &str = "holdfast";
/// Version of the family.
pub const FAMILY_VERSION: u8 = 1;
/// Name of the multicast group `events`.
pub const MCGRP_EVENTS: &str = "events";

/// `service-get`: Show one service, or all.
pub const CMD_SERVICE_GET: u8 = 1;
/// `service-add`: Protect a service, or change the policy of one that is. What is not given
/// keeps its value. The service as it is now is echoed.
pub const CMD_SERVICE_ADD: u8 = 2;
/// `service-del`: Stop protecting a service. Fails with EBUSY while a flow would break.
pub const CMD_SERVICE_DEL: u8 = 3;
/// `service-ntf`: A service was added, changed or removed (then without a mode).
pub const CMD_SERVICE_NTF: u8 = 4;
/// `flow-get`: Show one flow, or all.
pub const CMD_FLOW_GET: u8 = 5;
/// `flow-ntf`: A flow changed its phase.
pub const CMD_FLOW_NTF: u8 = 6;
/// `flow-commit`: The record of the response that begins at object-start is safe: its bytes may
/// leave. object-end, if given, is where the next response begins and is gated. Flows that are
/// gone or have moved on are skipped.
pub const CMD_FLOW_COMMIT: u8 = 7;
/// `flow-locate`: Take over a flow of a dead node and make its client say where it stands: a
/// probe is sent and repeated, and the first packet of the client is reported in the log.
pub const CMD_FLOW_LOCATE: u8 = 8;
/// `flow-recover`: Open a connection to the local server in the client's name and send it the
/// request. The answer comes through the log. Without a request the flow is joined at "at" as
/// soon as the connection is open. A connection that was opened so before and is not joined yet
/// is reset first.
pub const CMD_FLOW_RECOVER: u8 = 9;
/// `flow-join`: Send the prefix to the client from "at" on, then join the client to the byte of
/// the answer that follows answer-length and skip. Fails with EAGAIN if more of the answer has
/// come meanwhile: read the log and ask again.
pub const CMD_FLOW_JOIN: u8 = 10;
/// `flow-end`: Give a flow up. With an id: unless another one has its name by now (ENOENT).
pub const CMD_FLOW_END: u8 = 11;
/// `splice-add`: Translate a flow that is to come, in a router or a server: from its SYN on the
/// deltas are added.
pub const CMD_SPLICE_ADD: u8 = 12;
/// `splice-del`: Forget a flow made by splice-add.
pub const CMD_SPLICE_DEL: u8 = 13;
/// `stats-get`: All counters of the namespace.
pub const CMD_STATS_GET: u8 = 14;

/// `addr` of `service`: IPv4 (4 bytes) or IPv6 (16 bytes) address, network byte order.
pub const A_SERVICE_ADDR: u16 = 1;
/// `port` of `service`.
pub const A_SERVICE_PORT: u16 = 2;
/// `mode` of `service`.
pub const A_SERVICE_MODE: u16 = 3;
/// `commit` of `service`.
pub const A_SERVICE_COMMIT: u16 = 4;
/// `hold-ms` of `service`: Longest time in milliseconds that the first bytes of a response wait
/// for flow-commit; then they leave and the response is unprotected, counted.
pub const A_SERVICE_HOLD_MS: u16 = 5;
/// `verdict-ms` of `service`: Longest time in milliseconds that an orphan waits for a verdict;
/// then the local stack sees its packets.
pub const A_SERVICE_VERDICT_MS: u16 = 6;
/// `head-limit` of `service`: Most bytes of a response that are logged from its start.
pub const A_SERVICE_HEAD_LIMIT: u16 = 7;
/// `request-limit` of `service`: Most bytes of a request that the ack gate holds.
pub const A_SERVICE_REQUEST_LIMIT: u16 = 8;
/// `flows` of `service`: Number of flows of this service now (in replies).
pub const A_SERVICE_FLOWS: u16 = 9;
/// `head-end` of `service`: The four bytes by which the head of a response ends, the first one
/// highest; 0: all of a response is logged up to head-limit.
pub const A_SERVICE_HEAD_END: u16 = 10;
/// `body-whole` of `service`: If more bytes than these follow the head in its packet,
pub const A_SERVICE_BODY_WHOLE: u16 = 11;
/// `body-part` of `service`: only so many of them are logged.
pub const A_SERVICE_BODY_PART: u16 = 12;

/// `mss` of `options`: The client's maximum segment size in bytes.
pub const A_OPTIONS_MSS: u16 = 1;
/// `wscale-client` of `options`: The client's window scale; absent if it offered none.
pub const A_OPTIONS_WSCALE_CLIENT: u16 = 2;
/// `wscale-service` of `options`: The window scale that the client was told by the service.
pub const A_OPTIONS_WSCALE_SERVICE: u16 = 3;
/// `sack` of `options`.
pub const A_OPTIONS_SACK: u16 = 4;
/// `timestamps` of `options`.
pub const A_OPTIONS_TIMESTAMPS: u16 = 5;

/// `id` of `flow`: Number of the flow, unique in its namespace since the module was loaded.
/// Another connection of the same name has another one.
pub const A_FLOW_ID: u16 = 1;
/// `client-addr` of `flow`.
pub const A_FLOW_CLIENT_ADDR: u16 = 2;
/// `client-port` of `flow`.
pub const A_FLOW_CLIENT_PORT: u16 = 3;
/// `service-addr` of `flow`.
pub const A_FLOW_SERVICE_ADDR: u16 = 4;
/// `service-port` of `flow`.
pub const A_FLOW_SERVICE_PORT: u16 = 5;
/// `phase` of `flow`.
pub const A_FLOW_PHASE: u16 = 6;
/// `generation` of `flow`: Raised by each takeover; an older one never overwrites a newer one.
pub const A_FLOW_GENERATION: u16 = 7;
/// `event` of `flow`.
pub const A_FLOW_EVENT: u16 = 8;
/// `c2s-next` of `flow`: Position of the next byte expected from the client.
pub const A_FLOW_C2S_NEXT: u16 = 9;
/// `s2c-next` of `flow`: Position after the newest byte sent to the client.
pub const A_FLOW_S2C_NEXT: u16 = 10;
/// `s2c-acked` of `flow`: Position of the next byte that the client expects.
pub const A_FLOW_S2C_ACKED: u16 = 11;
/// `object-start` of `flow`: Position of the first byte of the current response.
pub const A_FLOW_OBJECT_START: u16 = 12;
/// `object-end` of `flow`: Position after the last byte of the current response; absent if
/// unknown.
pub const A_FLOW_OBJECT_END: u16 = 13;
/// `data-gate` of `flow`: Position beyond which server bytes may not leave; absent if open.
pub const A_FLOW_DATA_GATE: u16 = 14;
/// `ack-gate` of `flow`: Position beyond which the client is told nothing; absent if open.
pub const A_FLOW_ACK_GATE: u16 = 15;
/// `delta-c2s` of `flow`: Added to c2s sequence numbers towards the local side (mod 2^32).
pub const A_FLOW_DELTA_C2S: u16 = 16;
/// `delta-s2c` of `flow`: Added to s2c sequence numbers towards the client (mod 2^32).
pub const A_FLOW_DELTA_S2C: u16 = 17;
/// `delta-ts` of `flow`: Added to s2c timestamps towards the client (mod 2^32).
pub const A_FLOW_DELTA_TS: u16 = 18;
/// `options` of `flow`.
pub const A_FLOW_OPTIONS: u16 = 19;
/// `tsval` of `flow`: The client's newest timestamp value.
pub const A_FLOW_TSVAL: u16 = 20;
/// `tsecr` of `flow`: The newest timestamp echo that the client sent (client space).
pub const A_FLOW_TSECR: u16 = 21;
/// `ts-age` of `flow`: Milliseconds since tsecr was new.
pub const A_FLOW_TS_AGE: u16 = 22;
/// `at` of `flow`: The client's next expected byte, where the answer is joined.
pub const A_FLOW_AT: u16 = 23;
/// `probe-seq` of `flow`: Sequence number of the probe; strictly below what the client expects.
pub const A_FLOW_PROBE_SEQ: u16 = 24;
/// `request` of `flow`: What the ghost sends to the server; absent or empty sends nothing.
pub const A_FLOW_REQUEST: u16 = 25;
/// `prefix` of `flow`: What is sent to the client from "at" on before the server's own bytes.
pub const A_FLOW_PREFIX: u16 = 26;
/// `answer-length` of `flow`: Bytes of the server's answer that the prefix accounts for.
pub const A_FLOW_ANSWER_LENGTH: u16 = 27;
/// `answer-window` of `flow`: Bytes of the answer that the ghost takes before flow-join.
pub const A_FLOW_ANSWER_WINDOW: u16 = 28;
/// `verdict` of `flow`.
pub const A_FLOW_VERDICT: u16 = 29;
/// `reason` of `flow`: Number of the counter that says why a flow failed.
pub const A_FLOW_REASON: u16 = 30;
/// `local-port` of `flow`: Port on the loopback address of a listening socket that gets the
/// connection in place of the service's own; absent if that does.
pub const A_FLOW_LOCAL_PORT: u16 = 31;
/// `skip` of `flow`: Bytes of the answer behind answer-length that the client has already: they
/// are acknowledged and discarded before anything is joined.
pub const A_FLOW_SKIP: u16 = 32;
/// `anywhere` of `flow`: Where the client is in either stream is not known: any word of it is
/// reported.
pub const A_FLOW_ANYWHERE: u16 = 33;

/// `id` of `release`.
pub const A_RELEASE_ID: u16 = 1;
/// `client-addr` of `release`.
pub const A_RELEASE_CLIENT_ADDR: u16 = 2;
/// `client-port` of `release`.
pub const A_RELEASE_CLIENT_PORT: u16 = 3;
/// `service-addr` of `release`.
pub const A_RELEASE_SERVICE_ADDR: u16 = 4;
/// `service-port` of `release`.
pub const A_RELEASE_SERVICE_PORT: u16 = 5;
/// `object-start` of `release`: Position of the first byte of the response; absent if no byte
/// of it came yet (then only the ack gate is meant).
pub const A_RELEASE_OBJECT_START: u16 = 6;
/// `object-end` of `release`: Where the next response begins, and is gated; absent if unknown.
pub const A_RELEASE_OBJECT_END: u16 = 7;
/// `unprotected` of `release`: Open both gates and log nothing more; the flow cannot be
/// continued.
pub const A_RELEASE_UNPROTECTED: u16 = 8;
/// `ack-release` of `release`: Open the ack gate at once; the request is not one that can be
/// held.
pub const A_RELEASE_ACK_RELEASE: u16 = 9;
/// `broken-off` of `release`: The service has closed before the head of the response at object-
/// start was complete: what is held of it is a loss of the service, not an answer.
pub const A_RELEASE_BROKEN_OFF: u16 = 10;

/// `release` of `batch`.
pub const A_BATCH_RELEASE: u16 = 1;

/// `name` of `stat`.
pub const A_STAT_NAME: u16 = 1;
/// `value` of `stat`.
pub const A_STAT_VALUE: u16 = 2;

/// What is done to the flows of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Mode {
    /// Log and count; change, hold and answer nothing.
    Observe = 0,
    /// Gate, catch orphans and recover.
    Protect = 1,
}

impl Mode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Observe, Self::Protect];

    /// The name that tools show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Protect => "protect",
        }
    }

    /// The one with this number, if there is one.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|v| *v as u32 == raw)
    }
}

/// When the first bytes of a response may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Commit {
    /// At once; a crash before the record is safe is a counted reset.
    Eager = 0,
    /// Once flow-commit says that the record is safe.
    Strict = 1,
}

impl Commit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Eager, Self::Strict];

    /// The name that tools show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Strict => "strict",
        }
    }

    /// The one with this number, if there is one.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|v| *v as u32 == raw)
    }
}

/// The life of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Phase {
    /// A SYN was seen; the handshake is not complete.
    Opening = 0,
    /// Served by a local socket, translated or not.
    Open = 1,
    /// Packets without a local socket; waits for a verdict.
    Orphan = 2,
    /// Probed; waits for the client to say where it stands.
    Locating = 3,
    /// The client has spoken; waits for flow-recover.
    Located = 4,
    /// A connection to the server is opened in the client's name.
    Ghost = 5,
    /// The prefix travels to the client; then the flow is open again.
    Joining = 6,
    /// Both directions are finished or the flow was reset.
    Closing = 7,
    /// Declared not ours; left to the stack.
    Passing = 8,
}

impl Phase {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Opening,
        Self::Open,
        Self::Orphan,
        Self::Locating,
        Self::Located,
        Self::Ghost,
        Self::Joining,
        Self::Closing,
        Self::Passing,
    ];

    /// The name that tools show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Orphan => "orphan",
            Self::Locating => "locating",
            Self::Located => "located",
            Self::Ghost => "ghost",
            Self::Joining => "joining",
            Self::Closing => "closing",
            Self::Passing => "passing",
        }
    }

    /// The one with this number, if there is one.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|v| *v as u32 == raw)
    }
}

/// How a flow is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// Forget it; the local stack answers its packets.
    Pass = 0,
    /// Send a reset to the client and to the local socket, then forget it.
    Reset = 1,
    /// Drop the local socket without a word to the client, then forget it.
    Abandon = 2,
}

impl Verdict {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Reset, Self::Abandon];

    /// The name that tools show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Reset => "reset",
            Self::Abandon => "abandon",
        }
    }

    /// The one with this number, if there is one.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|v| *v as u32 == raw)
    }
}

/// Why a flow notification was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Event {
    /// `opened`.
    Opened = 0,
    /// `located`.
    Located = 1,
    /// `recovering`.
    Recovering = 2,
    /// `spliced`.
    Spliced = 3,
    /// `failed`.
    Failed = 4,
    /// `closed`.
    Closed = 5,
}

impl Event {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Opened,
        Self::Located,
        Self::Recovering,
        Self::Spliced,
        Self::Failed,
        Self::Closed,
    ];

    /// The name that tools show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Located => "located",
            Self::Recovering => "recovering",
            Self::Spliced => "spliced",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }

    /// The one with this number, if there is one.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|v| *v as u32 == raw)
    }
}

/// The attributes of a set, by which errors tell them.
#[derive(Debug)]
pub struct AttrSet {
    /// Number, name, and what is nested in it.
    pub attrs: &'static [(u16, &'static str, Nested<'static>)],
}

/// What an attribute holds.
#[derive(Clone, Copy, Debug)]
pub enum Nested<'a> {
    /// A value.
    None,
    /// Attributes of a set.
    Set(&'a AttrSet),
    /// An array, each entry of which has attributes of a set.
    Array(&'a AttrSet),
}

/// The attributes of `service`.
pub static SERVICE_ATTRS: AttrSet = AttrSet {
    attrs: &[
        (A_SERVICE_ADDR, "addr", Nested::None),
        (A_SERVICE_PORT, "port", Nested::None),
        (A_SERVICE_MODE, "mode", Nested::None),
        (A_SERVICE_COMMIT, "commit", Nested::None),
        (A_SERVICE_HOLD_MS, "hold-ms", Nested::None),
        (A_SERVICE_VERDICT_MS, "verdict-ms", Nested::None),
        (A_SERVICE_HEAD_LIMIT, "head-limit", Nested::None),
        (A_SERVICE_REQUEST_LIMIT, "request-limit", Nested::None),
        (A_SERVICE_FLOWS, "flows", Nested::None),
        (A_SERVICE_HEAD_END, "head-end", Nested::None),
        (A_SERVICE_BODY_WHOLE, "body-whole", Nested::None),
        (A_SERVICE_BODY_PART, "body-part", Nested::None),
    ],
};

/// The attributes of `options`.
pub static OPTIONS_ATTRS: AttrSet = AttrSet {
    attrs: &[
        (A_OPTIONS_MSS, "mss", Nested::None),
        (A_OPTIONS_WSCALE_CLIENT, "wscale-client", Nested::None),
        (A_OPTIONS_WSCALE_SERVICE, "wscale-service", Nested::None),
        (A_OPTIONS_SACK, "sack", Nested::None),
        (A_OPTIONS_TIMESTAMPS, "timestamps", Nested::None),
    ],
};

/// The attributes of `flow`.
pub static FLOW_ATTRS: AttrSet = AttrSet {
    attrs: &[
        (A_FLOW_ID, "id", Nested::None),
        (A_FLOW_CLIENT_ADDR, "client-addr", Nested::None),
        (A_FLOW_CLIENT_PORT, "client-port", Nested::None),
        (A_FLOW_SERVICE_ADDR, "service-addr", Nested::None),
        (A_FLOW_SERVICE_PORT, "service-port", Nested::None),
        (A_FLOW_PHASE, "phase", Nested::None),
        (A_FLOW_GENERATION, "generation", Nested::None),
        (A_FLOW_EVENT, "event", Nested::None),
        (A_FLOW_C2S_NEXT, "c2s-next", Nested::None),
        (A_FLOW_S2C_NEXT, "s2c-next", Nested::None),
        (A_FLOW_S2C_ACKED, "s2c-acked", Nested::None),
        (A_FLOW_OBJECT_START, "object-start", Nested::None),
        (A_FLOW_OBJECT_END, "object-end", Nested::None),
        (A_FLOW_DATA_GATE, "data-gate", Nested::None),
        (A_FLOW_ACK_GATE, "ack-gate", Nested::None),
        (A_FLOW_DELTA_C2S, "delta-c2s", Nested::None),
        (A_FLOW_DELTA_S2C, "delta-s2c", Nested::None),
        (A_FLOW_DELTA_TS, "delta-ts", Nested::None),
        (A_FLOW_OPTIONS, "options", Nested::Set(&OPTIONS_ATTRS)),
        (A_FLOW_TSVAL, "tsval", Nested::None),
        (A_FLOW_TSECR, "tsecr", Nested::None),
        (A_FLOW_TS_AGE, "ts-age", Nested::None),
        (A_FLOW_AT, "at", Nested::None),
        (A_FLOW_PROBE_SEQ, "probe-seq", Nested::None),
        (A_FLOW_REQUEST, "request", Nested::None),
        (A_FLOW_PREFIX, "prefix", Nested::None),
        (A_FLOW_ANSWER_LENGTH, "answer-length", Nested::None),
        (A_FLOW_ANSWER_WINDOW, "answer-window", Nested::None),
        (A_FLOW_VERDICT, "verdict", Nested::None),
        (A_FLOW_REASON, "reason", Nested::None),
        (A_FLOW_LOCAL_PORT, "local-port", Nested::None),
        (A_FLOW_SKIP, "skip", Nested::None),
        (A_FLOW_ANYWHERE, "anywhere", Nested::None),
    ],
};

/// The attributes of `release`.
pub static RELEASE_ATTRS: AttrSet = AttrSet {
    attrs: &[
        (A_RELEASE_ID, "id", Nested::None),
        (A_RELEASE_CLIENT_ADDR, "client-addr", Nested::None),
        (A_RELEASE_CLIENT_PORT, "client-port", Nested::None),
        (A_RELEASE_SERVICE_ADDR, "service-addr", Nested::None),
        (A_RELEASE_SERVICE_PORT, "service-port", Nested::None),
        (A_RELEASE_OBJECT_START, "object-start", Nested::None),
        (A_RELEASE_OBJECT_END, "object-end", Nested::None),
        (A_RELEASE_UNPROTECTED, "unprotected", Nested::None),
        (A_RELEASE_ACK_RELEASE, "ack-release", Nested::None),
        (A_RELEASE_BROKEN_OFF, "broken-off", Nested::None),
    ],
};

/// The attributes of `batch`.
pub static BATCH_ATTRS: AttrSet = AttrSet {
    attrs: &[(A_BATCH_RELEASE, "release", Nested::Array(&RELEASE_ATTRS))],
};

/// The attributes of `stat`.
pub static STAT_ATTRS: AttrSet = AttrSet {
    attrs: &[
        (A_STAT_NAME, "name", Nested::None),
        (A_STAT_VALUE, "value", Nested::None),
    ],
};

/// Name and attributes of the command with this number.
pub fn command(cmd: u8) -> Option<(&'static str, &'static AttrSet)> {
    Some(match cmd {
        CMD_SERVICE_GET => ("service-get", &SERVICE_ATTRS),
        CMD_SERVICE_ADD => ("service-add", &SERVICE_ATTRS),
        CMD_SERVICE_DEL => ("service-del", &SERVICE_ATTRS),
        CMD_FLOW_GET => ("flow-get", &FLOW_ATTRS),
        CMD_FLOW_COMMIT => ("flow-commit", &BATCH_ATTRS),
        CMD_FLOW_LOCATE => ("flow-locate", &FLOW_ATTRS),
        CMD_FLOW_RECOVER => ("flow-recover", &FLOW_ATTRS),
        CMD_FLOW_JOIN => ("flow-join", &FLOW_ATTRS),
        CMD_FLOW_END => ("flow-end", &FLOW_ATTRS),
        CMD_SPLICE_ADD => ("splice-add", &FLOW_ATTRS),
        CMD_SPLICE_DEL => ("splice-del", &FLOW_ATTRS),
        CMD_STATS_GET => ("stats-get", &STAT_ATTRS),
        _ => return None,
    })
}
