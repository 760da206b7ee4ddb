// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast service`

use std::net::SocketAddr;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use libholdfast::types::{Commit, Mode, ServiceConfig, ServiceInfo};
use libholdfast::Client;

use crate::fail::Fail;
use crate::input::service;
use crate::output::{note, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Protect a service, or change the policy of one that is
    #[command(after_help = "\
Examples:
  holdfast service add 192.0.2.1:80
  holdfast service add [2001:db8::1]:80 --mode observe
  holdfast service add 192.0.2.1:80 --commit eager --hold-ms 500

What is not given keeps its value. holdfastd does this at its start with what its configuration says.

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Add(Add),
    /// Stop protecting a service
    ///
    /// Refused while a connection would break by it: one that was continued here is translated until
    /// it ends.
    #[command(after_help = "\
Example:
  holdfast service del 192.0.2.1:80

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Del(Name),
    /// Show one service, or all
    #[command(after_help = "\
Examples:
  holdfast service show
  holdfast -j service show 192.0.2.1:80

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// Address and port, as 192.0.2.1:80 or [2001:db8::1]:80
    #[arg(value_name = "ADDR:PORT", value_parser = service)]
    service: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Only this one
    #[arg(value_name = "ADDR:PORT", value_parser = service)]
    service: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    name: Name,
    /// "protect", or "observe" to log and count and change nothing
    #[arg(long, value_parser = PossibleValuesParser::new(Mode::ALL.map(Mode::name)))]
    mode: Option<String>,
    /// "strict": a response leaves once its record is safe; "eager": at once
    #[arg(long, value_parser = PossibleValuesParser::new(Commit::ALL.map(Commit::name)))]
    commit: Option<String>,
    /// Longest wait of a response for its record, in milliseconds
    #[arg(long, value_name = "N")]
    hold_ms: Option<u32>,
    /// Longest wait of an unknown connection for a verdict, in milliseconds
    #[arg(long, value_name = "N")]
    verdict_ms: Option<u32>,
    /// Most bytes of a response that are logged
    #[arg(long, value_name = "N")]
    head_limit: Option<u32>,
    /// Most bytes of a request that are held in the client
    #[arg(long, value_name = "N")]
    request_limit: Option<u32>,
}

impl Add {
    fn config(&self) -> ServiceConfig {
        let mode = |name: &String| Mode::ALL.into_iter().find(|m| m.name() == name);
        let commit = |name: &String| Commit::ALL.into_iter().find(|c| c.name() == name);
        ServiceConfig {
            service: self.name.service,
            mode: self.mode.as_ref().and_then(mode),
            commit: self.commit.as_ref().and_then(commit),
            hold_ms: self.hold_ms,
            verdict_ms: self.verdict_ms,
            head_limit: self.head_limit,
            request_limit: self.request_limit,
            excerpt: None,
        }
    }
}

impl Service {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let mut client = Client::connect()?;
        match self {
            Service::Add(add) => out.one(&client.service_add(&add.config())?, text),
            Service::Del(name) => Ok(client.service_del(name.service)?),
            Service::Show(Show {
                service: Some(service),
            }) => out.one(&client.service_get(*service)?, text),
            Service::Show(Show { service: None }) => {
                let services = client.services()?;
                if !services.consistent {
                    note("services changed meanwhile: some may be missing or twice");
                }
                out.many(&services.items, text)
            }
        }
    }
}

/// A service on a line, in the words of its options.
pub(crate) fn text(s: &ServiceInfo) -> String {
    format!(
        "{} mode {} commit {} hold-ms {} verdict-ms {} head-limit {} request-limit {} flows {}",
        s.service,
        s.mode,
        s.commit,
        s.hold_ms,
        s.verdict_ms,
        s.head_limit,
        s.request_limit,
        s.flows
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_shown_in_the_words_of_its_options() {
        let info = ServiceInfo {
            service: "[2001:db8::1]:80".parse().unwrap(),
            mode: Mode::Protect,
            commit: Commit::Strict,
            hold_ms: 1,
            verdict_ms: 2,
            head_limit: 3,
            request_limit: 4,
            flows: 5,
        };
        assert_eq!(
            text(&info),
            "[2001:db8::1]:80 mode protect commit strict hold-ms 1 verdict-ms 2 \
             head-limit 3 request-limit 4 flows 5"
        );
        assert_eq!(
            serde_json::to_string(&info).unwrap(),
            "{\"service\":\"[2001:db8::1]:80\",\"mode\":\"protect\",\"commit\":\"strict\",\
             \"hold_ms\":1,\"verdict_ms\":2,\"head_limit\":3,\"request_limit\":4,\"flows\":5}"
        );
    }

    #[test]
    fn what_is_not_given_is_not_sent() {
        let name = Name {
            service: "192.0.2.1:80".parse().unwrap(),
        };
        let add = Add {
            name,
            mode: Some("observe".into()),
            commit: None,
            hold_ms: Some(9),
            verdict_ms: None,
            head_limit: None,
            request_limit: None,
        };
        let config = add.config();
        assert_eq!((config.mode, config.commit), (Some(Mode::Observe), None));
        assert_eq!((config.hold_ms, config.verdict_ms), (Some(9), None));
    }
}
