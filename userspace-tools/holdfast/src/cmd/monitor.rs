// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast monitor`

use clap::Args;
use libholdfast::monitor::Notice;
use libholdfast::types::Event;
use serde_json::{json, Value};

use crate::cmd::{flow, service};
use crate::fail::Fail;
use crate::output::Output;
use crate::time;

/// Print what happens, as it happens
///
/// Prints notifications, one a line, until it is interrupted.
///
/// A connection is told of when it opens, is found without its server (orphan), says where it
/// stands (located), is being continued (recovering), goes on with another server (spliced), fails
/// or closes; a service, when it is added, changed or removed. "lost" means that some came too
/// fast to be told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast monitor
  holdfast -j monitor | jq 'select(.flow.event == \"failed\")'

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
pub(crate) struct Monitor {}

impl Monitor {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let mut monitor = libholdfast::Monitor::connect()?;
        while let Some(notice) = monitor.recv()? {
            let now = time::now();
            out.one(&value(&notice, &now), |_| {
                format!("{now} {}", text(&notice))
            })?;
        }
        Ok(())
    }
}

fn text(notice: &Notice) -> String {
    match notice {
        Notice::Flow(f) => {
            let event = f.event.map_or("flow", Event::name);
            let mut line = format!("{event} {} phase {} id {}", f.key, f.phase, f.id);
            if let Some(raw) = f.reason {
                line.push_str(&format!(" reason {}", flow::reason(raw)));
            }
            line
        }
        Notice::Service(s) => format!("service {}", service::text(s)),
        Notice::ServiceGone(s) => format!("service-gone {s}"),
        Notice::Lost => "lost: some notifications came too fast".into(),
    }
}

fn value(notice: &Notice, now: &str) -> Value {
    match notice {
        Notice::Flow(f) => json!({"time": now, "flow": f}),
        Notice::Service(s) => json!({"time": now, "service": s}),
        Notice::ServiceGone(s) => json!({"time": now, "service_gone": s}),
        Notice::Lost => json!({"time": now, "lost": true}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::flow::tests::flow;
    use holdfast_core::counter::Counter;
    use libholdfast::types::{FlowInfo, Phase};

    #[test]
    fn notices_are_lines() {
        let notice = Notice::Flow(FlowInfo {
            event: Some(Event::Failed),
            phase: Phase::Closing,
            reason: Some(Counter::GhostLost as u32),
            ..flow()
        });
        assert_eq!(
            text(&notice),
            "failed 192.0.2.7:40000 > 192.0.2.1:80 phase closing id 7 reason ghost_lost"
        );
        let json = value(&notice, "now");
        assert_eq!(json["flow"]["event"], "failed");
        assert_eq!(json["time"], "now");
        let gone = Notice::ServiceGone("192.0.2.1:80".parse().unwrap());
        assert_eq!(text(&gone), "service-gone 192.0.2.1:80");
        assert_eq!(value(&gone, "now")["service_gone"], "192.0.2.1:80");
    }
}
