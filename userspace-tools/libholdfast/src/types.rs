// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What requests and replies of the kernel module are made of.
//!
//! Positions are 64-bit counts in client space (see `Documentation/netlink/specs/holdfast.yaml`);
//! sequence numbers and timestamps are in client space and host order.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use holdfast_core::ring::Desc;
use holdfast_core::wire::{Endpoint, Key};
use serde::{Deserialize, Serialize, Serializer};

use crate::attr::{need, Attrs, Writer};
use crate::error::{Error, Result};
use crate::uapi_gen as nl;
pub use crate::uapi_gen::{Commit, Event, Mode, Phase, Verdict};

/// The 4-tuple of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowKey {
    /// Address and port of the client.
    pub client: SocketAddr,
    /// Address and port of the service, of the same family.
    pub service: SocketAddr,
}

impl FlowKey {
    /// The key as the module writes it into its log. `None`: the families differ.
    pub fn to_bytes(&self) -> Option<[u8; 40]> {
        let family = match (self.client, self.service) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) => 4,
            (SocketAddr::V6(_), SocketAddr::V6(_)) => 6,
            _ => return None,
        };
        Some(Key::new(family, endpoint(self.client), endpoint(self.service)).to_bytes())
    }

    /// The key of these bytes. `None`: they are none.
    pub fn from_bytes(bytes: &[u8; 40]) -> Option<Self> {
        let key = Key::from_bytes(bytes)?;
        let socket = |end: Endpoint| {
            let [a, b, c, d, ..] = end.addr;
            let ip = match key.family {
                4 => IpAddr::from([a, b, c, d]),
                _ => IpAddr::from(end.addr),
            };
            SocketAddr::new(ip, u16::from_be_bytes(end.port))
        };
        Some(FlowKey {
            client: socket(key.client()),
            service: socket(key.server()),
        })
    }

    /// Fails unless client and service are of one family.
    pub(crate) fn check(&self) -> Result<()> {
        if self.client.is_ipv4() == self.service.is_ipv4() {
            Ok(())
        } else {
            Err(Error::MixedFamilies)
        }
    }

    fn put(&self, w: &mut Writer) {
        w.socket(nl::A_FLOW_CLIENT_ADDR, nl::A_FLOW_CLIENT_PORT, self.client);
        w.socket(
            nl::A_FLOW_SERVICE_ADDR,
            nl::A_FLOW_SERVICE_PORT,
            self.service,
        );
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.client, self.service)
    }
}

fn endpoint(socket: SocketAddr) -> Endpoint {
    let mut addr = [0; 16];
    match socket.ip() {
        IpAddr::V4(ip) => addr[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => addr = ip.octets(),
    }
    Endpoint {
        addr,
        port: socket.port().to_be_bytes(),
    }
}

/// What client and first server said in their SYNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpOptions {
    /// The client's maximum segment size in bytes, if it sent one.
    pub mss: Option<u16>,
    /// The client's window scale, if it offered one.
    pub wscale_client: Option<u8>,
    /// The window scale that the client was told; there if [`Self::wscale_client`] is.
    pub wscale_service: Option<u8>,
    /// Selective acknowledgements are permitted.
    pub sack: bool,
    /// Timestamps are used.
    pub timestamps: bool,
}

impl TcpOptions {
    fn put(&self, w: &mut Writer) {
        w.nest(nl::A_FLOW_OPTIONS, |w| {
            w.u16(nl::A_OPTIONS_MSS, self.mss.unwrap_or(0));
            put_some(
                w,
                Writer::u8,
                nl::A_OPTIONS_WSCALE_CLIENT,
                self.wscale_client,
            );
            put_some(
                w,
                Writer::u8,
                nl::A_OPTIONS_WSCALE_SERVICE,
                self.wscale_service,
            );
            w.flag(nl::A_OPTIONS_SACK, self.sack);
            w.flag(nl::A_OPTIONS_TIMESTAMPS, self.timestamps);
        });
    }

