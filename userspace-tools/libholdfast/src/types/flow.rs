// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A flow as the module has it.

use serde::Serialize;

use super::{known, Event, FlowKey, Phase, TcpOptions};
use crate::attr::{need, Attrs};
use crate::error::{Error, Result};
use crate::uapi_gen as nl;

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
