// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The way of records between nodes, from both ends: frames, handshakes and messages that
//! somebody spoiled, with and without the secret.

use std::cell::Cell;
use std::sync::Once;
use std::time::Duration;

use holdfast_fuzz::{noise, run, spoil, Rng};
use holdfastd::link::{listen, tell, Ciphers, LinkEvent, PATTERN};
use holdfastd::store::{Fitness, Update};
use holdfastd::wire::{Hello, VERSION};
use snow::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const KEY: [u8; 32] = [7; 32];

/// Longer than a step of an honest link takes.
const STEP: Duration = Duration::from_secs(5);

/// Most bytes of a message in a frame.
const LONGEST: usize = u16::MAX as usize - 16;

thread_local! {
    /// Panics of tasks, which end with their task only. All tasks of a target are on its thread.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The other end of a link, which says what it likes.
struct Liar {
    stream: TcpStream,
    ciphers: Ciphers,
}

async fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let len = stream.read_u16().await.ok()?;
    let mut frame = vec![0; len.into()];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> Option<()> {
    stream.write_u16(frame.len() as u16).await.ok()?;
    stream.write_all(frame).await.ok()
}

impl Liar {
    /// `None`: what it said was so wrong that the link was closed.
    async fn open(mut stream: TcpStream, hello: &[u8], first: bool) -> Option<Self> {
        let builder = Builder::new(PATTERN.parse().unwrap()).psk(0, &KEY).unwrap();
        let mut hs = match first {
            true => builder.build_initiator().unwrap(),
            false => builder.build_responder().unwrap(),
        };
        let mut buf = vec![0; 1 << 16];
        for ours in [first, !first] {
            if ours {
                let n = hs.write_message(hello, &mut buf).unwrap();
                write_frame(&mut stream, &buf[..n]).await?;
            } else {
                let frame = read_frame(&mut stream).await?;
                let n = hs.read_message(&frame, &mut buf).unwrap();
                let theirs = Hello::decode(&buf[..n]).unwrap();
                assert_eq!(theirs.version, VERSION);
            }
        }
        let ciphers = Ciphers::of(&mut hs, first);
        Some(Liar { stream, ciphers })
    }

    async fn say(&mut self, rng: &mut Rng, mut plain: Vec<u8>) -> Option<()> {
        if rng.permille(500) {
            spoil(rng, &mut plain);
        }
        if rng.permille(100) {
            // Longer than any honest frame, as long as one can be.
            let more = rng.pick(&[50_000, LONGEST]) - plain.len();
            plain.extend(noise(rng, more as u64));
        }
        let mut frame = plain;
        self.ciphers.seal(&mut frame, 0).unwrap();
        if rng.permille(50) {
            spoil(rng, &mut frame);
        }
        write_frame(&mut self.stream, &frame).await?;
        if rng.permille(100) {
            self.replay(&frame).await;
            return None;
        }
        Some(())
    }

    /// The same frame once more, which is the end of the link whatever it was.
    async fn replay(&mut self, frame: &[u8]) {
        let closed = async {
            write_frame(&mut self.stream, frame).await?;
            while read_frame(&mut self.stream).await.is_some() {}
            Some(())
        };
        let closed = timeout(STEP, closed).await;
        assert!(closed.is_ok(), "a frame was taken twice");
    }
}

/// What is said first: often what is right.
fn hello(rng: &mut Rng) -> Vec<u8> {
    let version = match rng.below(10) {
        0 => rng.bits() as u16,
        _ => VERSION,
    };
    let name = rng
        .pick(&["peer", "peer", "peer", "stranger", ""])
        .to_owned();
    let mut said = Hello { version, name }.encode();
    match rng.below(8) {
        0 => spoil(rng, &mut said),
        1 => {
            let more = rng.below(1000);
            said.extend(noise(rng, more));
        }
        _ => {}
    }
    said
}

/// As `link.rs` encodes its messages: 0 updates with their number, 1 a confirmation.
fn words(rng: &mut Rng) -> Vec<u8> {
    let updates = vec![
        Update::Begin { boot: 1 },
        Update::Put(noise(rng, 60)),
        Update::About {
            waits: rng.permille(500),
            wall_ms: rng.bits(),
            daemon: "0.1".into(),
            module: String::new(),
            fitness: Fitness::Ready,
            services: Vec::new(),
        },
    ];
    match rng.below(3) {
        0 => postcard::to_allocvec(&(1u8, rng.below(9))),
        _ => postcard::to_allocvec(&(0u8, rng.below(9), updates)),
    }
    .unwrap()
}

/// Garbage, a handshake of a liar, or one of a liar with the secret and what it says then.
async fn lie(rng: &mut Rng, mut stream: TcpStream, first: bool) {
    let talk = async {
        if rng.permille(200) {
            let len = rng.below(400);
            stream.write_all(&noise(rng, len)).await.ok()?;
            return Some(());
        }
        let said = hello(rng);
        let mut liar = Liar::open(stream, &said, first).await?;
        for _ in 0..rng.below(6) {
            let plain = words(rng);
            liar.say(rng, plain).await?;
        }
        Some(())
    };
    // A close in the middle is one thing that a liar does; waiting for what never comes another.
    let _ = timeout(2 * STEP, talk).await;
}

/// A node that is told lies takes what is well formed from peers of its version and nothing else,
/// and is still there for an honest one.
#[test]
fn listener() {
    count_panics();
    let runtime = runtime();
    let (listener, mut told, _names) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (tx, rx) = mpsc::channel(1024);
        let (names, known) = watch::channel(vec!["peer".to_owned()]);
        tokio::spawn(listen("us".into(), listener, known, KEY, tx));
        (at, rx, names)
    });
    run("link listener", |rng| {
        runtime.block_on(async {
            let stream = TcpStream::connect(listener).await.unwrap();
            lie(rng, stream, true).await;
            // An honest one is heard as ever: behind it, all is over that the liar has begun.
            let stream = TcpStream::connect(listener).await.unwrap();
            let hello = Hello::new("peer").encode();
            let mut peer = Liar::open(stream, &hello, true).await.unwrap();
            let mut frame =
                postcard::to_allocvec(&(0u8, 5u64, vec![Update::Begin { boot: 1 }])).unwrap();
            peer.ciphers.seal(&mut frame, 0).unwrap();
            write_frame(&mut peer.stream, &frame).await.unwrap();
            let confirmed = timeout(STEP, read_frame(&mut peer.stream)).await;
            assert!(confirmed.unwrap().is_some());
            while let Ok(event) = told.try_recv() {
                match event {
                    LinkEvent::Told { peer, .. } | LinkEvent::Left { peer, .. } => {
                        assert_eq!(peer, "peer");
                    }
                    LinkEvent::Refused(_) => {}
                    _ => panic!("it only hears"),
                }
            }
        });
        assert_eq!(PANICS.get(), 0, "a task panicked");
    });
}

/// A node that tells its records to a liar counts on it only as far as its words are well formed,
/// and no panic ends the task that would tell the next one.
#[test]
fn teller() {
    count_panics();
    let runtime = runtime();
    run("link teller", |rng| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let (tx, mut events) = mpsc::channel(64);
            let teller = tokio::spawn(tell("us".into(), ("peer".into(), at), KEY, tx));
            let (stream, _) = listener.accept().await.unwrap();
            lie(rng, stream, false).await;
            tokio::task::yield_now().await;
            while let Ok(event) = events.try_recv() {
                match event {
                    LinkEvent::Up { peer, .. }
                    | LinkEvent::Down { peer, .. }
                    | LinkEvent::Confirmed { peer, .. } => assert_eq!(peer, "peer"),
                    LinkEvent::Told { .. } | LinkEvent::Left { .. } | LinkEvent::Refused(_) => {
                        panic!("it only tells")
                    }
                }
            }
            assert!(!teller.is_finished(), "it goes on");
            teller.abort();
        });
        assert_eq!(PANICS.get(), 0, "a task panicked");
    });
}
