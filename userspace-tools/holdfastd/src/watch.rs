// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Keeps an eye on the segment of the services: who answers for the addresses of silent nodes,
//! and whether the gateway can be reached ([`crate::membership`] draws the conclusions).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::{Check, Config};
use crate::membership::CALM;
use crate::neighbour;
use crate::takeover::Address;

/// Asks, and hears answers.
pub struct Watch {
    gateway: Option<(String, IpAddr)>,
    interfaces: HashMap<IpAddr, String>,
    found: mpsc::Receiver<IpAddr>,
    /// Open while nobody listens, so that `found` is silent and not at its end.
    _silence: mpsc::Sender<IpAddr>,
    /// Between two questions while something is wrong.
    pace: Duration,
    asked: Option<Duration>,
    /// The gateway has answered since.
    answered: bool,
}

impl Watch {
    /// Begins to listen, unless the configuration says not to.
    ///
    /// # Errors
    ///
    /// A sentence for a person.
    pub fn new(config: &Config, addresses: &HashMap<IpAddr, Address>) -> Result<Self, String> {
        let (silence, found) = mpsc::channel(64);
        let mut watch = Watch {
            gateway: None,
            interfaces: HashMap::new(),
            found,
            _silence: silence.clone(),
            pace: (config.heartbeat.interval() / 4).max(Duration::from_millis(5)),
            asked: None,
            answered: true,
        };
        // Addresses that programs move need not be on a segment at all.
        if config.heartbeat.check == Check::None || config.hooks.up.is_some() {
            return Ok(watch);
        }
        watch.interfaces = addresses
            .iter()
            .map(|(addr, a)| (*addr, a.interface.clone()))
            .collect();
        let interface = |name: &str| watch.interfaces.values().any(|i| i == name);
        watch.gateway = match config.heartbeat.gateway {
            Some(gateway) => config
                .services
                .first()
                .map(|s| (s.interface.clone(), gateway)),
            None => neighbour::default_gateway().filter(|(name, _)| interface(name)),
        };
        let gateway = watch.gateway.iter().map(|(_, addr)| *addr);
        let wanted = watch.interfaces.keys().copied().chain(gateway).collect();
        neighbour::listen(&wanted, &silence).map_err(|e| format!("heartbeat.check: {e}"))?;
        Ok(watch)
    }

    /// Whether the same gateway tells whether this node is cut off.
    pub fn has_gateway_of(&self, other: &Watch) -> bool {
        self.gateway == other.gateway
    }

    /// The next address that a machine has answered for. May be dropped and called again.
    pub async fn found(&mut self) -> Option<IpAddr> {
        self.found.recv().await
    }

    /// One that has answered already.
    pub fn try_found(&mut self) -> Option<IpAddr> {
        self.found.try_recv().ok()
    }

    /// Whether it is the gateway that has answered for `addr`.
    pub fn is_gateway(&mut self, addr: IpAddr) -> bool {
        let gateway = self.gateway.as_ref().is_some_and(|(_, g)| *g == addr);
        self.answered |= gateway;
        gateway
    }

    /// Whether the gateway was asked and has not answered yet.
    pub fn is_waiting(&self) -> bool {
        self.gateway.is_some() && !self.answered
    }

    /// Asks for the addresses `in_doubt` and for the gateway, if it is time. `calm`: every
    /// address has an owner that is heard.
    pub fn ask(&mut self, in_doubt: impl Iterator<Item = IpAddr>, calm: bool, now: Duration) {
        let pace = if calm && !self.is_waiting() {
            CALM
        } else {
            self.pace
        };
        if self.asked.is_some_and(|at| now < at + pace) {
            return;
        }
        self.asked = Some(now);
        self.answered = false;
        let known = in_doubt.filter_map(|a| Some((self.interfaces.get(&a)?, a)));
        let gateway = self
            .gateway
            .iter()
            .map(|(interface, addr)| (interface, *addr));
        for (interface, addr) in known.chain(gateway) {
            // A question that cannot be asked has no answer.
            let _ = neighbour::ask(interface, addr);
        }
    }
}