    fn read(attrs: &Attrs<'_>) -> Result<Self> {
        Ok(TcpOptions {
            mss: attrs.u16(nl::A_OPTIONS_MSS)?.filter(|mss| *mss != 0),
            wscale_client: attrs.u8(nl::A_OPTIONS_WSCALE_CLIENT)?,
            wscale_service: attrs.u8(nl::A_OPTIONS_WSCALE_SERVICE)?,
            sack: attrs.flag(nl::A_OPTIONS_SACK),
            timestamps: attrs.flag(nl::A_OPTIONS_TIMESTAMPS),
        })
    }
}

/// A flow's name and handshake, as data of records of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowDesc {
    /// The 4-tuple.
    pub key: FlowKey,
    /// Initial sequence number of the client.
    pub isn_c2s: u32,
    /// Initial sequence number of the service.
    pub isn_s2c: u32,
    /// Raised by each takeover.
    pub generation: u32,
    /// The options of the handshake.
    pub options: TcpOptions,
}

impl FlowDesc {
    /// Bit of [`Desc::options`]: SACK is permitted.
    const SACK: u16 = 1;
    /// Bit of [`Desc::options`]: timestamps are used.
    const TIMESTAMPS: u16 = 2;

    /// The description that is the data of a record. `None`: it is none.
    pub fn from_data(data: &[u8]) -> Option<Self> {
        let desc = Desc::from_bytes(data.first_chunk()?);
        let scale = |raw: u8| (raw != u8::MAX).then_some(raw);
        Some(FlowDesc {
            key: FlowKey::from_bytes(&desc.key)?,
            isn_c2s: desc.isn_c2s,
            isn_s2c: desc.isn_s2c,
            generation: desc.generation,
            options: TcpOptions {
                mss: (desc.mss != 0).then_some(desc.mss),
                wscale_client: scale(desc.wscale_client),
                wscale_service: scale(desc.wscale_service),
                sack: desc.options & Self::SACK != 0,
                timestamps: desc.options & Self::TIMESTAMPS != 0,
            },
        })
    }
}

/// A service to protect, or what to change of its policy; what is `None` keeps its value, or
/// takes the module's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Address and port.
    pub service: SocketAddr,
    /// What is done to its flows.
    pub mode: Option<Mode>,
    /// When the first bytes of a response may leave.
    pub commit: Option<Commit>,
    /// Longest wait of a response for its commit, in milliseconds.
    pub hold_ms: Option<u32>,
    /// Longest wait of an orphan for a verdict, in milliseconds.
    pub verdict_ms: Option<u32>,
    /// Most bytes of a response that are logged.
    pub head_limit: Option<u32>,
    /// Most bytes of a request that the ack gate holds.
    pub request_limit: Option<u32>,
}

impl ServiceConfig {
    /// Nothing but the name.
    pub fn new(service: SocketAddr) -> Self {
        ServiceConfig {
            service,
            mode: None,
            commit: None,
            hold_ms: None,
            verdict_ms: None,
            head_limit: None,
            request_limit: None,
        }
    }

    pub(crate) fn put(&self, w: &mut Writer) {
        w.socket(nl::A_SERVICE_ADDR, nl::A_SERVICE_PORT, self.service);
        put_some(
            w,
            Writer::u32,
            nl::A_SERVICE_MODE,
            self.mode.map(|m| m as u32),
        );
        put_some(
            w,
            Writer::u32,
            nl::A_SERVICE_COMMIT,
            self.commit.map(|c| c as u32),
        );
        put_some(w, Writer::u32, nl::A_SERVICE_HOLD_MS, self.hold_ms);
        put_some(w, Writer::u32, nl::A_SERVICE_VERDICT_MS, self.verdict_ms);
        put_some(w, Writer::u32, nl::A_SERVICE_HEAD_LIMIT, self.head_limit);
        put_some(
            w,
            Writer::u32,
            nl::A_SERVICE_REQUEST_LIMIT,
            self.request_limit,
        );
    }
}

