// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A peer of another version: it lives, it has its address, and nothing else is told to it.

use libholdfast::record::Record;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::UdpSocket;

use super::node::{free_ports, Node};
use super::*;
use crate::config::{Commit, Mode, MovedBy};
use crate::seal::Seal;
use crate::store::Fitness;
use crate::terms::Terms;
use crate::wire::{self, Beat, VERSION};

/// What is kept of node b's side: it hears a, and answers each heartbeat.
struct Other {
    seal: Seal,
    socket: UdpSocket,
    seq: u64,
    claims: Vec<(std::net::IpAddr, u32)>,
}

impl Other {
    async fn new(port: u16, claims: &[&str]) -> Self {
        let secret = Secret::new(&[9; 32]).unwrap();
        Other {
            seal: Seal::new(&secret, wire::BEATS),
            socket: UdpSocket::bind(("127.0.0.1", port)).await.unwrap(),
            seq: 0,
            claims: claims.iter().map(|a| (a.parse().unwrap(), 1)).collect(),
        }
    }

    /// Answers the next heartbeat as a newer version would.
    async fn answer(&mut self) -> Beat {
        let mut datagram = [0; 2048];
        let (n, from) = self.socket.recv_from(&mut datagram).await.unwrap();
        let heard = Beat::decode(&self.seal.open(&datagram[..n]).unwrap()).unwrap();
        self.seq += 1;
        let beat = Beat {
            version: VERSION + 1,
            from: "b".into(),
            boot: 5,
            session: 6,
            seq: self.seq,
            echo: Some(heard.session),
            claims: self.claims.clone(),
            leaving: false,
            deaf: false,
            connected: true,
            drained: false,
            unlinked: false,
            gone: Vec::new(),
            release: "9.9".into(),
        };
        let mut said = beat.encode();
        said.extend(b"what nobody knows yet");
        let _ = self.socket.send_to(&self.seal.seal(&said), from).await;
        heard
    }

    /// Answers for so long.
    async fn live(&mut self, time: Duration) {
        let _ = timeout(time, async {
            loop {
                self.answer().await;
            }
        })
        .await;
    }
}

fn version_text(readiness: &Value) -> Option<String> {
    let all = readiness["why"].as_array()?;
    let reason = all.iter().find(|r| r["reason"] == "version")?;
    Some(reason["text"].as_str()?.to_owned())
}

#[tokio::test]
async fn it_keeps_its_address_while_it_lives() {
    let here = LocalSet::new();
    here.run_until(async {
        let ports = free_ports();
        let a = Node::start("a", ports, 100).await;
        let mut b = Other::new(ports[1], &["192.0.2.10"]).await;
        // Longer than a waits for those that live.
        b.live(Duration::from_secs(2)).await;
        let told = a.ask(Request::Status).await;
        assert_eq!(told["addresses"][0]["owner"], "b");
        assert_eq!(told["counts"]["peers-other-version"], 1);
        let peers = a.ask(Request::Peers).await;
        assert_eq!(peers["peers"][0]["health"], "alive");
        assert_eq!(peers["peers"][0]["willing"], false);
        assert_eq!(peers["peers"][0]["other_version"], VERSION + 1);
        let text = version_text(&a.ask(Request::Ready).await).unwrap();
        let speaks = format!("b (holdfastd 9.9) speaks version {}", VERSION + 1);
        assert!(text.contains(&speaks), "{text}");
        drop(b);
        let owned = |v: &Value| v["status"]["addresses"][0]["owner"] == "a";
        a.until("a has the address of the dead", owned).await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_handed_over_to_it() {
    let here = LocalSet::new();
    here.run_until(async {
        let ports = free_ports();
        let a = Node::start("a", ports, 100).await;
        let mut b = Other::new(ports[1], &[]).await;
        while b.answer().await.claims.is_empty() {}
        for to in [None, Some("b".to_owned())] {
            let deadline_ms = Some(0);
            let told = a.ask(Request::Drain { deadline_ms, to }).await;
            let why = "no peer that speaks this node's version is ready to take over";
            assert_eq!(told, json!({"error": why}));
        }
        assert_eq!(b.answer().await.claims.len(), 1);
    })
    .await;
}

/// Every kind of update, and of record in it.
fn updates() -> Vec<Update> {
    let doubt = Doubt::ALL[0];
    let made = |asked, head: &str| {
        object(GET, asked, false, 2000, head.as_bytes(), false)
            .unwrap()
            .unwrap()
    };
    let short = "HTTP/1.1 404 N\r\nContent-Length: 2\r\n\r\nab";
    let states = [
        State::Idle,
        State::Requesting(b"GET".to_vec()),
        State::Unprotected(doubt),
        State::Responding(made(Asked::Whole, std::str::from_utf8(HEAD).unwrap())),
        State::Responding(made(Asked::Whole, short)),
        State::Responding(made(
            Asked::Whole,
            "HTTP/1.1 200 O\r\nContent-Length: 99999\r\n\r\n",
        )),
    ];
    let key = key(1);
    let put = |state| Update::Put(Record { state, ..record(1) }.encode(0));
    let chunked = b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n";
    let again = object(GET, Asked::Whole, false, 2000, chunked, true).unwrap();
    let replayed = Record {
        deterministic: true,
        state: State::Responding(again.unwrap()),
        ..record(1)
    };
    let rest = [
        Update::Put(replayed.encode(0)),
        Update::Begin { boot: 1 },
        Update::Mark {
            key,
            generation: 2,
            acked: 3,
            ts: Some((4, 5)),
            age_ms: 6,
        },
        Update::Drop { key, generation: 7 },
        Update::HandOver {
            addr: key.service.ip(),
            generation: 8,
        },
        Update::About {
            waits: true,
            wall_ms: 9,
            daemon: "d".into(),
            module: "m".into(),
            fitness: Fitness::Ready,
            services: vec![Terms {
                service: key.service,
                mode: Mode::Protect,
                commit: Commit::Strict,
                deterministic: true,
                moved_by: MovedBy::Others,
            }],
        },
    ];
    states.into_iter().map(put).chain(rest).collect()
}

/// Another digest means that older nodes cannot read what is said today: raise `wire::VERSION`,
/// and put the new digest here.
#[test]
fn updates_and_records_are_those_of_this_version() {
    let bytes = postcard::to_allocvec(&updates()).unwrap();
    let digest = Sha256::digest(&bytes);
    let first = u64::from_be_bytes(digest[..8].try_into().unwrap());
    assert_eq!((VERSION, first), (4, 0x4a99_d5d8_9282_e511), "{first:x}");
}
