// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What this node's own server lacks, the server of another node may have.
//!
//! The address is here, and so are the client's packets: the flow stays, and a [`Relay`] carries
//! its bytes to the server of the next living peer and back. That server's answer is judged by
//! the same rules as the local one's was.
//!
//! ```text
//!   Asking the local server --[judge: not the object]--> Asking the first peer's --> ...
//!                                                                |   no peer is left: reset
//! ```

use std::net::{IpAddr, SocketAddr};

use libholdfast::types::FlowKey;
use serde_json::json;

use crate::engine::Engine;
use crate::kernel::{Kernel, Verdict};
use crate::relay::{Relay, Target};

/// The peers whose servers may be asked.
#[derive(Debug, Default)]
pub struct NextNodes {
    /// Absent: none of them.
    pub relay: Option<Relay>,
    /// Names and own addresses of those that live, first by priority.
    pub peers: Vec<(String, IpAddr)>,
}

/// How far the search for a server that has the object of one flow has come.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Why the local server's answer was not right.
    why: Option<String>,
    /// Peers that were asked, the one that is being asked last.
    asked: Vec<String>,
}

impl Search {
    /// Whether the server of a peer is being asked.
    pub(crate) fn is_elsewhere(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The peer whose server is being asked.
    pub(crate) fn peer(&self) -> Option<&str> {
        self.asked.last().map(String::as_str)
    }
}

impl<K: Kernel> Engine<K> {
    /// The server that was asked for the rest of a response is not the right one: asks that of
    /// the next peer, or resets the client.
    pub(crate) fn elsewhere(&mut self, key: &FlowKey, why: &str, now: i64) {
        let target = self.next_target(key);
        let ask = target.as_ref().and_then(|_| self.rescues.ask_again(key));
        let Some(search) = self.rescues.search(key) else {
            return;
        };
        let first = search.why.get_or_insert_with(|| why.to_owned()).clone();
        let (Some(target), Some(ask)) = (target, ask) else {
            return self.refuse(key, &first, Verdict::Reset);
        };
        search.asked.push(target.peer.clone());
        let note = json!({"flow": key.to_string(), "to": target.peer, "why": why});
        self.timeline.note("next-node", note);
        self.count_of(key.service, "next-node");
        if let Some(relay) = &self.next.relay {
            relay.expect(*key, target);
        }
        self.connect(key, Some(ask), now);
    }

    /// The next server that may have what the one before lacks.
    fn next_target(&mut self, key: &FlowKey) -> Option<Target> {
        let port = match self.service(key.service) {
            Some(service) => service.next_port.unwrap_or(service.port),
            None => 0,
        };
        self.next.relay.as_ref()?.port(key).filter(|_| port != 0)?;
        let search = self.rescues.search(key)?;
        let new = |(name, _): &&(String, IpAddr)| !search.asked.contains(name);
        let (peer, ip) = self.next.peers.iter().find(new)?.clone();
        let at = SocketAddr::new(ip, port);
        Some(Target { peer, at })
    }
}
