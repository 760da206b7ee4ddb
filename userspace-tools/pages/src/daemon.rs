// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The command line of `holdfastd`, which is too small to be parsed by clap, as clap describes one,
//! and what its page says beyond the options.

use std::path::PathBuf;

use clap::{value_parser, Arg, ArgAction, Command, ValueHint};
use clap_mangen::roff::{roman, Roff};

use crate::{see_also, SECTION};

/// The options that `holdfastd --help` lists.
pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
    };
    Command::new("holdfastd")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .about("Decide what the Holdfast kernel module does")
        .long_about(
            "One holdfastd runs on each node of a support group: the nodes that may continue each \
             other's TCP connections. It finds out which nodes live, keeps records of their \
             connections in its memory, takes a service address over when its owner has died, \
             and lets the kernel module continue the connections. It stays in the foreground and \
             writes what happens to standard error.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Configuration, /etc/holdfast/holdfastd.toml if not given")
                .value_hint(ValueHint::FilePath)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(flag(
            "log-json",
            "Write events to standard error as JSON, one a line",
        ))
        .arg(flag(
            "check",
            "Read the configuration, say what is wrong with it, and end",
        ))
}

/// Signals, files and exit status.
pub(crate) fn sections() -> Roff {
    let mut roff = Roff::new();
    let mut section = |title: &str, entries: &[(&str, &str)]| {
        roff.control("SH", [title]);
        for (term, text) in entries {
            roff.control("TP", []);
            roff.text([roman(*term)]);
            roff.text([roman(*text)]);
        }
    };
    section(
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "Hand addresses and connections to a peer that is ready, then end. Takes up to \
                 drain.stop-ms.",
            ),
            (
                "SIGHUP",
                "Read the configuration again. All of it is done or nothing; holdfast reload does \
                 the same and says why not.",
            ),
        ],
    );
    section(
        "EXIT STATUS",
        &[
            ("0", "Ended in order."),
            ("1", "Refused or failed; standard error says why."),
        ],
    );
    section(
        "FILES",
        &[
            ("/etc/holdfast/holdfastd.toml", "The configuration."),
            (
                "/etc/holdfast/secret",
                "The secret of the group, which only its owner may read: openssl rand -base64 32",
            ),
            ("/run/holdfast.sock", "Where the daemon is asked."),
            ("/dev/holdfast", "The kernel module's log."),
        ],
    );
    section(
        "ENVIRONMENT",
        &[(
            "NOTIFY_SOCKET",
            "Told READY=1, RELOADING=1 and STOPPING=1, see sd_notify(3).",
        )],
    );
    let also = see_also(&[("holdfast", SECTION), ("holdfastd.toml", "5")]);
    roff.extend([also]);
    roff
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Words of a text that are long options.
    fn options(text: &str) -> BTreeSet<&str> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter_map(|word| word.strip_prefix("--"))
            .collect()
    }

    #[test]
    fn the_same_options_as_its_help() {
        let command = command();
        let described = command.get_arguments().filter_map(Arg::get_long).collect();
        assert_eq!(options(holdfastd::help::HELP), described);
    }
}
