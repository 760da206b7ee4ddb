// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The guest's end of the control channel: runs commands for the host and streams what they say.
//!
//! Static and tiny, since under emulation a Python interpreter takes longer to start than
//! everything before it. A frame, both ways: kind (1 byte), command id and payload length (u32,
//! little endian), payload.
//!
//! | kind | direction | payload                                                    |
//! |------|-----------|------------------------------------------------------------|
//! | `R`  | to guest  | run: folder, then argv, then `NAME=value`s; see [`Request`] |
//! | `I`  | to guest  | standard input; empty: end of file                         |
//! | `K`  | to guest  | signal name for the command's process group                |
//! | `H`  | to host   | hello: ready for commands                                  |
//! | `O`  | to host   | standard output                                            |
//! | `E`  | to host   | standard error                                             |
//! | `S`  | to host   | exit status, decimal; 128 + number when a signal ended it  |

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long output may trail the exit of a command: whoever inherited its pipes can keep them open
/// for ever, and must not keep the host waiting.
const TRAILING: Duration = Duration::from_millis(300);

type Port = Arc<Mutex<File>>;

fn send(port: &Port, kind: u8, id: u32, payload: &[u8]) {
    let mut frame = Vec::with_capacity(9 + payload.len());
    frame.push(kind);
    frame.extend(id.to_le_bytes());
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(payload);
    // A host that went away takes the guest with it; nobody is left to tell.
    let _ = port.lock().unwrap().write_all(&frame);
}

fn receive(port: &mut File) -> io::Result<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    port.read_exact(&mut head)?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
    let mut payload = vec![0; word(5) as usize];
    port.read_exact(&mut payload)?;
    Ok((head[0], word(1), payload))
}

/// Three NUL-terminated lists, each closed by an empty string: folder, argv, environment.
struct Request {
    folder: String,
    argv: Vec<String>,
    env: Vec<(String, String)>,
}

impl Request {
    fn parse(payload: &[u8]) -> Option<Self> {
        let text = String::from_utf8(payload.to_vec()).ok()?;
        let mut strings = text.split('\0').map(str::to_owned);
        let mut list = || {
            strings
                .by_ref()
                .take_while(|s| !s.is_empty())
                .collect::<Vec<_>>()
        };
        let (folder, argv, env) = (list(), list(), list());
        Some(Request {
            folder: folder.first()?.clone(),
            argv,
            env: env
                .iter()
                .filter_map(|e| e.split_once('='))
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        })
    }
}

/// Copies one pipe to the host; tells `done` at its end by dropping it.
fn pump(port: Port, kind: u8, id: u32, mut pipe: impl Read + Send + 'static, done: Sender<()>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 32768];
        while let Ok(n) = pipe.read(&mut buffer) {
            if n == 0 {
                break;
            }
            send(&port, kind, id, &buffer[..n]);
        }
        drop(done);
    });
}

struct Running {
    group: u32,
    stdin: Option<ChildStdin>,
}

type Table = Arc<Mutex<HashMap<u32, Running>>>;

fn run(port: &Port, table: &Table, id: u32, request: Request) {
    let refuse = |message: String| {
        send(port, b'E', id, message.as_bytes());
        send(port, b'S', id, b"127");
    };
    let Some((program, args)) = request.argv.split_first() else {
        return refuse("agent: empty command\n".into());
    };
    let spawned = Command::new(program)
        .args(args)
        .current_dir(&request.folder)
        .envs(request.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return refuse(format!("{program}: {error}\n")),
    };
    let (done, ends) = mpsc::channel();
    pump(
        port.clone(),
        b'O',
        id,
        child.stdout.take().unwrap(),
        done.clone(),
    );
    pump(port.clone(), b'E', id, child.stderr.take().unwrap(), done);
    table.lock().unwrap().insert(
        id,
        Running {
            group: child.id(),
            stdin: child.stdin.take(),
        },
    );
    let (port, table) = (port.clone(), table.clone());
    thread::spawn(move || {
        let status = child.wait().map_or(126, |s| {
            s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0))
        });
        // The entry stays: what the command left behind in its group can still be killed.
        table
            .lock()
            .unwrap()
            .entry(id)
            .and_modify(|r| r.stdin = None);
        // Disconnected once both pumps have seen the end; timed out if somebody holds on.
        let _ = ends.recv_timeout(TRAILING);
        send(&port, b'S', id, status.to_string().as_bytes());
    });
}

/// Named ports appear under their number in /dev; sysfs knows the names.
fn open_port(name: &str) -> io::Result<File> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|n| n.trim() == name) {
            let device = format!("/dev/{}", entry.file_name().to_string_lossy());
            return OpenOptions::new().read(true).write(true).open(device);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no control port"))
}

fn main() -> io::Result<()> {
    let mut from_host = open_port("holdfast.ctl")?;
    let port: Port = Arc::new(Mutex::new(from_host.try_clone()?));
    let table = Table::default();
    send(&port, b'H', 0, b"");
    loop {
        let (kind, id, payload) = receive(&mut from_host)?;
        match kind {
            b'R' => match Request::parse(&payload) {
                Some(request) => run(&port, &table, id, request),
                None => send(&port, b'S', id, b"127"),
            },
            b'I' => {
                if let Some(running) = table.lock().unwrap().get_mut(&id) {
                    if payload.is_empty() {
                        running.stdin = None;
                    } else if let Some(stdin) = &mut running.stdin {
                        let _ = stdin.write_all(&payload);
                    }
                }
            }
            b'K' => {
                if let Some(running) = table.lock().unwrap().get(&id) {
                    let signal = String::from_utf8_lossy(&payload).into_owned();
                    let _ = Command::new("kill")
                        .args(["-s", &signal, "--", &format!("-{}", running.group)])
                        .status();
                }
            }
            _ => {}
        }
    }
}
