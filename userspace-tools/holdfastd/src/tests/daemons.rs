// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Two daemons against each other: deaths, and addresses that are handed over.

use super::node::*;
use super::*;

/// Two daemons, of which the first one owns the address and serves one flow. `down`: what gives
/// the address up there; `check`: where the server of the other one is.
async fn two_with_a_flow(down: &str, check: &str) -> (Node, Node) {
    let ports = free_ports();
    let a = Node::start_with("a", ports, 11, down, "none").await;
    let b = Node::start_with("b", ports, 12, "true", check).await;
    for n in [&a, &b] {
        n.until("a owns", |v| v["status"]["addresses"][0]["owner"] == "a")
            .await;
        n.until("it is linked", |v| v["peers"]["linked"] == true)
            .await;
    }
    a.serves().await;
    b.until("b has the record", |v| v["status"]["records_of_peers"] == 1)
        .await;
    (a, b)
}

fn drain(to: Option<&str>) -> Request {
    Request::Drain {
        deadline_ms: Some(100),
        to: to.map(str::to_owned),
    }
}

fn happened(timeline: &Value, event: &str) -> bool {
    let events = timeline["events"].as_array().unwrap();
    events.iter().any(|e| e["event"] == event)
}

#[tokio::test]
async fn a_drain_hands_the_address_and_the_flows_over() {
    let local = LocalSet::new();
    let all = async {
        let (a, b) = two_with_a_flow("true", "none").await;
        let refused = a.ask(drain(Some("c"))).await;
        assert_eq!(refused["error"], "no peer is ready to take over");
        let silenced = Call::End(key(1), Verdict::Abandon);
        let closed = async {
            a.until("silenced", |_| a.did(|c| *c == silenced)).await;
            let last = entry(1, What::Closed { ended: false });
            a.log.send(vec![last]).await.unwrap();
        };
        let (answer, ()) = tokio::join!(a.ask(drain(None)), closed);
        assert_eq!(answer["drain"], "drained to b", "{answer}");
        assert_eq!(a.ask(drain(None)).await["drain"], "drained to b");
        let status = a.ask(Request::Status).await;
        assert_eq!(status["counts"]["flows-handed-over"], 1);
        assert_eq!(status["counts"]["drain-log-late"], Value::Null);
        b.until("located", |_| b.did(|c| matches!(c, Call::Locate(..))))
            .await;
        let there = b.ask(Request::Timeline { last: None }).await;
        assert!(happened(&there, "takeover") && !happened(&there, "peer-dead"));
        // Its record is b's now.
        a.until("a has the record", |v| v["status"]["records_of_peers"] == 1)
            .await;

        // A drained node takes nothing, until it is told to.
        b.until("a is drained", |v| v["peers"]["willing"] == false)
            .await;
        assert!(b.ask(drain(None)).await["error"].is_string());
        assert_eq!(a.ask(Request::Undrain).await["drain"], "off");
        b.until("a is willing", |v| v["peers"]["willing"] == true)
            .await;
        assert_eq!(b.ask(drain(None)).await["drain"], "drained to a");
        a.until("a locates", |_| a.did(|c| matches!(c, Call::Locate(..))))
            .await;
    };
    local.run_until(all).await;
}

/// Its kernel says that the flow of a is not protected any more; a is drained. The answer.
async fn drain_with_an_unprotected_flow(
    a: &Node,
    deadline_ms: u64,
    then: impl std::future::Future<Output = ()>,
) -> Value {
    let lost = entry(1, What::Unprotected { reason: 1 });
    a.log.send(vec![lost]).await.unwrap();
    let let_go = |call: &Call| matches!(call, Call::Commit(r) if r.unprotected);
    a.until("it is let go", |_| a.did(let_go)).await;
    a.kernel.take();
    let drain = Request::Drain {
        deadline_ms: Some(deadline_ms),
        to: None,
    };
    let (answer, ()) = tokio::join!(a.ask(drain), then);
    answer
}

