// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What happens, as it happens: the multicast group `events`.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::attr::{need, Attrs};
use crate::error::{Error, Result};
use crate::netlink::{messages, Genl};
use crate::types::{read_service, FlowInfo, ServiceInfo};
use crate::uapi_gen as nl;

/// A notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A flow changed its phase.
    Flow(FlowInfo),
    /// A service was added or changed.
    Service(ServiceInfo),
    /// A service was removed.
    ServiceGone(SocketAddr),
    /// Some notifications were lost because they were not read fast enough.
    Lost,
}

/// A subscription.
pub struct Monitor {
    genl: Genl,
    waiting: VecDeque<Notice>,
}

impl Monitor {
    /// Subscribes, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`]; `EPERM` without `CAP_NET_ADMIN`.
    pub fn connect() -> Result<Self> {
        let (genl, groups) = Genl::connect()?;
        let group = groups
            .into_iter()
            .find(|(name, _)| name == nl::MCGRP_EVENTS);
        genl.subscribe(need(group, "the group of events")?.1)?;
        Ok(Monitor {
            genl,
            waiting: VecDeque::new(),
        })
    }

    /// Whether [`Self::recv`] is to return `None` where it would wait.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        self.genl.set_nonblocking(on)
    }

    /// The next notification; `None` only if it would have to be waited for and
    /// [nonblocking](Self::set_nonblocking) is set.
    pub fn recv(&mut self) -> Result<Option<Notice>> {
        while self.waiting.is_empty() {
            match self.genl.receive() {
                Ok(datagram) => self.take(&datagram)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Some(Notice::Lost)),
                Err(e) => return Err(Error::io("events")(e)),
            }
        }
        Ok(self.waiting.pop_front())
    }

    fn take(&mut self, datagram: &[u8]) -> Result<()> {
        for message in messages(datagram) {
            let message = message?;
            if message.message_type() == self.genl.family() {
                self.waiting.extend(read(message.payload())?);
            }
        }
        Ok(())
    }
}

/// The notification that is this message. `None`: of a kind that is not known here.
pub(crate) fn read(message: &[u8]) -> Result<Option<Notice>> {
    let attrs = Attrs::of_message(message)?;
    Ok(Some(match message.first() {
        Some(&nl::CMD_FLOW_NTF) => Notice::Flow(FlowInfo::read(&attrs)?),
        Some(&nl::CMD_SERVICE_NTF) if attrs.flag(nl::A_SERVICE_MODE) => {
            Notice::Service(ServiceInfo::read(&attrs)?)
        }
        Some(&nl::CMD_SERVICE_NTF) => Notice::ServiceGone(read_service(&attrs)?),
        _ => return Ok(None),
    }))
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.genl.as_raw_fd()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.genl.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::{Writer, NLMSG_HEADER};

    #[test]
    fn a_service_without_a_mode_is_gone() {
        let mut w = Writer::new(nl::CMD_SERVICE_NTF, 1);
        let service = "192.0.2.1:80".parse().unwrap();
        w.socket(nl::A_SERVICE_ADDR, nl::A_SERVICE_PORT, service);
        let bytes = w.finish("test", 0, 0, 0).unwrap();
        assert_eq!(
            read(&bytes[NLMSG_HEADER..]).unwrap(),
            Some(Notice::ServiceGone(service))
        );
    }

    #[test]
    fn what_is_not_known_is_skipped() {
        assert_eq!(read(&[200, 1, 0, 0]).unwrap(), None);
        assert!(read(&[nl::CMD_FLOW_NTF, 1, 0, 0]).is_err());
    }
}