/// A protected service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceInfo {
    /// Address and port.
    pub service: SocketAddr,
    /// What is done to its flows.
    pub mode: Mode,
    /// When the first bytes of a response may leave.
    pub commit: Commit,
    /// Longest wait of a response for its commit, in milliseconds.
    pub hold_ms: u32,
    /// Longest wait of an orphan for a verdict, in milliseconds.
    pub verdict_ms: u32,
    /// Most bytes of a response that are logged.
    pub head_limit: u32,
    /// Most bytes of a request that the ack gate holds.
    pub request_limit: u32,
    /// Number of its flows.
    pub flows: u32,
}

impl ServiceInfo {
    pub(crate) fn read(attrs: &Attrs<'_>) -> Result<Self> {
        let number = |kind, name| need(attrs.u32(kind)?, name);
        Ok(ServiceInfo {
            service: read_service(attrs)?,
            mode: known("mode", number(nl::A_SERVICE_MODE, "mode")?, Mode::from_raw)?,
            commit: known(
                "commit",
                number(nl::A_SERVICE_COMMIT, "commit")?,
                Commit::from_raw,
            )?,
            hold_ms: number(nl::A_SERVICE_HOLD_MS, "hold-ms")?,
            verdict_ms: number(nl::A_SERVICE_VERDICT_MS, "verdict-ms")?,
            head_limit: number(nl::A_SERVICE_HEAD_LIMIT, "head-limit")?,
            request_limit: number(nl::A_SERVICE_REQUEST_LIMIT, "request-limit")?,
            flows: number(nl::A_SERVICE_FLOWS, "flows")?,
        })
    }
}

pub(crate) fn read_service(attrs: &Attrs<'_>) -> Result<SocketAddr> {
    need(
        attrs.socket(nl::A_SERVICE_ADDR, nl::A_SERVICE_PORT)?,
        "the service's address",
    )
}

pub(crate) fn put_service(w: &mut Writer, service: SocketAddr) {
    w.socket(nl::A_SERVICE_ADDR, nl::A_SERVICE_PORT, service);
}

/// A flow as the module has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlowInfo {
    /// Its number, unique since the module was loaded.
    pub id: u64,
    /// The 4-tuple.
    #[serde(flatten)]
    pub key: FlowKey,
    /// Where it is in its life.
    pub phase: Phase,
    /// Raised by each takeover.
    pub generation: u32,
    /// Why a notification was sent; not in replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Position of the next byte expected from the client.
    pub c2s_next: u64,
    /// Position after the newest byte sent to the client.
    pub s2c_next: u64,
    /// Position of the next byte that the client expects.
    pub s2c_acked: u64,
    /// Position of the first byte of the current response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_start: Option<u64>,
    /// Position after the last byte of the current response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_end: Option<u64>,
    /// Position beyond which server bytes may not leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_gate: Option<u64>,
    /// Position beyond which the client is told nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_gate: Option<u64>,
    /// Added to c2s sequence numbers towards the local side.
    pub delta_c2s: u32,
    /// Added to s2c sequence numbers towards the client.
    pub delta_s2c: u32,
    /// Added to s2c timestamps towards the client.
    pub delta_ts: u32,
    /// What both sides said in their SYNs.
    pub options: TcpOptions,
    /// The client's newest timestamp value.
    pub tsval: u32,
    /// The newest timestamp echo that the client sent.
    pub tsecr: u32,
    /// Milliseconds since [`Self::tsecr`] was new.
    pub ts_age: u32,
    /// Number of the [counter](holdfast_core::counter::Counter) that says why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<u32>,
}

impl FlowInfo {
    /// Whether its numbers are translated.
    pub fn is_translated(&self) -> bool {
        self.delta_c2s != 0 || self.delta_s2c != 0 || self.delta_ts != 0
    }

