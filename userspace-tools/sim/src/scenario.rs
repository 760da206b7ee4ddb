// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a case is made of. Everything follows from its seed.

use crate::app::{Client, Object, Request};
use crate::packet::Tcp;
use crate::rng::{mix, Rng};
use crate::tcp::{Config, Sock};
use holdfast_core::seq::{Pos, S2c, Seq};
use holdfast_core::wire::{Endpoint, Key};
use libholdfast::http::Asked;
use libholdfast::record::{object, Clock, Record, State};
use libholdfast::types::{FlowKey, TcpOptions};

/// Where in its life a connection loses its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CrashPhase {
    /// Before the connection is open.
    Syn,
    /// While the request travels.
    Request,
    /// The server thinks.
    Waiting,
    /// The head of the response travels.
    Head,
    /// The body of the response travels.
    Body,
    /// Between two requests.
    Between,
    /// The client has closed.
    Teardown,
    /// A crash before was not yet recovered from.
    Recovery,
}

/// When a server dies.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// The request in question.
    pub request: usize,
    /// The phase to wait for.
    pub phase: CrashPhase,
    /// In the body: the offset to wait for.
    pub body: u64,
    /// Events that still happen.
    pub after: u64,
    /// Only the process of the application dies.
    pub process: Option<Process>,
}

/// How a process dies.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its socket says a reset in place of a FIN.
    pub rst: bool,
    /// Microseconds until another one listens.
    pub down: u64,
}

/// A client in the middle of a huge response.
#[derive(Clone, Debug)]
pub struct Teleport {
    /// Offset in the body of the next byte.
    pub body: u64,
    /// Position of the response's first byte.
    pub start: u64,
    /// The head that the client was sent.
    pub head: String,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What everything follows from.
    pub seed: u64,
    /// Prints what happens.
    pub trace: bool,
    /// 4 or 6.
    pub family: u8,
    /// Servers.
    pub nodes: u32,
    /// When they die, one after the other.
    pub crashes: Vec<Crash>,
    /// Records are safe before bytes leave.
    pub strict: bool,
    /// The service declares that it always answers alike.
    pub deterministic: bool,
    /// How long bytes are held, in milliseconds.
    pub hold_ms: u32,
    /// The objects of the servers.
    pub objects: Vec<Object>,
    /// What the client asks for.
    pub requests: Vec<Request>,
    /// The client's end.
    pub client: Config,
    /// The servers' ends.
    pub servers: Vec<Config>,
    /// Longest time in microseconds that a server thinks about a request.
    pub think: u64,
    /// Most bytes of padding in a head.
    pub head_pad: u64,
    /// One-way delay of the network in microseconds, and how much it varies.
    pub delay: u64,
    /// Most microseconds that are added to the delay.
    pub jitter: u64,
    /// Losses in a thousand.
    pub loss: u64,
    /// Reorderings in a thousand.
    pub reorder: u64,
    /// Duplicates in a thousand.
    pub dup: u64,
    /// Microseconds from death to takeover.
    pub detect: u64,
    /// Microseconds between servers.
    pub peer_delay: u64,
    /// Most microseconds until a daemon reads its log.
    pub daemon_delay: u64,
    /// The client is far into a huge response already.
    pub teleport: Option<Teleport>,
    /// The client closes its direction behind its last request.
    pub half_close: bool,
}

fn config(rng: &mut Rng, mss: u16) -> Config {
    Config {
        mss,
        wscale: rng.permille(800).then(|| rng.below(10) as u8),
        sack: rng.permille(800),
        ts: rng.permille(800),
        rcvbuf: rng.pick(&[8192, 65535, 65535, 262_144, 1 << 20]),
        isn: match rng.below(3) {
            0 => u32::MAX - rng.below(3000) as u32,
            1 => (1 << 31) - rng.below(3000) as u32,
            _ => rng.bits() as u32,
        },
        ts_base: match rng.below(3) {
            0 => u32::MAX - rng.below(20_000) as u32,
            1 => (1 << 31) - rng.below(20_000) as u32,
            _ => rng.bits() as u32,
        },
        gso: 0,
        nagle: rng.permille(500),
        tlp: rng.permille(700),
    }
}

