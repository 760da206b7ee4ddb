// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The parts of the daemon together, against a stand-in for the kernel.

use std::time::Duration;

use libholdfast::http::{Asked, Doubt};
use libholdfast::record::{object, Record, State};
use libholdfast::recovery::Word;
use libholdfast::tracker::Release;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use crate::config::{tests::EXAMPLE, Config};
use crate::control::{Asked as Question, Request};
use crate::daemon::Daemon;
use crate::engine::Engine;
use crate::kernel::{Desc, Entry, Failure, Refused, Verdict, What};
use crate::seal::Secret;
use crate::store::Update;
use crate::testing::{key, record, Call, FakeKernel};
use crate::timeline::Timeline;

mod again;
mod answers;
mod daemons;
mod links;
mod next;
mod node;
mod operate;
mod refused;
mod replay;
mod rescue;
mod turns;
mod versions;

const GET: &[u8] = b"GET /f HTTP/1.1\r\nHost: h\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: \"e\"\r\n\r\n";

fn engine() -> (Engine<FakeKernel>, FakeKernel) {
    let kernel = FakeKernel::default();
    let config = Config::parse(EXAMPLE).unwrap();
    let mut e = Engine::new(kernel.clone(), &config, Timeline::new("a", true));
    e.start().unwrap();
    assert_eq!(kernel.take(), vec![Call::Service(80)]);
    (e, kernel)
}

fn entry(flow: u64, what: What) -> Entry {
    Entry {
        flow,
        time: 5,
        lost: 0,
        what,
    }
}

fn desc(n: u16) -> Desc {
    Desc {
        key: key(n),
        generation: 0,
        options: Default::default(),
    }
}

fn word(ack: u64, seq: u64) -> Word {
    Word {
        ack: ack as u32,
        seq: seq as u32,
        payload: false,
        sacked: false,
    }
}

/// What the log tells of a request and the head of its response on flow 1.
fn served() -> Vec<Entry> {
    let ack = 1000 + GET.len() as u64;
    let whats = [
        What::Opened {
            desc: desc(1),
            start: 2000,
            request: 1000,
            ts: None,
        },
        What::Object {
            start: 2000,
            request: 1000,
        },
        What::C2s {
            pos: 1000,
            ack: 2000,
            data: GET.to_vec(),
            ts: None,
        },
        What::S2c {
            pos: 2000,
            ack,
            data: HEAD.to_vec(),
        },
    ];
    whats.into_iter().map(|what| entry(1, what)).collect()
}

fn serve(e: &mut Engine<FakeKernel>) {
    for entry in served() {
        e.hear(entry, 0);
    }
}

/// A record in the middle of a response.
fn downloading(n: u16) -> Record {
    let made = object(GET, Asked::Whole, false, 2000, HEAD, false)
        .unwrap()
        .unwrap();
    Record {
        state: State::Responding(made),
        ..record(n)
    }
}
