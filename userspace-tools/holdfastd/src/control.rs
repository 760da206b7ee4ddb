// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The control socket: a JSON object a line asks, a JSON object a line answers.
//!
//! `{"op": "status"}`, `{"op": "peers"}`, `{"op": "flows", "ids": [1, 2]}`, `{"op": "timeline",
//! "last": 10}` (both may be absent), `{"op": "ready"}`, `{"op": "metrics"}`, `{"op": "reload"}`,
//! `{"op": "why", "client": "192.0.2.7:40000"}`, `{"op": "drain", "deadline_ms": 5000,
//! "to": "b"}` (both may be absent; answered when it is done), `{"op": "undrain"}`.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::socket::{listen, socket, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Longest request in bytes.
const LINE: u64 = 4096;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// All in a few lines.
    Status,
    /// Who is alive, who owns what.
    Peers,
    /// Live flows and how they are protected.
    Flows {
        /// Those with these numbers; the first thousand if absent.
        #[serde(default)]
        ids: Option<Vec<u64>>,
    },
    /// What happened.
    Timeline {
        /// The newest so many events; all that are kept if absent.
        #[serde(default)]
        last: Option<usize>,
    },
    /// Whether this node could take over, and why not.
    Ready,
    /// Counters, as Prometheus reads them.
    Metrics,
    /// Read the configuration again, and do what it says.
    Reload,
    /// Whether and why not a flow is protected.
    Why {
        /// Address and port of the client.
        client: std::net::SocketAddr,
    },
    /// Hand all addresses over to another node.
    Drain {
        /// Longest wait in milliseconds for flows that no successor could continue.
        #[serde(default)]
        deadline_ms: Option<u64>,
        /// The node; the first ready one by priority if absent.
        #[serde(default)]
        to: Option<String>,
    },
    /// Take addresses again.
    Undrain,
}

/// A question and the way of its answer.
pub type Asked = (Request, oneshot::Sender<Value>);

/// Opens the socket. One that a dead daemon left is replaced.
///
/// # Errors
///
/// As of bind(2); also if another daemon answers there.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // Linux makes the file with the mode of the socket (`unix_bind_bsd()`), so that it is never
    // there with another one, whatever the umask.
    let file = fs::File::from(socket);
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    let socket = OwnedFd::from(file);
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(64)?)?;
    UnixListener::from_std(socket.into())
}

/// Answers, for ever.
pub async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let _ = converse(stream, asked).await;
            });
        }
    }
}

async fn converse(stream: UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        if (&mut read).take(LINE).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_str(&line) {
            Err(e) => json!({"error": e.to_string()}),
            Ok(request) => {
                let (tx, rx) = oneshot::channel();
                if asked.send((request, tx)).await.is_err() {
                    return Ok(());
                }
                rx.await
                    .unwrap_or_else(|_| json!({"error": "the daemon is stopping"}))
            }
        };
        write.write_all(format!("{reply}\n").as_bytes()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_may_say_how_much_they_want() {
        let read = |text| serde_json::from_str::<Request>(text);
        let ids = |ids| Request::Flows { ids };
        assert_eq!(read(r#"{"op": "flows"}"#).unwrap(), ids(None));
        let two = read(r#"{"op": "flows", "ids": [1, 2]}"#).unwrap();
        assert_eq!(two, ids(Some(vec![1, 2])));
        let last = Request::Timeline { last: Some(3) };
        assert_eq!(read(r#"{"op": "timeline", "last": 3}"#).unwrap(), last);
        assert!(read(r#"{"op": "timeline", "first": 3}"#).is_err());
    }

    #[tokio::test]
    async fn only_its_owner_can_reach_the_socket_and_a_dead_one_is_replaced() {
        let path = std::env::temp_dir().join(format!("holdfast-control-{}", std::process::id()));
        for _ in 0..2 {
            let listener = bind(&path).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
            let client = UnixStream::connect(&path).await.unwrap();
            listener.accept().await.unwrap();
            drop(client);
            assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        fs::remove_file(&path).unwrap();
    }
}
