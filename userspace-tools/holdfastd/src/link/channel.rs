// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! A connection between two nodes: frames of a 16-bit length and one sealed message each.

use std::io;

use serde::{Deserialize, Serialize};
use snow::HandshakeState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;

use super::cipher::Ciphers;
use crate::store::Update;
use crate::wire::Hello;

/// The handshake.
pub const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Most bytes of updates in a frame; with the largest record it stays below 65535.
const FRAME: usize = 48 * 1024;

/// Room for what is read at once: several frames, as a rule.
const READ: usize = 16 * 1024;

/// Room for a message of the handshake: a key, a tag and the longest hello.
const HANDSHAKE: usize = 512;

#[derive(Serialize, Deserialize)]
pub(super) enum Message {
    /// `number`: of the newest update, in its last frame; else 0.
    Updates {
        number: u64,
        updates: Vec<Update>,
    },
    Confirm {
        number: u64,
    },
}

pub(super) fn bad(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// Frames from a peer.
struct Frames {
    read: OwnedReadHalf,
    /// What was read; frames up to `at` were taken.
    buffer: Vec<u8>,
    at: usize,
}

impl Frames {
    fn of(read: OwnedReadHalf) -> Self {
        Frames {
            read,
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// The next frame, if all of it was read.
    fn here(&mut self) -> Option<&mut [u8]> {
        let (len, rest) = self.buffer[self.at..].split_first_chunk_mut::<2>()?;
        let frame = rest.get_mut(..u16::from_be_bytes(*len).into())?;
        self.at += len.len() + frame.len();
        Some(frame)
    }

    /// Waits for more bytes. May be dropped and called again: nothing is lost.
    async fn more(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.reserve(READ);
        match self.read.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn push_frame(out: &mut Vec<u8>, frame: &[u8]) -> io::Result<()> {
    let len = u16::try_from(frame.len()).map_err(bad)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(frame);
    Ok(())
}

fn builder(key: &[u8; 32]) -> io::Result<snow::Builder<'_>> {
    let builder = snow::Builder::new(PATTERN.parse().map_err(bad)?);
    builder.psk(0, key).map_err(bad)
}

/// A connection after the handshake.
pub(super) struct Channel {
    ciphers: Ciphers,
    pub(super) write: OwnedWriteHalf,
    frames: Frames,
}

impl Channel {
    /// Also what the peer says of itself.
    pub(super) async fn open(
        stream: TcpStream,
        key: &[u8; 32],
        (hello, first): (&Hello, bool),
    ) -> io::Result<(Self, Hello)> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut frames = Frames::of(read);
        let mut hs: HandshakeState = match first {
            true => builder(key)?.build_initiator().map_err(bad)?,
            false => builder(key)?.build_responder().map_err(bad)?,
        };
        let (mut ours, mut theirs) = (first, None);
        while !hs.is_handshake_finished() {
            if ours {
                let mut buf = vec![0; HANDSHAKE];
                let n = hs.write_message(&hello.encode(), &mut buf).map_err(bad)?;
                let mut out = Vec::new();
                push_frame(&mut out, &buf[..n])?;
                write.write_all(&out).await?;
            } else {
                let frame = loop {
                    match frames.here() {
                        Some(frame) => break frame,
                        None => frames.more().await?,
                    }
                };
                let mut buf = vec![0; frame.len()];
                let n = hs.read_message(frame, &mut buf).map_err(bad)?;
                theirs = Hello::decode(&buf[..n]);
            }
            ours = !ours;
        }
        let theirs = theirs.ok_or_else(|| bad("no hello"))?;
        let channel = Channel {
            ciphers: Ciphers::of(&mut hs, first),
            write,
            frames,
        };
        Ok((channel, theirs))
    }

    /// Appends a message in a frame of its own to `out`.
    pub(super) fn seal(&mut self, out: &mut Vec<u8>, message: &Message) -> io::Result<()> {
        let place = out.len();
        out.extend_from_slice(&[0; 2]);
        let start = out.len();
        *out = postcard::to_extend(message, std::mem::take(out)).map_err(bad)?;
        self.ciphers.seal(out, start)?;
        let len = u16::try_from(out.len() - start).map_err(bad)?;
        out[place..start].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }

    /// The next message, if all of it was read.
    pub(super) fn heard(&mut self) -> io::Result<Option<Message>> {
        let Some(frame) = self.frames.here() else {
            return Ok(None);
        };
        let plain = self.ciphers.open(frame)?;
        postcard::from_bytes(plain).map(Some).map_err(bad)
    }

    /// Waits for the next message. May be dropped and called again.
    pub(super) async fn hear(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.heard()? {
                return Ok(message);
            }
            self.frames.more().await?;
        }
    }

    /// Seals updates into as many frames as they need.
    pub(super) fn seal_updates(
        &mut self,
        out: &mut Vec<u8>,
        number: u64,
        updates: Vec<Update>,
    ) -> io::Result<()> {
        let mut rest = updates.into_iter().peekable();
        loop {
            let (mut some, mut size) = (Vec::new(), 0);
            while let Some(next) = rest.peek() {
                let len = match next {
                    Update::Put(bytes) => bytes.len() + 16,
                    Update::About {
                        daemon,
                        module,
                        services,
                        ..
                    } => daemon.len() + module.len() + 32 * (1 + services.len()),
                    _ => 160,
                };
                if !some.is_empty() && size + len > FRAME {
                    break;
                }
                size += len;
                some.extend(rest.next());
            }
            let last = rest.peek().is_none();
            let number = if last { number } else { 0 };
            self.seal(
                out,
                &Message::Updates {
                    number,
                    updates: some,
                },
            )?;
            if last {
                return Ok(());
            }
        }
    }
}
