// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Serves metrics over HTTP: `GET /metrics`, one answer a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, Semaphore};
use tokio::time::{sleep, timeout};

use crate::control::{Asked, Request};
use crate::metrics::CONTENT_TYPE;

/// Most bytes of a request.
const REQUEST: usize = 8192;

/// Most connections at the same time.
const CONNECTIONS: usize = 8;

/// Longest time for a request, an answer, or the reading of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the socket.
///
/// # Errors
///
/// A sentence for a person.
pub async fn bind(at: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(at).await;
    listener.map_err(|e| format!("metrics.listen: {at}: {e}"))
}

/// Answers, for ever.
pub async fn serve(listener: TcpListener, ask: mpsc::Sender<Asked>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let ask = ask.clone();
                tokio::spawn(async move {
                    let _ = timeout(PATIENCE, converse(stream, ask)).await;
                    drop(place);
                });
            }
            // Out of descriptors, for one; it may pass.
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn converse(mut stream: TcpStream, ask: mpsc::Sender<Asked>) -> io::Result<()> {
    let mut request = Vec::new();
    let (status, body) = loop {
        let mut part = [0; 1024];
        let n = stream.read(&mut part).await?;
        request.extend_from_slice(&part[..n]);
        match what(&request) {
            Some(Ok(())) => break ("200 OK", metrics(&ask).await?),
            Some(Err(status)) => break (status, format!("{status}\n")),
            None if n == 0 => return Ok(()),
            None => {}
        }
    };
    let kind = match status {
        "200 OK" => CONTENT_TYPE,
        _ => "text/plain",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Whether a request is for metrics, or the status that refuses it; `None`: it is not complete.
fn what(request: &[u8]) -> Option<Result<(), &'static str>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(request) {
        Ok(httparse::Status::Partial) if request.len() < REQUEST => None,
        Ok(httparse::Status::Complete(_)) => {
            let path = head.path.unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default();
            Some(match (head.method, path) {
                (Some("GET"), "/metrics") => Ok(()),
                (Some("GET"), _) => Err("404 Not Found"),
                _ => Err("405 Method Not Allowed"),
            })
        }
        _ => Some(Err("400 Bad Request")),
    }
}

async fn metrics(ask: &mpsc::Sender<Asked>) -> io::Result<String> {
    let (tx, rx) = oneshot::channel();
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let asked = ask.send((Request::Metrics, tx)).await;
    asked.map_err(|_| gone())?;
    match rx.await.map_err(|_| gone())?["text"].take() {
        Value::String(text) => Ok(text),
        _ => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn get(at: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn only_metrics_are_served() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (ask, mut asked) = mpsc::channel::<Asked>(1);
        tokio::spawn(serve(listener, ask));
        tokio::spawn(async move {
            while let Some((request, reply)) = asked.recv().await {
                assert_eq!(request, Request::Metrics);
                reply.send(json!({"text": "# EOF\n"})).unwrap();
            }
        });
        let got = get(at, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
        assert!(got.ends_with("\r\n\r\n# EOF\n"), "{got}");
        let refused = [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("nonsense\r\n\r\n", "400"),
        ];
        for (request, status) in refused {
            let got = get(at, request).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{got}");
        }
        let long = format!("GET /metrics HTTP/1.1\r\nA: {}", "x".repeat(REQUEST));
        assert!(get(at, &long).await.starts_with("HTTP/1.1 400 "));
    }
}
