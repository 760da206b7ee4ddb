// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The way of records between two nodes: TCP, a handshake by Noise NNpsk0 with a key from the secret
//! of the group, frames of a 16-bit length and one sealed message each.
//!
//! A node connects to each peer to tell its own records; the peer answers with the number of
//! the newest update that it has. So between two nodes there are two connections. Both say in the
//! handshake who they are and which version they speak; if it is not the same, that is all.

mod channel;
mod cipher;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch, OwnedSemaphorePermit, Semaphore};
use tokio::time::{interval_at, sleep, timeout, Instant};

use crate::store::Update;
use crate::wire::{Hello, VERSION};
use channel::{bad, Channel, Message};

pub use channel::PATTERN;
pub use cipher::Ciphers;

/// Messages that wait for a slow peer before it is left and told everything anew.
const QUEUE: usize = 4096;

/// Updates that go in one write.
pub const BATCH: usize = 256;

/// This often a link says that it is there, and asks for a confirmation; it is closed by who has
/// heard nothing for [`GONE`].
const SIGN: Duration = Duration::from_secs(3);
const GONE: Duration = Duration::from_secs(10);

/// A peer that has confirmed before is left when it confirms nothing for so long while it should:
/// as long as it is counted on, responses wait for it.
const PATIENCE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(200);

/// Connections that have not shown yet that they know the secret; the others wait until one of these
/// has, or [`PATIENCE`] is over. Anybody can make them, and each takes a descriptor.
const STRANGERS: usize = 64;

/// Until a peer of another version is asked again.
const FOREIGN: Duration = Duration::from_secs(1);

/// Names of the peers, as they are now.
pub type Names = watch::Receiver<Vec<String>>;

/// What comes of the links.
#[derive(Debug)]
pub enum LinkEvent {
    /// A peer can be told records. Closing the sender ends the connection.
    Up {
        peer: String,
        conn: u64,
        updates: mpsc::Sender<(u64, Vec<Update>)>,
    },
    /// It cannot any more.
    Down { peer: String, conn: u64 },
    /// A peer has all updates up to a number.
    Confirmed {
        peer: String,
        conn: u64,
        number: u64,
    },
    /// A peer tells its own records, by the connection `conn`: a later one has a greater number.
    Told {
        peer: String,
        conn: u64,
        updates: Vec<Update>,
    },
    /// It has closed that connection: it lives, and tells no more of what it lets go.
    Left { peer: String, conn: u64 },
    /// A connection to this node was closed.
    Refused(Refused),
}

/// Why nothing is heard, or nothing more, of who has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There was no right handshake in time: it has another secret, or is no node.
    Handshake,
    /// A node of another version.
    Version,
    /// It has the secret and is none of the group.
    Stranger,
    /// A frame was not the next one of its peer: altered, said again, or nonsense.
    Frame,
}

impl Refused {
    /// The name of its count.
    pub const fn counter(self) -> &'static str {
        match self {
            Refused::Handshake => "links-refused-handshake",
            Refused::Version => "links-refused-version",
            Refused::Stranger => "links-refused-stranger",
            Refused::Frame => "links-refused-frame",
        }
    }
}

/// Keeps a connection to `peer` for our own records, for ever.
pub async fn tell(
    name: String,
    (peer, addr): (String, SocketAddr),
    key: [u8; 32],
    events: mpsc::Sender<LinkEvent>,
) {
    let (hello, mut conn) = (Hello::new(&name), 0);
    loop {
        conn += 1;
        let connected = timeout(PATIENCE, async {
            Channel::open(TcpStream::connect(addr).await?, &key, (&hello, true)).await
        });
        let connected = connected.await.ok().and_then(Result::ok);
        if matches!(&connected, Some((_, theirs)) if theirs.version != VERSION) {
            sleep(FOREIGN).await;
            continue;
        }
        // One that calls itself otherwise must not confirm in the name of this one.
        if let Some((mut channel, _)) = connected.filter(|(_, theirs)| theirs.name == peer) {
            let (tx, rx) = mpsc::channel(QUEUE);
            let up = LinkEvent::Up {
                peer: peer.clone(),
                conn,
                updates: tx,
            };
            let _ = events.send(up).await;
            let _ = told(&mut channel, (&peer, conn), rx, &events).await;
            let down = LinkEvent::Down {
                peer: peer.clone(),
                conn,
            };
            if events.send(down).await.is_err() {
                return;
            }
        }
        sleep(RETRY).await;
    }
}

