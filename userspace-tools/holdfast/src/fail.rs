// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Failures, and the exit status that each has.

use std::fmt;
use std::io;
use std::path::PathBuf;

use libholdfast::error::words;
use libholdfast::Error;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The kernel module or the way to it.
    Module(Error),
    /// The daemon cannot be reached.
    NoDaemon(PathBuf, io::Error),
    /// The daemon said no.
    Daemon(String),
    /// A file.
    File(PathBuf, io::Error),
    /// Standard output has no reader any more: nobody is left to be told.
    ReaderGone,
    /// Standard output.
    Output(io::Error),
    /// The daemon says that this node could not take over.
    NotReady,
    /// Anything else.
    Other(String),
}

impl Fail {
    /// The exit status; see the help text.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Fail::Module(Error::NotLoaded) => 3,
            Fail::NoDaemon(..) => 4,
            Fail::NotReady => 5,
            _ => 1,
        }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fail::Module(error) if error.errno() == Some(1) => {
                write!(
                    f,
                    "{error}: this needs CAP_NET_ADMIN in the network namespace"
                )
            }
            Fail::Module(Error::NotLoaded) => {
                write!(f, "{}: try \"modprobe holdfast\"", Error::NotLoaded)
            }
            Fail::Module(error) => error.fmt(f),
            Fail::NoDaemon(path, error) => {
                write!(
                    f,
                    "holdfastd cannot be reached at {}: {}",
                    path.display(),
                    words(error)
                )
            }
            Fail::Daemon(why) => write!(f, "holdfastd: {why}"),
            Fail::File(path, error) => write!(f, "{}: {}", path.display(), words(error)),
            Fail::ReaderGone => f.write_str("nobody reads the output"),
            Fail::Output(error) => write!(f, "output: {}", words(error)),
            Fail::NotReady => f.write_str("this node is not ready to take over"),
            Fail::Other(why) => f.write_str(why),
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Fail::Module(error)
    }
}

impl From<io::Error> for Fail {
    /// Of writing to standard output, the only thing done with `?` on an [`io::Error`].
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Fail::ReaderGone,
            _ => Fail::Output(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_failures_apart() {
        let io = || io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Fail::from(Error::NotLoaded).code(), 3);
        assert_eq!(Fail::NoDaemon("/x".into(), io()).code(), 4);
        assert_eq!(Fail::from(Error::MixedFamilies).code(), 1);
        assert!(matches!(
            Fail::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Fail::ReaderGone
        ));
    }
}
