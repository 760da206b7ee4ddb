// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)

//! Numbers of the generic netlink family `holdfast`.
//!
//! Made by `scripts/ynl-regen` from `Documentation/netlink/specs/holdfast.yaml`:
//! do not edit.

// A number that only userspace uses is still part of the family.
#![allow(dead_code)]

use crate::net::genl::{Policy, Range};
use kernel::prelude::*;

/// Name of the family.
pub(crate) const FAMILY_NAME: &CStr = c"holdfast";
/// Version of the family.
pub(crate) const FAMILY_VERSION: u8 = 1;
/// Name of the multicast group `events`.
pub(crate) const MCGRP_EVENTS: &CStr = c"events";

/// `service-get`: Show one service, or all.
pub(crate) const CMD_SERVICE_GET: u8 = 1;
/// `service-add`: Protect a service, or change the policy of one that is. What is not given
/// keeps its value. The service as it is now is echoed.
pub(crate) const CMD_SERVICE_ADD: u8 = 2;
/// `service-del`: Stop protecting a service. Fails with EBUSY while a flow would break.
pub(crate) const CMD_SERVICE_DEL: u8 = 3;
/// `service-ntf`: A service was added, changed or removed (then without a mode).
pub(crate) const CMD_SERVICE_NTF: u8 = 4;
/// `flow-get`: Show one flow, or all.
pub(crate) const CMD_FLOW_GET: u8 = 5;
/// `flow-ntf`: A flow changed its phase.
pub(crate) const CMD_FLOW_NTF: u8 = 6;
/// `flow-commit`: The record of the response that begins at object-start is safe: its bytes may
/// leave. object-end, if given, is where the next response begins and is gated. Flows that are
/// gone or have moved on are skipped.
pub(crate) const CMD_FLOW_COMMIT: u8 = 7;
/// `flow-locate`: Take over a flow of a dead node and make its client say where it stands: a
/// probe is sent and repeated, and the first packet of the client is reported in the log.
pub(crate) const CMD_FLOW_LOCATE: u8 = 8;
/// `flow-recover`: Open a connection to the local server in the client's name and send it the
/// request. The answer comes through the log. Without a request the flow is joined at "at" as
/// soon as the connection is open. A connection that was opened so before and is not joined yet
/// is reset first.
pub(crate) const CMD_FLOW_RECOVER: u8 = 9;
/// `flow-join`: Send the prefix to the client from "at" on, then join the client to the byte of
/// the answer that follows answer-length and skip. Fails with EAGAIN if more of the answer has
/// come meanwhile: read the log and ask again.
pub(crate) const CMD_FLOW_JOIN: u8 = 10;
/// `flow-end`: Give a flow up. With an id: unless another one has its name by now (ENOENT).
pub(crate) const CMD_FLOW_END: u8 = 11;
/// `splice-add`: Translate a flow that is to come, in a router or a server: from its SYN on the
/// deltas are added.
pub(crate) const CMD_SPLICE_ADD: u8 = 12;
/// `splice-del`: Forget a flow made by splice-add.
pub(crate) const CMD_SPLICE_DEL: u8 = 13;
/// `stats-get`: All counters of the namespace.
pub(crate) const CMD_STATS_GET: u8 = 14;

/// `addr` of `service`: IPv4 (4 bytes) or IPv6 (16 bytes) address, network byte order.
pub(crate) const A_SERVICE_ADDR: u16 = 1;
/// `port` of `service`.
pub(crate) const A_SERVICE_PORT: u16 = 2;
/// `mode` of `service`.
pub(crate) const A_SERVICE_MODE: u16 = 3;
/// `commit` of `service`.
pub(crate) const A_SERVICE_COMMIT: u16 = 4;
/// `hold-ms` of `service`: Longest time in milliseconds that the first bytes of a response wait
/// for flow-commit; then they leave and the response is unprotected, counted.
pub(crate) const A_SERVICE_HOLD_MS: u16 = 5;
/// `verdict-ms` of `service`: Longest time in milliseconds that an orphan waits for a verdict;
/// then the local stack sees its packets.
pub(crate) const A_SERVICE_VERDICT_MS: u16 = 6;
/// `head-limit` of `service`: Most bytes of a response that are logged from its start.
pub(crate) const A_SERVICE_HEAD_LIMIT: u16 = 7;
/// `request-limit` of `service`: Most bytes of a request that the ack gate holds.
pub(crate) const A_SERVICE_REQUEST_LIMIT: u16 = 8;
/// `flows` of `service`: Number of flows of this service now (in replies).
pub(crate) const A_SERVICE_FLOWS: u16 = 9;
/// `head-end` of `service`: The four bytes by which the head of a response ends, the first one
/// highest; 0: all of a response is logged up to head-limit.
pub(crate) const A_SERVICE_HEAD_END: u16 = 10;
/// `body-whole` of `service`: If more bytes than these follow the head in its packet,
pub(crate) const A_SERVICE_BODY_WHOLE: u16 = 11;
/// `body-part` of `service`: only so many of them are logged.
pub(crate) const A_SERVICE_BODY_PART: u16 = 12;

