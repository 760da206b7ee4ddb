// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast log`

use clap::{Args, Subcommand};
use libholdfast::ring::{flags, Entry, Kind};
use libholdfast::types::FlowDesc;
use libholdfast::{Error, Ring};
use serde_json::{json, Value};

use crate::cmd::flow;
use crate::fail::Fail;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Print records until interrupted
    #[command(after_help = "\
The log has one reader: this fails with \"busy\" beside holdfastd. While it runs, responses of
services with \"commit strict\" wait for a commit that nobody sends, up to their hold-ms.

Examples:
  holdfast log dump --count 10
  holdfast log dump --data

Exit status:
  0  done
  1  refused or failed
  3  the holdfast module is not loaded")]
    Dump(Dump),
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print bytes of streams too, as text with escapes
    #[arg(long)]
    data: bool,
}

impl Log {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let Log::Dump(dump) = self;
        let mut ring = Ring::open()?;
        let mut left = dump.count.unwrap_or(u64::MAX);
        while left > 0 {
            match ring.next().map_err(Error::from)? {
                Some(entry) => {
                    out.one(&value(&entry, dump.data), |_| text(&entry, dump.data))?;
                    left -= 1;
                }
                None => {
                    ring.wait(None)?;
                }
            }
        }
        Ok(())
    }
}

/// Names of the flags that are set.
fn flag_names(set: u16) -> Vec<&'static str> {
    [
        (flags::FIN, "fin"),
        (flags::RST, "rst"),
        (flags::PSH, "psh"),
        (flags::TIMESTAMPS, "ts"),
        (flags::HELD, "held"),
        (flags::PAYLOAD, "payload"),
    ]
    .into_iter()
    .filter(|(flag, _)| set & flag != 0)
    .map(|(_, name)| name)
    .collect()
}

fn name(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// What [`Kind`] says that the data are.
fn desc(entry: &Entry<'_>) -> Option<FlowDesc> {
    match entry.kind {
        Kind::Opened | Kind::Orphan | Kind::Located => FlowDesc::from_data(entry.data),
        _ => None,
    }
}

fn text(entry: &Entry<'_>, data: bool) -> String {
    let r = &entry.record;
    let mut line = format!(
        "{}.{:09} {} flow {} pos {} ack {} len {}",
        r.time / 1_000_000_000,
        r.time % 1_000_000_000,
        name(entry.kind),
        r.flow,
        r.pos,
        r.ack,
        r.data_len
    );
    for flag in flag_names(r.flags) {
        line.push(' ');
        line.push_str(flag);
    }
    if r.flags & flags::TIMESTAMPS != 0 {
        line.push_str(&format!(" tsval {} tsecr {}", r.tsval, r.tsecr));
    }
    match entry.kind {
        Kind::Failed | Kind::Unprotected => {
            line.push_str(&format!(" reason {}", flow::reason(r.window)));
        }
        _ => line.push_str(&format!(" window {}", r.window)),
    }
    if r.lost != 0 {
        line.push_str(&format!(" lost {}", r.lost));
    }
    match desc(entry) {
        Some(desc) => line.push_str(&format!(" {} generation {}", desc.key, desc.generation)),
        None if data && !entry.data.is_empty() => {
            line.push_str(&format!("\n    \"{}\"", entry.data.escape_ascii()));
        }
        None => {}
    }
    line
}

fn value(entry: &Entry<'_>, data: bool) -> Value {
    let r = &entry.record;
    let mut value = json!({
        "time_ns": r.time,
        "kind": name(entry.kind),
        "flow": r.flow,
        "pos": r.pos,
        "ack": r.ack,
        "flags": flag_names(r.flags),
        "window": r.window,
        "lost": r.lost,
        "data_len": r.data_len,
    });
    if r.flags & flags::TIMESTAMPS != 0 {
        value["tsval"] = r.tsval.into();
        value["tsecr"] = r.tsecr.into();
    }
    match desc(entry) {
        Some(desc) => {
            value["key"] = json!(desc.key);
            value["generation"] = desc.generation.into();
            value["options"] = json!(desc.options);
        }
        None if data => value["data"] = entry.data.escape_ascii().to_string().into(),
        None => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use libholdfast::ring::Record;

    #[test]
    fn a_record_is_a_line() {
        let record = Record {
            flow: 7,
            pos: 8,
            ack: 9,
            time: 1_000_000_005,
            data_len: 5,
            flags: flags::PSH | flags::TIMESTAMPS,
            tsval: 1,
            tsecr: 2,
            window: 3,
            ..Record::default()
        };
        let entry = Entry {
            kind: Kind::C2s,
            record,
            data: b"GET\r\n",
        };
        assert_eq!(
            text(&entry, true),
            "1.000000005 c2s flow 7 pos 8 ack 9 len 5 psh ts tsval 1 tsecr 2 window 3\n    \
             \"GET\\r\\n\""
        );
        assert!(!text(&entry, false).contains("GET"));
        let json = value(&entry, true);
        assert_eq!(
            (&json["data"], &json["flags"][0]),
            (&json!("GET\\r\\n"), &json!("psh"))
        );
        assert!(value(&entry, false).get("data").is_none());
    }
}
