// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast recover`

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use libholdfast::types::{self, Claim, ClientClock, FlowInfo, Join, Phase, TcpOptions};
use libholdfast::Client;

use crate::cmd::flow;
use crate::fail::Fail;
use crate::input::{file, numbers, wscale, KeyArgs};
use crate::output::Output;

/// Most bytes of a request, as the specification says.
const REQUEST: u64 = 32768;

/// Most bytes of a prefix. An attribute with its header has 65535 at most.
const PREFIX: u64 = 65531;

/// How often it is looked whether the server is connected.
const PAUSE: Duration = Duration::from_millis(20);

/// Continue a connection by hand (for experts)
///
/// Opens a connection to the local server in a client's name, sends it a request, and joins
/// the client to the answer.
#[derive(Debug, Args)]
#[command(after_help = "\
This is what holdfastd does by itself. A wrong value makes a wrong stream, and nobody will
notice but the application: use it for experiments.

Without --request the client is joined to the new connection at once. With it, the answer
comes through the log (see \"holdfast log dump\", which cannot run beside holdfastd); say with
--answer-length how many bytes of it the client is not to get as they are, and with --prefix
what it gets in their place.

Positions are sequence numbers with 2^32 added, counted on where those wrap.

Example: the client has all but the last of a response and expects sequence number 5000.
  holdfast recover 192.0.2.7:40000 192.0.2.1:80 --generation 2 \\
      --c2s-next 4294968496 --at 4294972296 \\
      --mss 1460 --wscale 7,8 --sack --timestamps 880021,12345,500 \\
      --request range-request.http --answer-length 231

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
pub(crate) struct Recover {
    #[command(flatten)]
    key: KeyArgs,
    /// Higher than that of any owner before
    #[arg(long, value_name = "N")]
    generation: u32,
    /// Position of the next byte expected from the client
    #[arg(long, value_name = "N")]
    c2s_next: u64,
    /// Position of the client's next expected byte, where the answer is joined
    #[arg(long, value_name = "N")]
    at: u64,
    /// The client's maximum segment size in bytes
    #[arg(long, value_name = "N")]
    mss: Option<u16>,
    /// Window scales of client and service
    #[arg(long, value_name = "CLIENT,SERVICE", value_parser = wscale)]
    wscale: Option<[u8; 2]>,
    /// Selective acknowledgements are permitted
    #[arg(long)]
    sack: bool,
    /// Newest timestamp value and echo of the client, and their age in milliseconds
    #[arg(long, value_name = "TSVAL,TSECR,AGE", value_parser = numbers::<3>)]
    timestamps: Option<[u32; 3]>,
    /// File with the request that the server gets; "-" is standard input
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Bytes of the answer that are taken before the client is joined
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65535))]
    answer_window: Option<u32>,
    /// Port of a listener on the loopback address that is asked in place of the service's server
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    local_port: Option<u16>,
    /// Bytes of the answer that the client does not get as they are
    #[arg(long, value_name = "N", requires = "request")]
    answer_length: Option<u64>,
    /// Bytes of the answer behind those that are discarded, as the client has them already
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        requires = "answer_length"
    )]
    skip: u64,
    /// File with what the client gets first, in their place
    #[arg(long, value_name = "FILE", requires = "answer_length")]
    prefix: Option<PathBuf>,
    /// Position of the first byte of the response
    #[arg(long, value_name = "N", requires = "answer_length")]
    object_start: Option<u64>,
    /// Position after its last byte
    #[arg(long, value_name = "N", requires = "answer_length")]
    object_end: Option<u64>,
    /// How long to wait for the server's answer before joining
    #[arg(long, value_name = "N", default_value = "5000")]
    timeout_ms: u64,
}

impl Recover {
    fn claim(&self) -> Claim {
        let clock = |[tsval, tsecr, age_ms]: [u32; 3]| ClientClock {
            tsval,
            tsecr,
            age_ms,
        };
        Claim {
            key: self.key.into(),
            generation: self.generation,
            c2s_next: self.c2s_next,
            options: TcpOptions {
                mss: self.mss,
                wscale_client: self.wscale.map(|[client, _]| client),
                wscale_service: self.wscale.map(|[_, service]| service),
                sack: self.sack,
                timestamps: self.timestamps.is_some(),
            },
            clock: self.timestamps.map(clock),
        }
    }

    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let request = self
            .request
            .as_ref()
            .map(|p| file(p, REQUEST))
            .transpose()?;
        let prefix = self.prefix.as_ref().map(|p| file(p, PREFIX)).transpose()?;
        let mut client = Client::connect()?;
        let recover = types::Recover {
            claim: self.claim(),
            at: self.at,
            request: request.as_deref().unwrap_or_default(),
            answer_window: self.answer_window,
            local_port: self.local_port,
        };
        let mut flow = client.flow_recover(&recover)?;
        if let Some(answer_length) = self.answer_length {
            let join = Join {
                id: Some(flow.id),
                key: flow.key,
                prefix: prefix.as_deref().unwrap_or_default(),
                answer_length,
                skip: self.skip,
                object_start: self.object_start,
                object_end: self.object_end,
            };
            flow = self.join(&mut client, &join)?;
        }
        out.one(&flow, flow::text)
    }

    /// Joins as soon as the module lets us.
    fn join(&self, client: &mut Client, join: &Join<'_>) -> Result<FlowInfo, Fail> {
        let deadline = Instant::now() + Duration::from_millis(self.timeout_ms);
        loop {
            match client.flow_join(join) {
                Ok(()) => return Ok(client.flow_get(&join.key)?),
                Err(e) if Instant::now() >= deadline => return Err(e.into()),
                // While the ghost lives, an answer that is not there yet may still come.
                Err(e) => match client.flow_get(&join.key) {
                    Ok(flow) if flow.phase == Phase::Ghost => sleep(PAUSE),
                    _ => return Err(e.into()),
                },
            }
        }
    }
}
