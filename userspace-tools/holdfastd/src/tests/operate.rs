// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a person meets who runs a daemon: observed services, readiness, reloads, metrics.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::node::{self, free_ports, Node, Voice};
use super::*;
use crate::link::LinkEvent;
use crate::ready::Ready;

fn observing() -> (Engine<FakeKernel>, FakeKernel) {
    let kernel = FakeKernel::default();
    let text = EXAMPLE.replace("port = 80", "port = 80\nmode = \"observe\"");
    let config = Config::parse(&text).unwrap();
    let mut e = Engine::new(kernel.clone(), &config, Timeline::new("a", true));
    e.start().unwrap();
    kernel.take();
    (e, kernel)
}

#[test]
fn an_observed_service_is_recorded_and_counted() {
    let (mut e, kernel) = observing();
    serve(&mut e);
    assert!(matches!(e.take_updates().last(), Some((_, Update::Put(_)))));
    assert_eq!(e.counts.get("responses-range"), Some(&1));
    let of = e.tally.get(key(1).service).unwrap();
    assert_eq!(of.counts.get("flows-opened"), Some(&1));
    kernel.take();
    e.abandon(key(1).service.ip());
    assert_eq!(kernel.take(), vec![], "its sockets are left alone");
    assert_eq!(e.counts.get("would-abandon"), Some(&1));
}

#[test]
fn nothing_of_an_observed_service_is_taken_over() {
    let (mut e, kernel) = observing();
    for r in [record(1), downloading(2)] {
        e.store.apply("b", Update::Put(r.encode(0)), 0);
    }
    let unprotected = Record {
        state: State::Unprotected(libholdfast::http::Doubt::ALL[0]),
        ..record(3)
    };
    e.store.apply("b", Update::Put(unprotected.encode(0)), 0);
    assert_eq!(e.take_over(key(1).service.ip(), 0), 3);
    assert_eq!(kernel.take(), vec![]);
    assert_eq!(e.rescues.len(), (0, 0));
    assert_eq!(e.counts.get("would-recover"), Some(&2));
    assert_eq!(e.counts.get("would-refuse"), Some(&1));
    let drops = |u: &(u64, Update)| matches!(u.1, Update::Drop { .. });
    assert_eq!(e.take_updates().iter().filter(|u| drops(u)).count(), 3);
}

#[test]
fn refusals_and_failover_times_are_counted_by_service() {
    let (mut e, _) = engine();
    e.store.apply("b", Update::Put(downloading(1).encode(0)), 0);
    e.store.apply("b", Update::Put(downloading(2).encode(0)), 0);
    e.take_over(key(1).service.ip(), 0);
    for (flow, i) in [(1001, 1), (1002, 2)] {
        let located = What::Located {
            desc: desc(i),
            word: word(2300, 1000),
            ts: None,
        };
        e.hear(entry(flow, located), 0);
    }
    let wrong = b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n".to_vec();
    let answer = What::Answer {
        pos: 0,
        data: wrong,
        fin: false,
    };
    e.hear(entry(1003, What::Asked), 0);
    e.hear(entry(1003, answer), 0);
    e.tick(60_000 * 1_000_000);
    let of = e.tally.get(key(1).service).unwrap();
    assert_eq!(of.counts.get("refused-missing"), Some(&1));
    assert_eq!(of.counts.get("refused-timeout"), Some(&1));
    assert_eq!(of.failover.count, 0);
}

#[test]
fn an_observed_or_eager_flow_promises_nothing() {
    let (mut e, _) = observing();
    serve(&mut e);
    assert!(e.flows().all(|(_, t)| !t.record().strict));
    let (mut e, _) = engine();
    serve(&mut e);
    assert!(e.flows().all(|(_, t)| t.record().strict));
}

