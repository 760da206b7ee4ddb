// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The applications: a small HTTP/1.1 server with ranges, and a client that checks every
//! byte it gets.
//!
//! The bytes of an object follow from its number, so that none are stored. A head carries a
//! sum of itself, so that one put together from two different heads is found out.

use crate::rng::mix;
use crate::tcp::Sock;
use std::collections::VecDeque;

/// An object that servers have.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its length in bytes.
    pub len: u64,
    /// It has a strong entity tag.
    pub etag: bool,
    /// It is sent in chunks, of unknown length.
    pub chunked: bool,
    /// Its servers know ranges.
    pub ranges: bool,
    /// Bit n: node n does not have it.
    pub missing: u32,
}

/// Byte `at` of object `id`.
pub fn byte(id: usize, at: u64) -> u8 {
    (mix((at / 8) ^ ((id as u64) << 56)) >> (at % 8 * 8)) as u8
}

/// Bytes from `from` to `to` of object `id`.
pub fn bytes(id: usize, from: u64, to: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity((to - from) as usize + 16);
    let mut at = from / 8;
    while at * 8 < to {
        out.extend(mix(at ^ ((id as u64) << 56)).to_le_bytes());
        at += 1;
    }
    out.truncate((to - from / 8 * 8) as usize);
    out.drain(..(from % 8) as usize);
    out
}

fn digest(text: &str) -> u64 {
    text.bytes().fold(7, |h, b| mix(h ^ u64::from(b)))
}

#[derive(Clone, Debug)]
struct Job {
    ready: u64,
    head: String,
    id: usize,
    at: u64,
    end: u64,
    chunked: bool,
}

/// The server application of one node.
#[derive(Clone, Debug)]
pub struct Server {
    node: u32,
    seed: u64,
    think: u64,
    head_pad: u64,
    input: Vec<u8>,
    jobs: VecDeque<Job>,
    started: bool,
    /// When it closes an idle connection.
    idle: u64,
    /// Requests that it has read.
    pub requests: u32,
    /// Responses that it has begun.
    pub responses: u32,
    /// It has closed, because the client was silent for too long.
    pub bored: bool,
}

/// Microseconds after which an idle connection is closed: more than a client's timer backs off
/// to in the few losses that a case has, as with common servers (nginx: 75 s).
const IDLE: u64 = 75_000_000;

/// [`Server::idle`] of a connection that the application has closed.
const CLOSED: u64 = u64::MAX - 1;

/// What a client finds wrong with an end of stream that comes too soon.
pub const CLOSED_EARLY: &str = "the server closed early";

/// Bytes that an application leaves in its socket's send buffer.
const SNDBUF: usize = 256 * 1024;

impl Server {
    /// The application of `node`; it thinks for up to `think` microseconds and pads its heads
    /// with up to `head_pad` bytes.
    pub fn new(node: u32, seed: u64, think: u64, head_pad: u64) -> Self {
        Server {
            node,
            seed: mix(seed ^ u64::from(node)),
            think,
            head_pad,
            input: Vec::new(),
            jobs: VecDeque::new(),
            started: false,
            idle: u64::MAX,
            requests: 0,
            responses: 0,
            bored: false,
        }
    }

