// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast drain` and `holdfast undrain`

use std::time::Duration;

use clap::Args;
use serde_json::{json, Value};

use crate::daemon::{DaemonArgs, SOON};
use crate::fail::Fail;
use crate::output::Output;

/// What the hand-over itself may take, besides the deadline.
const HAND_OVER: Duration = Duration::from_secs(60);

/// The daemon's own deadline is not known here; it is waited for without limit.
fn patience(deadline: Option<u64>) -> Option<Duration> {
    deadline.map(|s| Duration::from_secs(s).saturating_add(HAND_OVER))
}

/// Hand this node's connections over to another node
///
/// Hands this node's addresses and connections over to another node, and returns when that is
/// done. Connections that no other node can continue are waited for until the deadline, then
/// reset; all others do not notice. The node takes no addresses until "holdfast undrain" or a
/// restart of the daemon.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast drain --deadline 60
  holdfast drain --to b

It is refused while no peer is ready, and where another program moves the addresses (moved-by =
\"others\"): then nothing changes.

Exit status:
  0  done
  1  refused or failed
  4  the daemon cannot be reached")]
pub(crate) struct Drain {
    /// Seconds to wait for connections that cannot be continued; else as configured
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// The node that takes over; else the first ready one by priority
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Drain {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let question = json!({
            "op": "drain",
            "deadline_ms": self.deadline.map(|s| s.saturating_mul(1000)),
            "to": self.to,
        });
        let answer = self.daemon.ask(&question, patience(self.deadline))?;
        out.one(&answer, said)
    }
}

/// Let a drained node take addresses again
///
/// Lets a drained node take addresses again; it does not take any from a node that has them.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  holdfast undrain

Exit status:
  0  done
  1  refused or failed
  4  the daemon cannot be reached")]
pub(crate) struct Undrain {
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Undrain {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let answer = self.daemon.ask(&json!({"op": "undrain"}), Some(SOON))?;
        out.one(&answer, said)
    }
}

fn said(answer: &Value) -> String {
    match answer.get("drain").and_then(Value::as_str) {
        Some("off") => "not drained".into(),
        Some(how) => how.into(),
        None => answer.to_string(),
    }
}