/// `mss` of `options`: The client's maximum segment size in bytes.
pub(crate) const A_OPTIONS_MSS: u16 = 1;
/// `wscale-client` of `options`: The client's window scale; absent if it offered none.
pub(crate) const A_OPTIONS_WSCALE_CLIENT: u16 = 2;
/// `wscale-service` of `options`: The window scale that the client was told by the service.
pub(crate) const A_OPTIONS_WSCALE_SERVICE: u16 = 3;
/// `sack` of `options`.
pub(crate) const A_OPTIONS_SACK: u16 = 4;
/// `timestamps` of `options`.
pub(crate) const A_OPTIONS_TIMESTAMPS: u16 = 5;

/// `id` of `flow`: Number of the flow, unique in its namespace since the module was loaded.
/// Another connection of the same name has another one.
pub(crate) const A_FLOW_ID: u16 = 1;
/// `client-addr` of `flow`.
pub(crate) const A_FLOW_CLIENT_ADDR: u16 = 2;
/// `client-port` of `flow`.
pub(crate) const A_FLOW_CLIENT_PORT: u16 = 3;
/// `service-addr` of `flow`.
pub(crate) const A_FLOW_SERVICE_ADDR: u16 = 4;
/// `service-port` of `flow`.
pub(crate) const A_FLOW_SERVICE_PORT: u16 = 5;
/// `phase` of `flow`.
pub(crate) const A_FLOW_PHASE: u16 = 6;
/// `generation` of `flow`: Raised by each takeover; an older one never overwrites a newer one.
pub(crate) const A_FLOW_GENERATION: u16 = 7;
/// `event` of `flow`.
pub(crate) const A_FLOW_EVENT: u16 = 8;
/// `c2s-next` of `flow`: Position of the next byte expected from the client.
pub(crate) const A_FLOW_C2S_NEXT: u16 = 9;
/// `s2c-next` of `flow`: Position after the newest byte sent to the client.
pub(crate) const A_FLOW_S2C_NEXT: u16 = 10;
/// `s2c-acked` of `flow`: Position of the next byte that the client expects.
pub(crate) const A_FLOW_S2C_ACKED: u16 = 11;
/// `object-start` of `flow`: Position of the first byte of the current response.
pub(crate) const A_FLOW_OBJECT_START: u16 = 12;
/// `object-end` of `flow`: Position after the last byte of the current response; absent if
/// unknown.
pub(crate) const A_FLOW_OBJECT_END: u16 = 13;
/// `data-gate` of `flow`: Position beyond which server bytes may not leave; absent if open.
pub(crate) const A_FLOW_DATA_GATE: u16 = 14;
/// `ack-gate` of `flow`: Position beyond which the client is told nothing; absent if open.
pub(crate) const A_FLOW_ACK_GATE: u16 = 15;
/// `delta-c2s` of `flow`: Added to c2s sequence numbers towards the local side (mod 2^32).
pub(crate) const A_FLOW_DELTA_C2S: u16 = 16;
/// `delta-s2c` of `flow`: Added to s2c sequence numbers towards the client (mod 2^32).
pub(crate) const A_FLOW_DELTA_S2C: u16 = 17;
/// `delta-ts` of `flow`: Added to s2c timestamps towards the client (mod 2^32).
pub(crate) const A_FLOW_DELTA_TS: u16 = 18;
/// `options` of `flow`.
pub(crate) const A_FLOW_OPTIONS: u16 = 19;
/// `tsval` of `flow`: The client's newest timestamp value.
pub(crate) const A_FLOW_TSVAL: u16 = 20;
/// `tsecr` of `flow`: The newest timestamp echo that the client sent (client space).
pub(crate) const A_FLOW_TSECR: u16 = 21;
/// `ts-age` of `flow`: Milliseconds since tsecr was new.
pub(crate) const A_FLOW_TS_AGE: u16 = 22;
/// `at` of `flow`: The client's next expected byte, where the answer is joined.
pub(crate) const A_FLOW_AT: u16 = 23;
/// `probe-seq` of `flow`: Sequence number of the probe; strictly below what the client expects.
pub(crate) const A_FLOW_PROBE_SEQ: u16 = 24;
/// `request` of `flow`: What the ghost sends to the server; absent or empty sends nothing.
pub(crate) const A_FLOW_REQUEST: u16 = 25;
/// `prefix` of `flow`: What is sent to the client from "at" on before the server's own bytes.
pub(crate) const A_FLOW_PREFIX: u16 = 26;
/// `answer-length` of `flow`: Bytes of the server's answer that the prefix accounts for.
pub(crate) const A_FLOW_ANSWER_LENGTH: u16 = 27;
/// `answer-window` of `flow`: Bytes of the answer that the ghost takes before flow-join.
pub(crate) const A_FLOW_ANSWER_WINDOW: u16 = 28;
/// `verdict` of `flow`.
pub(crate) const A_FLOW_VERDICT: u16 = 29;
/// `reason` of `flow`: Number of the counter that says why a flow failed.
pub(crate) const A_FLOW_REASON: u16 = 30;
/// `local-port` of `flow`: Port on the loopback address of a listening socket that gets the
/// connection in place of the service's own; absent if that does.
pub(crate) const A_FLOW_LOCAL_PORT: u16 = 31;
/// `skip` of `flow`: Bytes of the answer behind answer-length that the client has already: they
/// are acknowledged and discarded before anything is joined.
pub(crate) const A_FLOW_SKIP: u16 = 32;
/// `anywhere` of `flow`: Where the client is in either stream is not known: any word of it is
/// reported.
pub(crate) const A_FLOW_ANYWHERE: u16 = 33;

