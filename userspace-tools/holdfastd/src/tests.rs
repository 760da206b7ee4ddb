// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Whole recoveries against a stand-in for the kernel, and two daemons against each other.

use std::io::Write;
use std::time::Duration;

use libholdfast::http::{Asked, Doubt};
use libholdfast::record::{object, State};
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

mod next;
mod operate;

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
fn downloading(n: u16) -> libholdfast::record::Record {
    let made = object(GET, Asked::Whole, false, 2000, HEAD)
        .unwrap()
        .unwrap();
    libholdfast::record::Record {
        state: State::Responding(made),
        ..record(n)
    }
}

#[test]
fn a_response_leaves_when_a_peer_has_its_record() {
    let (mut e, kernel) = engine();
    e.quorum.join("b");
    let (number, all) = e.snapshot(0);
    assert_eq!(all, vec![Update::Begin]);
    e.quorum.confirm("b", number);
    serve(&mut e);
    assert_eq!(kernel.take(), vec![]);
    let updates = e.take_updates();
    assert!(matches!(updates.last(), Some((_, Update::Put(_)))));
    e.quorum.confirm("b", updates.last().unwrap().0);
    e.settle();
    let end = Some(2000 + HEAD.len() as u64 + 1000);
    let want = Release {
        object_start: Some(2000),
        object_end: end,
        ..Release::default()
    };
    assert_eq!(kernel.take(), vec![Call::Commit(want)]);
}

#[test]
fn how_far_a_response_has_come_travels_with_heartbeats() {
    let (mut e, _) = engine();
    serve(&mut e);
    e.take_updates();
    assert_eq!(e.take_marks(0), []);
    for acked in [2500, 2700] {
        let ts = Some((3, 4));
        e.hear(entry(1, What::Progress { acked, ts }), 0);
    }
    assert_eq!(e.take_updates(), [], "nothing waits for it");
    let marks = e.take_marks(0);
    assert!(matches!(
        marks[..],
        [Update::Mark {
            acked: 2700,
            ts: Some((3, 4)),
            ..
        }]
    ));
    assert_eq!(e.take_marks(0), []);
}

#[test]
fn without_peers_a_response_leaves_at_once_and_is_counted() {
    let (mut e, kernel) = engine();
    serve(&mut e);
    assert!(matches!(kernel.take()[..], [Call::Commit(_)]));
    assert_eq!(e.quorum.alone, 1);
}

#[test]
fn what_one_node_records_another_one_continues() {
    let (mut a, _) = engine();
    serve(&mut a);
    let (mut b, kernel) = engine();
    for (_, update) in a.take_updates() {
        b.store.apply("a", update, 0);
    }
    assert_eq!(b.take_over(key(1).service.ip(), 10), 1);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);

    let body = 2000 + HEAD.len() as u64;
    let c2s_next = 1000 + GET.len() as u64;
    let located = What::Located {
        desc: desc(1),
        word: word(body + 400, c2s_next),
        ts: None,
    };
    b.hear(entry(1001, located), 20);
    let calls = kernel.take();
    let [Call::Recover {
        at,
        c2s_next: next,
        request,
        ..
    }] = &calls[..]
    else {
        panic!("{calls:?}")
    };
    assert_eq!((*at, *next), (body + 400, c2s_next));
    assert!(String::from_utf8_lossy(request).contains("Range: bytes=400-"));

    let answer = b"HTTP/1.1 206 P\r\nContent-Length: 600\r\nETag: \"e\"\r\n\
        Content-Range: bytes 400-999/1000\r\n\r\n";
    let said = |pos, data: &[u8]| {
        entry(
            1002,
            What::Answer {
                pos,
                data: data.to_vec(),
                fin: false,
            },
        )
    };
    b.hear(said(0, b"of another ghost"), 30);
    b.hear(entry(1002, What::Asked), 30);
    b.hear(said(0, &answer[..30]), 30);
    assert_eq!(kernel.take(), vec![]);
    // More comes between our look at the log and the join.
    kernel.joins.borrow_mut().push(Refused::Again);
    b.hear(said(30, &answer[30..]), 31);
    assert_eq!(kernel.take(), vec![]);
    b.hear(said(answer.len() as u64, b"body"), 32);
    let answer_length = answer.len() as u64 + 4;
    let join = Call::Join {
        prefix: b"body".to_vec(),
        answer_length,
        object_end: Some(body + 1000),
    };
    assert_eq!(kernel.take(), vec![join]);
    // However long the client does not read.
    b.tick(3_600_000 * 1_000_000);
    assert_eq!(kernel.take(), vec![]);
    b.hear(entry(1002, What::Spliced { pos: body + 404 }), 33);
    assert_eq!(b.counts.get("flows-recovered"), Some(&1));
    // From here on it is a flow like any other, and the others know whose it is.
    let (_, t) = b.flows().next().unwrap();
    assert_eq!(t.record().generation, 1);
    b.hear(
        entry(
            1002,
            What::Object {
                start: body + 1000,
                request: c2s_next,
            },
        ),
        40,
    );
    assert_eq!(b.flows().filter(|(_, t)| t.is_dead()).count(), 0);
    b.hear(entry(1002, What::Closed { ended: true }), 50);
    assert!(matches!(
        b.take_updates().last(),
        Some((_, Update::Drop { generation: 1, .. }))
    ));
}

