// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast reload`

use std::time::Duration;

use clap::Args;
use serde_json::{json, Value};

use crate::daemon::DaemonArgs;
use crate::fail::Fail;
use crate::output::Output;

/// Time for a changed configuration to be taken in.
const PATIENCE: Duration = Duration::from_secs(30);

/// Make the daemon read its configuration again
///
/// Makes the daemon read its configuration again and prints what changed. What cannot be changed
/// without a restart is refused with line and key, and then nothing is changed.
///
/// The secret of the group is not read again.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  holdfastd --check && holdfast reload

Exit status:
  0  done
  1  refused or failed
  4  the daemon cannot be reached")]
pub(crate) struct Reload {
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Reload {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let question = json!({"op": "reload"});
        let answer = self.daemon.ask(&question, Some(PATIENCE))?;
        out.one(&answer, text)
    }
}

fn text(answer: &Value) -> String {
    let changes = answer["changes"].as_array().map_or(&[][..], Vec::as_slice);
    let words: Vec<_> = changes.iter().filter_map(Value::as_str).collect();
    match words.is_empty() {
        true => "nothing is different".into(),
        false => words.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_lines() {
        assert_eq!(text(&json!({"changes": []})), "nothing is different");
        assert_eq!(text(&json!({"changes": ["a", "b"]})), "a\nb");
    }
}
