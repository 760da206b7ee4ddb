// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Connections of clients that go on with the server of another node.
//!
//! ```text
//!   client <==> module <==> socket of ours, at the service's address <==> server of a peer,
//!                           accepted here in the client's name            at its own address
//! ```
//!
//! The module gives the connection of a ghost to our listener on the loopback address
//! (`flow-recover` with `local-port`); it has the addresses of client and service all the same.
//! From then on bytes are copied both ways, whatever they are. A side that closes in order closes
//! the other; one that breaks off resets it, as the end of a response may be the end of its
//! connection.
//!
//! All of it is done on a thread of its own: decisions and heartbeats do not wait for bytes.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libholdfast::types::FlowKey;
use socket2::SockRef;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

/// Longest time that the server of a peer may take to accept.
const CONNECT: Duration = Duration::from_secs(2);

/// Bytes that are copied at once.
const BUFFER: usize = 64 * 1024;

/// Pause after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(200);

/// Deaths of peers that a connection need not have heard of yet.
const DEATHS: usize = 64;

/// A server of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the peer.
    pub peer: String,
    /// Where it is asked.
    pub at: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    /// Connections that are expected, and where they are to go.
    wanted: Mutex<HashMap<FlowKey, Target>>,
    /// Names of peers that have died.
    deaths: broadcast::Sender<String>,
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, HashMap<FlowKey, Target>> {
        // Whoever panicked while it had the lock has left a map that is as good as before.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where connections are accepted for the servers of other nodes.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Ports of the listeners, IPv4 and IPv6; `None`: no loopback address of that kind.
    ports: [Option<u16>; 2],
    shared: Arc<Shared>,
}

impl Relay {
    /// Listens, and carries bytes until the process ends.
    ///
    /// # Errors
    ///
    /// A sentence for a person.
    pub fn start() -> Result<Relay, String> {
        let bind = |at: SocketAddr| {
            let listener = std::net::TcpListener::bind(at).ok()?;
            listener.set_nonblocking(true).ok()?;
            Some(listener)
        };
        let listeners = [
            bind((Ipv4Addr::LOCALHOST, 0).into()),
            bind((Ipv6Addr::LOCALHOST, 0).into()),
        ];
        let port = |l: &std::net::TcpListener| l.local_addr().ok().map(|at| at.port());
        let ports = [0, 1].map(|i: usize| listeners[i].as_ref().and_then(port));
        let relay = Relay::at(ports);
        let shared = relay.shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || runtime.block_on(serve(listeners, shared)))
            .map_err(|e| e.to_string())?;
        Ok(relay)
    }

    /// What knows of listeners at these ports.
    pub(crate) fn at(ports: [Option<u16>; 2]) -> Relay {
        let (deaths, _) = broadcast::channel(DEATHS);
        let shared = Shared {
            wanted: Mutex::default(),
            deaths,
        };
        Relay {
            ports,
            shared: Arc::new(shared),
        }
    }

    /// Port of the listener for connections of `key`.
    pub fn port(&self, key: &FlowKey) -> Option<u16> {
        self.ports[usize::from(key.service.is_ipv6())]
    }

    /// The next connection of `key` is to go to `target`.
    pub fn expect(&self, key: FlowKey, target: Target) {
        self.shared.wanted().insert(key, target);
    }

    /// No connection of `key` is expected any more.
    pub fn forget(&self, key: &FlowKey) {
        self.shared.wanted().remove(key);
    }

    /// A peer has died: the connections to its servers have, too, whatever its silence says.
    pub fn died(&self, peer: &str) {
        // Without a connection nobody listens.
        let _ = self.shared.deaths.send(peer.to_owned());
    }
}

async fn serve(listeners: [Option<std::net::TcpListener>; 2], shared: Arc<Shared>) {
    let [v4, v6] = listeners.map(|l| accept(l, shared.clone()));
    tokio::join!(v4, v6);
}