#[test]
fn an_idle_flow_waits_for_its_client() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(record(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    assert_eq!(kernel.take(), vec![]);
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2000, 1000),
        ts: None,
    };
    e.hear(entry(1, orphan), 0);
    let want = Call::Recover {
        key: key(1),
        at: 2000,
        c2s_next: 1000,
        request: vec![],
        local_port: None,
    };
    assert_eq!(kernel.take(), vec![want]);
}

#[test]
fn an_unprotected_flow_ends_though_its_client_is_silent() {
    let (mut e, kernel) = engine();
    let mut lost = record(1);
    lost.state = State::Unprotected(Doubt::Tls);
    e.store.apply("b", Update::Put(lost.encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    e.tick(1_999 * 1_000_000);
    assert_eq!(kernel.take(), vec![]);
    e.tick(2_000 * 1_000_000);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    let located = What::Located {
        desc: desc(1),
        word: word(99_000, 1500),
        ts: None,
    };
    e.hear(entry(1001, located), 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn an_orphan_without_record_is_left_to_the_stack() {
    let (mut e, kernel) = engine();
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2000, 1000),
        ts: None,
    };
    e.hear(entry(1, orphan), 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Pass)]);
}

#[test]
fn a_wrong_answer_and_a_silent_client_are_reset() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.store.apply("b", Update::Put(downloading(2).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    let located = What::Located {
        desc: desc(1),
        word: word(2300, 1000),
        ts: None,
    };
    e.hear(entry(1001, located), 0);
    kernel.take();
    let id = 1003;
    let wrong = b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n".to_vec();
    e.hear(entry(id, What::Asked), 0);
    e.hear(
        entry(
            id,
            What::Answer {
                pos: 0,
                data: wrong,
                fin: false,
            },
        ),
        0,
    );
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
    e.tick(59_999 * 1_000_000);
    assert_eq!(kernel.take(), vec![]);
    e.tick(60_000 * 1_000_000);
    assert_eq!(kernel.take(), vec![Call::End(key(2), Verdict::Abandon)]);
    assert_eq!(e.counts.get("recovery-silent"), Some(&1));
    // It is kept as an idle one and goes on when it speaks.
    let orphan = What::Orphan {
        desc: desc(2),
        word: word(2300, 1000),
        ts: None,
    };
    e.hear(entry(9, orphan), 60_001 * 1_000_000);
    assert!(matches!(
        kernel.take()[..],
        [Call::Recover { at: 2300, .. }]
    ));
}

#[test]
fn a_silent_client_is_probed_anew_until_its_time_is_over() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    let silent = || What::Failed {
        why: Failure::Silent,
    };
    for n in 1..6 {
        let now = n * 10_000_000_000;
        e.hear(entry(1000 + n as u64, silent()), now);
        e.tick(now + 1);
        assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)], "{n}");
    }
    e.hear(entry(1006, silent()), 60_000_000_000);
    e.tick(60_000_000_001);
    assert_eq!(kernel.take(), vec![]);
    assert_eq!(e.rescues.len(), (1, 0));
}