    /// Whether it has answered everything that it was asked.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.input.is_empty()
    }

    /// Whether it is in the middle of a response.
    pub fn is_saying(&self) -> bool {
        self.started
    }

    /// One that knows nothing of the connections of this one: another process in its place, or the
    /// same with a new connection.
    pub fn restarted(&self) -> Self {
        Server {
            input: Vec::new(),
            jobs: VecDeque::new(),
            started: false,
            idle: u64::MAX,
            ..self.clone()
        }
    }

    /// The one of `node`, with a new connection.
    pub fn of(&self, node: u32) -> Self {
        Server {
            node,
            ..self.restarted()
        }
    }

    /// When it has something to do by itself.
    pub fn deadline(&self) -> Option<u64> {
        match self.jobs.front() {
            Some(job) => Some(job.ready).filter(|_| !self.started),
            None => Some(self.idle).filter(|t| *t < CLOSED),
        }
    }

    /// Reads requests and writes responses.
    pub fn poll(&mut self, sock: &mut Sock, objects: &[Object], now: u64) {
        if self.idle == CLOSED {
            return;
        }
        if self.idle == u64::MAX || sock.ready() > 0 || !sock.all_acked() || !self.jobs.is_empty() {
            self.idle = now + IDLE;
        }
        if sock.ready() > 0 {
            self.input.extend(sock.read(usize::MAX));
        }
        while let Some(n) = self.input.windows(4).position(|w| w == b"\r\n\r\n") {
            let text: Vec<u8> = self.input.drain(..n + 4).collect();
            self.request(&String::from_utf8_lossy(&text), objects, now);
        }
        while let Some(job) = self.jobs.front_mut() {
            if now < job.ready {
                break;
            }
            if !self.started {
                self.started = true;
                self.responses += 1;
                sock.write(job.head.as_bytes());
            }
            while job.at < job.end && sock.queued() < SNDBUF {
                let to = job.end.min(job.at + 16384);
                let piece = bytes(job.id, job.at, to);
                if job.chunked {
                    sock.write(format!("{:x}\r\n", piece.len()).as_bytes());
                }
                sock.write(&piece);
                if job.chunked {
                    sock.write(b"\r\n");
                }
                job.at = to;
            }
            if job.at < job.end {
                break;
            }
            if job.chunked {
                sock.write(b"0\r\n\r\n");
            }
            self.jobs.pop_front();
            self.started = false;
        }
        if self.jobs.is_empty() && (sock.at_end() || now >= self.idle) {
            sock.close();
            self.bored = !sock.at_end();
            self.idle = CLOSED;
        }
    }

    fn request(&mut self, text: &str, objects: &[Object], now: u64) {
        self.requests += 1;
        let salt = mix(self.seed ^ mix(u64::from(self.requests)));
        let field = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name))
                .map(str::trim)
        };
        let id: Option<usize> = text
            .strip_prefix("GET /")
            .and_then(|t| t.split(' ').next()?.parse().ok());
        let object = id.and_then(|id| Some((id, objects.get(id)?)));
        let object = object.filter(|(_, o)| (o.missing >> self.node) & 1 == 0);
        let (mut id_, mut at, mut end, mut chunked) = (0, 0, 0, false);
        let mut head;
        if let Some((id, o)) = object {
            let tag = format!("\"v{id}\"");
            let fits = field("If-Range:").is_none_or(|v| v == tag && o.etag);
            let range = field("Range: bytes=")
                .filter(|_| fits)
                .and_then(|r| r.split_once('-'));
            id_ = id;
            end = o.len;
            chunked = o.chunked;
            head = match range {
                Some((a, b)) if !o.chunked && o.ranges => {
                    at = a.parse().unwrap_or(0);
                    end = b.parse::<u64>().map_or(o.len, |b| (b + 1).min(o.len));
                    format!(
                        "HTTP/1.1 206 Partial\r\nContent-Range: bytes {at}-{}/{}\r\n",
                        end - 1,
                        o.len
                    )
                }
                _ => "HTTP/1.1 200 OK\r\n".to_owned(),
            };
            if o.etag {
                head += &format!("ETag: {tag}\r\n");
            }
        } else {
            head = "HTTP/1.1 404 Not Found\r\n".to_owned();
        }
        head += &match chunked {
            true => "Transfer-Encoding: chunked\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n", end - at),
        };
        head += &format!("X-Node: {}\r\nX-Pad: ", self.node);
        let mut pad = salt;
        for _ in 0..if self.head_pad == 0 {
            0
        } else {
            salt % self.head_pad / 16
        } {
            pad = mix(pad);
            head += &format!("{pad:016x}");
        }
        head += "\r\n";
        head += &format!("X-Sum: {:016x}\r\n\r\n", digest(&head));
        let think = if self.think == 0 {
            0
        } else {
            salt % self.think
        };
        self.jobs.push_back(Job {
            ready: now + think,
            head,
            id: id_,
            at,
            end,
            chunked,
        });
    }
}

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Request {
    /// The object.
    pub id: usize,
    /// First and last byte that are wanted.
    pub range: Option<(u64, Option<u64>)>,
    /// It is written in two pieces, so many microseconds apart.
    pub split: Option<u64>,
    /// Microseconds from the end of the last response to this request.
    pub pause: u64,
    /// Body offset where the client stops reading, and for how many microseconds.
    pub stall: Option<(u64, u64)>,
    /// Bytes of padding in the request.
    pub pad: usize,
}

/// How far a client is with its current request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It pauses before it asks.
    Between,
    /// It has asked; no byte of the response has come.
    Asked,
    /// Part of the head has come.
    Head,
    /// Part of the body has come.
    Body,
    /// All is done and the connection is being closed.
    Closing,
}

