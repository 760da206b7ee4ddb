// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What two looks tell that one does not: rates, stalls and ages. Pure: no clock, no kernel.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use libholdfast::types::{FlowInfo, FlowKey, Phase};
use serde::Serialize;
use serde_json::{json, Value};

use super::Look;
use crate::cmd::flow::reason;
use crate::input::Host;

/// Most connections that a frame can show; those behind them in the order are counted only.
const ROWS: usize = 200;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// The fastest.
    Rate,
    /// The one whose client has waited longest.
    Stall,
    /// The oldest.
    Age,
}

impl Sort {
    pub(super) const ALL: [Sort; 3] = [Sort::Rate, Sort::Stall, Sort::Age];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::Stall => "stall",
            Sort::Age => "age",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Rate => Sort::Stall,
            Sort::Stall => Sort::Age,
            Sort::Age => Sort::Rate,
        }
    }
}

/// A connection as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// Number of the flow.
    pub id: u64,
    #[serde(flatten)]
    pub key: FlowKey,
    pub phase: Phase,
    /// How it is protected, in the words of the daemon.
    pub protection: Option<String>,
    /// Bytes that the client has acknowledged in a second; unknown at the first look.
    pub bytes_per_second: Option<u64>,
    /// Milliseconds for which the client is owed bytes and has acknowledged none.
    pub stalled_ms: Option<u64>,
    /// Milliseconds since it was first seen.
    pub age_ms: u64,
    /// It was there at the first look: it is older than that.
    pub older: bool,
    pub generation: u32,
}

/// What is remembered of a connection.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Duration,
    older: bool,
    acked: u64,
    moved: Duration,
    rate: Option<u64>,
}

/// All that is shown.
#[derive(Clone, Debug)]
pub(super) struct Board {
    pub interval: Duration,
    pub sort: Sort,
    pub service: Option<Host>,
    pub paused: bool,
    pub help: bool,
    pub look: Option<Look>,
    /// The first connections in the order that is wanted.
    pub rows: Vec<Row>,
    seen: HashMap<u64, Seen>,
}

impl Board {
    pub(super) fn new(interval: Duration, sort: Sort, service: Option<Host>) -> Self {
        Board {
            interval,
            sort,
            service,
            paused: false,
            help: false,
            look: None,
            rows: Vec::new(),
            seen: HashMap::new(),
        }
    }

    /// Takes a look in.
    pub(super) fn learn(&mut self, look: Look) {
        let (now, before) = (look.at, self.look.as_ref().map(|l| l.at));
        let seen = |f: &FlowInfo| (f.id, self.see(f, now, before));
        // Those that were not seen any more are forgotten.
        self.seen = look.flows.iter().map(seen).collect();
        self.look = Some(look);
        self.arrange();
    }

    fn see(&self, flow: &FlowInfo, now: Duration, before: Option<Duration>) -> Seen {
        let Some(old) = self.seen.get(&flow.id) else {
            return Seen {
                first: now,
                older: before.is_none(),
                acked: flow.s2c_acked,
                moved: now,
                rate: None,
            };
        };
        // After a takeover by another node and back, a position may be a little behind.
        let bytes = flow.s2c_acked.saturating_sub(old.acked);
        let time = now.saturating_sub(before.unwrap_or(now)).as_secs_f64();
        Seen {
            acked: flow.s2c_acked,
            moved: if bytes > 0 { now } else { old.moved },
            rate: (time > 0.0).then(|| (bytes as f64 / time) as u64),
            ..*old
        }
    }

    /// Puts the connections of the last look in order.
    fn arrange(&mut self) {
        let Some(look) = &self.look else { return };
        let known: HashMap<_, _> = self.rows.drain(..).map(|r| (r.id, r.protection)).collect();
        let mut rows: Vec<_> = look
            .flows
            .iter()
            .filter(|f| self.service.is_none_or(|s| s.is(&f.key.service)))
            .filter_map(|f| Some(row(f, self.seen.get(&f.id)?, look.at)))
            .collect();
        rows.sort_by_key(|r| {
            let first = match self.sort {
                Sort::Rate => r.bytes_per_second,
                Sort::Stall => r.stalled_ms,
                // Numbers rise, so that the oldest has the lowest.
                Sort::Age => None,
            };
            (Reverse(first), r.id)
        });
        rows.truncate(ROWS);
        if self.paused {
            // Nothing was asked since.
            for row in &mut rows {
                row.protection = known.get(&row.id).cloned().flatten();
            }
        }
        self.rows = rows;
    }

    /// Whether the daemon could be reached at the last look.
    pub(super) fn has_daemon(&self) -> bool {
        self.look.as_ref().is_some_and(|l| l.daemon.is_ok())
    }

    /// Numbers of the connections of which the daemon has not said yet how they are protected.
    pub(super) fn unexplained(&self) -> Vec<u64> {
        let unknown = self.rows.iter().filter(|r| r.protection.is_none());
        unknown.map(|r| r.id).collect()
    }