impl Scenario {
    /// The case of `seed`.
    pub fn new(seed: u64) -> Scenario {
        let rng = &mut Rng::new(mix(seed));
        let nodes = rng.pick(&[2, 2, 2, 3, 3, 4]);
        let family = rng.pick(&[4, 6]);
        let small = rng.permille(150);
        let mss = |rng: &mut Rng| {
            if small {
                536
            } else {
                rng.pick(&[1460, 1440, 1380, 1200])
            }
        };
        let mut client = config(rng, 1460);
        client.mss = mss(rng);
        let gso = if rng.permille(300) {
            rng.pick(&[4000, 16000, 60000])
        } else {
            0
        };
        // One farm: the same options, though not the same scale or clock.
        let like = config(rng, 1460);
        let servers: Vec<Config> = (0..nodes)
            .map(|_| {
                let mut c = config(rng, 1460);
                c.mss = mss(rng);
                c.wscale = like.wscale.map(|_| rng.below(10) as u8);
                (c.sack, c.ts, c.gso) = (true, true, gso);
                c.rcvbuf = c.rcvbuf.max(65535);
                c
            })
            .collect();
        let n = rng.range(1, 4) as usize;
        let plain = rng.permille(930);
        let objects: Vec<Object> = (0..n)
            .map(|_| Object {
                len: match rng.below(10) {
                    0 => rng.below(4),
                    1..=3 => rng.below(3000),
                    4..=8 => rng.below(150_000),
                    _ => rng.below(1_500_000),
                },
                etag: plain || rng.permille(700),
                chunked: !plain && rng.permille(300),
                ranges: true,
                missing: if !plain && rng.permille(200) { 2 } else { 0 },
            })
            .collect();
        let requests: Vec<Request> = (0..n)
            .map(|id| {
                let len = objects[id].len;
                let part = rng.permille(250) && len > 10;
                let a = rng.below(len.max(1));
                let last = rng.permille(500).then(|| rng.range(a, len.max(1) - 1 + 2));
                Request {
                    id,
                    range: part.then_some((a, last.map(|l| l.min(len.saturating_sub(1))))),
                    split: rng.permille(80).then(|| rng.range(1000, 300_000)),
                    pause: if rng.permille(300) {
                        0
                    } else {
                        rng.below(400_000)
                    },
                    stall: rng
                        .permille(150)
                        .then(|| (rng.below(len.max(1)), rng.range(10_000, 3_000_000))),
                    pad: if rng.permille(80) {
                        rng.below(3000) as usize
                    } else {
                        0
                    },
                }
            })
            .collect();
        let mut crashes = vec![Self::first_crash(rng, &requests, &objects)];
        while crashes.len() < nodes as usize && rng.permille(400) {
            let after = if rng.permille(500) {
                rng.below(60)
            } else {
                rng.below(600)
            };
            crashes.push(Crash {
                request: 0,
                phase: CrashPhase::Recovery,
                body: 0,
                after,
                process: None,
            });
        }
        if crashes.len() == nodes as usize && !rng.permille(100) {
            crashes.pop();
        }
        let bad = rng.permille(400);
        let delay = rng.pick(&[50, 500, 2_000, 10_000, 40_000]);
        Scenario {
            seed,
            trace: false,
            family,
            nodes,
            crashes,
            strict: rng.permille(930),
            deterministic: false,
            hold_ms: 2000,
            think: rng.pick(&[0, 0, 1000, 30_000, 300_000]),
            head_pad: rng.pick(&[0, 200, 200, 1000, 6000]),
            delay,
            jitter: rng.pick(&[0, delay / 10, delay / 3]),
            loss: if bad { rng.below(40) } else { 0 },
            reorder: if bad { rng.below(40) } else { 0 },
            dup: if bad { rng.below(20) } else { 0 },
            detect: rng.range(20_000, 800_000),
            peer_delay: rng.pick(&[50, 300, 2_000]),
            daemon_delay: rng.pick(&[50, 500, 4_000]),
            objects,
            requests,
            client,
            servers,
            teleport: None,
            half_close: false,
        }
    }