#[test]
fn an_idle_flow_is_forgotten_everywhere_when_its_time_is_over() {
    let (mut e, kernel) = engine();
    e.limits.idle_s = 600;
    let mut third = engine().0;
    for store in [&mut e.store, &mut third.store] {
        store.apply("b", Update::Put(record(1).encode(0)), 0);
    }
    e.take_over(key(1).service.ip(), 0);
    e.tick(599_000_000_000);
    assert_eq!(e.rescues.len(), (1, 0));
    e.tick(601_000_000_000);
    assert_eq!(e.rescues.len(), (0, 0));
    assert_eq!(e.counts.get("recovery-expired"), Some(&1));
    assert_eq!(kernel.take(), vec![]);
    for (_, update) in e.take_updates() {
        third.store.apply("a", update, 0);
    }
    assert_eq!((third.store.count(), third.store.refused), (0, 0));
}

#[test]
fn a_server_that_is_not_up_yet_is_asked_again_and_a_silent_client_may_speak_later() {
    let (mut e, kernel) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    let silent = What::Failed {
        why: Failure::Silent,
    };
    e.hear(entry(1001, silent), 0);
    kernel.take();
    let orphan = What::Orphan {
        desc: desc(1),
        word: word(2300, 1000),
        ts: None,
    };
    e.hear(entry(7, orphan), 0);
    assert!(matches!(
        kernel.take()[..],
        [Call::Recover { at: 2300, .. }]
    ));
    let mut now = 0;
    for id in 1002..1010 {
        e.hear(entry(id, What::Asked), now);
        e.hear(
            entry(
                id,
                What::Failed {
                    why: Failure::Server,
                },
            ),
            now,
        );
        assert_eq!(kernel.take(), vec![]);
        e.tick(now + 40_000_000);
        assert_eq!(kernel.take(), vec![]);
        now += 50_000_000;
        e.tick(now);
        assert!(matches!(
            kernel.take()[..],
            [Call::Recover { at: 2300, .. }]
        ));
    }
    e.hear(entry(1010, What::Asked), now);
    e.hear(
        entry(
            1010,
            What::Failed {
                why: Failure::Server,
            },
        ),
        9_960_000_000,
    );
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn no_more_flows_at_once_than_the_limit() {
    let (mut e, kernel) = engine();
    e.limits.concurrency = 3;
    for n in 0..10 {
        e.store.apply("b", Update::Put(downloading(n).encode(0)), 0);
    }
    e.take_over(key(1).service.ip(), 0);
    assert_eq!(kernel.take().len(), 3);
    e.hear(
        entry(
            1001,
            What::Failed {
                why: Failure::Reset(1),
            },
        ),
        0,
    );
    e.tick(1);
    assert_eq!(kernel.take().len(), 1);
}

/// The local server of flow 1 closes where the client is at `acked`.
fn lose(e: &mut Engine<FakeKernel>, acked: u64, now: i64) {
    e.hear(entry(1, What::Lost { acked }), now);
}

#[test]
fn a_server_that_dies_is_waited_for_and_then_another_node() {
    let (mut e, kernel) = engine();
    serve(&mut e);
    kernel.take();
    lose(&mut e, 2400, 0);
    assert_eq!(kernel.take(), vec![Call::Locate(key(1), 1999)]);
    let body = 2000 + HEAD.len() as u64;
    let located = What::Located {
        desc: desc(1),
        word: word(body + 400, 1000 + GET.len() as u64),
        ts: None,
    };
    e.hear(entry(1001, located), 0);
    let failed = || What::Failed {
        why: Failure::Server,
    };
    for id in 1002..1012 {
        assert!(matches!(kernel.take()[..], [Call::Recover { .. }]));
        let now = i64::from(id as u16 - 1002) * 300_000_000;
        e.hear(entry(id, What::Asked), now);
        e.hear(entry(id, failed()), now);
        assert!(!e.restarts.take_gone(), "before restart-ms");
        e.tick(now + 250_000_000);
    }
    kernel.take();
    e.hear(entry(1012, What::Asked), 3_100_000_000);
    e.hear(entry(1012, failed()), 3_100_000_000);
    assert!(e.restarts.take_gone());
    // Nobody else is there.
    e.server_is_gone(3_100_000_000);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
}

#[test]
fn a_close_that_cannot_be_made_up_for_passes() {
    // Nothing was asked.
    let (mut e, kernel) = engine();
    let opened = What::Opened {
        desc: desc(1),
        start: 2000,
        request: 1000,
        ts: None,
    };
    e.hear(entry(1, opened), 0);
    lose(&mut e, 2000, 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Pass)]);
    assert_eq!(e.flows().count(), 1, "it is tracked on");
    // The server closes at the same byte again.
    let (mut e, kernel) = engine();
    serve(&mut e);
    kernel.take();
    e.restarts.seen_at(key(1), 2400);
    lose(&mut e, 2400, 0);
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Pass)]);
}