/// `id` of `release`.
pub(crate) const A_RELEASE_ID: u16 = 1;
/// `client-addr` of `release`.
pub(crate) const A_RELEASE_CLIENT_ADDR: u16 = 2;
/// `client-port` of `release`.
pub(crate) const A_RELEASE_CLIENT_PORT: u16 = 3;
/// `service-addr` of `release`.
pub(crate) const A_RELEASE_SERVICE_ADDR: u16 = 4;
/// `service-port` of `release`.
pub(crate) const A_RELEASE_SERVICE_PORT: u16 = 5;
/// `object-start` of `release`: Position of the first byte of the response; absent if no byte
/// of it came yet (then only the ack gate is meant).
pub(crate) const A_RELEASE_OBJECT_START: u16 = 6;
/// `object-end` of `release`: Where the next response begins, and is gated; absent if unknown.
pub(crate) const A_RELEASE_OBJECT_END: u16 = 7;
/// `unprotected` of `release`: Open both gates and log nothing more; the flow cannot be
/// continued.
pub(crate) const A_RELEASE_UNPROTECTED: u16 = 8;
/// `ack-release` of `release`: Open the ack gate at once; the request is not one that can be
/// held.
pub(crate) const A_RELEASE_ACK_RELEASE: u16 = 9;
/// `broken-off` of `release`: The service has closed before the head of the response at object-
/// start was complete: what is held of it is a loss of the service, not an answer.
pub(crate) const A_RELEASE_BROKEN_OFF: u16 = 10;

/// `release` of `batch`.
pub(crate) const A_BATCH_RELEASE: u16 = 1;

/// `name` of `stat`.
pub(crate) const A_STAT_NAME: u16 = 1;
/// `value` of `stat`.
pub(crate) const A_STAT_VALUE: u16 = 2;

/// `observe` of `mode`. Log and count; change, hold and answer nothing.
pub(crate) const MODE_OBSERVE: u32 = 0;
/// `protect` of `mode`. Gate, catch orphans and recover.
pub(crate) const MODE_PROTECT: u32 = 1;

