// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Asks the daemon: a JSON object on a line each way, over a Unix socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::fail::Fail;

/// How the daemon is found.
#[derive(Clone, Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Control socket of holdfastd
    #[arg(long, value_name = "PATH", default_value = "/run/holdfast.sock")]
    socket: PathBuf,
}

/// How long the daemon may think about what it only has to tell.
pub(crate) const SOON: Duration = Duration::from_secs(5);

impl DaemonArgs {
    /// The one behind `socket`.
    #[cfg(test)]
    pub(crate) fn at(socket: PathBuf) -> Self {
        DaemonArgs { socket }
    }

    /// Sends `question` and waits for the answer, or for ever without a `patience`.
    pub(crate) fn ask(&self, question: &Value, patience: Option<Duration>) -> Result<Value, Fail> {
        let answer = ask(&self.socket, question, patience);
        let answer = answer.map_err(|e| Fail::NoDaemon(self.socket.clone(), e))?;
        match answer.get("error") {
            Some(Value::String(why)) => Err(Fail::Daemon(why.clone())),
            Some(why) => Err(Fail::Daemon(why.to_string())),
            None => Ok(answer),
        }
    }
}

fn ask(path: &Path, question: &Value, patience: Option<Duration>) -> io::Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(patience)?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
        Err(e) => Err(e),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => serde_json::from_str(&line).map_err(io::Error::other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::net::UnixListener;

    /// Asks a daemon that answers `reply`; what it heard, and what was made of the answer.
    fn with_daemon(name: &str, reply: &'static str) -> (String, Result<Value, Fail>) {
        let socket = std::env::temp_dir().join(format!("holdfast-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap())
                .read_line(&mut line)
                .unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            line
        });
        let args = DaemonArgs { socket };
        let answer = args.ask(&json!({"op": "status"}), Some(SOON));
        std::fs::remove_file(&args.socket).unwrap();
        (daemon.join().unwrap(), answer)
    }

    #[test]
    fn a_line_goes_each_way() {
        let (heard, answer) = with_daemon("line", "{\"flows\": 3}\n");
        assert_eq!(heard, "{\"op\":\"status\"}\n");
        assert_eq!(answer.unwrap(), json!({"flows": 3}));
    }

    #[test]
    fn a_refusal_is_told() {
        let (_, answer) = with_daemon("refusal", "{\"error\": \"not now\"}\n");
        assert_eq!(answer.unwrap_err().to_string(), "holdfastd: not now");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_told_from_one_that_refuses() {
        let args = DaemonArgs {
            socket: "/nonexistent/holdfast.sock".into(),
        };
        let fail = args.ask(&json!({}), Some(SOON)).unwrap_err();
        assert_eq!(fail.code(), 4);
        assert!(fail
            .to_string()
            .starts_with("holdfastd cannot be reached at /nonexistent"));
        assert_eq!(with_daemon("eof", "").1.unwrap_err().code(), 4);
    }
}