#[test]
fn an_old_owner_lets_its_flows_go_without_a_word() {
    let (mut e, kernel) = engine();
    serve(&mut e);
    kernel.take();
    e.abandon(key(1).service.ip());
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Abandon)]);
}

/// A daemon of its own on this thread.
struct Node {
    log: mpsc::Sender<Vec<Entry>>,
    ask: mpsc::Sender<Question>,
    stop: Option<oneshot::Sender<()>>,
    kernel: FakeKernel,
    task: tokio::task::JoinHandle<Result<(), String>>,
}

impl Node {
    async fn start(name: &str, ports: [u16; 2], session: u64) -> Node {
        Node::start_with(name, ports, session, "true").await
    }

    /// `down`: what gives an address up.
    async fn start_with(name: &str, ports: [u16; 2], session: u64, down: &str) -> Node {
        let (i, other) = if name == "a" { (0, "b") } else { (1, "a") };
        let text = format!(
            "[node]\nname = {name:?}\npriority = {i}\nlisten = \"127.0.0.1:{}\"\n\
             secret-file = \"/none\"\n[[peer]]\nname = {other:?}\npriority = {}\n\
             address = \"127.0.0.1:{}\"\n[[service]]\naddress = \"192.0.2.10/24\"\n\
             interface = \"none0\"\nport = 80\n[hooks]\nup = [\"true\"]\ndown = [\"sh\", \"-c\", {down:?}]\n",
            ports[i],
            1 - i,
            ports[1 - i],
        );
        Node::with(Config::parse(&text).unwrap(), 1 + i as u64, session).await
    }

    async fn with(config: Config, boot: u64, session: u64) -> Node {
        let (kernel, secret) = (FakeKernel::default(), Secret::new(&[9; 32]).unwrap());
        let d = Daemon::new(config, &secret, kernel.clone(), true, (boot, session))
            .await
            .unwrap();
        let (log, log_rx) = mpsc::channel(16);
        let (ask, ask_rx) = mpsc::channel(16);
        let (stop, stop_rx) = oneshot::channel();
        let stopped = async { drop(stop_rx.await) };
        let task = tokio::task::spawn_local(d.run(log_rx, ask_rx, stopped));
        Node {
            log,
            ask,
            stop: Some(stop),
            kernel,
            task,
        }
    }

    async fn ask(&self, request: Request) -> Value {
        let (tx, rx) = oneshot::channel();
        self.ask.send((request, tx)).await.unwrap();
        rx.await.unwrap()
    }

