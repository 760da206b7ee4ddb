// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast splice`

use clap::{Args, Subcommand};
use libholdfast::types;
use libholdfast::Client;

use crate::cmd::flow;
use crate::fail::Fail;
use crate::input::{delta, KeyArgs};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Splice {
    /// Translate a connection that is to come, from its SYN on
    #[command(after_help = "\
A delta is added modulo 2^32; it may be negative or hexadecimal (0x...). The service must be
protected.

Example:
  holdfast splice add 192.0.2.7:40000 192.0.2.1:80 --delta-s2c 100000 --delta-c2s -7

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Add(Add),
    /// Forget a connection made by "splice add"
    #[command(after_help = "\
Example:
  holdfast splice del 192.0.2.7:40000 192.0.2.1:80

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Del(Del),
    /// Show connections whose numbers are translated
    #[command(after_help = "\
Example:
  holdfast -j splice show

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    key: KeyArgs,
    /// Added to sequence numbers of the client towards the local side
    #[arg(long, value_name = "N", default_value = "0", value_parser = delta)]
    #[arg(allow_hyphen_values = true)]
    delta_c2s: u32,
    /// Added to sequence numbers of the service towards the client
    #[arg(long, value_name = "N", default_value = "0", value_parser = delta)]
    #[arg(allow_hyphen_values = true)]
    delta_s2c: u32,
    /// Added to timestamps of the service towards the client
    #[arg(long, value_name = "N", default_value = "0", value_parser = delta)]
    #[arg(allow_hyphen_values = true)]
    delta_ts: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Del {
    #[command(flatten)]
    key: KeyArgs,
}

impl Splice {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        match self {
            Splice::Add(add) => {
                let splice = types::Splice {
                    key: add.key.into(),
                    delta_c2s: add.delta_c2s,
                    delta_s2c: add.delta_s2c,
                    delta_ts: add.delta_ts,
                };
                out.one(&Client::connect()?.splice_add(&splice)?, flow::text)
            }
            Splice::Del(del) => Ok(Client::connect()?.splice_del(&del.key.into())?),
            Splice::Show => flow::Show::translated().run(out),
        }
    }
}
