// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast drain`

use clap::Args;
use serde_json::json;

use crate::daemon::DaemonArgs;
use crate::fail::Fail;
use crate::output::Output;

/// Moves all connections of this node to its peers, and returns when none is left here.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Drain {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        // It takes as long as it takes.
        let answer = self.daemon.ask(&json!({"op": "drain"}), None)?;
        out.one(&answer, |answer| super::status::tree(answer, 0).join("\n"))
    }
}
