// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Errors that say what was wrong, where, and in whose opinion.

use std::fmt;
use std::io;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was not done.
#[derive(Debug)]
pub enum Error {
    /// There is no family of this name, and no `/dev/holdfast`.
    NotLoaded,
    /// The kernel said no.
    Refused(Refusal),
    /// A request would not fit in a message; names the attribute or the command.
    TooLong(&'static str),
    /// Client and service are of different address families.
    MixedFamilies,
    /// The kernel's answer could not be understood.
    Malformed(String),
    /// A system call failed.
    Io {
        /// What was tried.
        what: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

/// An error that the kernel gave, with its extended acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the command.
    pub command: &'static str,
    /// The error number, positive.
    pub errno: i32,
    /// The kernel's own words.
    pub message: Option<String>,
    /// The attribute that was refused, as `options.mss` or `release[3].id`.
    pub attribute: Option<String>,
    /// The attribute that was missing.
    pub missing: Option<String>,
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Error::Io { what, source }
    }

    /// The error number, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused(r) => Some(r.errno),
            Error::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether more of the answer has come since (`flow-join`): read the log and ask again.
    pub fn is_again(&self) -> bool {
        self.errno() == Some(libc::EAGAIN)
    }

    /// Whether a value was none that can be, or did not fit the others: of `flow-recover`, a position
    /// that the client has left since.
    pub fn is_invalid(&self) -> bool {
        self.errno() == Some(libc::EINVAL)
    }

    /// Whether there is no such service or flow.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(libc::ENOENT)
    }

    /// Whether a newer generation has the flow.
    pub fn is_stale(&self) -> bool {
        self.errno() == Some(libc::ESTALE)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotLoaded => f.write_str("the holdfast module is not loaded"),
            Error::Refused(refusal) => refusal.fmt(f),
            Error::TooLong(what) => write!(f, "{what}: too long for a message"),
            Error::MixedFamilies => {
                f.write_str("client and service must both be IPv4 or both be IPv6")
            }
            Error::Malformed(why) => write!(f, "the kernel's answer makes no sense: {why}"),
            Error::Io { what, source } => write!(f, "{what}: {}", words(source)),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.command)?;
        if let Some(missing) = &self.missing {
            write!(f, "{missing} is missing: ")?;
        } else if let Some(attribute) = &self.attribute {
            write!(f, "{attribute}: ")?;
        }
        let number = words(&io::Error::from_raw_os_error(self.errno));
        match &self.message {
            Some(message) => write!(f, "{message} ({number})"),
            None => f.write_str(&number),
        }
    }
}

/// What an error means, without the number that std appends.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_command_attribute_and_reason() {
        let mut refusal = Refusal {
            command: "service-add",
            errno: libc::EINVAL,
            message: Some("there is no such mode".into()),
            attribute: Some("mode".into()),
            missing: None,
        };
        assert_eq!(
            refusal.to_string(),
            "service-add: mode: there is no such mode (Invalid argument)"
        );
        refusal = Refusal {
            message: None,
            attribute: None,
            ..refusal
        };
        assert_eq!(refusal.to_string(), "service-add: Invalid argument");
        refusal.missing = Some("addr".into());
        assert_eq!(
            refusal.to_string(),
            "service-add: addr is missing: Invalid argument"
        );
    }

    #[test]
    fn errors_are_told_from_one_another() {
        let refused = |errno| {
            let refusal = Refusal {
                command: "flow-join",
                errno,
                message: None,
                attribute: None,
                missing: None,
            };
            Error::Refused(refusal)
        };
        assert!(refused(libc::EAGAIN).is_again());
        assert!(!refused(libc::EBUSY).is_again());
        assert!(refused(libc::EINVAL).is_invalid());
        assert!(!refused(libc::EAGAIN).is_invalid());
        assert!(!Error::NotLoaded.is_again());
    }
}
