// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast status`

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::Args;
use holdfast_core::counter::Counter;
use libholdfast::types::{FlowInfo, Phase, ServiceInfo, Stat};
use libholdfast::{Client, Error};
use serde_json::{json, Map, Value};

use crate::daemon::{DaemonArgs, SOON};
use crate::fail::Fail;
use crate::output::Output;

/// Say how things stand, and why
///
/// Says whether the module is loaded, what it protects, what the daemon thinks, and whether this
/// node is ready to take over; the exit status says the same: 3 without the module, 4 without the
/// daemon, 5 if this node is not ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast status
  holdfast status --why                   why this node is not ready, and what went wrong so far
  holdfast status --why 192.0.2.7:40000   how this connection is protected
  holdfast -j status | jq .daemon.ready   the same for programs

Exit status:
  0  the node is ready to take over
  1  refused or failed
  3  the holdfast module is not loaded
  4  the daemon cannot be reached
  5  the node is not ready to take over")]
pub(crate) struct Status {
    /// Say what kept connections from being protected or continued; of one client, if given
    #[arg(long, value_name = "CLIENT")]
    why: Option<Option<SocketAddr>>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Counters of what nobody need worry about; each of the others is a reason.
const FINE: &[Counter] = &[
    Counter::NotTcp,
    Counter::FlowOpened,
    Counter::FlowClosed,
    Counter::Committed,
    Counter::Held,
    Counter::AckLowered,
    Counter::AckSwallowed,
    Counter::AckGateAdvanced,
    Counter::AckGateReleased,
    Counter::Orphan,
    Counter::OrphanSwallowed,
    Counter::ProbeSent,
    Counter::Located,
    Counter::GhostOpened,
    Counter::GhostHeard,
    Counter::GhostHandshake,
    Counter::Joined,
    Counter::Spliced,
    Counter::IcmpTranslated,
    Counter::WouldHold,
    Counter::WouldLower,
    Counter::WouldBlank,
    Counter::WouldCatch,
];

impl Status {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let mut all = Map::new();
        all.insert("module".into(), self.module()?);
        let (daemon, gone) = self.ask_daemon()?;
        all.insert("daemon".into(), daemon);
        let all = Value::Object(all);
        out.one(&all, |all| tree(all, 0).join("\n"))?;
        match gone {
            _ if all["module"]["loaded"] == false => Err(Error::NotLoaded.into()),
            Some(fail) => Err(fail),
            None if all["daemon"]["ready"]["ready"] == false => Err(Fail::NotReady),
            None => Ok(()),
        }
    }

    fn module(&self) -> Result<Value, Fail> {
        let mut client = match Client::connect() {
            Ok(client) => client,
            Err(e @ Error::NotLoaded) => {
                return Ok(json!({"loaded": false, "error": e.to_string()}))
            }
            Err(e) => return Err(e.into()),
        };
        let flows = client.flows()?.items;
        let mut module = json!({
            "loaded": true,
            "services": client.services()?.items.iter().map(service).collect::<Vec<_>>(),
            "flows": by_phase(&flows),
        });
        match self.why {
            None => {}
            Some(None) => module["why"] = reasons(&client.stats()?),
            Some(Some(peer)) => {
                let of = flows
                    .iter()
                    .filter(|f| f.key.client == peer)
                    .collect::<Vec<_>>();
                module["why"] = json!(of);
            }
        }
        Ok(module)
    }

    /// What the daemon says; why not, if it says nothing.
    fn ask_daemon(&self) -> Result<(Value, Option<Fail>), Fail> {
        let mut questions = vec![
            ("status", json!({"op": "status"})),
            ("peers", json!({"op": "peers"})),
            ("ready", json!({"op": "ready"})),
        ];
        if let Some(Some(client)) = self.why {
            questions.push(("why", json!({"op": "why", "client": client})));
        }
        let mut answers = Map::new();
        answers.insert("reachable".into(), true.into());
        for (name, question) in questions {
            let answer = match self.daemon.ask(&question, Some(SOON)) {
                Err(e @ Fail::NoDaemon(..)) => {
                    let said = json!({"reachable": false, "error": e.to_string()});
                    return Ok((said, Some(e)));
                }
                Err(Fail::Daemon(why)) => json!({"error": why}),
                answer => answer?,
            };
            let answer = match name {
                "ready" if self.why.is_none() => json!({"ready": answer["ready"]}),
                _ => answer,
            };
            answers.insert(name.into(), answer);
        }
        Ok((Value::Object(answers), None))
    }
}