    fn first_crash(rng: &mut Rng, requests: &[Request], objects: &[Object]) -> Crash {
        use CrashPhase::*;
        let request = rng.below(requests.len() as u64) as usize;
        let phase = rng.pick(&[
            Syn, Request, Waiting, Head, Body, Body, Body, Between, Teardown,
        ]);
        let request = if phase == Syn { 0 } else { request };
        let len = objects[requests[request].id].len;
        let after = match phase {
            Body => rng.below(40),
            _ => rng.below(10),
        };
        Crash {
            request,
            phase,
            body: rng.below(len.max(1)),
            after,
            process: None,
        }
    }

    /// A case in which processes die besides machines, or in place of them.
    pub fn process(seed: u64) -> Scenario {
        let mut sc = Scenario::new(seed);
        sc.let_processes_die(&mut Rng::new(mix(seed ^ 0x9_0c35)));
        sc
    }

    /// A case of a service that always answers alike, in ways of which hardly any can be continued
    /// by a range.
    pub fn replay(seed: u64) -> Scenario {
        let mut sc = Scenario::new(seed);
        let rng = &mut Rng::new(mix(seed ^ 0x4e_91a7));
        sc.deterministic = true;
        for o in &mut sc.objects {
            (o.chunked, o.etag, o.ranges) = rng.pick(&[
                (true, true, false),
                (true, false, false),
                (false, false, true),
                (false, false, false),
                (false, true, false),
                (false, true, true),
            ]);
            o.missing = 0;
        }
        // Where the end is not known, the close of a dying process is the end.
        if sc.objects.iter().all(|o| !o.chunked) && rng.permille(500) {
            sc.let_processes_die(rng);
        }
        sc
    }

    /// A case whose client says behind its last request that it has no more to ask.
    pub fn half_closing(seed: u64) -> Scenario {
        let mut sc = Scenario::new(seed);
        sc.half_close = true;
        sc
    }

    fn let_processes_die(&mut self, rng: &mut Rng) {
        let sc = self;
        let process = |rng: &mut Rng| {
            rng.permille(700).then(|| Process {
                rst: rng.permille(400),
                down: rng.pick(&[0, 0, 1000, 50_000, 500_000]),
            })
        };
        for crash in &mut sc.crashes {
            crash.process = process(rng);
        }
        while sc.crashes.len() < 4 && rng.permille(400) {
            sc.crashes.push(Crash {
                request: 0,
                phase: CrashPhase::Recovery,
                body: 0,
                after: rng.below(400),
                process: process(rng),
            });
        }
        // Somebody must be left.
        let mut left = sc.nodes - 1;
        sc.crashes.retain(|c| {
            let dies = u32::from(c.process.is_none());
            let keep = dies <= left;
            left -= dies.min(left);
            keep
        });
    }

    /// A case whose client is beyond 4 GiB of one response.
    pub fn far(seed: u64) -> Scenario {
        let mut sc = Scenario::new(seed);
        let rng = &mut Rng::new(mix(seed ^ 77));
        let body = rng.range(1 << 32, 20 << 32);
        let len = body + rng.range(1, 400_000);
        sc.objects = vec![Object {
            len,
            etag: true,
            chunked: false,
            ranges: true,
            missing: 0,
        }];
        sc.requests = vec![Request {
            id: 0,
            range: None,
            split: None,
            pause: 0,
            stall: None,
            pad: 0,
        }];
        sc.nodes = 3;
        while sc.servers.len() < 3 {
            sc.servers.push(sc.servers[0].clone());
        }
        // The first one is gone before the case begins.
        let after = rng.below(300);
        let second = Crash {
            request: 0,
            phase: CrashPhase::Recovery,
            body: 0,
            after,
            process: None,
        };
        sc.crashes = vec![second; 1 + usize::from(rng.permille(500))];
        sc.strict = true;
        let head = format!("HTTP/1.1 200 OK\r\nETag: \"v0\"\r\nContent-Length: {len}\r\n\r\n");
        let start = position(sc.servers[0].isn) + 1;
        sc.teleport = Some(Teleport { body, start, head });
        sc
    }