/// The client application.
#[derive(Clone, Debug)]
pub struct Client {
    requests: Vec<Request>,
    /// Index of the current request.
    pub at: usize,
    /// How far it is with it.
    pub stage: Stage,
    wake: u64,
    rest: Option<Vec<u8>>,
    head: Vec<u8>,
    pos: u64,
    end: u64,
    left_in_chunk: Option<u64>,
    line: Vec<u8>,
    stalled: bool,
    half_close: bool,
    /// Bytes of bodies that were right.
    pub good: u64,
    /// Responses that were complete.
    pub complete: usize,
    /// What was wrong.
    pub wrong: Option<String>,
}

impl Client {
    /// A client with these things to ask.
    pub fn new(requests: Vec<Request>) -> Self {
        Client {
            requests,
            at: 0,
            stage: Stage::Between,
            wake: 0,
            rest: None,
            head: Vec::new(),
            pos: 0,
            end: 0,
            left_in_chunk: None,
            line: Vec::new(),
            stalled: false,
            half_close: false,
            good: 0,
            complete: 0,
            wrong: None,
        }
    }

    /// A client that is at byte `pos` of the body of its first response, which ends at `end`.
    pub fn in_body(mut self, pos: u64, end: u64) -> Self {
        (self.stage, self.pos, self.end) = (Stage::Body, pos, end);
        self
    }

    /// One that closes its direction behind its last request, if it is `so`.
    pub fn half_closing(mut self, so: bool) -> Self {
        self.half_close = so;
        self
    }

    /// The request `r` as it is sent.
    pub fn text(r: &Request) -> Vec<u8> {
        let mut t = format!("GET /{} HTTP/1.1\r\nHost: sim\r\n", r.id);
        if let Some((a, b)) = r.range {
            let b = b.map_or(String::new(), |b| b.to_string());
            t += &format!("Range: bytes={a}-{b}\r\n");
        }
        if r.pad > 0 {
            t += &format!("X-Pad: {}\r\n", "p".repeat(r.pad));
        }
        (t + "\r\n").into_bytes()
    }

    /// Whether everything asked for was delivered.
    pub fn satisfied(&self) -> bool {
        self.complete == self.requests.len()
    }

    /// Offset in the body of the current response.
    pub fn body(&self) -> u64 {
        self.pos
    }

    /// When it has something to do by itself.
    pub fn deadline(&self) -> Option<u64> {
        let waits = self.stage == Stage::Between || self.rest.is_some() || self.stalled;
        (waits && self.stage != Stage::Closing).then_some(self.wake)
    }

    /// Writes requests, reads and checks responses.
    pub fn poll(&mut self, sock: &mut Sock, objects: &[Object], now: u64) {
        if self.stage == Stage::Between && now >= self.wake {
            if let Some(r) = self.requests.get(self.at) {
                let mut text = Self::text(r);
                if let Some(gap) = r.split {
                    self.rest = Some(text.split_off(text.len() / 2));
                    self.wake = now + gap;
                }
                sock.write(&text);
                self.stage = Stage::Asked;
                self.head.clear();
                self.close_behind(sock);
            } else {
                sock.close();
                self.stage = Stage::Closing;
            }
        }
        if now >= self.wake {
            if let Some(rest) = self.rest.take() {
                sock.write(&rest);
                self.close_behind(sock);
            }
            self.stalled = false;
        }
        while sock.ready() > 0 && !self.stalled && self.wrong.is_none() {
            let data = sock.read(1 << 16);
            self.take(&data, objects, now);
        }
        if sock.at_end() && !self.has_closed() {
            self.wrong.get_or_insert_with(|| CLOSED_EARLY.into());
        }
    }

    /// A request was sent: that is all, if it was the last one.
    fn close_behind(&self, sock: &mut Sock) {
        if self.half_close && self.rest.is_none() && self.at + 1 == self.requests.len() {
            sock.close();
        }
    }

    /// Whether it has closed its direction, and waits for nothing more.
    pub fn has_closed(&self) -> bool {
        self.stage == Stage::Closing || self.half_close && self.satisfied()
    }

    /// Whether it has still to read what has come, though both directions are closed.
    pub fn reads_on(&self, sock: &Sock) -> bool {
        self.half_close && self.wrong.is_none() && (sock.ready() > 0 || self.stalled)
    }

    fn take(&mut self, mut data: &[u8], objects: &[Object], now: u64) {
        while !data.is_empty() && self.wrong.is_none() {
            match self.stage {
                Stage::Asked | Stage::Head => {
                    self.stage = Stage::Head;
                    self.head.push(data[0]);
                    data = &data[1..];
                    if self.head.ends_with(b"\r\n\r\n") {
                        if let Err(e) = self.read_head(objects) {
                            self.wrong = Some(e);
                            return;
                        }
                        self.stage = Stage::Body;
                        self.finish_if_done(now);
                    }
                }
                Stage::Body => data = self.take_body(data, now),
                Stage::Between | Stage::Closing => {
                    self.wrong = Some(format!("{} bytes that nobody asked for", data.len()));
                }
            }
        }
    }

