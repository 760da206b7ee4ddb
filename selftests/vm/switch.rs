// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Ethernet switches between guests, in one unprivileged process.
//!
//! A guest's network card is a stream over a unix socket (QEMU's `-netdev stream`): each frame
//! is preceded by its length, u32 in network order. Commands come on standard input, one a line;
//! each is answered by `ok` or by `error` and why:
//!
//! ```text
//! port SEGMENT NAME SOCKET   a port of SEGMENT, listening at SOCKET
//! drop NAME in|out|both|none what is lost between the port and its guest; in: towards the guest
//! pcap SEGMENT FILE          record every frame that enters SEGMENT
//! ```
//!
//! A segment learns addresses as a switch does, so an address that moves between guests moves
//! here too. A port has a queue, and a full one drops: a paused guest never holds up the others.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// Frames that wait for a guest: about what a hardware switch holds per port.
const QUEUE: usize = 1024;
/// What QEMU sends at most: 64 KiB of payload, Ethernet and VLAN headers.
const FRAME_MAX: usize = 65536 + 18;

type Frame = Arc<[u8]>;
type Mac = [u8; 6];

struct Port {
    lose_in: AtomicBool,
    lose_out: AtomicBool,
    queue: SyncSender<Frame>,
}

#[derive(Default)]
struct Segment {
    ports: Vec<Arc<Port>>,
    learned: HashMap<Mac, usize>,
    pcap: Option<File>,
}

impl Segment {
    /// One frame, from the guest of port `from`.
    fn forward(&mut self, from: usize, frame: &Frame) {
        if frame.len() < 14 || self.ports[from].lose_out.load(Ordering::Relaxed) {
            return;
        }
        if let Some(file) = &mut self.pcap {
            // A full disk ends the recording, not the test.
            if record(file, frame).is_err() {
                self.pcap = None;
            }
        }
        let to: Mac = frame[0..6].try_into().unwrap();
        let by: Mac = frame[6..12].try_into().unwrap();
        self.learned.insert(by, from);
        match self.learned.get(&to) {
            Some(&port) if port == from => {}
            Some(&port) => self.ports[port].deliver(frame),
            None => {
                let others = self.ports.iter().enumerate().filter(|(i, _)| *i != from);
                others.for_each(|(_, port)| port.deliver(frame));
            }
        }
    }
}

impl Port {
    fn deliver(&self, frame: &Frame) {
        if !self.lose_in.load(Ordering::Relaxed) {
            let _ = self.queue.try_send(frame.clone());
        }
    }
}

fn record(file: &mut File, frame: &[u8]) -> io::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut packet = Vec::with_capacity(16 + frame.len());
    for word in [
        now.as_secs() as u32,
        now.subsec_micros(),
        frame.len() as u32,
        frame.len() as u32,
    ] {
        packet.extend(word.to_le_bytes());
    }
    packet.extend(frame);
    file.write_all(&packet)
}

fn start_recording(path: &str) -> io::Result<File> {
    let mut file = File::create(path)?;
    // Magic (microseconds), version 2.4, no zone, no accuracy, snap length, Ethernet.
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, FRAME_MAX as u32, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    Ok(file)
}

fn read_frame(stream: &mut impl Read) -> io::Result<Frame> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(frame.into())
}

/// Sends what is queued to whichever guest is connected now.
fn write_frames(queue: Receiver<Frame>, guest: Arc<Mutex<Option<UnixStream>>>) {
    let mut batch = Vec::new();
    while let Ok(first) = queue.recv() {
        batch.clear();
        for frame in std::iter::once(first).chain(queue.try_iter().take(63)) {
            batch.extend((frame.len() as u32).to_be_bytes());
            batch.extend_from_slice(&frame);
        }
        let stream = guest
            .lock()
            .unwrap()
            .as_ref()
            .and_then(|s| s.try_clone().ok());
        if let Some(mut stream) = stream {
            // A guest that died is noticed, and its place freed, by the reader.
            let _ = stream.write_all(&batch);
        }
    }
}

fn serve(
    listener: UnixListener,
    segment: Arc<Mutex<Segment>>,
    index: usize,
    guest: Arc<Mutex<Option<UnixStream>>>,
) {
    for stream in listener.incoming().flatten() {
        let Ok(writer) = stream.try_clone() else {
            continue;
        };
        *guest.lock().unwrap() = Some(writer);
        let mut reader = BufReader::with_capacity(256 * 1024, stream);
        while let Ok(frame) = read_frame(&mut reader) {
            segment.lock().unwrap().forward(index, &frame);
        }
        *guest.lock().unwrap() = None;
    }
}

#[derive(Default)]
struct Switch {
    segments: HashMap<String, Arc<Mutex<Segment>>>,
    ports: HashMap<String, Arc<Port>>,
}

impl Switch {
    fn obey(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["port", segment, name, socket] => {
                let listener = UnixListener::bind(socket).map_err(|e| e.to_string())?;
                let segment = self.segments.entry(segment.into()).or_default().clone();
                let (queue, queued) = sync_channel(QUEUE);
                let port = Arc::new(Port {
                    lose_in: false.into(),
                    lose_out: false.into(),
                    queue,
                });
                let index = {
                    let mut segment = segment.lock().unwrap();
                    segment.ports.push(port.clone());
                    segment.ports.len() - 1
                };
                self.ports.insert(name.into(), port);
                let guest = Arc::new(Mutex::new(None));
                let reads = guest.clone();
                thread::spawn(move || serve(listener, segment, index, reads));
                thread::spawn(move || write_frames(queued, guest));
                Ok(())
            }
            ["drop", name, what] => {
                let port = self.ports.get(name).ok_or("no such port")?;
                let (lose_in, lose_out) = match what {
                    "none" => (false, false),
                    "in" => (true, false),
                    "out" => (false, true),
                    "both" => (true, true),
                    _ => return Err("in, out, both or none".into()),
                };
                port.lose_in.store(lose_in, Ordering::Relaxed);
                port.lose_out.store(lose_out, Ordering::Relaxed);
                Ok(())
            }
            ["pcap", segment, file] => {
                let segment = self.segments.get(segment).ok_or("no such segment")?;
                segment.lock().unwrap().pcap =
                    Some(start_recording(file).map_err(|e| e.to_string())?);
                Ok(())
            }
            _ => Err("port, drop or pcap".into()),
        }
    }
}

/// Ends with its standard input, that is, with whoever started it.
fn main() {
    let mut switch = Switch::default();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match switch.obey(&line) {
            Ok(()) => println!("ok"),
            Err(why) => println!("error {why}"),
        }
    }
}