    /// The name of the connection.
    pub fn key(&self) -> Key {
        let end = |last: u8, port: u16| {
            let mut e = Endpoint {
                addr: [0; 16],
                port: port.to_be_bytes(),
            };
            if self.family == 4 {
                e.addr[..4].copy_from_slice(&[10, 1, last, 7]);
            } else {
                e.addr = [0xfd, 0, 0, 1, last, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 9];
            }
            e
        };
        Key::new(
            self.family,
            end(1, 40_000 + (self.seed % 20_000) as u16),
            end(2, 80),
        )
    }

    /// The set-up of the sockets of node `id`.
    pub fn server_config(&self, id: u32) -> Config {
        self.servers[id as usize].clone()
    }

    /// Bytes of payload in a packet on the wire to the client.
    pub fn wire_mss(&self) -> usize {
        let mss = self
            .client
            .mss
            .min(self.servers.iter().map(|s| s.mss).min().unwrap_or(1460));
        usize::from(mss) - if self.client.ts { 12 } else { 0 }
    }

    fn teleport_options(&self) -> TcpOptions {
        let server = &self.servers[0];
        let scaled = self.client.wscale.is_some() && server.wscale.is_some();
        TcpOptions {
            mss: Some(self.client.mss),
            wscale_client: self.client.wscale.filter(|_| scaled),
            wscale_service: server.wscale.filter(|_| scaled),
            sack: self.client.sack,
            timestamps: self.client.ts,
        }
    }

    /// The client's end of the connection.
    pub fn client_sock(&self) -> Sock {
        let key = self.key();
        let sock = Sock::connect(
            self.client.clone(),
            self.family,
            key.client(),
            key.server(),
            0,
        );
        let Some(t) = &self.teleport else { return sock };
        let server = &self.servers[0];
        let syn_ack = Tcp {
            mss: Some(server.mss),
            wscale: server.wscale,
            sack_ok: true,
            ts: Some((server.ts_base, 0)),
            window: 65535,
            ..Tcp::default()
        };
        let sent = Client::text(&self.requests[0]).len() as u64;
        sock.resume(server.isn, t.head.len() as u64 + t.body, sent, &syn_ack, 0)
    }

    /// What the dead server left behind.
    pub fn teleport_record(&self, t: &Teleport) -> Record {
        let key = self.key();
        let mut n = crate::node::Node::new(
            0,
            key,
            crate::app::Server::new(0, 0, 0, 0),
            self.servers[0].clone(),
            holdfast_core::flow::Policy {
                protect: true,
                strict: true,
                hold_ms: 0,
                verdict_ms: 0,
                head_limit: 0,
                request_limit: 0,
                head_end: 0,
                body_whole: 0,
                body_part: 0,
                reader: true,
            },
        );
        n.trace = false;
        let flow: FlowKey = crate::policy::flow_key(&n);
        let request = Client::text(&self.requests[0]);
        let made = object(
            &request,
            Asked::Whole,
            false,
            t.start,
            t.head.as_bytes(),
            false,
        );
        let made = made.ok().flatten().expect("the head is complete");
        let here = t.start + t.head.len() as u64 + t.body;
        Record {
            key: flow,
            generation: 0,
            options: self.teleport_options(),
            clock: self.client.ts.then_some(Clock {
                tsval: self.client.ts_base,
                tsecr: self.servers[0].ts_base,
                heard: 0,
            }),
            strict: true,
            deterministic: false,
            request: position(self.client.isn) + 1,
            start: t.start,
            // The last checkpoint is up to 1 GiB old.
            acked: here - mix(self.seed) % (1 << 30).min(t.body),
            state: State::Responding(made),
        }
    }
}

/// The position of the SYN with this number, as the core counts.
fn position(isn: u32) -> u64 {
    Pos::<S2c>::starting(Seq::new(isn)).raw()
}