async fn accept(listener: Option<std::net::TcpListener>, shared: Arc<Shared>) {
    let Some(Ok(listener)) = listener.map(TcpListener::from_std) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                let target = key(&client, from).and_then(|key| shared.wanted().remove(&key));
                let gone = target
                    .clone()
                    .map(|t| death(shared.deaths.subscribe(), t.peer));
                tokio::spawn(async move {
                    let (Some(target), Some(gone)) = (target, gone) else {
                        // Nobody that we know.
                        return reset(&client);
                    };
                    carry(client, target, gone).await;
                });
            }
            // Out of descriptors, for one; it may pass.
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// The flow that a connection is of: its addresses are those of client and service.
fn key(client: &TcpStream, from: SocketAddr) -> Option<FlowKey> {
    // Without the scope of an IPv6 address, which is not the flow's.
    let plain = |at: SocketAddr| SocketAddr::new(at.ip(), at.port());
    Some(FlowKey {
        client: plain(from),
        service: plain(client.local_addr().ok()?),
    })
}

/// Waits for the death of a peer.
async fn death(mut deaths: broadcast::Receiver<String>, peer: String) {
    while let Ok(name) = deaths.recv().await {
        if name == peer {
            return;
        }
    }
    // So many have died that we did not hear of all.
}

/// Copies bytes until both sides have closed, or one breaks off, or `gone` is ready.
async fn carry(mut client: TcpStream, target: Target, gone: impl Future<Output = ()>) {
    let connected = timeout(CONNECT, TcpStream::connect(target.at)).await;
    let Ok(Ok(mut server)) = connected else {
        return reset(&client);
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let copied = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER) => copied,
        () = gone => Err(io::ErrorKind::HostUnreachable.into()),
    };
    if copied.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Lets the end of a connection be a reset.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    /// A client whose connection goes to a server of ours, and that server's end of it.
    async fn pair(relay: &Relay) -> (TcpStream, TcpStream) {
        let server = TcpListener::bind(LOCAL).await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(LOCAL.into()).unwrap();
        let service = (Ipv4Addr::LOCALHOST, relay.ports[0].unwrap()).into();
        let client = socket.local_addr().unwrap();
        let peer = "c".to_owned();
        let at = server.local_addr().unwrap();
        relay.expect(FlowKey { client, service }, Target { peer, at });
        let client = socket.connect(service).await.unwrap();
        let (server, _) = server.accept().await.unwrap();
        (client, server)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_an_end_is_an_end() {
        let relay = Relay::start().unwrap();
        let (mut client, mut server) = pair(&relay).await;
        client.write_all(b"question").await.unwrap();
        let mut got = [0; 8];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"question");
        let long = vec![7; 1 << 20];
        let (sent, read) = tokio::join!(
            async {
                server.write_all(&long).await.unwrap();
                server.shutdown().await
            },
            async {
                let mut all = Vec::new();
                client.read_to_end(&mut all).await.unwrap();
                all
            }
        );
        sent.unwrap();
        assert_eq!(read, long);
        client.write_all(b"more").await.unwrap();
        drop(client);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"more");
    }

    #[tokio::test]
    async fn what_breaks_off_is_no_end() {
        let relay = Relay::start().unwrap();
        let (mut client, mut server) = pair(&relay).await;
        server.write_all(b"half").await.unwrap();
        let mut got = [0; 4];
        client.read_exact(&mut got).await.unwrap();
        reset(&server);
        drop(server);
        let broken = client.read(&mut got).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);

        let (mut client, _server) = pair(&relay).await;
        relay.died("b");
        relay.died("c");
        let broken = client.read(&mut got).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn nobody_else_is_served_and_a_server_that_refuses_is_a_reset() {
        let relay = Relay::start().unwrap();
        let service = (Ipv4Addr::LOCALHOST, relay.ports[0].unwrap());
        // The reset may be there before the connection is looked at.
        if let Ok(mut stranger) = TcpStream::connect(service).await {
            assert!(stranger.read(&mut [0]).await.is_err());
        }

        let closed = TcpListener::bind(LOCAL).await.unwrap().local_addr();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(LOCAL.into()).unwrap();
        let (client, service) = (socket.local_addr().unwrap(), service.into());
        let (peer, at) = ("c".into(), closed.unwrap());
        relay.expect(FlowKey { client, service }, Target { peer, at });
        if let Ok(mut client) = socket.connect(service).await {
            assert!(client.read(&mut [0]).await.is_err());
        }
    }
}
