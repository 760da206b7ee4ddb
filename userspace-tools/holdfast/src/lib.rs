// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast`: steers the kernel module and asks the daemon. One file of `cmd/` a subcommand.

// Doc comments here are help texts first.
#![allow(rustdoc::broken_intra_doc_links)]

mod cmd;
mod daemon;
mod fail;
mod input;
mod output;
mod report;
mod time;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::fail::Fail;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  holdfast service add 192.0.2.1:80 --commit strict
  holdfast flow show --service 192.0.2.1:80
  holdfast -j stats | jq .
  holdfast status --why
  holdfast top

Exit status:
  0  done
  1  refused or failed
  2  the command line makes no sense
  3  the holdfast module is not loaded
  4  the daemon cannot be reached
  5  status: this node is not ready to take over";

/// Keep TCP connections alive after their server has died
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, after_help = EXAMPLES, infer_subcommands = true)]
#[command(max_term_width = 100)]
struct Cli {
    /// Print JSON
    #[arg(short, long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say which services are protected, and how
    #[command(subcommand)]
    Service(cmd::service::Service),
    /// Show connections of protected services, or give one up
    #[command(subcommand)]
    Flow(cmd::flow::Flow),
    /// Translate connections by hand
    #[command(subcommand)]
    Splice(cmd::splice::Splice),
    Recover(cmd::recover::Recover),
    Monitor(cmd::monitor::Monitor),
    Stats(cmd::stats::Stats),
    Status(cmd::status::Status),
    Top(cmd::top::Top),
    Drain(cmd::drain::Drain),
    Undrain(cmd::drain::Undrain),
    Reload(cmd::reload::Reload),
    Bugreport(cmd::bugreport::Bugreport),
    /// Read the log in place of the daemon (for debugging)
    #[command(subcommand)]
    Log(cmd::log::Log),
}

fn run(cli: &Cli, out: &mut Output) -> Result<(), Fail> {
    match &cli.command {
        Command::Service(c) => c.run(out),
        Command::Flow(c) => c.run(out),
        Command::Splice(c) => c.run(out),
        Command::Recover(c) => c.run(out),
        Command::Monitor(c) => c.run(out),
        Command::Stats(c) => c.run(out),
        Command::Status(c) => c.run(out),
        Command::Top(c) => c.run(out),
        Command::Drain(c) => c.run(out),
        Command::Undrain(c) => c.run(out),
        Command::Reload(c) => c.run(out),
        Command::Bugreport(c) => c.run(out),
        Command::Log(c) => c.run(out),
    }
}

/// The command line, for whoever describes it: manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli, &mut Output::new(cli.json)) {
        Ok(()) | Err(Fail::ReaderGone) => ExitCode::SUCCESS,
        Err(fail) => {
            eprintln!("holdfast: {fail}");
            fail.code().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("holdfast").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines_that_are_understood() {
        for line in [
            "service add 192.0.2.1:80",
            "-j service add [2001:db8::1]:443 --mode observe --commit eager --hold-ms 5",
            "service del 192.0.2.1:80",
            "service show",
            "service show 192.0.2.1:80 --json",
            "flow show --service 192.0.2.1:80 --phase orphan --translated",
            "flow show --client 192.0.2.7",
            "flow end 192.0.2.7:40000 192.0.2.1:80 --verdict abandon",
            "splice add 192.0.2.7:40000 192.0.2.1:80 --delta-s2c -5 --delta-c2s 0xffffffff",
            "splice del 192.0.2.7:40000 192.0.2.1:80",
            "splice show",
            "recover 192.0.2.7:40000 192.0.2.1:80 --generation 2 --c2s-next 1000 --at 5000",
            "recover 192.0.2.7:40000 192.0.2.1:80 --generation 2 --c2s-next 1000 --at 5000 \
             --mss 1460 --wscale 7,8 --sack --timestamps 1,2,3 --request - --prefix /dev/null \
             --answer-length 100",
            "monitor",
            "stats --all",
            "status --why",
            "status --why 192.0.2.7:40000",
            "top",
            "top --once --interval 0.5 --sort stall --service 192.0.2.1:80 --flows 10",
            "-j top -i 2 --service 2001:db8::1 --socket /tmp/s",
            "drain",
            "drain --deadline 60 --to b --socket /tmp/s",
            "undrain",
            "log dump --count 3 --data",
            "reload --socket /run/x.sock",
            "bugreport -o report.tar.gz --addresses",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn command_lines_that_are_refused() {
        for line in [
            "",
            "service add",
            "service add 192.0.2.1",
            "service add 192.0.2.1:0",
            "service add 192.0.2.1:80 --mode maybe",
            "service add 192.0.2.1:80 --hold-ms -1",
            "flow end 192.0.2.7:40000 192.0.2.1:80",
            "flow end 192.0.2.7:40000 192.0.2.1:80 --verdict none",
            "flow show --phase none",
            "drain --deadline soon",
            "top --interval 0",
            "top --sort size",
            "top --flows 0",
            "splice add 192.0.2.7:40000 192.0.2.1:80 --delta-s2c 4294967296",
            "recover 192.0.2.7:40000 192.0.2.1:80",
            "recover 192.0.2.7:40000 192.0.2.1:80 --generation 2 --c2s-next 1 --at 5 --wscale 15,8",
            "recover 192.0.2.7:40000 192.0.2.1:80 --generation 2 --c2s-next 1 --at 5 --prefix x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
