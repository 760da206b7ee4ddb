// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Peers that are silent for a while, and what comes of others than peers: each is counted.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::node::{config, free_ports, Node, Voice};
use super::*;
use crate::link;
use crate::membership::Membership;
use crate::wire::LINKS;

/// Node a, which expects a heartbeat of b each 200 ms and misses five.
async fn slow_node(ports: [u16; 2]) -> Node {
    let text = config("a", ports, "none", "true");
    let text = format!("[heartbeat]\ninterval-ms = 200\nmisses = 5\n{text}");
    Node::with(Config::parse(&text).unwrap(), 1, 11).await
}

/// What a node has counted under these names.
async fn counts<const N: usize>(node: &Node, names: [&str; N]) -> [u64; N] {
    let counts = node.ask(Request::Status).await["counts"].clone();
    names.map(|name| counts[name].as_u64().unwrap_or(0))
}

const SILENCES: [&str; 4] = ["suspicions", "suspicions-false", "deaths", "false-deaths"];

#[tokio::test]
async fn a_peer_that_is_heard_again_was_suspected_or_declared_dead_wrongly() {
    let local = LocalSet::new();
    let all = async {
        let ports = free_ports();
        let a = slow_node(ports).await;
        let mut b = Voice::of_b(ports).await;
        b.until(true, &a, "alive").await;
        assert_eq!(counts(&a, SILENCES).await, [0, 0, 0, 0]);
        b.until(false, &a, "suspect").await;
        assert_eq!(counts(&a, SILENCES).await, [1, 0, 0, 0]);
        b.until(true, &a, "alive").await;
        assert_eq!(counts(&a, SILENCES).await, [1, 1, 0, 0]);
        b.until(false, &a, "dead").await;
        assert_eq!(counts(&a, SILENCES).await, [2, 1, 1, 0]);
        b.until(true, &a, "alive").await;
        assert_eq!(counts(&a, SILENCES).await, [2, 1, 1, 1]);
    };
    local.run_until(all).await;
}

const BEATS: [&str; 4] = [
    "heartbeats-refused",
    "heartbeats-stranger",
    "heartbeats-replayed",
    "heartbeats-unproven",
];

#[tokio::test]
async fn heartbeats_of_nobody_and_those_that_were_heard_before_are_counted() {
    let local = LocalSet::new();
    let all = async {
        let ports = free_ports();
        let a = slow_node(ports).await;
        let mut b = Voice::of_b(ports).await;
        let recorded = b.until(true, &a, "alive").await;
        b.step(true).await;
        // Until it has heard a, what it says is not proven; it may have heard a first.
        let [refused, stranger, replayed, first] = counts(&a, BEATS).await;
        assert_eq!((refused, stranger, replayed), (0, 0, 0));

        let sealed = |name: &str, session| {
            let ms = Duration::from_millis;
            let a = [("a".to_owned(), 0)];
            let mut of = Membership::new((name, 1), a, [], (ms(50), 3), (2, session), ms(0));
            b.seal.seal(&of.beat("a", false).encode())
        };
        let mut forged = recorded.clone();
        *forged.last_mut().unwrap() ^= 1;
        let stranger = sealed("x", 5);
        // Of another start of b, before that has heard anything.
        let unproven = sealed("b", 6);
        for said in [forged, stranger, recorded, unproven] {
            b.socket.send_to(&said, b.to).await.unwrap();
        }
        let counted = async {
            while counts(&a, BEATS).await != [1, 1, 1, first + 1] {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let counted = timeout(Duration::from_secs(10), counted).await;
        assert!(counted.is_ok(), "{:?}", counts(&a, BEATS).await);
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn connections_that_are_no_links_are_counted() {
    let local = LocalSet::new();
    let all = async {
        let ports = free_ports();
        let a = Node::start("a", ports, 11).await;
        let at = ("127.0.0.1", ports[0]);
        let mut nobody = TcpStream::connect(at).await.unwrap();
        nobody.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(nobody);
        let (events, _heard) = mpsc::channel(64);
        let key = Secret::new(&[9; 32]).unwrap().key(LINKS);
        let a_at = (
            "a".to_owned(),
            std::net::SocketAddr::from(([127, 0, 0, 1], ports[0])),
        );
        let stranger = tokio::spawn(link::tell("x".into(), a_at, key, events));
        a.until("both are counted", |v| {
            let counts = &v["status"]["counts"];
            counts["links-refused-handshake"] == 1
                && counts["links-refused-stranger"].as_u64() >= Some(1)
        })
        .await;
        stranger.abort();
        assert_eq!(a.ask(Request::Status).await["records_of_peers"], 0);
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn marks_that_a_full_link_does_not_take_are_counted() {
    let config = Config::parse(&config("a", free_ports(), "none", "true")).unwrap();
    let secret = Secret::new(&[9; 32]).unwrap();
    let new = Daemon::new(config, &secret, FakeKernel::default(), true, (1, 11));
    let mut d = new.await.unwrap();
    d.engine.hear_all(served(), 0);
    d.engine.take_updates();
    let (tx, mut rx) = mpsc::channel(1);
    d.links.insert("b".into(), (1, tx));
    for (acked, dropped) in [(2500, None), (2600, Some(&1)), (2700, Some(&2))] {
        d.engine
            .hear(entry(1, What::Progress { acked, ts: None }), 0);
        d.beat();
        assert_eq!(d.engine.counts.get("marks-dropped"), dropped);
    }
    let (number, marks) = rx.recv().await.unwrap();
    assert!(number == 0 && matches!(marks[..], [Update::Mark { acked: 2500, .. }]));
    // The link goes on, and so does what is told over it.
    d.engine.hear(
        entry(
            1,
            What::Progress {
                acked: 2800,
                ts: None,
            },
        ),
        0,
    );
    d.beat();
    let (_, marks) = rx.recv().await.unwrap();
    assert!(matches!(marks[..], [Update::Mark { acked: 2800, .. }]));
}
