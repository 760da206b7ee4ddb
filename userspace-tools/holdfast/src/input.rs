// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Values of the command line.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use clap::Args;
use libholdfast::types::FlowKey;

use crate::fail::Fail;

/// Which connection.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct KeyArgs {
    /// Address and port of the client, as 192.0.2.7:40000 or [2001:db8::7]:40000
    client: SocketAddr,
    /// Address and port of the service
    service: SocketAddr,
}

impl From<KeyArgs> for FlowKey {
    fn from(args: KeyArgs) -> Self {
        FlowKey {
            client: args.client,
            service: args.service,
        }
    }
}

/// An address, of any port or of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    ip: IpAddr,
    port: Option<u16>,
}

impl Host {
    /// Whether `socket` is this.
    pub(crate) fn is(&self, socket: &SocketAddr) -> bool {
        self.ip == socket.ip() && self.port.is_none_or(|port| port == socket.port())
    }
}

impl From<SocketAddr> for Host {
    fn from(socket: SocketAddr) -> Self {
        Host {
            ip: socket.ip(),
            port: Some(socket.port()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(socket.into());
        }
        let ip = text
            .parse()
            .map_err(|_| "neither ADDRESS nor ADDRESS:PORT")?;
        Ok(Host { ip, port: None })
    }
}

/// The address and port of a service.
pub(crate) fn service(text: &str) -> Result<SocketAddr, String> {
    let socket: SocketAddr = text.parse().map_err(|_| "not ADDRESS:PORT")?;
    if socket.port() == 0 {
        return Err("port 0 is no port".into());
    }
    Ok(socket)
}

/// A difference of sequence numbers modulo 2^32, which may be negative or hexadecimal.
pub(crate) fn delta(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let number = number.map_err(|_| "not a number")?;
    match number {
        // The bits of a negative one are those of its value modulo 2^32.
        -0x8000_0000..=0xffff_ffff => Ok(number as u32),
        _ => Err("beyond 32 bits".into()),
    }
}

/// Numbers with commas between them.
pub(crate) fn numbers<const N: usize>(text: &str) -> Result<[u32; N], String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    let numbers = numbers.map_err(|_| "not numbers with commas between them")?;
    numbers.try_into().map_err(|_| format!("not {N} numbers"))
}

/// Client's and service's window scale.
pub(crate) fn wscale(text: &str) -> Result<[u8; 2], String> {
    let [client, service] = numbers(text)?;
    let scale = |n| {
        u8::try_from(n)
            .ok()
            .filter(|n| *n <= 14)
            .ok_or("a scale is at most 14")
    };
    Ok([scale(client)?, scale(service)?])
}

/// All of a file of `limit` bytes at most; "-" is standard input.
pub(crate) fn file(path: &Path, limit: u64) -> Result<Vec<u8>, Fail> {
    let read = || {
        let mut bytes = Vec::new();
        let mut source: Box<dyn Read> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path)?),
        };
        source.by_ref().take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("more than {limit} bytes")));
        }
        Ok(bytes)
    };
    read().map_err(|e| Fail::File(path.into(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_are_modulo_two_to_the_32() {
        assert_eq!(delta("-1"), Ok(u32::MAX));
        assert_eq!(delta("4294967295"), Ok(u32::MAX));
        assert_eq!(delta("0x10"), Ok(16));
        assert!(delta("4294967296").is_err());
        assert!(delta("-2147483649").is_err());
        assert!(delta("ten").is_err());
    }

    #[test]
    fn a_host_may_have_a_port() {
        let socket = "[2001:db8::1]:80".parse().unwrap();
        assert!("2001:db8::1".parse::<Host>().unwrap().is(&socket));
        assert!("[2001:db8::1]:80".parse::<Host>().unwrap().is(&socket));
        assert!(!"[2001:db8::1]:81".parse::<Host>().unwrap().is(&socket));
        assert!("localhost".parse::<Host>().is_err());
    }

    #[test]
    fn lists_have_their_length() {
        assert_eq!(numbers::<2>("1,2"), Ok([1, 2]));
        assert!(numbers::<2>("1").is_err() && numbers::<2>("1,2,3").is_err());
        assert_eq!(wscale("0,14"), Ok([0, 14]));
        assert!(wscale("0,15").is_err());
    }

    #[test]
    fn a_file_is_not_larger_than_allowed() {
        let path = std::env::temp_dir().join(format!("holdfast-input-{}", std::process::id()));
        std::fs::write(&path, b"12345").unwrap();
        let (fits, more) = (file(&path, 5), file(&path, 4));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(fits.unwrap(), b"12345");
        assert!(more.unwrap_err().to_string().contains("more than 4 bytes"));
        assert!(file(&path, 5).is_err(), "it is gone");
    }
}
