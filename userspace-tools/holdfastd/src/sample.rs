// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Objects that peers served lately, and whether this node's own server has the same ones.
//!
//! A peer's record of a response has all that is needed: the local server is asked exactly what
//! a takeover would ask it, for the body from its first byte on, and the answer is judged by the
//! same rules. Only its first bytes are read.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use libholdfast::http::{parse_response, Framing, Parsed, Validator};
use libholdfast::record::{Record, State, Way};
use libholdfast::recovery::{judge, plan, Judgement, Plan, Word};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Objects that are remembered.
const KEPT: usize = 64;

/// Longest time that a local server may take to accept or to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of an answer that are read.
const ANSWER: usize = 64 * 1024;

/// What the local server's answer was: right, or why not.
pub type Verdict = Result<(), String>;

/// An object and what is known of it.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// Service, request line and host: what tells it from others.
    id: (SocketAddr, String),
    record: Record,
    /// What the local server said when it was asked last.
    pub found: Option<Verdict>,
}

impl Sampled {
    /// The service that it is of.
    pub fn service(&self) -> SocketAddr {
        self.id.0
    }

    /// What tells it from others.
    pub fn id(&self) -> &(SocketAddr, String) {
        &self.id
    }

    /// Its record.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// A bounded choice of the objects that peers served.
#[derive(Debug, Default)]
pub struct Sample {
    objects: VecDeque<Sampled>,
    turn: usize,
}

impl Sample {
    /// A peer has told a record.
    pub fn note(&mut self, record: &Record) {
        let State::Responding(object) = &record.state else {
            return;
        };
        let Way::Range { .. } = object.way else {
            return;
        };
        let Some(name) = name(&object.request) else {
            return;
        };
        let id = (record.key.service, name);
        if let Some(old) = self.objects.iter_mut().find(|o| o.id == id) {
            if identity(&old.record) != identity(record) {
                old.record = record.clone();
                old.found = None;
            }
            return;
        }
        if self.objects.len() == KEPT {
            self.objects.pop_front();
        }
        let (record, found) = (record.clone(), None);
        self.objects.push_back(Sampled { id, record, found });
    }

    /// The object whose turn it is to be asked for, of a service that `wanted` says yes to.
    pub fn next(&mut self, wanted: impl Fn(SocketAddr) -> bool) -> Option<&Sampled> {
        for _ in 0..self.objects.len() {
            self.turn = (self.turn + 1) % self.objects.len();
            if wanted(self.objects[self.turn].service()) {
                return self.objects.get(self.turn);
            }
        }
        None
    }

    /// What the local server said of an object.
    pub fn judged(&mut self, id: &(SocketAddr, String), verdict: Verdict) {
        if let Some(object) = self.objects.iter_mut().find(|o| o.id == *id) {
            object.found = Some(verdict);
        }
    }

    /// All of them, oldest first.
    pub fn objects(&self) -> impl Iterator<Item = &Sampled> {
        self.objects.iter()
    }

