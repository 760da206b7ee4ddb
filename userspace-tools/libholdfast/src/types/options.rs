// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What the handshake of a connection settled.

use holdfast_core::ring::Desc;
use serde::{Deserialize, Serialize};

use super::{put_some, FlowKey};
use crate::attr::{Attrs, Writer};
use crate::error::Result;
use crate::uapi_gen as nl;

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
    pub(super) fn put(&self, w: &mut Writer) {
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

    pub(super) fn read(attrs: &Attrs<'_>) -> Result<Self> {
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
