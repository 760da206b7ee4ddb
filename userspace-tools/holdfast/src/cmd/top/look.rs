// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What module and daemon say at one moment.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libholdfast::types::{FlowInfo, ServiceInfo};
use libholdfast::Client;
use serde_json::{json, Value};

use super::board::Board;
use crate::daemon::DaemonArgs;
use crate::fail::Fail;

/// How long the daemon may think; keys wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Newest events of the daemon that are shown.
const EVENTS: usize = 6;

/// Connections of which one question asks how they are protected: it must fit into the longest
/// that the daemon reads.
const ASKED: usize = 100;

/// What was there at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Since an arbitrary moment.
    pub at: Duration,
    pub services: Vec<ServiceInfo>,
    /// The flows that were looked at.
    pub flows: Vec<FlowInfo>,
    /// What the daemon says, or why it says nothing.
    pub daemon: Result<Daemon, String>,
}

/// What the daemon says, as it says it.
#[derive(Clone, Debug, Default)]
pub(super) struct Daemon {
    pub status: Value,
    pub peers: Value,
    pub ready: Value,
    pub events: Vec<Value>,
}

/// Who looks.
pub(super) struct Looker {
    daemon: DaemonArgs,
    most: usize,
    began: Instant,
}

impl Looker {
    /// Of `most` flows at most.
    pub(super) fn new(daemon: DaemonArgs, most: usize) -> Self {
        let began = Instant::now();
        Looker {
            daemon,
            most,
            began,
        }
    }

    /// Looks.
    pub(super) fn look(&self) -> Result<Look, Fail> {
        let mut client = Client::connect()?;
        let services = client.services()?.items;
        // What comes and goes meanwhile may be missing; the next look will have it.
        let flows = client.some_flows(self.most)?.items;
        let at = self.began.elapsed();
        let daemon = match self.ask_daemon() {
            Err(e @ (Fail::NoDaemon(..) | Fail::Daemon(_))) => Err(e.to_string()),
            said => Ok(said?),
        };
        Ok(Look {
            at,
            services,
            flows,
            daemon,
        })
    }

    fn ask(&self, question: &Value) -> Result<Value, Fail> {
        self.daemon.ask(question, Some(PATIENCE))
    }

    fn ask_daemon(&self) -> Result<Daemon, Fail> {
        let mut events = self.ask(&json!({"op": "timeline", "last": EVENTS}))?;
        let events = match events["events"].take() {
            Value::Array(events) => events,
            _ => Vec::new(),
        };
        Ok(Daemon {
            status: self.ask(&json!({"op": "status"}))?,
            peers: self.ask(&json!({"op": "peers"}))?,
            ready: self.ask(&json!({"op": "ready"}))?,
            events,
        })
    }

    /// Asks the daemon how the connections that `board` shows are protected.
    pub(super) fn explain(&self, board: &mut Board) -> Result<(), Fail> {
        let ids = board.unexplained();
        if !board.has_daemon() || ids.is_empty() {
            return Ok(());
        }
        let mut states = HashMap::new();
        for ids in ids.chunks(ASKED) {
            match self.ask(&json!({"op": "flows", "ids": ids})) {
                // It may have died since it was asked first; the next look will say so.
                Err(Fail::NoDaemon(..) | Fail::Daemon(_)) => return Ok(()),
                said => states.extend(protections(&said?)),
            }
        }
        board.explain(&states);
        Ok(())
    }
}

/// In words, by number of the flow, how it is protected.
fn protections(answer: &Value) -> Vec<(u64, String)> {
    let flows = answer["flows"].as_array().map_or(&[][..], Vec::as_slice);
    let word = |f: &Value| Some((f["id"].as_u64()?, protection(&f["state"])));
    flows.iter().filter_map(word).collect()
}

/// The daemon's word for the state of a flow, shortened.
fn protection(state: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or("?").to_owned();
    if let Some(why) = state.get("unprotected") {
        return format!("no: {}", text(why));
    }
    match state.get("responding").map(text).as_deref() {
        Some("unprotected") => format!("no: {}", text(&state["why"])),
        Some(way) => way.to_owned(),
        None => text(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn states_are_words() {
        for (state, word) in [
            (json!("idle"), "idle"),
            (json!({"unprotected": "tls"}), "no: tls"),
            (json!({"responding": "range", "end": 5}), "range"),
            (
                json!({"responding": "unprotected", "why": "no-validator", "end": null}),
                "no: no-validator",
            ),
        ] {
            assert_eq!(protection(&state), word);
        }
    }

    #[test]
    fn the_longest_question_is_one_that_the_daemon_reads() {
        let ids = vec![u64::MAX; ASKED];
        let question = json!({"op": "flows", "ids": ids}).to_string();
        assert!(question.len() < 4096, "{}", question.len());
    }

    #[test]
    fn a_daemon_is_asked_for_what_is_shown() {
        let path = std::env::temp_dir().join(format!("holdfast-top-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            for _ in 0..4 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let question: Value = serde_json::from_str(&line).unwrap();
                let answer = match question["op"].as_str().unwrap() {
                    "timeline" => json!({"events": [{"event": "owner"}]}),
                    op => json!({"said": op}),
                };
                stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
        });
        let looker = Looker::new(DaemonArgs::at(path.clone()), 1);
        let said = looker.ask_daemon().unwrap();
        daemon.join().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(said.events, [json!({"event": "owner"})]);
        assert_eq!(said.peers["said"], "peers");
        assert!(matches!(looker.ask_daemon(), Err(Fail::NoDaemon(..))));
    }
}