#[tokio::test]
async fn a_drain_waits_for_an_unprotected_flow_and_resets_it_at_its_deadline() {
    let local = LocalSet::new();
    let all = async {
        let (a, b) = two_with_a_flow("true", "none").await;
        let began = std::time::Instant::now();
        let end = Call::End(key(1), Verdict::Reset);
        let then = async {
            a.until("it waits", |v| v["status"]["drain"] == "waiting to b")
                .await;
            a.until("it is reset", |_| a.did(|c| *c == end)).await;
            assert!(began.elapsed() >= Duration::from_millis(100));
            let gone = entry(1, What::Closed { ended: true });
            a.log.send(vec![gone]).await.unwrap();
        };
        let answer = drain_with_an_unprotected_flow(&a, 100, then).await;
        assert_eq!(answer["drain"], "drained to b", "{answer}");
        // Once it is b's, what is left of it here is nothing to anybody.
        let calls = a.kernel.take();
        assert_eq!(calls.iter().filter(|c| **c == end).count(), 1, "{calls:?}");
        let counts = a.ask(Request::Status).await["counts"].clone();
        assert_eq!(counts["drain-reset"], 1);
        assert_eq!(counts["flows-handed-over"], Value::Null);
        assert_eq!(counts["drain-log-late"], Value::Null);
        b.until("b owns", |v| v["status"]["addresses"][0]["owner"] == "b")
            .await;
        assert!(!b.did(|c| matches!(c, Call::Locate(..))));
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn a_drain_waits_no_longer_than_for_its_last_unprotected_flow() {
    let local = LocalSet::new();
    let all = async {
        let (a, _b) = two_with_a_flow("true", "none").await;
        let then = async {
            a.until("it waits", |v| v["status"]["drain"] == "waiting to b")
                .await;
            assert_eq!(a.kernel.take(), []);
            let gone = entry(1, What::Closed { ended: true });
            a.log.send(vec![gone]).await.unwrap();
        };
        let drained = drain_with_an_unprotected_flow(&a, 3_600_000, then);
        let answer = timeout(Duration::from_secs(10), drained).await.unwrap();
        assert_eq!(answer["drain"], "drained to b", "{answer}");
        assert_eq!(a.kernel.take(), [], "nobody is reset");
        let counts = a.ask(Request::Status).await["counts"].clone();
        assert_eq!(counts["drain-reset"], Value::Null);
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn a_peer_without_a_server_must_be_asked_for() {
    let local = LocalSet::new();
    let all = async {
        // Nobody listens there: it was free a moment ago.
        let at = format!("127.0.0.1:{}", free_ports()[0]);
        let (a, b) = two_with_a_flow("true", &at).await;
        a.until("b is unfit", |v| v["peers"]["fitness"] == "unfit")
            .await;
        let answer = a.ask(drain(None)).await;
        assert_eq!(answer["error"], "no peer is ready to take over");
        let silenced = Call::End(key(1), Verdict::Abandon);
        let closed = async {
            a.until("silenced", |_| a.did(|c| *c == silenced)).await;
            let last = entry(1, What::Closed { ended: false });
            a.log.send(vec![last]).await.unwrap();
        };
        let (answer, ()) = tokio::join!(a.ask(drain(Some("b"))), closed);
        assert_eq!(answer["drain"], "drained to b", "{answer}");
        drop(b);
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn a_daemon_that_is_stopped_hands_over_first() {
    let local = LocalSet::new();
    let all = async {
        let (mut a, b) = two_with_a_flow("true", "none").await;
        drop(a.stop.take());
        timeout(Duration::from_secs(10), a.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        b.until("b owns", |v| v["status"]["addresses"][0]["owner"] == "b")
            .await;
        b.until("located", |_| b.did(|c| matches!(c, Call::Locate(..))))
            .await;
        assert!(!happened(
            &b.ask(Request::Timeline { last: None }).await,
            "peer-dead"
        ));
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn a_successor_that_dies_during_the_hand_over_loses_nothing() {
    let local = LocalSet::new();
    let all = async {
        // Long enough for b to be found dead while the address goes down.
        let (a, b) = two_with_a_flow("sleep 0.5", "none").await;
        b.task.abort();
        let answer = a.ask(drain(None)).await;
        assert_eq!(answer["error"], "nobody took over; this node goes on");
        a.until("a recovers the flow", |_| {
            a.did(|c| matches!(c, Call::Locate(..)))
        })
        .await;
        let status = a.ask(Request::Status).await;
        assert_eq!(status["addresses"][0]["owner"], "a");
        assert_eq!(status["addresses"][0]["generation"], 3);
        assert_eq!(status["drain"], "off");
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn without_a_ready_peer_nothing_is_drained() {
    let local = LocalSet::new();
    let all = async {
        let a = Node::start("a", free_ports(), 11).await;
        a.until("a owns", |v| v["status"]["addresses"][0]["owner"] == "a")
            .await;
        let answer = a.ask(drain(None)).await;
        assert_eq!(answer["error"], "no peer is ready to take over");
        let status = a.ask(Request::Status).await;
        assert_eq!(status["drain"], "off");
        assert_eq!(status["addresses"][0]["owner"], "a");
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn two_daemons_share_records_and_one_takes_over_from_the_other() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let ports = free_ports();
            let a = Node::start("a", ports, 11).await;
            let b = Node::start("b", ports, 12).await;
            let owned =
                |by: &'static str| move |v: &Value| v["status"]["addresses"][0]["owner"] == by;
            a.until("a owns", owned("a")).await;
            b.until("b sees it", owned("a")).await;
            a.until("a is linked", |v| v["peers"]["linked"] == true)
                .await;

            a.serves().await;
            b.until("b has the record", |v| v["status"]["records_of_peers"] == 1)
                .await;
            a.until("committed", |_| a.did(|c| matches!(c, Call::Commit(_))))
                .await;
            assert_eq!(a.ask(Request::Status).await["committed_alone"], 0);

            // A death, not a stop: nothing more is said.
            a.task.abort();
            b.until("b owns", owned("b")).await;
            b.until("located", |_| b.did(|c| matches!(c, Call::Locate(..))))
                .await;
            let events = b.ask(Request::Timeline { last: None }).await;
            let order: Vec<_> = events["events"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|e| e["event"].as_str())
                .filter(|e| ["peer-dead", "owner", "address-taken", "takeover"].contains(e))
                .collect();
            assert_eq!(order, ["peer-dead", "owner", "address-taken", "takeover"]);
            drop(b.stop);
            b.task.await.unwrap().unwrap();
        })
        .await;
}

#[tokio::test]
async fn neither_junk_nor_a_full_log_keeps_a_node_from_what_it_must_do() {
    let local = LocalSet::new();
    let all = async {
        let ports = free_ports();
        let mut config = Config::parse(&config("a", ports, "none", "true")).unwrap();
        // A machine on which a test stands still for as long as that is rare.
        config.heartbeat.interval_ms = 200;
        let a = Node::with(config, 1, 11).await;
        // As often as the daemon pauses there is more for it than it takes in until it pauses again.
        let junk = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        junk.connect(("127.0.0.1", ports[0])).unwrap();
        junk.set_nonblocking(true).unwrap();
        let log = a.log.clone();
        let flood = tokio::task::spawn_local(async move {
            loop {
                for _ in 0..400 {
                    let _ = junk.send(b"j");
                }
                while log.try_send(vec![entry(9, What::Asked)]).is_ok() {}
                tokio::task::yield_now().await;
            }
        });
        // Time passes, questions are answered, an address is moved, and the end is an end.
        a.until("a owns", |v| v["status"]["addresses"][0]["owner"] == "a")
            .await;
        let taken = async {
            while !happened(
                &a.ask(Request::Timeline { last: None }).await,
                "address-taken",
            ) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), taken).await.unwrap();
        drop(a.stop);
        let ended = timeout(Duration::from_secs(10), a.task).await;
        ended.expect("it goes on").unwrap().unwrap();
        flood.abort();
    };
    local.run_until(all).await;
}
