// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What happened when: one line an event, for people and for programs.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde_json::{json, Map, Value};

/// Events that are kept for the control socket.
const KEPT: usize = 4096;

/// Nanoseconds of the monotonic clock, the one that the kernel's log uses.
pub fn monotonic() -> i64 {
    let id = nix::time::ClockId::CLOCK_MONOTONIC;
    // PANIC: every Linux has this clock.
    let t = nix::time::clock_gettime(id).expect("CLOCK_MONOTONIC");
    t.tv_sec() * 1_000_000_000 + t.tv_nsec()
}

/// The events of this daemon.
#[derive(Debug)]
pub struct Timeline {
    node: String,
    json: bool,
    quiet: bool,
    events: VecDeque<Value>,
}

impl Timeline {
    /// Of `node`. `json`: write JSON lines to standard error, otherwise plain ones.
    pub fn new(node: &str, json: bool) -> Self {
        Timeline {
            node: node.to_owned(),
            json,
            quiet: cfg!(test),
            events: VecDeque::new(),
        }
    }

    /// Notes that `event` happened now. `fields`: a JSON object.
    pub fn note(&mut self, event: &str, fields: Value) {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut line = Map::new();
        line.insert("wall_ms".into(), json!(wall.as_millis() as u64));
        line.insert("mono_ms".into(), json!(monotonic() as f64 / 1e6));
        line.insert("node".into(), json!(self.node));
        line.insert("event".into(), json!(event));
        if let Value::Object(fields) = &fields {
            line.extend(fields.clone());
        }
        let line = Value::Object(line);
        if !self.quiet {
            match (self.json, &fields) {
                (true, _) => eprintln!("{line}"),
                (false, Value::Object(fields)) => {
                    let words: Vec<_> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    eprintln!("{event} {}", words.join(" "));
                }
                (false, _) => eprintln!("{event}"),
            }
        }
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(line);
    }

    /// The events that are kept, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Value> {
        self.events.iter()
    }

    /// The newest `n` of them, oldest first.
    pub fn last(&self, n: usize) -> impl Iterator<Item = &Value> {
        self.events.iter().skip(self.events.len().saturating_sub(n))
    }
}