/// `eager` of `commit`. At once; a crash before the record is safe is a counted reset.
pub(crate) const COMMIT_EAGER: u32 = 0;
/// `strict` of `commit`. Once flow-commit says that the record is safe.
pub(crate) const COMMIT_STRICT: u32 = 1;

/// `opening` of `phase`. A SYN was seen; the handshake is not complete.
pub(crate) const PHASE_OPENING: u32 = 0;
/// `open` of `phase`. Served by a local socket, translated or not.
pub(crate) const PHASE_OPEN: u32 = 1;
/// `orphan` of `phase`. Packets without a local socket; waits for a verdict.
pub(crate) const PHASE_ORPHAN: u32 = 2;
/// `locating` of `phase`. Probed; waits for the client to say where it stands.
pub(crate) const PHASE_LOCATING: u32 = 3;
/// `located` of `phase`. The client has spoken; waits for flow-recover.
pub(crate) const PHASE_LOCATED: u32 = 4;
/// `ghost` of `phase`. A connection to the server is opened in the client's name.
pub(crate) const PHASE_GHOST: u32 = 5;
/// `joining` of `phase`. The prefix travels to the client; then the flow is open again.
pub(crate) const PHASE_JOINING: u32 = 6;
/// `closing` of `phase`. Both directions are finished or the flow was reset.
pub(crate) const PHASE_CLOSING: u32 = 7;
/// `passing` of `phase`. Declared not ours; left to the stack.
pub(crate) const PHASE_PASSING: u32 = 8;

/// `pass` of `verdict`. Forget it; the local stack answers its packets.
pub(crate) const VERDICT_PASS: u32 = 0;
/// `reset` of `verdict`. Send a reset to the client and to the local socket, then forget it.
pub(crate) const VERDICT_RESET: u32 = 1;
/// `abandon` of `verdict`. Drop the local socket without a word to the client, then forget it.
pub(crate) const VERDICT_ABANDON: u32 = 2;

/// `opened` of `event`.
pub(crate) const EVENT_OPENED: u32 = 0;
/// `located` of `event`.
pub(crate) const EVENT_LOCATED: u32 = 1;
/// `recovering` of `event`.
pub(crate) const EVENT_RECOVERING: u32 = 2;
/// `spliced` of `event`.
pub(crate) const EVENT_SPLICED: u32 = 3;
/// `failed` of `event`.
pub(crate) const EVENT_FAILED: u32 = 4;
/// `closed` of `event`.
pub(crate) const EVENT_CLOSED: u32 = 5;

static RANGE_0_60000: Range = Range::new(0, 60000);
static RANGE_0_65536: Range = Range::new(0, 65536);
static RANGE_1_65535: Range = Range::new(1, 65535);

/// What a nested `release` may hold.
pub(crate) static RELEASE_POLICY: [Policy; 11] = [
    Policy::reject(),
    Policy::u64(),      // id
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
    Policy::u64(),      // object-start
    Policy::u64(),      // object-end
    Policy::flag(),     // unprotected
    Policy::flag(),     // ack-release
    Policy::flag(),     // broken-off
];

/// What a nested `options` may hold.
pub(crate) static OPTIONS_POLICY: [Policy; 6] = [
    Policy::reject(),
    Policy::u16(),        // mss
    Policy::u8().max(14), // wscale-client
    Policy::u8().max(14), // wscale-service
    Policy::flag(),       // sack
    Policy::flag(),       // timestamps
];

/// What the request of `service-get` (do) may hold.
pub(crate) static SERVICE_GET_DO_POLICY: [Policy; 3] = [
    Policy::reject(),
    Policy::binary(16),    // addr
    Policy::be16().min(1), // port
];

/// What the request of `service-get` (dump) may hold.
pub(crate) static SERVICE_GET_DUMP_POLICY: [Policy; 1] = [Policy::reject()];

