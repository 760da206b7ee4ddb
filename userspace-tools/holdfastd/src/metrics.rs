// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! All that is counted, in the text format of OpenMetrics, which Prometheus reads.
//! `Documentation/metrics.md` says what each one is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use libholdfast::record::State;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{text, DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use serde_json::{json, Value as Json};

use crate::config::{Commit, Mode, Service};
use crate::daemon::Daemon;
use crate::kernel::Kernel;
use crate::membership::Health;
use crate::tally::{self, OfService, Times};

/// Of [`Daemon::metrics`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metrics {
    ($($variant:ident $name:literal $kind:ident $help:literal)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        enum Metric {
            $(#[doc = $help] $variant,)+
        }

        impl Metric {
            #[cfg(test)]
            const ALL: &'static [Metric] = &[$(Metric::$variant),+];

            /// Name without `_total`, kind, and what it says, without full stop.
            const fn about(self) -> (&'static str, Kind, &'static str) {
                match self {
                    $(Metric::$variant => ($name, Kind::$kind, $help),)+
                }
            }
        }
    };
}

metrics! {
    Build "holdfast_build" Gauge "Always 1; the versions are labels"
    Service "holdfast_service" Gauge "Always 1; a service and its policy are labels"
    Ready "holdfast_ready" Gauge "1 if this node could take over now"
    NotReady "holdfast_not_ready" Gauge "Reasons for which this node could not take over"
    Owner "holdfast_address_owned" Gauge "1 if this node has the address of the service"
    PeerUp "holdfast_peer_up" Gauge "1 if the peer was heard in time"
    PeerLinked "holdfast_peer_linked" Gauge "1 if the peer can be told records"
    PeerRecords "holdfast_peer_records" Gauge "Records of the peer that are held here"
    PeerClock "holdfast_peer_clock_ahead_seconds" Gauge "The peer's clock minus ours"
    Flows "holdfast_flows" Gauge "Flows that are served here"
    Rescues "holdfast_rescues" Gauge "Flows of dead nodes that are being continued, or wait for their client"
    Events "holdfast_flow_events" Counter "What became of flows"
    Responses "holdfast_responses" Counter "Responses that could be continued, by the way that they could"
    Unprotected "holdfast_unprotected" Counter "Flows and responses that could not be continued"
    Recoveries "holdfast_recoveries" Counter "Flows of dead nodes, by what became of them"
    Refusals "holdfast_recovery_refusals" Counter "Flows of dead nodes whose client was reset, by reason"
    Failover "holdfast_failover_seconds" Histogram "From the takeover of an address to the splice of a flow, or from the word of a client that had been idle"
    Daemon "holdfast_daemon_events" Counter "Everything else that the daemon counts"
    RecordsRefused "holdfast_records_refused" Counter "Updates of peers that were not taken"
    CommittedAlone "holdfast_committed_alone" Counter "Responses that left although no peer had their record"
    LogBytes "holdfast_log_bytes" Gauge "Bytes in the log of the module that are not read yet"
    LogSize "holdfast_log_size_bytes" Gauge "Bytes that fit into the log of the module"
    LogLost "holdfast_log_lost" Counter "Entries that did not fit into the log"
    Kernel "holdfast_kernel_events" Counter "Counters of the module"
    KernelUp "holdfast_kernel_up" Gauge "1 if the module answers"
}

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    Count(u64),
    Times(Times),
}

impl Value {
    fn encode(&self, row: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Value::Number(n) => row.encode_gauge(n),
            Value::Count(n) => row.encode_counter::<NoLabelSet, _, u64>(n, None),
            Value::Times(t) => {
                row.encode_histogram::<NoLabelSet>(t.sum, t.count, &t.classes(), None)
            }
        }
    }
}