fn service(s: &ServiceInfo) -> Value {
    json!({
        "service": s.service,
        "mode": s.mode,
        "commit": s.commit,
        "flows": s.flows,
    })
}

/// How many flows are in each phase.
fn by_phase(flows: &[FlowInfo]) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::new();
    for flow in flows {
        *count.entry(Phase::name(flow.phase)).or_default() += 1;
    }
    count
}

/// Counters that are reasons, each with what it counts.
fn reasons(stats: &[Stat]) -> Value {
    let told = |s: &&Stat| s.value != 0 && FINE.iter().all(|c| c.name() != s.name);
    let reason = |s: &Stat| {
        let doc = super::stats::meaning(&s.name).unwrap_or("Not known to this program.");
        json!({"counter": s.name, "count": s.value, "meaning": doc})
    };
    stats.iter().filter(told).map(reason).collect()
}

/// A JSON value as indented lines.
pub(crate) fn tree(value: &Value, depth: usize) -> Vec<String> {
    let indent = "    ".repeat(depth);
    match value {
        Value::Object(map) => {
            let entry = |(name, value): (&String, &Value)| match flat(value) {
                Some(text) => vec![format!("{indent}{name} {text}")],
                None => {
                    let mut lines = vec![format!("{indent}{name}")];
                    lines.extend(tree(value, depth + 1));
                    lines
                }
            };
            map.iter().flat_map(entry).collect()
        }
        Value::Array(list) => {
            // Objects in a list stand on a line each if nothing is nested in them.
            let entry = |value: &Value| match value.as_object() {
                Some(map) if map.values().all(|v| flat(v).is_some()) => {
                    let words = map
                        .iter()
                        .map(|(n, v)| format!("{n} {}", flat(v).unwrap_or_default()));
                    vec![format!("{indent}{}", words.collect::<Vec<_>>().join(" "))]
                }
                _ => tree(value, depth),
            };
            list.iter().flat_map(entry).collect()
        }
        other => vec![format!("{indent}{}", flat(other).unwrap_or_default())],
    }
}

/// The text of a value with nothing in it.
fn flat(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) if list.is_empty() => Some("none".into()),
        Value::Object(map) if map.is_empty() => Some("none".into()),
        Value::Null => Some("none".into()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.into()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::flow::tests::flow;

    #[test]
    fn a_tree_is_indented_lines() {
        let value = json!({
            "flows": 3,
            "list": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
            "none": [],
            "nested": {"yes": true},
        });
        let lines = tree(&value, 0);
        assert_eq!(
            lines,
            [
                "flows 3",
                "list",
                "    a 1 b x",
                "    a 2 b y",
                "nested",
                "    yes yes",
                "none none"
            ]
        );
    }

    #[test]
    fn reasons_are_what_went_wrong() {
        let stat = |name: &str, value| Stat {
            name: name.into(),
            value,
        };
        let stats = [
            stat("flow_opened", 5),
            stat("unlocated", 2),
            stat("ghost_lost", 0),
            stat("from_the_future", 1),
        ];
        let reasons = reasons(&stats);
        assert_eq!(reasons.as_array().unwrap().len(), 2);
        assert_eq!(reasons[0]["counter"], "unlocated");
        assert_eq!(reasons[0]["meaning"], Counter::Unlocated.doc());
        assert_eq!(reasons[1]["count"], 1);
    }

    #[test]
    fn flows_are_counted_by_phase() {
        let ghost = FlowInfo {
            phase: Phase::Ghost,
            ..flow()
        };
        let count = by_phase(&[flow(), ghost, flow()]);
        assert_eq!(count, BTreeMap::from([("ghost", 1), ("open", 2)]));
    }
}