    pub(crate) fn read(attrs: &Attrs<'_>) -> Result<Self> {
        let small = |kind| Ok::<_, Error>(attrs.u32(kind)?.unwrap_or(0));
        let position = |kind| Ok::<_, Error>(attrs.u64(kind)?.unwrap_or(0));
        let client = attrs.socket(nl::A_FLOW_CLIENT_ADDR, nl::A_FLOW_CLIENT_PORT)?;
        let service = attrs.socket(nl::A_FLOW_SERVICE_ADDR, nl::A_FLOW_SERVICE_PORT)?;
        let event = attrs.u32(nl::A_FLOW_EVENT)?;
        let options = attrs.nest(nl::A_FLOW_OPTIONS)?;
        Ok(FlowInfo {
            id: need(attrs.u64(nl::A_FLOW_ID)?, "id")?,
            key: FlowKey {
                client: need(client, "the client's address")?,
                service: need(service, "the service's address")?,
            },
            phase: known(
                "phase",
                need(attrs.u32(nl::A_FLOW_PHASE)?, "phase")?,
                Phase::from_raw,
            )?,
            generation: small(nl::A_FLOW_GENERATION)?,
            event: event
                .map(|raw| known("event", raw, Event::from_raw))
                .transpose()?,
            c2s_next: position(nl::A_FLOW_C2S_NEXT)?,
            s2c_next: position(nl::A_FLOW_S2C_NEXT)?,
            s2c_acked: position(nl::A_FLOW_S2C_ACKED)?,
            object_start: attrs.u64(nl::A_FLOW_OBJECT_START)?,
            object_end: attrs.u64(nl::A_FLOW_OBJECT_END)?,
            data_gate: attrs.u64(nl::A_FLOW_DATA_GATE)?,
            ack_gate: attrs.u64(nl::A_FLOW_ACK_GATE)?,
            delta_c2s: small(nl::A_FLOW_DELTA_C2S)?,
            delta_s2c: small(nl::A_FLOW_DELTA_S2C)?,
            delta_ts: small(nl::A_FLOW_DELTA_TS)?,
            options: options
                .as_ref()
                .map(TcpOptions::read)
                .transpose()?
                .unwrap_or_default(),
            tsval: small(nl::A_FLOW_TSVAL)?,
            tsecr: small(nl::A_FLOW_TSECR)?,
            ts_age: small(nl::A_FLOW_TS_AGE)?,
            reason: attrs.u32(nl::A_FLOW_REASON)?,
        })
    }
}

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
}

impl Locate {
    pub(crate) fn put(&self, w: &mut Writer) {
        self.claim.put(w);
        w.u32(nl::A_FLOW_PROBE_SEQ, self.probe_seq);
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
}

impl Recover<'_> {
    pub(crate) fn put(&self, w: &mut Writer) {
        self.claim.put(w);
        w.u64(nl::A_FLOW_AT, self.at);
        if !self.request.is_empty() {
            w.bytes(nl::A_FLOW_REQUEST, self.request);
        }
        put_some(w, Writer::u32, nl::A_FLOW_ANSWER_WINDOW, self.answer_window);
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

pub(crate) fn put_key(w: &mut Writer, key: &FlowKey) {
    key.put(w);
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// Its name.
    pub name: String,
    /// What it has counted.
    pub value: u64,
}

impl Stat {
    pub(crate) fn read(attrs: &Attrs<'_>) -> Result<Self> {
        Ok(Stat {
            name: need(attrs.string(nl::A_STAT_NAME)?, "a counter's name")?,
            value: need(attrs.u64(nl::A_STAT_VALUE)?, "a counter's value")?,
        })
    }
}

fn put_some<T>(w: &mut Writer, put: fn(&mut Writer, u16, T), kind: u16, value: Option<T>) {
    if let Some(value) = value {
        put(w, kind, value);
    }
}

fn known<T>(what: &str, raw: u32, from_raw: fn(u32) -> Option<T>) -> Result<T> {
    from_raw(raw).ok_or_else(|| Error::Malformed(format!("{what} {raw} is not known here")))
}

macro_rules! named {
    ($($kind:ty)+) => {
        $(
            impl fmt::Display for $kind {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(self.name())
                }
            }

            impl Serialize for $kind {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.name())
                }
            }
        )+
    };
}

