// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What comes of the links, and what peers are told by them.

use std::collections::HashSet;

use serde_json::json;

use super::Daemon;
use crate::kernel::Kernel;
use crate::link::{self, LinkEvent};
use crate::store::Update;
use crate::timeline::monotonic;

impl<K: Kernel> Daemon<K> {
    /// Takes in what has come of the links. What a peer was told to have confirmed must be there when
    /// a record is asked for.
    pub(super) fn hear_links(&mut self) {
        for _ in 0..self.events.len() {
            if let Ok(event) = self.events.try_recv() {
                self.linked(event);
            }
        }
    }

    /// Takes in what has come of one link.
    pub(crate) fn linked(&mut self, event: LinkEvent) {
        let now = monotonic();
        match event {
            LinkEvent::Up {
                peer,
                conn,
                updates,
            } => {
                self.flush();
                self.engine.timeline.note("link-up", json!({"peer": peer}));
                let (number, all) = self.engine.snapshot(self.membership.boot(), now);
                let chunks = all.chunks(link::BATCH).count();
                let (tx, later) = (updates.clone(), all);
                self.links.insert(peer.clone(), (conn, updates));
                self.engine.quorum.join(&peer);
                // A little at a time; the channel is bounded and keeps the order only if the
                // snapshot fits, so that a link that cannot take it is begun anew.
                for (i, chunk) in later.chunks(link::BATCH).enumerate() {
                    let number = if i + 1 == chunks { number } else { 0 };
                    if tx.try_send((number, chunk.to_vec())).is_err() {
                        self.unlink(&peer);
                        return;
                    }
                }
                // Who has heard this has heard all of it.
                self.introduce(&peer);
            }
            LinkEvent::Down { peer, conn } => {
                if self.links.get(&peer).is_some_and(|(c, _)| *c == conn) {
                    self.engine
                        .timeline
                        .note("link-down", json!({"peer": peer}));
                    self.unlink(&peer);
                }
            }
            LinkEvent::Confirmed { peer, conn, number } => {
                if self.links.get(&peer).is_some_and(|(c, _)| *c == conn) {
                    if self.engine.quorum.confirm(&peer, number) {
                        self.flush();
                        self.introduce(&peer);
                    }
                    self.engine.settle();
                }
            }
            LinkEvent::Told {
                peer,
                conn,
                updates,
            } => {
                // It may be one of the group no more.
                if !self.tellers.contains_key(&peer) {
                    return;
                }
                // What is left of an older connection may come after all that the newer one tells.
                let newest = self.told_by.get(&peer).copied().unwrap_or(0);
                if conn > newest && matches!(updates[..], [Update::Begin { .. }, ..]) {
                    self.told_by.insert(peer.clone(), conn);
                } else if conn != newest {
                    return;
                }
                for update in updates {
                    self.ready.hear(&peer, &update, self.time());
                    match update {
                        Update::HandOver { addr, generation } => {
                            self.offered(&peer, addr, generation);
                        }
                        update => self.engine.store.apply(&peer, update, now),
                    }
                }
            }
            LinkEvent::Left { peer, conn } => {
                if self.told_by.get(&peer) == Some(&conn) {
                    self.engine.store.doubt(&peer);
                }
            }
            LinkEvent::Refused(why) => self.engine.count(why.counter()),
        }
    }

    pub(crate) fn unlink(&mut self, peer: &str) {
        self.links.remove(peer);
        // Nothing waits for it any more. It may not hear how the link ends.
        self.say_alive();
        self.engine.quorum.leave(peer);
        self.engine.settle();
    }

    /// Sends what is new to every peer.
    pub(crate) fn flush(&mut self) {
        let updates = self.engine.take_updates();
        let mut slow = HashSet::new();
        // In pieces, each of which is to be confirmed in time.
        for chunk in updates.chunks(link::BATCH) {
            let Some((number, _)) = chunk.last() else {
                continue;
            };
            for (peer, (_, tx)) in &self.links {
                let piece = chunk.iter().map(|(_, u)| u.clone()).collect();
                if tx.try_send((*number, piece)).is_err() {
                    slow.insert(peer.clone());
                }
            }
        }
        for peer in slow {
            self.engine.count("links-overrun");
            self.unlink(&peer);
        }
    }

    /// Tells a peer about this node, behind all that it was told.
    pub(crate) fn introduce(&self, peer: &str) {
        let waits = self.engine.quorum.has_all(peer);
        if let Some((_, tx)) = self.links.get(peer) {
            // A link that is full has enough to tell.
            let _ = tx.try_send((0, vec![self.ready.about(&self.config, waits)]));
        }
    }
}
