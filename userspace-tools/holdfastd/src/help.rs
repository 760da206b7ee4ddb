// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What `--help` says.

/// The command line. `holdfast-pages` describes the same options for the manual page.
pub const HELP: &str = "\
Usage: holdfastd [--config FILE] [--log-json] [--check]

  --config FILE  configuration, /etc/holdfast/holdfastd.toml if not given
  --log-json     write events to standard error as JSON, one a line
  --check        read the configuration, say what is wrong with it, and end

A SIGHUP makes it read the configuration again, as \"holdfast reload\" does.
";