    /// Forgets those of a service.
    pub fn forget(&mut self, service: SocketAddr) {
        self.objects.retain(|o| o.service() != service);
    }
}

/// Method, target and host of a request.
fn name(request: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    let mut lines = text.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    Some(format!(
        "{method} {target} of {}",
        host.unwrap_or("no host")
    ))
}

/// A name for people: without the query, which may hold secrets.
pub fn shown((service, name): &(SocketAddr, String)) -> String {
    let (target, host) = name.rsplit_once(" of ").unwrap_or((name, ""));
    let target = target.split('?').next().unwrap_or_default();
    format!("{target} of {host} at {service}")
}

/// Length in bytes and validator of the representation.
fn identity(record: &Record) -> Option<(u64, &Validator)> {
    match &record.state {
        State::Responding(o) => match &o.way {
            Way::Range {
                total, validator, ..
            } => Some((*total, validator)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether anything listens at `at`.
pub async fn listens(at: SocketAddr) -> Verdict {
    match timeout(PATIENCE, TcpStream::connect(at)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("no server at {at}: {e}")),
        Err(_) => Err(format!("no server at {at}: it does not accept")),
    }
}

/// Asks the server at `at` for the object of `record`, as a takeover would. `None`: a takeover
/// would not ask, or the server did not answer, which says nothing of the object.
pub async fn ask(at: SocketAddr, record: Record) -> Option<Verdict> {
    let mut record = record;
    record.acked = record.start;
    let State::Responding(object) = &record.state else {
        return None;
    };
    let word = Word {
        ack: (record.start + u64::from(object.head)) as u32,
        seq: record.request_end() as u32,
        payload: false,
        sacked: false,
    };
    let Plan::Ask(ask) = plan(&record, word) else {
        return None;
    };
    let asked = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        stream.write_all(&ask.request).await.ok()?;
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 4096];
            let n = stream.read(&mut part).await.ok()?;
            answer.extend_from_slice(&part[..n]);
            match judge(&record, &ask, &answer, n == 0) {
                Judgement::NeedMore if answer.len() < ANSWER => {}
                Judgement::NeedMore => return None,
                Judgement::Join(_) => return Some(Ok(())),
                Judgement::Refuse(why) => {
                    let (there, here) = (told(&record), said(&answer));
                    return Some(Err(format!("there {there}, here {here}: {why}")));
                }
            }
        }
    };
    timeout(PATIENCE, asked).await.ok()?
}

fn told(record: &Record) -> String {
    match identity(record) {
        Some((total, validator)) => format!("{total} bytes {}", validator.as_str()),
        None => "nothing".into(),
    }
}

/// Length and validator in the head of an answer.
fn said(answer: &[u8]) -> String {
    let Ok(Parsed::Head(head)) = parse_response(answer, false) else {
        return "no answer that is understood".into();
    };
    let length = match (&head.range, &head.framing) {
        (Some(range), _) => range.total.to_string(),
        (None, Framing::Length(n)) => n.to_string(),
        (None, _) => "unknown".into(),
    };
    let validator = head.validator.as_ref().map(Validator::as_str);
    let validator = validator.or(head.etag.as_deref()).unwrap_or("no validator");
    format!("status {}, {length} bytes {validator}", head.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libholdfast::http::Asked;
    use libholdfast::record::object;
    use tokio::net::TcpListener;

    const GET: &[u8] = b"GET /big?token=x HTTP/1.1\r\nHost: h\r\n\r\n";

    fn record(n: u16, length: u32, etag: &str) -> Record {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: \"{etag}\"\r\n\r\n");
        let made = object(GET, Asked::Whole, false, 2000, head.as_bytes(), false);
        Record {
            state: State::Responding(made.unwrap().unwrap()),
            ..crate::testing::record(n)
        }
    }

    /// A server that gives one answer.
    async fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1000];
            let n = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..n]).to_lowercase();
            assert!(text.contains("range: bytes=0-"), "{text}");
            assert!(text.contains("if-range: \"e\""), "{text}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Until it has read enough.
            let _ = stream.read(&mut request).await;
        });
        at
    }

    #[tokio::test]
    async fn the_same_object_is_right() {
        let at = server(
            "HTTP/1.1 206 P\r\nContent-Length: 100000\r\nETag: \"e\"\r\n\
             Content-Range: bytes 0-99999/100000\r\n\r\nfirst bytes",
        );
        let verdict = ask(at.await, record(1, 100_000, "e")).await;
        assert_eq!(verdict, Some(Ok(())));
    }

    #[tokio::test]
    async fn another_object_is_named_with_both_lengths_and_validators() {
        let at = server(
            "HTTP/1.1 206 P\r\nContent-Length: 90000\r\nETag: \"f\"\r\n\
             Content-Range: bytes 0-89999/90000\r\n\r\n",
        );
        let verdict = ask(at.await, record(1, 100_000, "e")).await;
        let why = verdict.unwrap().unwrap_err();
        assert!(
            why.contains("there 100000 bytes \"e\", here status 206, 90000 bytes \"f\""),
            "{why}"
        );
        let at = server("HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n").await;
        let why = ask(at, record(1, 100_000, "e")).await.unwrap().unwrap_err();
        assert!(why.contains("404"), "{why}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_says_nothing_of_objects() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(listens(at).await, Ok(()));
        drop(listener);
        assert!(listens(at).await.unwrap_err().contains("no server at"));
        assert_eq!(ask(at, record(1, 100_000, "e")).await, None);
    }

    #[test]
    fn the_sample_is_bounded_and_a_new_version_is_asked_for_again() {
        let mut s = Sample::default();
        s.note(&record(1, 100_000, "e"));
        let id = s.next(|_| true).unwrap().id().clone();
        assert_eq!(shown(&id), "GET /big of h at 192.0.2.10:80");
        s.judged(&id, Err("x".into()));
        s.note(&record(2, 100_000, "e"));
        assert_eq!(
            (s.objects().count(), s.objects[0].found.is_some()),
            (1, true)
        );
        s.note(&record(2, 100_001, "e"));
        assert_eq!(
            (s.objects().count(), s.objects[0].found.is_some()),
            (1, false)
        );
        assert!(s.next(|_| false).is_none());
        for port in 0..100 {
            let mut r = record(1, 100_000, "e");
            r.key.service.set_port(1000 + port);
            s.note(&r);
        }
        assert_eq!(s.objects().count(), KEPT);
        s.note(&crate::testing::record(3));
        assert_eq!(s.objects().count(), KEPT, "an idle flow has no object");
    }
}