named!(Mode Commit Phase Verdict Event);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::HEADERS;
    use crate::uapi_gen as nl;

    fn v4() -> FlowKey {
        FlowKey {
            client: "192.0.2.7:40000".parse().unwrap(),
            service: "198.51.100.1:80".parse().unwrap(),
        }
    }

    fn v6() -> FlowKey {
        FlowKey {
            client: "[2001:db8::7]:40000".parse().unwrap(),
            service: "[2001:db8::1]:80".parse().unwrap(),
        }
    }

    fn attrs(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::new(0, 0);
        fill(&mut w);
        w.finish("test", 0, 0, 0).unwrap()[HEADERS..].to_vec()
    }

    #[test]
    fn a_key_has_the_bytes_of_the_module() {
        let bytes = v4().to_bytes().unwrap();
        assert_eq!(bytes[..5], [192, 0, 2, 7, 0]);
        assert_eq!(bytes[16..21], [198, 51, 100, 1, 0]);
        assert_eq!(bytes[32..], [0x9c, 0x40, 0, 80, 4, 0, 0, 0]);
        for key in [v4(), v6()] {
            assert_eq!(FlowKey::from_bytes(&key.to_bytes().unwrap()), Some(key));
        }
        let mixed = FlowKey {
            client: v4().client,
            service: v6().service,
        };
        assert!(mixed.to_bytes().is_none() && mixed.check().is_err());
        assert!(FlowKey::from_bytes(&[0; 40]).is_none());
    }

    #[test]
    fn a_description_is_read() {
        let desc = Desc {
            key: v6().to_bytes().unwrap(),
            isn_c2s: 1,
            isn_s2c: 2,
            generation: 3,
            mss: 1440,
            wscale_client: 7,
            wscale_service: 255,
            options: 3,
            reserved: [0; 6],
        };
        let read = FlowDesc::from_data(&desc.to_bytes()).unwrap();
        assert_eq!((read.key, read.generation), (v6(), 3));
        assert_eq!(read.options.mss, Some(1440));
        assert_eq!(
            (read.options.wscale_client, read.options.wscale_service),
            (Some(7), None)
        );
        assert!(read.options.sack && read.options.timestamps);
        assert!(FlowDesc::from_data(&desc.to_bytes()[..63]).is_none());
    }

    #[test]
    fn a_claim_is_written_as_the_specification_says() {
        let options = TcpOptions {
            mss: Some(1460),
            wscale_client: Some(7),
            wscale_service: Some(8),
            sack: true,
            timestamps: true,
        };
        let clock = Some(ClientClock {
            tsval: 10,
            tsecr: 11,
            age_ms: 12,
        });
        let claim = Claim {
            key: v4(),
            generation: 5,
            c2s_next: 1 << 40,
            options,
            clock,
        };
        let recover = Recover {
            claim,
            at: 1 << 33,
            request: b"GET",
            answer_window: Some(9),
        };
        let bytes = attrs(|w| recover.put(w));
        let a = Attrs::parse(&bytes).unwrap();
        let key = (a
            .socket(nl::A_FLOW_CLIENT_ADDR, nl::A_FLOW_CLIENT_PORT)
            .unwrap())
        .unwrap();
        assert_eq!(key, v4().client);
        assert_eq!(a.u32(nl::A_FLOW_GENERATION).unwrap(), Some(5));
        assert_eq!(a.u64(nl::A_FLOW_C2S_NEXT).unwrap(), Some(1 << 40));
        assert_eq!(a.u64(nl::A_FLOW_AT).unwrap(), Some(1 << 33));
        assert_eq!(a.bytes(nl::A_FLOW_REQUEST), Some(&b"GET"[..]));
        assert_eq!(a.u32(nl::A_FLOW_ANSWER_WINDOW).unwrap(), Some(9));
        assert_eq!(a.u32(nl::A_FLOW_TS_AGE).unwrap(), Some(12));
        let nested = a.nest(nl::A_FLOW_OPTIONS).unwrap().unwrap();
        assert_eq!(TcpOptions::read(&nested).unwrap(), options);

        let bare = Claim {
            clock: None,
            options: TcpOptions::default(),
            ..claim
        };
        let bytes = attrs(|w| {
            Locate {
                claim: bare,
                probe_seq: 4,
            }
            .put(w)
        });
        let a = Attrs::parse(&bytes).unwrap();
        assert_eq!(a.u32(nl::A_FLOW_TSVAL).unwrap(), None);
        assert_eq!(a.u32(nl::A_FLOW_PROBE_SEQ).unwrap(), Some(4));
        let nested = a.nest(nl::A_FLOW_OPTIONS).unwrap().unwrap();
        assert_eq!(nested.u16(nl::A_OPTIONS_MSS).unwrap(), Some(0));
        assert!(!nested.flag(nl::A_OPTIONS_SACK));
    }

    #[test]
    fn a_flow_is_read() {
        let bytes = attrs(|w| {
            w.u64(nl::A_FLOW_ID, 77);
            v6().put(w);
            w.u32(nl::A_FLOW_PHASE, Phase::Open as u32);
            w.u64(nl::A_FLOW_OBJECT_START, 0);
            w.u32(nl::A_FLOW_DELTA_S2C, 5);
            w.u32(nl::A_FLOW_EVENT, Event::Spliced as u32);
        });
        let flow = FlowInfo::read(&Attrs::parse(&bytes).unwrap()).unwrap();
        assert_eq!((flow.id, flow.key, flow.phase), (77, v6(), Phase::Open));
        assert_eq!((flow.object_start, flow.object_end), (Some(0), None));
        assert_eq!(flow.event, Some(Event::Spliced));
        assert!(flow.is_translated());

        let bytes = attrs(|w| {
            w.u64(nl::A_FLOW_ID, 77);
            v4().put(w);
            w.u32(nl::A_FLOW_PHASE, 99);
        });
        assert!(FlowInfo::read(&Attrs::parse(&bytes).unwrap()).is_err());
    }

    #[test]
    fn a_service_is_read() {
        let mut config = ServiceConfig::new(v4().service);
        config.mode = Some(Mode::Protect);
        config.commit = Some(Commit::Strict);
        config.hold_ms = Some(1);
        config.verdict_ms = Some(2);
        config.head_limit = Some(3);
        config.request_limit = Some(4);
        let bytes = attrs(|w| {
            config.put(w);
            w.u32(nl::A_SERVICE_FLOWS, 5);
        });
        let info = ServiceInfo::read(&Attrs::parse(&bytes).unwrap()).unwrap();
        assert_eq!(
            (info.service, info.mode, info.commit),
            (v4().service, Mode::Protect, Commit::Strict)
        );
        let numbers = (
            info.hold_ms,
            info.verdict_ms,
            info.head_limit,
            info.request_limit,
        );
        assert_eq!((numbers, info.flows), ((1, 2, 3, 4), 5));
    }

    #[test]
    fn enums_have_names_and_numbers() {
        assert_eq!(Phase::from_raw(8), Some(Phase::Passing));
        assert_eq!(Phase::from_raw(9), None);
        assert_eq!(Verdict::Abandon.to_string(), "abandon");
        for (i, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, i);
        }
    }
}