/// What the request of `service-add` (do) may hold.
pub(crate) static SERVICE_ADD_DO_POLICY: [Policy; 13] = [
    Policy::reject(),
    Policy::binary(16),                       // addr
    Policy::be16().min(1),                    // port
    Policy::u32().max(1),                     // mode
    Policy::u32().max(1),                     // commit
    Policy::u32().max(10000),                 // hold-ms
    Policy::u32().full_range(&RANGE_0_60000), // verdict-ms
    Policy::u32().full_range(&RANGE_0_65536), // head-limit
    Policy::u32().full_range(&RANGE_0_65536), // request-limit
    Policy::reject(),
    Policy::u32(),                            // head-end
    Policy::u32().full_range(&RANGE_0_65536), // body-whole
    Policy::u32().full_range(&RANGE_0_65536), // body-part
];

/// What the request of `service-del` (do) may hold.
pub(crate) static SERVICE_DEL_DO_POLICY: [Policy; 3] = [
    Policy::reject(),
    Policy::binary(16),    // addr
    Policy::be16().min(1), // port
];

/// What the request of `flow-get` (do) may hold.
pub(crate) static FLOW_GET_DO_POLICY: [Policy; 6] = [
    Policy::reject(),
    Policy::reject(),
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
];

/// What the request of `flow-get` (dump) may hold.
pub(crate) static FLOW_GET_DUMP_POLICY: [Policy; 1] = [Policy::reject()];

/// What the request of `flow-commit` (do) may hold.
pub(crate) static FLOW_COMMIT_DO_POLICY: [Policy; 2] = [
    Policy::reject(),
    Policy::nested_array(&RELEASE_POLICY), // release
];

/// What the request of `flow-locate` (do) may hold.
pub(crate) static FLOW_LOCATE_DO_POLICY: [Policy; 34] = [
    Policy::reject(),
    Policy::reject(),
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
    Policy::reject(),
    Policy::u32(), // generation
    Policy::reject(),
    Policy::u64(), // c2s-next
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::nested(&OPTIONS_POLICY), // options
    Policy::u32(),                   // tsval
    Policy::u32(),                   // tsecr
    Policy::u32(),                   // ts-age
    Policy::reject(),
    Policy::u32(), // probe-seq
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::flag(), // anywhere
];

/// What the request of `flow-recover` (do) may hold.
pub(crate) static FLOW_RECOVER_DO_POLICY: [Policy; 32] = [
    Policy::reject(),
    Policy::reject(),
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
    Policy::reject(),
    Policy::u32(), // generation
    Policy::reject(),
    Policy::u64(), // c2s-next
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::nested(&OPTIONS_POLICY), // options
    Policy::u32(),                   // tsval
    Policy::u32(),                   // tsecr
    Policy::u32(),                   // ts-age
    Policy::u64(),                   // at
    Policy::reject(),
    Policy::binary(32768), // request
    Policy::reject(),
    Policy::reject(),
    Policy::u32().full_range(&RANGE_1_65535), // answer-window
    Policy::reject(),
    Policy::reject(),
    Policy::be16(), // local-port
];

/// What the request of `flow-join` (do) may hold.
pub(crate) static FLOW_JOIN_DO_POLICY: [Policy; 33] = [
    Policy::reject(),
    Policy::u64(),      // id
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::u64(), // object-start
    Policy::u64(), // object-end
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::binary(65535), // prefix
    Policy::u64(),         // answer-length
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::u64(), // skip
];

/// What the request of `flow-end` (do) may hold.
pub(crate) static FLOW_END_DO_POLICY: [Policy; 30] = [
    Policy::reject(),
    Policy::u64(),      // id
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::u32().max(2), // verdict
];

/// What the request of `splice-add` (do) may hold.
pub(crate) static SPLICE_ADD_DO_POLICY: [Policy; 19] = [
    Policy::reject(),
    Policy::reject(),
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::reject(),
    Policy::u32(), // delta-c2s
    Policy::u32(), // delta-s2c
    Policy::u32(), // delta-ts
];

/// What the request of `splice-del` (do) may hold.
pub(crate) static SPLICE_DEL_DO_POLICY: [Policy; 6] = [
    Policy::reject(),
    Policy::reject(),
    Policy::binary(16), // client-addr
    Policy::be16(),     // client-port
    Policy::binary(16), // service-addr
    Policy::be16(),     // service-port
];

/// What the request of `stats-get` (dump) may hold.
pub(crate) static STATS_GET_DUMP_POLICY: [Policy; 1] = [Policy::reject()];