type Labels = Vec<(&'static str, String)>;

/// All values at one moment.
#[derive(Debug, Default)]
struct Snapshot {
    rows: BTreeMap<Metric, Vec<(Labels, Value)>>,
}

impl Snapshot {
    fn push(&mut self, metric: Metric, labels: &[(&'static str, &str)], value: Value) {
        let labels = labels.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        self.rows.entry(metric).or_default().push((labels, value));
    }

    fn gauge(&mut self, metric: Metric, labels: &[(&'static str, &str)], value: f64) {
        self.push(metric, labels, Value::Number(value));
    }

    fn flag(&mut self, metric: Metric, labels: &[(&'static str, &str)], value: bool) {
        self.gauge(metric, labels, f64::from(u8::from(value)));
    }

    fn count(&mut self, metric: Metric, labels: &[(&'static str, &str)], value: u64) {
        self.push(metric, labels, Value::Count(value));
    }

    fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // A string takes everything.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, rows) in &self.rows {
            let (name, kind, help) = metric.about();
            let kind = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in rows {
                // Without labels there are no braces either.
                if labels.is_empty() {
                    value.encode(&mut family)?;
                } else {
                    value.encode(&mut family.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// States of a flow that is served here.
const STATES: [&str; 4] = ["idle", "requesting", "responding", "unprotected"];

fn state(state: &State) -> &'static str {
    match state {
        State::Idle => STATES[0],
        State::Requesting(_) => STATES[1],
        State::Responding(_) => STATES[2],
        State::Unprotected(_) => STATES[3],
    }
}

impl<K: Kernel> Daemon<K> {
    /// All that is counted, as text of type [`CONTENT_TYPE`].
    pub(crate) fn metrics(&mut self) -> String {
        let mut s = Snapshot::default();
        let version = env!("CARGO_PKG_VERSION");
        let node = self.config.node.name.clone();
        s.gauge(Metric::Build, &[("node", &node), ("version", version)], 1.0);
        self.of_readiness(&mut s);
        self.of_peers(&mut s);
        self.of_services(&mut s);
        self.of_daemon(&mut s);
        match self.engine.kernel.stats() {
            Ok(stats) => {
                s.flag(Metric::KernelUp, &[], true);
                for (name, value) in stats {
                    s.count(Metric::Kernel, &[("event", &name)], value);
                }
            }
            Err(_) => s.flag(Metric::KernelUp, &[], false),
        }
        s.text()
    }

    fn of_readiness(&self, s: &mut Snapshot) {
        let reasons = self.reasons();
        s.flag(Metric::Ready, &[], reasons.is_empty());
        let mut kinds = BTreeMap::<_, u32>::new();
        for r in reasons {
            *kinds.entry(r.kind).or_default() += 1;
        }
        for (kind, n) in kinds {
            s.gauge(Metric::NotReady, &[("reason", kind)], n.into());
        }
    }

    fn of_peers(&self, s: &mut Snapshot) {
        for (name, health, _) in self.membership.peers(self.time()) {
            let peer = [("peer", name)];
            s.flag(Metric::PeerUp, &peer, health == Health::Alive);
            s.flag(Metric::PeerLinked, &peer, self.links.contains_key(name));
            let records = self.engine.store.owned(name);
            s.gauge(Metric::PeerRecords, &peer, records as f64);
        }
        for (peer, ms) in self.ready.clocks() {
            s.gauge(Metric::PeerClock, &[("peer", peer)], ms as f64 / 1e3);
        }
    }

    /// How many flows of each service are in each state.
    fn states(&self) -> BTreeMap<(SocketAddr, &'static str), u64> {
        let mut flows = BTreeMap::new();
        for (_, t) in self.engine.flows() {
            let (of, state) = match t.is_dead() {
                true => (t.record().key.service, STATES[3]),
                false => (t.record().key.service, state(&t.record().state)),
            };
            *flows.entry((of, state)).or_default() += 1;
        }
        flows
    }

    /// Each service, whether its address is here, and how many flows are in each state.
    pub(crate) fn services(&self) -> Vec<Json> {
        let states = self.states();
        let of = |service: &Service| {
            let at = service.socket();
            let flows = STATES.map(|s| (s, states.get(&(at, s)).copied().unwrap_or(0)));
            json!({
                "service": at.to_string(),
                "name": service.name(),
                "owned": self.membership.owns(at.ip()),
                "flows": BTreeMap::from(flows),
            })
        };
        self.config.services.iter().map(of).collect()
    }

    fn of_services(&self, s: &mut Snapshot) {
        let flows = self.states();
        for service in &self.config.services {
            let (of, name) = (service.socket(), service.name());
            let labels = [
                ("service", &*name),
                ("address", &of.ip().to_string()),
                ("port", &of.port().to_string()),
                (
                    "mode",
                    match service.mode {
                        Mode::Observe => "observe",
                        Mode::Protect => "protect",
                    },
                ),
                (
                    "commit",
                    match service.commit {
                        Commit::Eager => "eager",
                        Commit::Strict => "strict",
                    },
                ),
                ("deterministic", &service.deterministic.to_string()),
            ];
            s.gauge(Metric::Service, &labels, 1.0);
            let name = ("service", &*name);
            s.flag(Metric::Owner, &[name], self.membership.owns(of.ip()));
            for state in STATES {
                let n = flows.get(&(of, state)).copied().unwrap_or(0);
                s.gauge(Metric::Flows, &[name, ("state", state)], n as f64);
            }
            let OfService { counts, failover } =
                self.engine.tally.get(of).cloned().unwrap_or_default();
            let names = tally::of_service(service.mode == Mode::Observe);
            for (what, n) in from_zero(names, &counts) {
                let (metric, label, value) = family(&what);
                s.count(metric, &[name, (label, value)], n);
            }
            s.push(Metric::Failover, &[name], Value::Times(failover));
        }
    }

    fn of_daemon(&self, s: &mut Snapshot) {
        let (all, active) = self.engine.rescues.len();
        let of = |state| [("state", state)];
        s.gauge(Metric::Rescues, &of("active"), active as f64);
        s.gauge(Metric::Rescues, &of("waiting"), (all - active) as f64);
        for (event, n) in from_zero(tally::of_daemon(), &self.engine.counts) {
            s.count(Metric::Daemon, &[("event", &event)], n);
        }
        s.count(Metric::RecordsRefused, &[], self.engine.store.refused);
        s.count(Metric::CommittedAlone, &[], self.engine.quorum.alone);
        s.count(Metric::LogLost, &[], self.engine.lost);
        let (used, size) = self.engine.kernel.log_fill();
        s.gauge(Metric::LogBytes, &[], used as f64);
        s.gauge(Metric::LogSize, &[], size as f64);
    }
}

/// Counts, and a 0 for each name that was not counted yet: Prometheus sees no increase in a row that
/// begins with its first count.
fn from_zero(
    names: impl Iterator<Item = String>,
    counts: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<_, _> = names.map(|n| (n, 0)).collect();
    all.extend(counts.iter().map(|(name, n)| (name.clone(), *n)));
    all
}

/// The metric that a count of a service belongs to, and the label that tells it from others.
fn family(count: &str) -> (Metric, &'static str, &str) {
    let families = [
        ("unprotected-", Metric::Unprotected, "reason"),
        ("responses-", Metric::Responses, "way"),
        ("refused-", Metric::Refusals, "reason"),
        ("recovery-", Metric::Recoveries, "outcome"),
        ("flows-", Metric::Events, "event"),
    ];
    for (prefix, metric, label) in families {
        if let Some(rest) = count.strip_prefix(prefix) {
            return match (metric, rest) {
                (Metric::Events, "recovered") => (Metric::Recoveries, "outcome", rest),
                _ => (metric, label, rest),
            };
        }
    }
    (Metric::Events, "event", count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../../Documentation/metrics.md");
        for metric in Metric::ALL {
            let (name, kind, help) = metric.about();
            let name = match kind {
                Kind::Counter => format!("| `{name}_total`"),
                _ => format!("| `{name}`"),
            };
            assert!(page.contains(&name), "{name} is not in metrics.md");
            assert!(page.contains(help), "metrics.md does not say: {help}");
        }
    }

    /// The names under which Prometheus has a metric.
    fn exported(metric: Metric) -> Vec<String> {
        let (name, kind, _) = metric.about();
        let of = |ends: &[&str]| ends.iter().map(|end| format!("{name}{end}")).collect();
        match kind {
            Kind::Counter => of(&["_total"]),
            Kind::Gauge => of(&[""]),
            Kind::Histogram => of(&["_bucket", "_sum", "_count"]),
        }
    }

    /// Words of `text` that begin with `start` and go on with small letters and underscores.
    fn words(text: &str, start: &str) -> Vec<String> {
        let letter = |c: char| c.is_ascii_lowercase() || c == '_';
        text.match_indices(start)
            .map(|(at, _)| text[at..].chars().take_while(|c| letter(*c)).collect())
            .collect()
    }

    #[test]
    fn dashboard_and_alerts_know_what_is_exported() {
        let counters = include_str!("../../../Documentation/counters.md");
        let names: Vec<_> = Metric::ALL.iter().flat_map(|m| exported(*m)).collect();
        for text in [
            include_str!("../../../contrib/grafana/holdfast.json"),
            include_str!("../../../contrib/prometheus/holdfast.rules.yml"),
        ] {
            let used = words(text, "holdfast_");
            assert!(used.len() > 10);
            for name in used {
                assert!(names.contains(&name), "{name} is not exported");
            }
            // Which events there are is not in the name, but on the page of counters.
            let plain = text.replace("\\\"", "\"");
            for (_, rest) in plain
                .match_indices("event=")
                .map(|(at, e)| plain.split_at(at + e.len()))
            {
                let value = rest.trim_start_matches('~').split('"').nth(1).unwrap();
                for event in value.split('|') {
                    let told = counters.contains(&format!("`{event}`"));
                    assert!(told, "{event} is not in counters.md");
                }
            }
        }
    }

    #[test]
    fn the_guide_knows_alerts_and_counters() {
        let guide = include_str!("../../../Documentation/admin-guide.md");
        let rules = include_str!("../../../contrib/prometheus/holdfast.rules.yml");
        for alert in rules
            .lines()
            .filter_map(|l| l.trim().strip_prefix("- alert: "))
        {
            let told = guide.contains(&format!("`{alert}`"));
            assert!(told, "the guide does not say what to do about {alert}");
        }
        let counters = include_str!("../../../Documentation/counters.md");
        let metrics = include_str!("../../../Documentation/metrics.md");
        let (_, tables) = guide.split_once("### By counter").unwrap();
        let (tables, _) = tables.split_once("\n## ").unwrap();
        let names = tables.lines().filter_map(|l| l.strip_prefix("| `"));
        let names = names.filter_map(|l| l.split('|').next());
        let names: Vec<_> = names.flat_map(|l| l.split(',')).collect();
        assert!(names.len() > 30);
        for name in names {
            let name = name.trim().trim_matches('`');
            let told = counters.contains(&format!("`{name}`"))
                || metrics.contains(&format!("`holdfast_{name}_total`"));
            assert!(told, "no page of counters has {name}");
        }
    }

    #[test]
    fn counts_become_families() {
        let of = |c| {
            let (metric, label, value) = family(c);
            (metric.about().0, label, value.to_owned())
        };
        assert_eq!(
            of("unprotected-tls"),
            ("holdfast_unprotected", "reason", "tls".to_owned())
        );
        assert_eq!(
            of("flows-recovered"),
            ("holdfast_recoveries", "outcome", "recovered".to_owned())
        );
        assert_eq!(
            of("would-recover"),
            ("holdfast_flow_events", "event", "would-recover".to_owned())
        );
    }

    #[test]
    fn the_text_is_that_of_openmetrics() {
        let mut s = Snapshot::default();
        s.gauge(Metric::PeerUp, &[("peer", "b\"c")], 1.0);
        s.count(Metric::Unprotected, &[("service", "web")], 3);
        let mut times = Times::default();
        times.add(0.07);
        s.push(Metric::Failover, &[("service", "web")], Value::Times(times));
        let text = s.text();
        for line in [
            "# TYPE holdfast_peer_up gauge",
            "holdfast_peer_up{peer=\"b\\\"c\"} 1.0",
            "# HELP holdfast_unprotected Flows and responses that could not be continued",
            "holdfast_unprotected_total{service=\"web\"} 3",
            "holdfast_failover_seconds_bucket{le=\"0.05\",service=\"web\"} 0",
            "holdfast_failover_seconds_bucket{le=\"0.1\",service=\"web\"} 1",
            "holdfast_failover_seconds_bucket{le=\"+Inf\",service=\"web\"} 1",
            "holdfast_failover_seconds_count{service=\"web\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
