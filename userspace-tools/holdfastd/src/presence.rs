// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Follows addresses that other programs move: says when addresses of this machine change
//! (rtnetlink(7)), and looks which ones are here.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::sys::socket::{
    bind, recv, setsockopt, socket, sockopt, AddressFamily, MsgFlags, NetlinkAddr, SockFlag,
    SockProtocol, SockType,
};
use nix::sys::time::TimeVal;
use serde_json::json;
use tokio::sync::mpsc;

use crate::daemon::Daemon;
use crate::kernel::Kernel;
use crate::takeover;

/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x10 | 0x100;

/// How often a listener looks whether anybody still wants to know, in seconds.
const LOOK: i64 = 1;

/// Hears about each change.
pub struct Presence(mpsc::Receiver<()>);

impl Presence {
    /// Begins to listen, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// As of socket(2) and bind(2).
    pub fn new() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(LOOK, 0))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        // One that waits stands for all that follow.
        let (changed, told) = mpsc::channel(1);
        thread::Builder::new()
            .name("addresses".into())
            .spawn(move || hear(&fd, &changed))?;
        Ok(Presence(told))
    }

    /// Waits until something has changed. What it was is to be looked up. May be dropped and
    /// called again.
    pub async fn changed(&mut self) {
        if self.0.recv().await.is_none() {
            // The listener has ended; nothing more will be heard.
            std::future::pending().await
        }
    }
}

fn hear(fd: &OwnedFd, changed: &mpsc::Sender<()>) {
    let mut message = [0; 4096];
    while !changed.is_closed() {
        match recv(fd.as_raw_fd(), &mut message, MsgFlags::empty()) {
            // Messages that were lost (ENOBUFS) are changes, too.
            Ok(_) | Err(Errno::ENOBUFS) => drop(changed.try_send(())),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

impl<K: Kernel> Daemon<K> {
    /// Finds out which of the addresses that others move are here.
    pub(crate) fn look_for_addresses(&mut self) {
        let all: Vec<_> = self.membership.externals().collect();
        for addr in all {
            let here = self.addresses.get(&addr).is_some_and(takeover::has);
            if self.membership.present(addr, here) && !here {
                let note = json!({"address": addr.to_string()});
                self.engine.timeline.note("address-left", note);
            }
        }
        let changes = self.membership.take_external(self.time());
        self.changed(changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;
    use tokio::time::timeout;

    #[test]
    fn a_new_address_is_heard_of() {
        crate::testing::in_own_namespace(come_and_go);
    }

    async fn come_and_go() {
        let mut presence = Presence::new().unwrap();
        for (verb, prefix) in [
            ("add", "192.0.2.10/32"),
            ("del", "192.0.2.10/32"),
            ("add", "2001:db8::10/128"),
        ] {
            let command = ["address", verb, prefix, "dev", "lo"];
            assert!(Command::new("ip").args(command).status().unwrap().success());
            let soon = Duration::from_secs(10);
            timeout(soon, presence.changed()).await.expect(prefix);
        }
    }
}
