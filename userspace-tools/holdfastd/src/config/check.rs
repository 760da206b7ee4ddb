// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What must be right in a configuration beyond the form of its values: limits, and what may stand
//! only once.

use std::net::SocketAddr;

use super::{Config, Service};
use crate::locate::Wrong;

impl Config {
    /// Finds the first thing that is wrong.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let must = |right: bool, key: &str, i: usize, what: &str| match right {
            true => Ok(()),
            false => Err(Wrong::new(key, i, what)),
        };
        let (beat, ready) = (&self.heartbeat, &self.readiness);
        let at_least = |n: u64, least: u64, key: &str| {
            must(n >= least, key, 0, &format!("must be {least} at least"))
        };
        at_least(beat.interval_ms, 5, "heartbeat.interval-ms")?;
        at_least(beat.misses.into(), 1, "heartbeat.misses")?;
        at_least(self.recovery.concurrency as u64, 1, "recovery.concurrency")?;
        at_least(ready.interval_ms, 100, "readiness.interval-ms")?;
        at_least(ready.clock_ms, 1, "readiness.clock-ms")?;
        must(
            !self.services.is_empty(),
            "service",
            0,
            "there must be one at least",
        )?;
        let remote = |at: &SocketAddr| !at.ip().is_loopback();
        must(
            self.metrics.remote || !self.metrics.listen.as_ref().is_some_and(remote),
            "metrics.listen",
            0,
            "others than this machine can read it: say remote = true if that is meant",
        )?;
        let within = |n: u64, most: u64, key: &str| {
            let right = (1..=most).contains(&n);
            must(right, key, 0, &format!("must be 1 to {most}"))
        };
        within(self.recovery.locate_ms, 86_400_000, "recovery.locate-ms")?;
        within(self.recovery.idle_s, 31_536_000, "recovery.idle-s")?;
        let mut names = vec![(&self.node.name, self.node.priority)];
        for (i, p) in self.peers.iter().enumerate() {
            let twice = |what: String| Err(format!("{what} stands twice"));
            let unique = if names.iter().any(|(n, _)| *n == &p.name) {
                twice(format!("{:?}", p.name)).map_err(|e| Wrong::new("peer.name", i, e))
            } else if names.iter().any(|(_, q)| *q == p.priority) {
                twice(p.priority.to_string()).map_err(|e| Wrong::new("peer.priority", i, e))
            } else {
                Ok(())
            };
            unique?;
            names.push((&p.name, p.priority));
        }
        for (i, s) in self.services.iter().enumerate() {
            let before = &self.services[..i];
            let at_most = |n: u64, most: u64, key: &str| {
                must(n <= most, key, i, &format!("must be {most} at most"))
            };
            must(s.port != 0, "service.port", i, "must not be 0")?;
            at_most(s.head_limit.into(), 65536, "service.head-limit")?;
            at_most(s.request_limit.into(), 65536, "service.request-limit")?;
            at_most(s.hold_ms.into(), 10_000, "service.hold-ms")?;
            at_most(s.restart_ms, 60_000, "service.restart-ms")?;
            at_most(s.verdict_ms.into(), 60_000, "service.verdict-ms")?;
            must(s.hold_ms > 0, "service.hold-ms", i, "must not be 0")?;
            must(s.verdict_ms > 0, "service.verdict-ms", i, "must not be 0")?;
            let twice = before.iter().any(|o| o.socket() == s.socket());
            must(
                !twice,
                "service.port",
                i,
                "the same address and port stand twice",
            )?;
            let named = before.iter().any(|o| o.name() == s.name());
            must(!named, "service.name", i, "stands twice")?;
            let elsewhere = |o: &Service| {
                o.address.addr == s.address.addr
                    && (o.address != s.address
                        || o.interface != s.interface
                        || o.moved_by != s.moved_by)
            };
            must(
                !before.iter().any(elsewhere),
                "service.address",
                i,
                "stands twice, with another prefix length, interface or moved-by",
            )?;
        }
        Ok(())
    }
}