#[test]
fn a_drain_leaves_the_sockets_of_an_observed_service_alone() {
    let (mut e, kernel) = observing();
    serve(&mut e);
    let addr = key(1).service.ip();
    kernel.take();
    assert_eq!(e.hand_over(addr, 0), (0, 0));
    assert!(e.handed.is_complete());
    e.abandon(addr);
    assert_eq!(kernel.take(), vec![]);
    assert_eq!(e.counts.get("would-abandon"), Some(&1));
}

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A configuration of node `a` or `b`; the local server is at `check`.
fn config(name: &str, ports: [u16; 2], check: &str) -> String {
    node::config(name, ports, check, "true")
}

async fn start(file: &Path, text: &str, boot: u64) -> Node {
    std::fs::write(file, text).unwrap();
    Node::with(Config::read(file).unwrap(), boot, boot + 100).await
}

/// Waits until a node's readiness fits.
async fn until_ready(node: &Node, what: &str, fits: impl Fn(&Value) -> bool) {
    let fit = async {
        while !fits(&node.ask(Request::Ready).await) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let told = timeout(Duration::from_secs(20), fit).await;
    if told.is_err() {
        let last = node.ask(Request::Ready).await;
        panic!("never: {what}: {last}");
    }
}

fn why(readiness: &Value) -> Vec<&str> {
    let all = readiness["why"].as_array().unwrap();
    all.iter().filter_map(|r| r["reason"].as_str()).collect()
}

/// A web server with one object of 1000 bytes.
async fn web(etag: &'static str) -> std::net::SocketAddr {
    web_of(etag, 1000).await
}

/// A web server with one object.
async fn web_of(etag: &'static str, length: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 1000];
                if stream.read(&mut request).await.unwrap_or(0) > 0 {
                    let head = format!(
                        "HTTP/1.1 206 P\r\nContent-Length: {length}\r\nETag: \"{etag}\"\r\n\
                         Content-Range: bytes 0-{}/{length}\r\n\r\n",
                        length - 1
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(&vec![0; length]).await;
                }
            });
        }
    });
    at
}

#[tokio::test]
async fn a_node_is_ready_once_it_has_all_records_and_the_same_objects() {
    let here = LocalSet::new();
    here.run_until(async {
        let folder = Folder::new("ready");
        let (ports, server) = (free_ports(), web("e").await.to_string());
        let (file_a, file_b) = (folder.file("a"), folder.file("b"));
        let a = start(&file_a, &config("a", ports, "none"), 1).await;
        assert!(why(&a.ask(Request::Ready).await).contains(&"starting"));
        let b = start(&file_b, &config("b", ports, &server), 2).await;
        until_ready(&b, "b is ready", |r| r["ready"] == true).await;
        until_ready(&a, "a is ready", |r| r["ready"] == true).await;

        a.serves().await;
        let same = |r: &Value| r["objects_same"] == 1 && r["ready"] == true;
        until_ready(&b, "b has the object", same).await;

        // Its server has another version now.
        let other = web("f").await.to_string();
        std::fs::write(&file_b, config("b", ports, &other)).unwrap();
        let told = b.ask(Request::Reload).await;
        assert_eq!(told, json!({"changes": ["service web changed"]}));
        until_ready(&b, "b names the object", |r| why(r) == ["object"]).await;
        let r = b.ask(Request::Ready).await;
        let text = r["why"][0]["text"].as_str().unwrap();
        let (path, there, here) = ("GET /f of h at 192.0.2.10:80", "\"e\"", "1000 bytes \"f\"");
        assert!(
            text.contains(path) && text.contains(there) && text.contains(here),
            "{text}"
        );

        // It has the same one, cut off.
        let shorter = web_of("e", 900).await.to_string();
        std::fs::write(&file_b, config("b", ports, &shorter)).unwrap();
        b.ask(Request::Reload).await;
        let (there, here) = ("there 1000 bytes \"e\"", "here status 206, 900 bytes \"e\"");
        until_ready(&b, "b names the length", |r| {
            let text = r["why"][0]["text"].as_str().unwrap_or_default();
            why(r) == ["object"] && text.contains(there) && text.contains(here)
        })
        .await;

        // No server at all.
        let nobody = free_ports()[0];
        let gone = config("b", ports, &format!("127.0.0.1:{nobody}"));
        std::fs::write(&file_b, gone).unwrap();
        b.ask(Request::Reload).await;
        until_ready(&b, "b names the server", |r| why(r).contains(&"listener")).await;

        // A node that returns is ready after a resync.
        drop(a.stop);
        a.task.await.unwrap().unwrap();
        std::fs::write(&file_b, config("b", ports, &server)).unwrap();
        b.ask(Request::Reload).await;
        let a = start(&file_a, &config("a", ports, "none"), 3).await;
        assert_eq!(a.ask(Request::Ready).await["ready"], false);
        until_ready(&a, "a is ready again", |r| r["ready"] == true).await;
        until_ready(&b, "b is ready again", |r| r["ready"] == true).await;
    })
    .await;
}