    /// Waits until what it says of itself fits.
    async fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        let all = async {
            loop {
                let status = self.ask(Request::Status).await;
                let peers = self.ask(Request::Peers).await;
                let both = serde_json::json!({"status": status, "peers": peers["peers"][0]});
                if fits(&both) {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), all)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// Two daemons, of which the first one owns the address and serves one flow.
async fn two_with_a_flow(down: &str) -> (Node, Node) {
    let ports = free_ports();
    let a = Node::start_with("a", ports, 11, down).await;
    let b = Node::start("b", ports, 12).await;
    for n in [&a, &b] {
        n.until("a owns", |v| v["status"]["addresses"][0]["owner"] == "a")
            .await;
        n.until("it is linked", |v| v["peers"]["linked"] == true)
            .await;
    }
    let ack = 1000 + GET.len() as u64;
    let (pos, ts) = (1000, None);
    let whats = [
        What::Opened {
            desc: desc(1),
            start: 2000,
            request: 1000,
            ts,
        },
        What::Object {
            start: 2000,
            request: 1000,
        },
        What::C2s {
            pos,
            ack: 2000,
            data: GET.to_vec(),
            ts,
        },
        What::S2c {
            pos: 2000,
            ack,
            data: HEAD.to_vec(),
        },
    ];
    let entries = whats.into_iter().map(|w| entry(1, w)).collect();
    a.log.send(entries).await.unwrap();
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

fn did(n: &Node, what: impl Fn(&Call) -> bool) -> bool {
    n.kernel.calls.borrow().iter().any(what)
}

fn happened(timeline: &Value, event: &str) -> bool {
    let events = timeline["events"].as_array().unwrap();
    events.iter().any(|e| e["event"] == event)
}

#[tokio::test]
async fn a_drain_hands_the_address_and_the_flows_over() {
    let local = LocalSet::new();
    let all = async {
        let (a, b) = two_with_a_flow("true").await;
        let refused = a.ask(drain(Some("c"))).await;
        assert_eq!(refused["error"], "no peer is ready to take over");
        let silenced = Call::End(key(1), Verdict::Abandon);
        let closed = async {
            a.until("silenced", |_| did(&a, |c| *c == silenced)).await;
            let last = entry(1, What::Closed { ended: false });
            a.log.send(vec![last]).await.unwrap();
        };
        let (answer, ()) = tokio::join!(a.ask(drain(None)), closed);
        assert_eq!(answer["drain"], "drained to b", "{answer}");
        assert_eq!(a.ask(drain(None)).await["drain"], "drained to b");
        let status = a.ask(Request::Status).await;
        assert_eq!(status["counts"]["flows-handed-over"], 1);
        assert_eq!(status["counts"]["drain-log-late"], Value::Null);
        b.until("located", |_| did(&b, |c| matches!(c, Call::Locate(..))))
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
        a.until("a locates", |_| did(&a, |c| matches!(c, Call::Locate(..))))
            .await;
    };
    local.run_until(all).await;
}

#[tokio::test]
async fn a_daemon_that_is_stopped_hands_over_first() {
    let local = LocalSet::new();
    let all = async {
        let (mut a, b) = two_with_a_flow("true").await;
        drop(a.stop.take());
        timeout(Duration::from_secs(10), a.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        b.until("b owns", |v| v["status"]["addresses"][0]["owner"] == "b")
            .await;
        b.until("located", |_| did(&b, |c| matches!(c, Call::Locate(..))))
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
        let (a, b) = two_with_a_flow("sleep 0.5").await;
        b.task.abort();
        let answer = a.ask(drain(None)).await;
        assert_eq!(answer["error"], "nobody took over; this node goes on");
        a.until("a recovers the flow", |_| {
            did(&a, |c| matches!(c, Call::Locate(..)))
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

#[test]
fn only_what_a_successor_cannot_continue_is_waited_for() {
    let (mut e, kernel) = engine();
    serve(&mut e);
    let addr = key(1).service.ip();
    assert_eq!(e.stuck(addr), vec![]);
    e.hear(entry(1, What::Unprotected { reason: 1 }), 0);
    assert_eq!(e.stuck(addr), vec![key(1)]);
    kernel.take();
    assert_eq!(e.hand_over(addr, 0), (0, 1));
    assert_eq!(kernel.take(), vec![Call::End(key(1), Verdict::Reset)]);
    e.hear(entry(1, What::Closed { ended: true }), 0);
    assert!(e.handed.is_complete());
    assert_eq!(e.flows().count(), 0);
}

fn free_ports() -> [u16; 2] {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (a, b) = (bind(), bind());
    [
        a.local_addr().unwrap().port(),
        b.local_addr().unwrap().port(),
    ]
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

            a.log.send(served()).await.unwrap();
            b.until("b has the record", |v| v["status"]["records_of_peers"] == 1)
                .await;
            let committed = || {
                a.kernel
                    .calls
                    .borrow()
                    .iter()
                    .any(|c| matches!(c, Call::Commit(_)))
            };
            a.until("committed", |_| committed()).await;
            assert_eq!(a.ask(Request::Status).await["committed_alone"], 0);

            // A death, not a stop: nothing more is said.
            a.task.abort();
            b.until("b owns", owned("b")).await;
            let located = || {
                b.kernel
                    .calls
                    .borrow()
                    .iter()
                    .any(|c| matches!(c, Call::Locate(..)))
            };
            b.until("located", |_| located()).await;
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

#[test]
fn a_secret_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("holdfast-secret-{}", std::process::id()));
    let mut f = std::fs::File::create(&path).unwrap();
    f.write_all(&[b'x'; 40]).unwrap();
    f.set_permissions(std::fs::Permissions::from_mode(0o644))
        .unwrap();
    assert!(Secret::read(&path).err().unwrap().contains("644"));
    f.set_permissions(std::fs::Permissions::from_mode(0o600))
        .unwrap();
    assert!(Secret::read(&path).is_ok());
    std::fs::remove_file(&path).unwrap();
}