async fn told(
    channel: &mut Channel,
    (peer, conn): (&str, u64),
    mut updates: mpsc::Receiver<(u64, Vec<Update>)>,
    events: &mpsc::Sender<LinkEvent>,
) -> io::Result<()> {
    let mut out = Vec::new();
    let (mut sent, mut confirmed, mut heard) = (0, 0, Instant::now());
    // Since when a sign waits for its confirmation.
    let mut asked: Option<Instant> = None;
    let mut signs = interval_at(heard + SIGN, SIGN);
    // Looked at when it is over and no sooner: setting it anew with each update would be dear.
    let mut patience = pin!(sleep(PATIENCE));
    loop {
        let waits = confirmed < sent;
        tokio::select! {
            // If this node has stood still itself, what has come meanwhile counts.
            biased;
            message = channel.hear() => {
                let mut message = Some(message?);
                while let Some(next) = message {
                    let Message::Confirm { number } = next else {
                        return Err(bad("not a confirmation"));
                    };
                    confirmed = number;
                    message = channel.heard()?;
                }
                (asked, heard) = (None, Instant::now());
                let (peer, number) = (peer.to_owned(), confirmed);
                let _ = events.send(LinkEvent::Confirmed { peer, conn, number }).await;
            }
            () = &mut patience, if confirmed > 0 && (waits || asked.is_some()) => {
                let now = Instant::now();
                let due = if waits { heard + PATIENCE } else { now + PATIENCE };
                if due <= now || asked.is_some_and(|since| now >= since + GONE) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                patience.as_mut().reset(due);
            }
            next = updates.recv() => {
                // Everything that is there goes in one write.
                let Some((mut number, mut batch)) = next else { return Ok(()) };
                while batch.len() < BATCH {
                    let Ok((n, more)) = updates.try_recv() else { break };
                    number = number.max(n);
                    batch.extend(more);
                }
                if !waits {
                    heard = Instant::now();
                }
                // What has no number is not confirmed.
                sent = sent.max(number);
                out.clear();
                channel.seal_updates(&mut out, number, batch)?;
                timeout(PATIENCE, channel.write.write_all(&out)).await??;
            }
            now = signs.tick() => {
                // Once more the number that is confirmed already, or will be.
                if confirmed > 0 {
                    asked.get_or_insert(now);
                }
                out.clear();
                channel.seal_updates(&mut out, sent, Vec::new())?;
                timeout(PATIENCE, channel.write.write_all(&out)).await??;
            }
        }
    }
}

/// Takes the connections of peers, for ever.
pub async fn listen(
    name: String,
    listener: TcpListener,
    peers: Names,
    key: [u8; 32],
    events: mpsc::Sender<LinkEvent>,
) {
    let (hello, mut conn) = (Hello::new(&name), 0);
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    // It is never closed.
    while let Ok(stranger) = strangers.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                conn += 1;
                let (hello, peers, events) = (hello.clone(), peers.clone(), events.clone());
                tokio::spawn(async move {
                    let heard = hear((stream, conn, stranger), &hello, &peers, &key, &events);
                    if let Err(why) = heard.await {
                        let _ = events.send(LinkEvent::Refused(why)).await;
                    }
                });
            }
            // Out of descriptors, for one; it may pass.
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn hear(
    (stream, conn, stranger): (TcpStream, u64, OwnedSemaphorePermit),
    hello: &Hello,
    peers: &Names,
    key: &[u8; 32],
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), Refused> {
    let opened = timeout(PATIENCE, Channel::open(stream, key, (hello, false))).await;
    drop(stranger);
    let Ok(Ok((mut channel, Hello { version, name }))) = opened else {
        return Err(Refused::Handshake);
    };
    if version != VERSION {
        return Err(Refused::Version);
    }
    if !peers.borrow().contains(&name) {
        return Err(Refused::Stranger);
    }
    let heard = hear_all(&mut channel, (&name, conn), peers.clone(), events).await;
    // Who has died says nothing.
    if !matches!(&heard, Err(e) if e.kind() == io::ErrorKind::TimedOut) {
        let _ = events.send(LinkEvent::Left { peer: name, conn }).await;
    }
    match heard {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(Refused::Frame),
        _ => Ok(()),
    }
}