    /// What the daemon says of connections that were asked for.
    pub(super) fn explain(&mut self, states: &HashMap<u64, String>) {
        let unknown = self.rows.iter_mut().filter(|r| r.protection.is_none());
        for row in unknown {
            // Of one that the daemon does not know there is nothing to ask again.
            let state = states.get(&row.id).map_or("-", String::as_str);
            row.protection = Some(state.to_owned());
        }
    }

    pub(super) fn next_sort(&mut self) {
        self.sort = self.sort.next();
        self.arrange();
    }

    /// Only connections of the service behind the one that is chosen, of all behind the last.
    pub(super) fn next_service(&mut self) {
        let services = self.look.as_ref().map_or(&[][..], |l| &l.services);
        let next = match self.service {
            None => 0,
            Some(now) => {
                let at = services.iter().position(|s| now.is(&s.service));
                at.map_or(usize::MAX, |i| i + 1)
            }
        };
        self.service = services.get(next).map(|s| s.service.into());
        self.arrange();
    }

    /// Flows that the module has, and those of them that were looked at.
    pub(super) fn flows(&self) -> (u64, u64) {
        let Some(look) = &self.look else {
            return (0, 0);
        };
        let seen = look.flows.len() as u64;
        let all: u64 = look.services.iter().map(|s| u64::from(s.flows)).sum();
        // Some may have come between the two questions.
        (all.max(seen), seen)
    }

    /// Bytes in a second to the clients of all flows that were looked at; of one service if given.
    pub(super) fn rate(&self, of: Option<std::net::SocketAddr>) -> u64 {
        let flows = self.look.as_ref().map_or(&[][..], |l| &l.flows);
        flows
            .iter()
            .filter(|f| of.is_none_or(|of| f.key.service == of))
            .filter_map(|f| self.seen.get(&f.id)?.rate)
            .sum()
    }

    /// All of it, for programs.
    pub(super) fn json(&self) -> Value {
        let (all, seen) = self.flows();
        let look = self.look.as_ref();
        let services = look.map_or(&[][..], |l| &l.services);
        let daemon = match look.map(|l| &l.daemon) {
            Some(Ok(d)) => json!({
                "reachable": true,
                "status": d.status,
                "peers": d.peers["peers"],
                "ready": d.ready,
                "events": d.events,
            }),
            Some(Err(why)) => json!({"reachable": false, "error": why}),
            None => Value::Null,
        };
        json!({
            "interval_s": self.interval.as_secs_f64(),
            "module": {
                "services": services,
                "flows": all,
                "flows_looked_at": seen,
                "bytes_per_second": self.rate(None),
            },
            "flows": self.rows,
            "daemon": daemon,
        })
    }
}