#[tokio::test]
async fn a_reload_is_done_as_a_whole_or_not_at_all() {
    let here = LocalSet::new();
    here.run_until(async {
        let folder = Folder::new("reload");
        let ports = free_ports();
        let (file, text) = (folder.file("a"), config("a", ports, "none"));
        let a = start(&file, &text, 1).await;
        a.kernel.take();
        let reload = |new: String| {
            std::fs::write(&file, new).unwrap();
            a.ask(Request::Reload)
        };
        assert_eq!(reload(text.clone()).await, json!({"changes": []}));

        // A bad file changes nothing.
        let bad = text.replace("port = 80", "prot = 80");
        let error = reload(bad).await["error"].as_str().unwrap().to_owned();
        let name = file.display().to_string();
        assert!(
            error.contains(&name) && error.contains("line 19"),
            "{error}"
        );
        assert!(error.contains("prot"), "{error}");
        let fixed = text.replace("priority = 0", "priority = 9") + "mode = \"observe\"\n";
        let error = reload(fixed).await["error"].as_str().unwrap().to_owned();
        assert!(error.contains("line 3: node.priority"), "{error}");
        assert_eq!(a.kernel.take(), vec![]);

        // A service that flows need cannot go, and what went with it comes back.
        let second = "[[service]]\naddress = \"192.0.2.11/24\"\ninterface = \"none0\"\nport = 81\n\
                      check = \"none\"\n";
        let two = format!("{text}{second}");
        let told = reload(two.clone()).await;
        assert_eq!(told, json!({"changes": ["service 192.0.2.11:81 added"]}));
        assert_eq!(a.kernel.take(), vec![Call::Service(81)]);
        let owned = |v: &Value| {
            let all = v["status"]["addresses"].as_array().unwrap();
            all.len() == 2 && all.iter().all(|a| a["owner"] == "a")
        };
        a.until("a owns both", owned).await;
        a.kernel
            .needed
            .borrow_mut()
            .push("192.0.2.11:81".parse().unwrap());
        let error = reload(text.clone()).await["error"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            error.contains("192.0.2.11:81: flows of this service would break"),
            "{error}"
        );
        a.until("both are still there", owned).await;
        a.kernel.needed.take();
        a.kernel.take();

        // A peer that goes and one that comes; a policy.
        let third = two
            .replace("\"b\"", "\"c\"")
            .replace("port = 80", "port = 80\nhold-ms = 7")
            .replace(second, "");
        let told = reload(third).await;
        let words = [
            "peer b removed",
            "peer c added",
            "service 192.0.2.11:81 removed",
            "service web changed",
        ];
        assert_eq!(told, json!({"changes": words}));
        assert_eq!(a.kernel.take(), vec![Call::Forget(81), Call::Service(80)]);
        let peers = a.ask(Request::Peers).await;
        assert_eq!(peers["peers"][0]["name"], "c");
        assert_eq!(peers["addresses"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_weaker_policy_waits_until_no_record_promises_more() {
    let here = LocalSet::new();
    here.run_until(async {
        let folder = Folder::new("weaker");
        let ports = free_ports();
        let (file, text) = (folder.file("a"), config("a", ports, "none"));
        let a = start(&file, &text, 1).await;
        let b = start(&folder.file("b"), &config("b", ports, "none"), 2).await;
        a.until("a is linked", |v| v["peers"]["linked"] == true)
            .await;
        until_ready(&b, "b is ready", |r| r["ready"] == true).await;
        a.serves().await;
        b.until("b has the record", |v| v["status"]["records_of_peers"] == 1)
            .await;
        a.until("committed", |_| a.did(|c| matches!(c, Call::Commit(_))))
            .await;
        a.kernel.take();
        std::fs::write(&file, format!("{text}mode = \"observe\"\n")).unwrap();
        let told = a.ask(Request::Reload).await;
        assert_eq!(told, json!({"changes": ["service web changed"]}));
        let changed = || *a.kernel.calls.borrow() == [Call::Service(80)];
        a.until("the module knows it", |_| changed()).await;
        assert_eq!(a.ask(Request::Status).await["committed_alone"], 0);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_added_later_is_heard_and_told() {
    let here = LocalSet::new();
    here.run_until(async {
        let folder = Folder::new("peers");
        let ports = free_ports();
        let (file, text) = (folder.file("a"), config("a", ports, "none"));
        let stranger = text.replace("\"b\"", "\"x\"");
        let a = start(&file, &stranger, 1).await;
        let b = start(&folder.file("b"), &config("b", ports, "none"), 2).await;
        std::fs::write(&file, &text).unwrap();
        let told = a.ask(Request::Reload).await;
        assert_eq!(told, json!({"changes": ["peer x removed", "peer b added"]}));
        let linked = |v: &Value| v["peers"]["linked"] == true && v["peers"]["health"] == "alive";
        a.until("a is linked to b", linked).await;
        b.until("b is linked to a", linked).await;
        until_ready(&a, "a is ready", |r| r["ready"] == true).await;

        // What it tells from here on stays a record: the address was taken before.
        let taken = async {
            let events = || a.ask(Request::Timeline { last: None });
            while !events().await.to_string().contains("\"takeover\"") {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), taken).await.unwrap();

        // It goes and comes again, and its records with it.
        b.serves().await;
        a.until("a has the record", |v| v["status"]["records_of_peers"] == 1)
            .await;
        std::fs::write(&file, &stranger).unwrap();
        a.ask(Request::Reload).await;
        let none = |v: &Value| v["status"]["records_of_peers"] == 0;
        a.until("a has forgotten b", none).await;
        std::fs::write(&file, &text).unwrap();
        a.ask(Request::Reload).await;
        until_ready(&a, "a is ready again", |r| r["ready"] == true).await;
        a.until("a has the record again", |v| {
            v["status"]["records_of_peers"] == 1
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn heartbeats_may_come_in_another_rhythm() {
    let here = LocalSet::new();
    here.run_until(async {
        let folder = Folder::new("rhythm");
        let ports = free_ports();
        let (file, text) = (folder.file("a"), config("a", ports, "none"));
        let a = start(&file, &text, 1).await;
        let b = start(&folder.file("b"), &config("b", ports, "none"), 2).await;
        let alive = |v: &Value| v["peers"]["health"] == "alive";
        a.until("a hears b", alive).await;
        b.until("b hears a", alive).await;
        std::fs::write(&file, format!("[heartbeat]\ninterval-ms = 1000\n{text}")).unwrap();
        let told = a.ask(Request::Reload).await;
        assert_eq!(told, json!({"changes": ["heartbeat changed"]}));
        // Which b, with the old rhythm, takes for death.
        b.until("b misses a", |v| v["peers"]["health"] == "dead")
            .await;
        let counts = b.ask(Request::Status).await["counts"].clone();
        assert!(counts["deaths"].as_u64() >= Some(1), "{counts}");
    })
    .await;
}

#[tokio::test]
async fn metrics_say_what_the_daemon_and_the_module_count() {
    let here = LocalSet::new();
    here.run_until(async {
        let folder = Folder::new("metrics");
        let ports = free_ports();
        let a = start(&folder.file("a"), &config("a", ports, "none"), 1).await;
        let b = start(&folder.file("b"), &config("b", ports, "none"), 2).await;
        let of = |v: Value| v["text"].as_str().unwrap().to_owned();
        let first = of(a.ask(Request::Metrics).await);
        for line in [
            "holdfast_recoveries_total{service=\"web\",outcome=\"recovered\"} 0",
            "holdfast_recovery_refusals_total{service=\"web\",reason=\"missing\"} 0",
            "holdfast_failover_seconds_bucket{le=\"0.1\",service=\"web\"} 0",
            "holdfast_daemon_events_total{event=\"deaths\"} 0",
        ] {
            assert!(
                first.lines().any(|l| l == line),
                "{line} is not in\n{first}"
            );
        }
        until_ready(&a, "a is ready", |r| r["ready"] == true).await;
        a.until("a is linked", |v| v["peers"]["linked"] == true)
            .await;
        a.serves().await;
        b.until("b has it", |v| v["status"]["records_of_peers"] == 1)
            .await;
        let text = of(a.ask(Request::Metrics).await);
        for row in text.lines().filter(|l| l.contains("_total")) {
            let (row, _) = row.rsplit_once(' ').unwrap();
            assert!(first.contains(row), "{row} did not begin at 0");
        }
        for line in [
            "holdfast_ready 1.0",
            "holdfast_peer_up{peer=\"b\"} 1.0",
            "holdfast_flows{service=\"web\",state=\"responding\"} 1.0",
            "holdfast_flow_events_total{service=\"web\",event=\"opened\"} 1",
            "holdfast_responses_total{service=\"web\",way=\"range\"} 1",
            "holdfast_daemon_events_total{event=\"flows-opened\"} 1",
            "holdfast_kernel_events_total{event=\"held\"} 7",
            "holdfast_log_size_bytes 4096.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let text = of(b.ask(Request::Metrics).await);
        assert!(
            text.contains("holdfast_peer_records{peer=\"a\"} 1.0"),
            "{text}"
        );
    })
    .await;
}

#[tokio::test]
async fn an_idle_node_names_the_peer_whose_clock_is_another_one() {
    let here = LocalSet::new();
    here.run_until(async {
        let ports = free_ports();
        let text = config("a", ports, "none");
        let parsed = Config::parse(&text).unwrap();
        let a = Node::with(parsed.clone(), 1, 11).await;
        let mut b = Voice::of_b(ports).await;
        b.until(true, &a, "alive").await;
        for (skew, says) in [
            (60_000i64, Some("ahead of")),
            (-60_000, Some("behind")),
            (0, None),
        ] {
            let mut about = Ready::default().about(&parsed, true);
            if let Update::About { wall_ms, .. } = &mut about {
                *wall_ms = wall_ms.saturating_add_signed(skew);
            }
            let told = LinkEvent::Told {
                peer: "b".into(),
                conn: 1,
                updates: vec![Update::Begin { boot: 1 }, about],
            };
            a.events.send(told).await.unwrap();
            let named = async {
                loop {
                    b.step(true).await;
                    let r = a.ask(Request::Ready).await;
                    let ms = r["clocks_ahead_ms"]["b"].as_i64();
                    let told = ms.is_some_and(|ms| ms.abs_diff(skew) < 5000);
                    let clock = says.map(|way| format!(" ms {way} ours"));
                    let text = r["why"][0]["text"].as_str().unwrap_or_default();
                    let right = match &clock {
                        Some(way) => {
                            let begins = text.starts_with("the clock of b is ");
                            why(&r) == ["clock"] && begins && text.ends_with(way)
                        }
                        None => r["ready"] == true,
                    };
                    if told && right {
                        return;
                    }
                }
            };
            let named = timeout(Duration::from_secs(10), named).await;
            assert!(named.is_ok(), "{skew}: {}", a.ask(Request::Ready).await);
        }
    })
    .await;
}