/// Hears what `name` tells, until its connection ends.
async fn hear_all(
    channel: &mut Channel,
    (name, conn): (&str, u64),
    mut peers: Names,
    events: &mpsc::Sender<LinkEvent>,
) -> io::Result<()> {
    let mut out = Vec::new();
    let (mut gone, mut last) = (pin!(sleep(GONE)), Instant::now());
    loop {
        let mut message = tokio::select! {
            message = channel.hear() => Some(message?),
            () = &mut gone => {
                if last.elapsed() >= GONE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                gone.as_mut().reset(last + GONE);
                continue;
            }
            changed = peers.changed() => match changed {
                Ok(()) if peers.borrow().iter().any(|p| p == name) => continue,
                // It is of the group no more; should it come back, it tells everything anew.
                _ => return Ok(()),
            },
        };
        last = Instant::now();
        let mut newest = 0;
        // One confirmation for all that is here.
        while let Some(next) = message {
            let Message::Updates { number, updates } = next else {
                return Err(bad("not an update"));
            };
            newest = newest.max(number);
            // In the channel of this node it is as safe as in its store.
            let told = LinkEvent::Told {
                peer: name.to_owned(),
                conn,
                updates,
            };
            if events.send(told).await.is_err() {
                return Ok(());
            }
            message = channel.heard()?;
        }
        if newest > 0 {
            out.clear();
            channel.seal(&mut out, &Message::Confirm { number: newest })?;
            channel.write.write_all(&out).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    const BEGIN: Update = Update::Begin { boot: 1 };
    const KEY: [u8; 32] = [7; 32];

    /// Node b hears node a: where, of which group while it is kept, and what comes of it.
    async fn listening() -> (
        SocketAddr,
        watch::Sender<Vec<String>>,
        mpsc::Receiver<LinkEvent>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tx, rx) = mpsc::channel(64);
        let (group, names) = watch::channel(vec!["a".into()]);
        tokio::spawn(listen("b".into(), listener, names, KEY, tx));
        (addr, group, rx)
    }

    async fn pair(key: [u8; 32]) -> mpsc::Receiver<LinkEvent> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tx, rx) = mpsc::channel(64);
        let (group, names) = watch::channel(vec!["a".into()]);
        let listening = listen("b".into(), listener, names, [7; 32], tx.clone());
        tokio::spawn(async move {
            listening.await;
            drop(group);
        });
        tokio::spawn(tell("a".into(), ("b".into(), addr), key, tx));
        rx
    }

    /// Node b, of this version, answers a connection.
    async fn answer(stream: TcpStream, key: &[u8; 32], version: u16) -> Channel {
        let hello = Hello {
            version,
            ..Hello::new("b")
        };
        let opened = Channel::open(stream, key, (&hello, false));
        opened.await.unwrap().0
    }

    /// Node a has a link to b: where b listens, its end, what a is to tell it, and what comes of it.
    async fn linked() -> (
        TcpListener,
        Channel,
        mpsc::Sender<(u64, Vec<Update>)>,
        mpsc::Receiver<LinkEvent>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tx, mut rx) = mpsc::channel(64);
        let key = [7; 32];
        tokio::spawn(tell("a".into(), ("b".into(), addr), key, tx));
        let (stream, _) = listener.accept().await.unwrap();
        let peer = answer(stream, &key, VERSION).await;
        let Some(LinkEvent::Up { updates, .. }) = rx.recv().await else {
            panic!()
        };
        (listener, peer, updates, rx)
    }

    async fn confirm(peer: &mut Channel, number: u64) {
        let mut out = Vec::new();
        peer.seal(&mut out, &Message::Confirm { number }).unwrap();
        peer.write.write_all(&out).await.unwrap();
    }

    #[tokio::test]
    async fn updates_of_any_number_arrive_in_order_and_are_confirmed() {
        let mut rx = pair([7; 32]).await;
        let Some(LinkEvent::Up { updates: tx, .. }) = rx.recv().await else {
            panic!()
        };
        let all: Vec<_> = (1..2000)
            .map(|i| Update::Put(record(i).encode(0)))
            .collect();
        tx.send((41, all.clone())).await.unwrap();
        tx.send((42, vec![BEGIN])).await.unwrap();
        let mut got = Vec::new();
        loop {
            match rx.recv().await.unwrap() {
                LinkEvent::Told { peer, updates, .. } => {
                    assert_eq!(peer, "a");
                    got.extend(updates);
                }
                LinkEvent::Confirmed { number: 42, .. } => break,
                LinkEvent::Confirmed { number, .. } => assert_eq!(number, 41),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got.len(), all.len() + 1);
        assert_eq!(got[..all.len()], all[..]);
    }

    #[tokio::test]
    async fn strangers_wait_for_one_another() {
        use tokio::io::AsyncReadExt;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (events, _rx) = mpsc::channel(64);
        let (_group, names) = watch::channel(vec!["a".into()]);
        let begun = Instant::now();
        tokio::spawn(listen("b".into(), listener, names, [7; 32], events));
        let mut strangers = Vec::new();
        for _ in 0..=STRANGERS {
            strangers.push(TcpStream::connect(addr).await.unwrap());
        }
        for stranger in &mut strangers {
            assert_eq!(stranger.read(&mut [0]).await.unwrap(), 0);
        }
        assert!(begun.elapsed() >= 2 * PATIENCE);
    }

    #[tokio::test]
    async fn a_peer_that_closes_its_link_has_not_died() {
        let mut rx = pair([7; 32]).await;
        let Some(LinkEvent::Up { updates, .. }) = rx.recv().await else {
            panic!()
        };
        drop(updates);
        let mut left = false;
        while !left {
            left = match rx.recv().await.unwrap() {
                LinkEvent::Left { peer, .. } => peer == "a",
                LinkEvent::Down { .. } => false,
                other => panic!("{other:?}"),
            };
        }
    }

    #[tokio::test]
    async fn a_peer_that_stops_confirming_is_left() {
        let (_b, mut peer, updates, mut rx) = linked().await;
        // What it is told at first may take it long.
        updates.send((1, vec![BEGIN])).await.unwrap();
        assert!(timeout(2 * PATIENCE, rx.recv()).await.is_err());
        confirm(&mut peer, 1).await;
        let confirmed = rx.recv().await.unwrap();
        assert!(matches!(confirmed, LinkEvent::Confirmed { number: 1, .. }));
        updates.send((2, vec![BEGIN])).await.unwrap();
        let left = timeout(2 * PATIENCE, rx.recv()).await.unwrap();
        assert!(matches!(left, Some(LinkEvent::Down { .. })), "{left:?}");
    }

    #[tokio::test]
    async fn a_peer_that_falls_silent_is_left_though_nothing_waits_for_it() {
        let (_b, mut peer, updates, mut rx) = linked().await;
        updates.send((1, vec![BEGIN])).await.unwrap();
        // From here on time passes when nobody has anything to do.
        tokio::time::pause();
        // It is asked for the same number again, and confirms that, once.
        for _ in 0..2 {
            let Message::Updates { number, .. } = peer.hear().await.unwrap() else {
                panic!()
            };
            assert_eq!(number, 1);
            confirm(&mut peer, number).await;
            let confirmed = rx.recv().await.unwrap();
            assert!(matches!(confirmed, LinkEvent::Confirmed { number: 1, .. }));
        }
        let left = timeout(SIGN + GONE + PATIENCE, rx.recv()).await.unwrap();
        assert!(matches!(left, Some(LinkEvent::Down { .. })), "{left:?}");
    }

    #[tokio::test]
    async fn what_has_no_number_is_neither_waited_for_nor_a_confirmation() {
        let (_b, mut peer, updates, mut rx) = linked().await;
        for number in 1..=2 {
            updates.send((number, vec![BEGIN])).await.unwrap();
            confirm(&mut peer, number).await;
            let next = rx.recv().await.unwrap();
            assert!(matches!(next, LinkEvent::Confirmed { .. }), "{next:?}");
            updates.send((0, vec![BEGIN])).await.unwrap();
            assert!(timeout(2 * PATIENCE, rx.recv()).await.is_err());
        }
        updates.send((3, vec![BEGIN])).await.unwrap();
        updates.send((0, vec![BEGIN])).await.unwrap();
        let left = timeout(2 * PATIENCE, rx.recv()).await.unwrap();
        assert!(matches!(left, Some(LinkEvent::Down { .. })), "{left:?}");
    }

    #[tokio::test]
    async fn a_peer_of_another_version_is_told_nothing_until_it_speaks_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tx, mut rx) = mpsc::channel(64);
        let key = [7; 32];
        tokio::spawn(tell("a".into(), ("b".into(), addr), key, tx));
        for version in [VERSION + 1, VERSION - 1, VERSION] {
            let (stream, _) = listener.accept().await.unwrap();
            let mut peer = answer(stream, &key, version).await;
            if version == VERSION {
                assert!(matches!(rx.recv().await, Some(LinkEvent::Up { .. })));
            } else {
                assert!(peer.hear().await.is_err(), "it closes");
                assert!(rx.try_recv().is_err());
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_heard_of_a_peer_of_another_version() {
        let (addr, _group, mut rx) = listening().await;
        for (name, version, why) in [
            ("a", VERSION + 1, Refused::Version),
            ("a", VERSION - 1, Refused::Version),
            ("stranger", VERSION, Refused::Stranger),
        ] {
            let hello = Hello {
                version,
                ..Hello::new(name)
            };
            let stream = TcpStream::connect(addr).await.unwrap();
            let opened = Channel::open(stream, &KEY, (&hello, true)).await;
            let (mut peer, theirs) = opened.unwrap();
            assert_eq!(theirs, Hello::new("b"), "it says which one it speaks");
            let mut out = Vec::new();
            peer.seal_updates(&mut out, 1, vec![BEGIN]).unwrap();
            let _ = peer.write.write_all(&out).await;
            assert!(peer.hear().await.is_err(), "it closes");
            let said = rx.recv().await.unwrap();
            assert!(
                matches!(said, LinkEvent::Refused(w) if w == why),
                "{said:?}"
            );
            assert!(rx.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn a_node_with_another_secret_is_not_heard() {
        let mut rx = pair([8; 32]).await;
        for _ in 0..3 {
            let said = rx.recv().await.unwrap();
            assert!(
                matches!(said, LinkEvent::Refused(Refused::Handshake)),
                "{said:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_said_again_ends_its_link() {
        let (addr, _group, mut rx) = listening().await;
        let stream = TcpStream::connect(addr).await.unwrap();
        let opened = Channel::open(stream, &KEY, (&Hello::new("a"), true)).await;
        let (mut peer, _) = opened.unwrap();
        let mut out = Vec::new();
        peer.seal_updates(&mut out, 1, vec![BEGIN]).unwrap();
        peer.write.write_all(&out).await.unwrap();
        let told = rx.recv().await.unwrap();
        assert!(matches!(told, LinkEvent::Told { .. }), "{told:?}");
        assert!(matches!(
            peer.hear().await.unwrap(),
            Message::Confirm { number: 1 }
        ));
        peer.write.write_all(&out).await.unwrap();
        assert!(peer.hear().await.is_err(), "it closes");
        let left = rx.recv().await.unwrap();
        assert!(matches!(left, LinkEvent::Left { .. }), "{left:?}");
        let why = rx.recv().await.unwrap();
        assert!(matches!(why, LinkEvent::Refused(Refused::Frame)), "{why:?}");
        assert!(rx.try_recv().is_err());
    }
}
