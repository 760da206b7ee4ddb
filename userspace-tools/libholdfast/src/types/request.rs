// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What the module is asked to do with a flow.

use super::{put_some, FlowKey, TcpOptions};
use crate::attr::Writer;
use crate::uapi_gen as nl;

/// A response whose record is safe, or a flow that is to be let go (`flow-commit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Number of the flow; if given and another flow has the name by now, nothing happens.
    pub id: Option<u64>,
    /// The 4-tuple.
    pub key: FlowKey,
    /// Position of the first byte of the response; `None`: only the ack gate is meant.
    pub object_start: Option<u64>,
    /// Where the next response begins, and is gated.
    pub object_end: Option<u64>,
    /// Open both gates and log nothing more.
    pub unprotected: bool,
    /// Open the ack gate.
    pub ack_release: bool,
    /// The service closed inside the head of the response: it is lost.
    pub broken_off: bool,
}

impl Release {
    pub(crate) fn put(&self, w: &mut Writer) {
        put_some(w, Writer::u64, nl::A_RELEASE_ID, self.id);
        w.socket(
            nl::A_RELEASE_CLIENT_ADDR,
            nl::A_RELEASE_CLIENT_PORT,
            self.key.client,
        );
        w.socket(
            nl::A_RELEASE_SERVICE_ADDR,
            nl::A_RELEASE_SERVICE_PORT,
            self.key.service,
        );
        put_some(
            w,
            Writer::u64,
            nl::A_RELEASE_OBJECT_START,
            self.object_start,
        );
        put_some(w, Writer::u64, nl::A_RELEASE_OBJECT_END, self.object_end);
        w.flag(nl::A_RELEASE_UNPROTECTED, self.unprotected);
        w.flag(nl::A_RELEASE_ACK_RELEASE, self.ack_release);
        w.flag(nl::A_RELEASE_BROKEN_OFF, self.broken_off);
    }
}

/// Timestamps of a client, as last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientClock {
    /// Its newest TSval.
    pub tsval: u32,
    /// The newest TSecr that it sent.
    pub tsecr: u32,
    /// How long ago that was, in milliseconds.
    pub age_ms: u32,
}

/// What is known of a flow that is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The 4-tuple.
    pub key: FlowKey,
    /// Higher than that of any owner before.
    pub generation: u32,
    /// Position of the next byte expected from the client.
    pub c2s_next: u64,
    /// What client and first server said in their SYNs.
    pub options: TcpOptions,
    /// There if the client uses timestamps.
    pub clock: Option<ClientClock>,
}

impl Claim {
    fn put(&self, w: &mut Writer) {
        self.key.put(w);
        w.u32(nl::A_FLOW_GENERATION, self.generation);
        w.u64(nl::A_FLOW_C2S_NEXT, self.c2s_next);
        self.options.put(w);
        if let Some(clock) = self.clock {
            w.u32(nl::A_FLOW_TSVAL, clock.tsval);
            w.u32(nl::A_FLOW_TSECR, clock.tsecr);
            w.u32(nl::A_FLOW_TS_AGE, clock.age_ms);
        }
    }
}

/// Make a client say where it stands (`flow-locate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locate {
    /// The flow.
    pub claim: Claim,
    /// Sequence number of the probe; strictly below what the client expects.
    pub probe_seq: u32,
    /// Any word of the client is an answer: neither `claim.c2s_next` nor `probe_seq` says where it is.
    pub anywhere: bool,
}

impl Locate {
    pub(crate) fn put(&self, w: &mut Writer) {
        self.claim.put(w);
        w.u32(nl::A_FLOW_PROBE_SEQ, self.probe_seq);
        w.flag(nl::A_FLOW_ANYWHERE, self.anywhere);
    }
}

/// Open a connection to the local server in the client's name (`flow-recover`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recover<'a> {
    /// The flow.
    pub claim: Claim,
    /// Position of the client's next expected byte, where the answer is joined.
    pub at: u64,
    /// What is sent to the server, at most 32768 bytes. Empty: the flow is joined at once.
    pub request: &'a [u8],
    /// Bytes of the answer that are taken before `flow-join`, at most 65535.
    pub answer_window: Option<u32>,
    /// Port of a listener on the loopback address that gets the connection in place of the
    /// service's own server.
    pub local_port: Option<u16>,
}

impl Recover<'_> {
    pub(crate) fn put(&self, w: &mut Writer) {
        self.claim.put(w);
        w.u64(nl::A_FLOW_AT, self.at);
        if !self.request.is_empty() {
            w.bytes(nl::A_FLOW_REQUEST, self.request);
        }
        put_some(w, Writer::u32, nl::A_FLOW_ANSWER_WINDOW, self.answer_window);
        put_some(w, Writer::be16, nl::A_FLOW_LOCAL_PORT, self.local_port);
    }
}

/// Join the answer to the client (`flow-join`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join<'a> {
    /// Number of the flow, if it is to be checked.
    pub id: Option<u64>,
    /// The 4-tuple.
    pub key: FlowKey,
    /// What the client gets before the server's own bytes.
    pub prefix: &'a [u8],
    /// Bytes of the answer that the prefix accounts for.
    pub answer_length: u64,
    /// Bytes of it behind those that the client has already.
    pub skip: u64,
    /// Position of the first byte of the response.
    pub object_start: Option<u64>,
    /// Position after its last byte.
    pub object_end: Option<u64>,
}

impl Join<'_> {
    pub(crate) fn put(&self, w: &mut Writer) {
        put_some(w, Writer::u64, nl::A_FLOW_ID, self.id);
        self.key.put(w);
        if !self.prefix.is_empty() {
            w.bytes(nl::A_FLOW_PREFIX, self.prefix);
        }
        w.u64(nl::A_FLOW_ANSWER_LENGTH, self.answer_length);
        put_some(
            w,
            Writer::u64,
            nl::A_FLOW_SKIP,
            Some(self.skip).filter(|n| *n > 0),
        );
        put_some(w, Writer::u64, nl::A_FLOW_OBJECT_START, self.object_start);
        put_some(w, Writer::u64, nl::A_FLOW_OBJECT_END, self.object_end);
    }
}

/// Translate a flow that is to come (`splice-add`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The 4-tuple.
    pub key: FlowKey,
    /// Added to c2s sequence numbers towards the local side (mod 2^32).
    pub delta_c2s: u32,
    /// Added to s2c sequence numbers towards the client (mod 2^32).
    pub delta_s2c: u32,
    /// Added to s2c timestamps towards the client (mod 2^32).
    pub delta_ts: u32,
}

impl Splice {
    pub(crate) fn put(&self, w: &mut Writer) {
        self.key.put(w);
        w.u32(nl::A_FLOW_DELTA_C2S, self.delta_c2s);
        w.u32(nl::A_FLOW_DELTA_S2C, self.delta_s2c);
        w.u32(nl::A_FLOW_DELTA_TS, self.delta_ts);
    }
}
