// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A daemon of its own on the thread of a test.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::UdpSocket;

use super::*;
use crate::link::LinkEvent;
use crate::membership::Membership;
use crate::seal::Seal;
use crate::wire::{Beat, BEATS};

/// A daemon of its own on this thread.
pub struct Node {
    pub log: mpsc::Sender<Vec<Entry>>,
    pub ask: mpsc::Sender<Question>,
    pub stop: Option<oneshot::Sender<()>>,
    pub kernel: FakeKernel,
    /// What comes of its links.
    pub events: mpsc::Sender<LinkEvent>,
    pub task: tokio::task::JoinHandle<Result<(), String>>,
}

/// A configuration of node `a` or `b`; the local server is at `check`, and `down` is what gives an
/// address up.
pub fn config(name: &str, ports: [u16; 2], check: &str, down: &str) -> String {
    let (i, other) = if name == "a" { (0, "b") } else { (1, "a") };
    format!(
        "[node]\nname = {name:?}\npriority = {i}\nlisten = \"127.0.0.1:{}\"\n\
         secret-file = \"/none\"\n[readiness]\ninterval-ms = 100\n\
         [hooks]\nup = [\"true\"]\ndown = [\"sh\", \"-c\", {down:?}]\n\
         [[peer]]\nname = {other:?}\npriority = {}\naddress = \"127.0.0.1:{}\"\n\
         [[service]]\nname = \"web\"\naddress = \"192.0.2.10/24\"\ninterface = \"none0\"\n\
         port = 80\ncheck = {check:?}\n",
        ports[i],
        1 - i,
        ports[1 - i],
    )
}

impl Node {
    pub async fn start(name: &str, ports: [u16; 2], session: u64) -> Node {
        Node::start_with(name, ports, session, "true", "none").await
    }

    /// `down`: what gives an address up. `check`: where its server is.
    pub async fn start_with(
        name: &str,
        ports: [u16; 2],
        session: u64,
        down: &str,
        check: &str,
    ) -> Node {
        let text = config(name, ports, check, down);
        let boot = if name == "a" { 1 } else { 2 };
        Node::with(Config::parse(&text).unwrap(), boot, session).await
    }

    pub async fn with(config: Config, boot: u64, session: u64) -> Node {
        let (kernel, secret) = (FakeKernel::default(), Secret::new(&[9; 32]).unwrap());
        let d = Daemon::new(config, &secret, kernel.clone(), true, (boot, session))
            .await
            .unwrap();
        let events = d.events_tx.clone();
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
            events,
            task,
        }
    }

    pub async fn ask(&self, request: Request) -> Value {
        let (tx, rx) = oneshot::channel();
        self.ask.send((request, tx)).await.unwrap();
        rx.await.unwrap()
    }

    /// Its kernel logs a request and the head of its response.
    pub async fn serves(&self) {
        self.log.send(served()).await.unwrap();
    }

    /// Whether its kernel was called so.
    pub fn did(&self, what: impl Fn(&Call) -> bool) -> bool {
        self.kernel.calls.borrow().iter().any(what)
    }

    /// Waits until what it says of itself fits.
    pub async fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) {
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

/// A node b of which there is nothing but heartbeats.
pub struct Voice {
    pub seal: Seal,
    pub socket: UdpSocket,
    pub to: SocketAddr,
    group: Membership,
    began: Instant,
}

impl Voice {
    pub async fn of_b(ports: [u16; 2]) -> Voice {
        let (a, ms) = ("a".to_owned(), Duration::from_millis);
        let group = Membership::new(("b", 1), [(a, 0)], [], (ms(50), 3), (2, 22), ms(0));
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Voice {
            seal: Seal::new(&Secret::new(&[9; 32]).unwrap(), BEATS),
            socket: UdpSocket::bind(at(ports[1])).await.unwrap(),
            to: at(ports[0]),
            group,
            began: Instant::now(),
        }
    }

    /// Hears for 10 ms, and speaks if it is to be `aloud`: what it has said.
    pub async fn step(&mut self, aloud: bool) -> Vec<u8> {
        let mut packet = vec![0; 1 << 16];
        let hears = async {
            loop {
                let (n, _) = self.socket.recv_from(&mut packet).await.unwrap();
                let plain = self.seal.open(&packet[..n]);
                let beat = plain.and_then(|p| Beat::decode(&p)).unwrap();
                self.group.hear(&beat, self.began.elapsed());
            }
        };
        let _ = timeout(Duration::from_millis(10), hears).await;
        self.group.tick(self.began.elapsed());
        let said = self.seal.seal(&self.group.beat("a", true).encode());
        if aloud {
            self.socket.send_to(&said, self.to).await.unwrap();
        }
        said
    }

    /// Speaks, or does not, until node a finds its health so. What it has said last.
    pub async fn until(&mut self, aloud: bool, a: &Node, health: &str) -> Vec<u8> {
        let found = async {
            loop {
                let said = self.step(aloud).await;
                if a.ask(Request::Peers).await["peers"][0]["health"] == health {
                    return said;
                }
            }
        };
        let found = timeout(Duration::from_secs(10), found).await;
        found.unwrap_or_else(|_| panic!("never: b is {health}"))
    }
}

/// Two ports that nobody listens at.
pub fn free_ports() -> [u16; 2] {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (a, b) = (bind(), bind());
    [
        a.local_addr().unwrap().port(),
        b.local_addr().unwrap().port(),
    ]
}
