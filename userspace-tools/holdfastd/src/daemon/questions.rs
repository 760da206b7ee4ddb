// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What the daemon is asked over the control socket, and its answers.

use std::time::Duration;

use libholdfast::record::State;
use serde_json::{json, Value};
use tokio::sync::oneshot;

use super::Daemon;
use crate::control::Request;
use crate::kernel::Kernel;

/// Flows that one answer of the control socket shows.
const SHOWN: usize = 1000;

/// Longest deadline of a drain in milliseconds: a day.
const DRAIN_LONGEST: u64 = 86_400_000;

impl<K: Kernel> Daemon<K> {
    pub(super) fn asked(&mut self, request: &Request, reply: oneshot::Sender<Value>) {
        let answer = match request {
            Request::Drain { deadline_ms, to } => {
                let ms = deadline_ms.unwrap_or(self.config.drain.deadline_ms);
                let wait = Duration::from_millis(ms.min(DRAIN_LONGEST));
                return self.drain(wait, to.as_deref(), Some(reply));
            }
            Request::Undrain => self.undrain(),
            Request::Reload => self.reload_file(),
            question => self.answer(question),
        };
        let _ = reply.send(answer);
    }

    fn answer(&mut self, request: &Request) -> Value {
        match request {
            Request::Drain { .. } | Request::Undrain | Request::Reload => {
                json!({"error": "not a question"})
            }
            Request::Ready => self.readiness(),
            Request::Metrics => json!({"text": self.metrics()}),
            Request::Status => {
                let (rescues, active) = self.engine.rescues.len();
                let dead = self.engine.flows().filter(|(_, t)| t.is_dead()).count();
                let (unread, size) = self.engine.kernel.log_fill();
                json!({
                    "node": self.config.node.name,
                    "flows": self.engine.flows().count(),
                    "flows_unprotected": dead,
                    "records_of_peers": self.engine.store.count(),
                    "records_refused": self.engine.store.refused,
                    "to_recover": rescues,
                    "recovering": active,
                    "committed_alone": self.engine.quorum.alone,
                    "drain": self.drain.status(),
                    "addresses": self.owners(),
                    "services": self.services(),
                    "log": {"unread": unread, "size": size},
                    "counts": self.engine.counts,
                })
            }
            Request::Peers => {
                let peers: Vec<_> = self
                    .membership
                    .peers(self.time())
                    .map(|(name, health, silent)| {
                        json!({
                            "name": name,
                            "health": health,
                            "willing": self.membership.is_willing(name),
                            "other_version": self.membership.foreign(name).map(|(v, _)| v),
                            "fitness": self.ready.fitness(name, self.time()),
                            "silent_ms": silent.as_millis() as u64,
                            "linked": self.links.contains_key(name),
                            "records": self.engine.store.owned(name),
                        })
                    })
                    .collect();
                json!({"peers": peers, "addresses": self.owners()})
            }
            Request::Flows { ids } => {
                let of = |id: &u64| self.engine.trackers.get(id).map(|t| (*id, t));
                let flows: Vec<_> = match ids {
                    Some(ids) => ids.iter().filter_map(of).collect(),
                    None => self.engine.flows().take(SHOWN).collect(),
                };
                let flows = flows.into_iter().map(|(id, t)| {
                    let r = t.record();
                    json!({
                        "id": id,
                        "client": r.key.client.to_string(),
                        "service": r.key.service.to_string(),
                        "generation": r.generation,
                        "state": state(&r.state),
                        "start": r.start,
                        "acked": r.acked,
                    })
                });
                let flows: Vec<_> = flows.collect();
                json!({"total": self.engine.flows().count(), "flows": flows})
            }
            Request::Timeline { last } => {
                let events = self.engine.timeline.last(last.unwrap_or(usize::MAX));
                json!({"events": events.collect::<Vec<_>>()})
            }
            Request::Why { client } => {
                let of = |k: &libholdfast::types::FlowKey| k.client == *client;
                let live = self.engine.flows().find(|(_, t)| of(&t.record().key));
                let record = live.map(|(_, t)| t.record());
                match record.or_else(|| self.engine.rescues.records().find(|r| of(&r.key))) {
                    Some(r) => json!({"client": client.to_string(), "state": state(&r.state)}),
                    None => json!({"error": "no flow of this client is served here"}),
                }
            }
        }
    }

    fn owners(&self) -> Vec<Value> {
        let owners = self.membership.owners();
        owners
            .map(|(a, o, g)| json!({"address": a.to_string(), "owner": o, "generation": g}))
            .collect()
    }
}

fn state(state: &State) -> Value {
    use libholdfast::record::Way;
    match state {
        State::Idle => json!("idle"),
        State::Requesting(_) => json!("requesting"),
        State::Unprotected(why) => json!({"unprotected": why.name()}),
        State::Responding(o) => match &o.way {
            Way::Range { .. } => json!({"responding": "range", "end": o.end}),
            Way::Stored => json!({"responding": "stored", "end": o.end}),
            Way::Replay(_) => json!({"responding": "replay", "end": o.end}),
            Way::None(why) => json!({"responding": "unprotected", "why": why.name(), "end": o.end}),
        },
    }
}