    fn take_body<'a>(&mut self, data: &'a [u8], now: u64) -> &'a [u8] {
        let id = self.requests[self.at].id;
        let most = match self.left_in_chunk {
            Some(0) => {
                self.line.push(data[0]);
                if self.line == b"end\r\n" {
                    self.left_in_chunk = None;
                    self.line.clear();
                    self.finish_if_done(now);
                } else if self.line.ends_with(b"\n")
                    && self.line.len() > 2
                    && !self.line.starts_with(b"end")
                {
                    let text = String::from_utf8_lossy(&self.line).trim().to_owned();
                    self.left_in_chunk = u64::from_str_radix(&text, 16).ok();
                    self.line.clear();
                    if self.left_in_chunk == Some(0) {
                        self.line = b"end".to_vec();
                    } else if self.left_in_chunk.is_none() {
                        self.wrong = Some(format!("chunk size {text:?}"));
                    }
                }
                return &data[1..];
            }
            Some(n) => n,
            None => self.end - self.pos,
        };
        let n = most.min(data.len() as u64);
        let want = bytes(id, self.pos, self.pos + n);
        if let Some(i) = (0..n as usize).find(|i| want[*i] != data[*i]) {
            self.wrong = Some(format!(
                "wrong byte at {} of object {id}",
                self.pos + i as u64
            ));
            return &[];
        }
        self.pos += n;
        self.good += n;
        if let Some(left) = &mut self.left_in_chunk {
            *left -= n;
        }
        if let Some((at, pause)) = self.requests[self.at].stall.filter(|s| self.pos >= s.0) {
            let _ = at;
            self.requests[self.at].stall = None;
            self.stalled = true;
            self.wake = now + pause;
        }
        if self.left_in_chunk.is_none() {
            self.finish_if_done(now);
        }
        &data[n as usize..]
    }

    fn finish_if_done(&mut self, now: u64) {
        if self.pos < self.end || self.left_in_chunk.is_some() {
            return;
        }
        self.complete += 1;
        self.at += 1;
        self.stage = Stage::Between;
        let pause = self.requests.get(self.at).map_or(20_000, |r| r.pause);
        self.wake = if self.stalled { self.wake } else { now } + pause;
        self.stalled = false;
    }

    fn read_head(&mut self, objects: &[Object]) -> Result<(), String> {
        let text = String::from_utf8(self.head.clone()).map_err(|_| "head is not text")?;
        let at = text.find("X-Sum: ").ok_or("head without sum")?;
        let sum = format!("{:016x}", digest(&text[..at]));
        if text[at..].trim_end() != format!("X-Sum: {sum}") {
            return Err(format!("head is of two: {text}"));
        }
        let field = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name))
                .map(str::trim)
        };
        let number = |name: &str| field(name).and_then(|v| v.parse::<u64>().ok());
        let r = &self.requests[self.at];
        let o = &objects[r.id];
        let range = r.range.filter(|_| !o.chunked && o.ranges);
        (self.pos, self.end) = match range {
            Some((a, b)) => (a, b.map_or(o.len, |b| (b + 1).min(o.len))),
            None => (0, o.len),
        };
        self.left_in_chunk = None;
        self.line.clear();
        if text.starts_with("HTTP/1.1 404") {
            self.end = self.pos;
            return if o.missing != 0 {
                Ok(())
            } else {
                Err("not found".into())
            };
        }
        let status = if range.is_some() {
            "HTTP/1.1 206"
        } else {
            "HTTP/1.1 200"
        };
        if !text.starts_with(status) {
            return Err(format!("status of {text}"));
        }
        if o.chunked {
            self.left_in_chunk = Some(0);
            self.line = b"\r\n".to_vec();
            self.line.clear();
            return Ok(());
        }
        match number("Content-Length:") {
            Some(n) if n == self.end - self.pos => Ok(()),
            n => Err(format!("length {n:?}, not {}", self.end - self.pos)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_an_object_agree() {
        for (from, to) in [(0, 100), (3, 77), (1 << 33, (1 << 33) + 9), (5, 5)] {
            let want: Vec<u8> = (from..to).map(|i| byte(3, i)).collect();
            assert_eq!(bytes(3, from, to), want);
        }
    }
}
