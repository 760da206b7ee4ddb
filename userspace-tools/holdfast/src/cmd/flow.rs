// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast flow`

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use holdfast_core::counter::Counter;
use libholdfast::types::{FlowInfo, Phase, Verdict};
use libholdfast::Client;

use crate::fail::Fail;
use crate::input::{Host, KeyArgs};
use crate::output::{note, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum Flow {
    /// Show connections
    ///
    /// Positions are 64-bit counts; their low 32 bits are the sequence number as the client sees it.
    /// c2s-next is the next byte that is expected from the client, s2c-next what follows the newest
    /// byte sent to it, s2c-acked the next byte that it expects; object-start and object-end delimit
    /// the response; gates are where bytes and acknowledgements stop.
    #[command(after_help = "\
Examples:
  holdfast flow show --service 192.0.2.1:80
  holdfast flow show --phase orphan
  holdfast flow show --client 192.0.2.7 --translated

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Show(Show),
    /// Give a connection up
    #[command(after_help = "\
Verdicts:
  pass     forget it; the local stack answers its packets
  reset    send a reset to the client and to the local socket, then forget it
  abandon  drop the local socket without a word to the client, then forget it

Example:
  holdfast flow end 192.0.2.7:40000 192.0.2.1:80 --verdict reset

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    End(End),
}

#[derive(Debug, Default, Args)]
pub(crate) struct Show {
    /// Only of this client
    #[arg(long, value_name = "ADDR[:PORT]")]
    client: Option<Host>,
    /// Only of this service
    #[arg(long, value_name = "ADDR[:PORT]")]
    service: Option<Host>,
    /// Only in this phase
    #[arg(long, value_parser = PossibleValuesParser::new(Phase::ALL.map(Phase::name)))]
    phase: Option<String>,
    /// Only those whose numbers are translated
    #[arg(long)]
    translated: bool,
}

#[derive(Debug, Args)]
pub(crate) struct End {
    #[command(flatten)]
    key: KeyArgs,
    /// How
    #[arg(long, value_parser = PossibleValuesParser::new(Verdict::ALL.map(Verdict::name)))]
    verdict: String,
}

impl Show {
    fn wants(&self, flow: &FlowInfo) -> bool {
        self.client.is_none_or(|c| c.is(&flow.key.client))
            && self.service.is_none_or(|s| s.is(&flow.key.service))
            && self.phase.as_ref().is_none_or(|p| p == flow.phase.name())
            && (!self.translated || flow.is_translated())
    }

    /// Only flows whose numbers are translated.
    pub(crate) fn translated() -> Self {
        Show {
            translated: true,
            ..Show::default()
        }
    }

    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let mut flows = Client::connect()?.flows()?;
        if !flows.consistent {
            note("flows came and went meanwhile: some may be missing or twice");
        }
        flows.items.retain(|flow| self.wants(flow));
        out.many(&flows.items, text)
    }
}

impl Flow {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        match self {
            Flow::Show(show) => show.run(out),
            Flow::End(end) => {
                let verdict = Verdict::ALL.into_iter().find(|v| v.name() == end.verdict);
                // clap has seen to it.
                let verdict = verdict.ok_or_else(|| Fail::Other("no such verdict".into()))?;
                Ok(Client::connect()?.flow_end(None, &end.key.into(), verdict)?)
            }
        }
    }
}

/// The name of a counter by its number.
pub(crate) fn reason(raw: u32) -> String {
    let counter = u16::try_from(raw).ok().and_then(Counter::from_raw);
    counter.map_or_else(|| raw.to_string(), |c| c.name().to_owned())
}

/// A flow: its name on a line, what else is to be told on indented ones.
pub(crate) fn text(f: &FlowInfo) -> String {
    let mut lines = vec![format!(
        "{} phase {} id {} generation {}",
        f.key, f.phase, f.id, f.generation
    )];
    let mut at = format!(
        "c2s-next {} s2c-next {} s2c-acked {}",
        f.c2s_next, f.s2c_next, f.s2c_acked
    );
    for (name, position) in [
        ("object-start", f.object_start),
        ("object-end", f.object_end),
        ("data-gate", f.data_gate),
        ("ack-gate", f.ack_gate),
    ] {
        if let Some(position) = position {
            at.push_str(&format!(" {name} {position}"));
        }
    }
    lines.push(at);
    if f.is_translated() {
        let (c2s, s2c, ts) = (f.delta_c2s, f.delta_s2c, f.delta_ts);
        lines.push(format!("delta-c2s {c2s} delta-s2c {s2c} delta-ts {ts}"));
    }
    if let Some(raw) = f.reason {
        lines.push(format!("reason {}", reason(raw)));
    }
    lines.join("\n    ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use libholdfast::types::{FlowKey, TcpOptions};

    pub(crate) fn flow() -> FlowInfo {
        FlowInfo {
            id: 7,
            key: FlowKey {
                client: "192.0.2.7:40000".parse().unwrap(),
                service: "192.0.2.1:80".parse().unwrap(),
            },
            phase: Phase::Open,
            generation: 1,
            event: None,
            c2s_next: 1,
            s2c_next: 2,
            s2c_acked: 3,
            object_start: Some(4),
            object_end: None,
            data_gate: None,
            ack_gate: Some(5),
            delta_c2s: 0,
            delta_s2c: 0,
            delta_ts: 0,
            options: TcpOptions::default(),
            tsval: 0,
            tsecr: 0,
            ts_age: 0,
            reason: None,
        }
    }

    #[test]
    fn a_flow_is_shown() {
        let mut f = flow();
        assert_eq!(
            text(&f),
            "192.0.2.7:40000 > 192.0.2.1:80 phase open id 7 generation 1\n    \
             c2s-next 1 s2c-next 2 s2c-acked 3 object-start 4 ack-gate 5"
        );
        f.delta_s2c = 9;
        f.reason = Some(Counter::GivenUp as u32);
        let shown = text(&f);
        assert!(shown.contains("\n    delta-c2s 0 delta-s2c 9 delta-ts 0\n    reason given_up"));
        f.reason = Some(60_000);
        assert!(text(&f).ends_with("reason 60000"));
    }

    #[test]
    fn json_has_names_and_leaves_out_what_is_not_there() {
        let json = serde_json::to_value(flow()).unwrap();
        assert_eq!(json["client"], "192.0.2.7:40000");
        assert_eq!(json["phase"], "open");
        assert_eq!(json["object_start"], 4);
        assert!(json.get("object_end").is_none());
    }

    #[test]
    fn filters_choose() {
        let host = |text: &str| Some(text.parse().unwrap());
        let all = Show::default();
        assert!(all.wants(&flow()));
        assert!(Show {
            client: host("192.0.2.7"),
            ..Show::default()
        }
        .wants(&flow()));
        assert!(!Show {
            client: host("192.0.2.7:1"),
            ..Show::default()
        }
        .wants(&flow()));
        assert!(!Show {
            service: host("192.0.2.2"),
            ..Show::default()
        }
        .wants(&flow()));
        assert!(!Show {
            phase: Some("ghost".into()),
            ..Show::default()
        }
        .wants(&flow()));
        assert!(!Show::translated().wants(&flow()));
        assert!(Show::translated().wants(&FlowInfo {
            delta_s2c: 1,
            ..flow()
        }));
    }
}