fn row(f: &FlowInfo, seen: &Seen, now: Duration) -> Row {
    let ms = |since: Duration| now.saturating_sub(since).as_millis() as u64;
    let waits = f.s2c_next > f.s2c_acked
        || !matches!(
            f.phase,
            Phase::Opening | Phase::Open | Phase::Closing | Phase::Passing
        );
    Row {
        id: f.id,
        key: f.key,
        phase: f.phase,
        protection: f.reason.map(|raw| format!("no: {}", reason(raw))),
        bytes_per_second: seen.rate,
        stalled_ms: waits.then(|| ms(seen.moved)),
        age_ms: ms(seen.first),
        older: seen.older,
        generation: f.generation,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::look::Daemon;
    use super::*;
    use crate::cmd::flow::tests::flow;
    use libholdfast::types::{Commit, Mode, ServiceInfo};

    /// Nothing seen yet.
    pub(in super::super) fn board() -> Board {
        Board::new(Duration::from_secs(1), Sort::Rate, None)
    }

    /// Flow `id` at port 40000 + `id`, which has acknowledged so much of so much.
    pub(in super::super) fn at(id: u64, acked: u64, next: u64) -> FlowInfo {
        let mut f = flow();
        f.id = id;
        f.key.client.set_port(40_000 + id as u16);
        (f.s2c_acked, f.s2c_next) = (acked, next);
        f
    }

    /// A look after so many seconds.
    pub(in super::super) fn look(seconds: u64, flows: &[FlowInfo]) -> Look {
        let service = ServiceInfo {
            service: flow().key.service,
            mode: Mode::Protect,
            commit: Commit::Strict,
            hold_ms: 1000,
            verdict_ms: 5000,
            head_limit: 1,
            request_limit: 1,
            flows: flows.len() as u32,
        };
        Look {
            at: Duration::from_secs(seconds),
            services: vec![service],
            flows: flows.to_vec(),
            daemon: Ok(daemon()),
        }
    }

    /// What a daemon says after it has taken over.
    pub(in super::super) fn daemon() -> Daemon {
        let counts = json!({
            "takeovers": 1, "deaths": 1, "flows-recovered": 7, "recovery-refused": 2,
        });
        let flows = json!({"idle": 1, "requesting": 0, "responding": 2, "unprotected": 0});
        Daemon {
            status: json!({
                "node": "b", "to_recover": 5, "recovering": 3, "committed_alone": 4,
                "drain": "off", "counts": counts, "log": {"unread": 1024, "size": 4194304},
                "addresses": [{"address": "192.0.2.1", "owner": "b", "generation": 2}],
                "services": [{"service": "192.0.2.1:80", "name": "web", "owned": true,
                    "flows": flows}],
            }),
            peers: json!({"peers": [
                {"name": "a", "health": "dead", "linked": false, "records": 0, "silent_ms": 9000},
                {"name": "c", "health": "alive", "linked": true, "records": 0, "silent_ms": 12},
            ]}),
            ready: json!({"ready": false, "why": [{"reason": "records", "text": "no records"}]}),
            events: vec![json!({"wall_ms": 1_735_689_600_000u64, "event": "takeover",
                "address": "192.0.2.1", "records": 9, "mono_ms": 1.0, "node": "b"})],
        }
    }

    fn ids(b: &Board) -> Vec<u64> {
        b.rows.iter().map(|r| r.id).collect()
    }

    #[test]
    fn two_looks_make_a_rate() {
        let mut b = board();
        b.learn(look(10, &[at(1, 0, 100), at(2, 500, 500)]));
        assert_eq!(b.rows[0].bytes_per_second, None);
        b.learn(look(12, &[at(1, 4000, 9000), at(2, 500, 500), at(3, 7, 9)]));
        assert_eq!(ids(&b), [1, 2, 3], "unknown rates come last");
        assert_eq!(b.rows[0].bytes_per_second, Some(2000));
        assert_eq!(b.rows[1].bytes_per_second, Some(0));
        assert_eq!(b.rate(None), 2000);
        assert!(b.rows[0].older && !b.rows[2].older);
        assert_eq!((b.rows[0].age_ms, b.rows[2].age_ms), (2000, 0));
        // A number that is used no more is forgotten.
        b.learn(look(13, &[at(3, 7, 9)]));
        assert_eq!(b.seen.len(), 1);
    }

    #[test]
    fn who_is_owed_bytes_and_takes_none_stalls() {
        let mut b = board();
        b.sort = Sort::Stall;
        for t in 0..5 {
            let moving = at(1, 100 * t, 100_000);
            let ghost = FlowInfo {
                phase: Phase::Ghost,
                ..at(4, 7, 7)
            };
            b.learn(look(t, &[moving, at(2, 5, 9), at(3, 5, 5), ghost]));
        }
        let stalls: Vec<_> = b.rows.iter().map(|r| (r.id, r.stalled_ms)).collect();
        let wanted = [(2, Some(4000)), (4, Some(4000)), (1, Some(0)), (3, None)];
        assert_eq!(stalls, wanted);
        b.next_sort();
        assert_eq!(ids(&b), [1, 2, 3, 4], "the oldest first");
    }

    #[test]
    fn the_order_is_cut_and_says_so() {
        let flows: Vec<_> = (1..=300).map(|i| at(i, 0, 1)).collect();
        let mut b = board();
        let mut l = look(0, &flows);
        l.services[0].flows = 100_000;
        b.learn(l);
        assert_eq!(b.rows.len(), ROWS);
        assert_eq!(b.flows(), (100_000, 300));
        assert_eq!(b.json()["module"]["flows_looked_at"], 300);
    }

    #[test]
    fn a_filter_keeps_one_service() {
        let mut other = at(2, 0, 0);
        other.key.service.set_port(81);
        let mut b = board();
        let mut l = look(0, &[at(1, 0, 0), other]);
        let mut second = l.services[0];
        second.service.set_port(81);
        l.services.push(second);
        b.learn(l);
        let mut shown = vec![ids(&b)];
        for _ in 0..3 {
            b.next_service();
            shown.push(ids(&b));
        }
        assert_eq!(shown, [vec![1, 2], vec![1], vec![2], vec![1, 2]]);
    }

    #[test]
    fn the_daemon_is_asked_once_for_what_it_knows() {
        let mut b = board();
        let failed = FlowInfo {
            reason: Some(0),
            ..at(3, 0, 0)
        };
        b.learn(look(0, &[at(1, 0, 0), at(2, 0, 0), failed]));
        assert_eq!(b.unexplained(), [1, 2], "the module has said why not");
        b.explain(&HashMap::from([(1, "range".to_owned())]));
        assert_eq!(b.unexplained(), [0u64; 0]);
        let words: Vec<_> = b.rows.iter().map(|r| r.protection.as_deref()).collect();
        assert_eq!(words, [Some("range"), Some("-"), Some("no: short")]);
        // While paused it is not asked again.
        b.paused = true;
        b.next_sort();
        assert_eq!(b.unexplained(), [0u64; 0]);
    }

    #[test]
    fn programs_get_all_of_it() {
        let mut b = board();
        b.learn(look(0, &[at(1, 0, 5)]));
        let json = b.json();
        assert_eq!(json["flows"][0]["client"], "192.0.2.7:40001");
        assert_eq!(json["flows"][0]["stalled_ms"], 0);
        assert_eq!(json["daemon"]["status"]["node"], "b");
        let mut l = look(1, &[]);
        l.daemon = Err("gone".into());
        b.learn(l);
        assert_eq!(
            b.json()["daemon"],
            json!({"reachable": false, "error": "gone"})
        );
    }
}
