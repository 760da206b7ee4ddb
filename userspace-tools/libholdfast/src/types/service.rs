// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Services, and the policy of each.

use std::net::SocketAddr;

use serde::Serialize;

use super::{known, put_some, Commit, Mode};
use crate::attr::{need, Attrs, Writer};
use crate::error::Result;
use crate::uapi_gen as nl;

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
    /// What of long responses is logged.
    pub excerpt: Option<Excerpt>,
}

/// What is logged of a response that is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// How its head ends.
    pub head_end: [u8; 4],
    /// If more bytes than these follow the head in its packet,
    pub body_whole: u32,
    /// only so many of them are logged.
    pub body_part: u32,
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
            excerpt: None,
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
        if let Some(e) = self.excerpt {
            w.u32(nl::A_SERVICE_HEAD_END, u32::from_be_bytes(e.head_end));
            w.u32(nl::A_SERVICE_BODY_WHOLE, e.body_whole);
            w.u32(nl::A_SERVICE_BODY_PART, e.body_part);
        }
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
