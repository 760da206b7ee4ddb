// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Netlink messages with their attributes: written, read, and found again by offset.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{
    NetlinkBuffer, NlasIterator, NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE,
};

use crate::error::{Error, Result};
use crate::uapi_gen::{AttrSet, Nested};

/// Bytes of `struct nlmsghdr`.
pub(crate) const NLMSG_HEADER: usize = 16;

/// Bytes before the attributes of a generic netlink message.
pub(crate) const HEADERS: usize = NLMSG_HEADER + GENL_HEADER;

/// Bytes of `struct genlmsghdr`.
const GENL_HEADER: usize = 4;

fn align(len: usize) -> usize {
    len.next_multiple_of(NLA_ALIGNTO)
}

/// A message that is being written. What does not fit is noted, and told at the end.
#[derive(Debug)]
pub(crate) struct Writer {
    buf: Vec<u8>,
    overflow: bool,
}

impl Writer {
    /// An empty message with room for its headers.
    pub(crate) fn new(cmd: u8, version: u8) -> Self {
        let mut buf = vec![0; HEADERS];
        buf[NLMSG_HEADER] = cmd;
        buf[NLMSG_HEADER + 1] = version;
        Writer {
            buf,
            overflow: false,
        }
    }

    /// Bytes so far.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buf.len()
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let Ok(len) = u16::try_from(NLA_HEADER_SIZE + value.len()) else {
            self.overflow = true;
            return;
        };
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        self.buf.resize(align(self.buf.len()), 0);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    pub(crate) fn flag(&mut self, kind: u16, set: bool) {
        if set {
            self.bytes(kind, &[]);
        }
    }

    /// An address of either family, and its port in network order.
    pub(crate) fn socket(&mut self, addr: u16, port: u16, value: SocketAddr) {
        match value.ip() {
            IpAddr::V4(ip) => self.bytes(addr, &ip.octets()),
            IpAddr::V6(ip) => self.bytes(addr, &ip.octets()),
        }
        self.bytes(port, &value.port().to_be_bytes());
    }

    /// Attributes in an attribute.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buf.len();
        self.bytes(kind | NLA_F_NESTED, &[]);
        fill(self);
        match u16::try_from(self.buf.len() - start) {
            Ok(len) => self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
    }

    /// The message as it is sent.
    pub(crate) fn finish(
        mut self,
        what: &'static str,
        message_type: u16,
        flags: u16,
        sequence: u32,
    ) -> Result<Vec<u8>> {
        let len = u32::try_from(self.buf.len()).map_err(|_| Error::TooLong(what))?;
        if self.overflow {
            return Err(Error::TooLong(what));
        }
        let mut header = NetlinkBuffer::new(&mut self.buf);
        header.set_length(len);
        header.set_message_type(message_type);
        header.set_flags(flags);
        header.set_sequence_number(sequence);
        Ok(self.buf)
    }
}

/// The attributes of a message or of a nest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attrs<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attrs<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        NlasIterator::new(bytes)
            .map(|attr| {
                let attr = attr.map_err(|e| Error::Malformed(e.to_string()))?;
                let (kind, len) = (attr.kind(), usize::from(attr.length()));
                Ok((kind, &attr.into_inner()[NLA_HEADER_SIZE..len]))
            })
            .collect::<Result<_>>()
            .map(Attrs)
    }

    /// The attributes of a generic netlink message without its netlink header.
    pub(crate) fn of_message(payload: &'a [u8]) -> Result<Self> {
        let attrs = payload
            .get(GENL_HEADER..)
            .ok_or_else(|| Error::Malformed("a message without a command".into()))?;
        Self::parse(attrs)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.0
            .iter()
            .rev()
            .find(|(k, _)| *k == kind)
            .map(|(_, value)| *value)
    }

    fn fixed<const N: usize>(&self, kind: u16) -> Result<Option<[u8; N]>> {
        let Some(value) = self.bytes(kind) else {
            return Ok(None);
        };
        let value = value.try_into().map_err(|_| {
            Error::Malformed(format!(
                "attribute {kind} has {} bytes in place of {N}",
                value.len()
            ))
        })?;
        Ok(Some(value))
    }

    pub(crate) fn u8(&self, kind: u16) -> Result<Option<u8>> {
        Ok(self.fixed(kind)?.map(u8::from_ne_bytes))
    }

    pub(crate) fn u16(&self, kind: u16) -> Result<Option<u16>> {
        Ok(self.fixed(kind)?.map(u16::from_ne_bytes))
    }

    pub(crate) fn u32(&self, kind: u16) -> Result<Option<u32>> {
        Ok(self.fixed(kind)?.map(u32::from_ne_bytes))
    }

    pub(crate) fn u64(&self, kind: u16) -> Result<Option<u64>> {
        Ok(self.fixed(kind)?.map(u64::from_ne_bytes))
    }

    pub(crate) fn flag(&self, kind: u16) -> bool {
        self.bytes(kind).is_some()
    }

    pub(crate) fn string(&self, kind: u16) -> Result<Option<String>> {
        let Some(value) = self.bytes(kind) else {
            return Ok(None);
        };
        let value = value.strip_suffix(&[0]).unwrap_or(value);
        let value = std::str::from_utf8(value)
            .map_err(|_| Error::Malformed(format!("attribute {kind} is no text")))?;
        Ok(Some(value.to_owned()))
    }

    pub(crate) fn nest(&self, kind: u16) -> Result<Option<Attrs<'a>>> {
        self.bytes(kind).map(Attrs::parse).transpose()
    }

    pub(crate) fn socket(&self, addr: u16, port: u16) -> Result<Option<SocketAddr>> {
        let (Some(addr), Some(port)) = (self.bytes(addr), self.fixed(port)?) else {
            return Ok(None);
        };
        let ip = if let Ok(v4) = <[u8; 4]>::try_from(addr) {
            IpAddr::from(v4)
        } else if let Ok(v6) = <[u8; 16]>::try_from(addr) {
            IpAddr::from(v6)
        } else {
            return Err(Error::Malformed(format!(
                "an address of {} bytes",
                addr.len()
            )));
        };
        Ok(Some(SocketAddr::new(ip, u16::from_be_bytes(port))))
    }
}

/// `value`, or an error that names what the kernel left out.
pub(crate) fn need<T>(value: Option<T>, name: &str) -> Result<T> {
    value.ok_or_else(|| Error::Malformed(format!("{name} is missing")))
}

/// The name of an attribute of `set`.
pub(crate) fn name_of(set: &AttrSet, kind: u16) -> String {
    let found = set.attrs.iter().find(|(k, ..)| *k == kind);
    found.map_or_else(
        || format!("attribute {kind}"),
        |(_, name, _)| (*name).to_owned(),
    )
}

/// The name of the attribute at `offset` of `message`, a request of ours with attributes of
/// `set`, and the set of what is in it.
pub(crate) fn locate<'s>(
    set: &'s AttrSet,
    message: &[u8],
    offset: usize,
) -> Option<(String, Nested<'s>)> {
    locate_in(
        Nested::Set(set),
        message.get(HEADERS..)?,
        offset.checked_sub(HEADERS)?,
    )
}

fn locate_in<'s>(nested: Nested<'s>, attrs: &[u8], offset: usize) -> Option<(String, Nested<'s>)> {
    let mut at = 0;
    for attr in NlasIterator::new(attrs) {
        let attr = attr.ok()?;
        let (kind, end) = (attr.kind(), at + usize::from(attr.length()));
        let (name, inner) = match nested {
            Nested::None => return None,
            Nested::Set(set) => {
                let (_, name, inner) = set.attrs.iter().find(|(k, ..)| *k == kind)?;
                ((*name).to_owned(), *inner)
            }
            Nested::Array(set) => (format!("[{kind}]"), Nested::Set(set)),
        };
        if offset == at {
            return Some((name, inner));
        }
        if offset < end {
            let value = attrs.get(at + NLA_HEADER_SIZE..end)?;
            let (rest, found) = locate_in(inner, value, offset.checked_sub(at + NLA_HEADER_SIZE)?)?;
            let dot = if rest.starts_with('[') { "" } else { "." };
            return Some((format!("{name}{dot}{rest}"), found));
        }
        at = align(end);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi_gen::{self as nl, BATCH_ATTRS, FLOW_ATTRS};

    #[cfg(target_endian = "little")]
    #[test]
    fn a_message_has_the_bytes_that_the_kernel_expects() {
        let mut w = Writer::new(nl::CMD_SERVICE_DEL, nl::FAMILY_VERSION);
        w.socket(
            nl::A_SERVICE_ADDR,
            nl::A_SERVICE_PORT,
            "192.0.2.1:80".parse().unwrap(),
        );
        let bytes = w.finish("service-del", 0x1c, 5, 7).unwrap();
        #[rustfmt::skip]
        assert_eq!(
            bytes,
            [
                36, 0, 0, 0,  0x1c, 0,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0, // nlmsghdr
                3, 1, 0, 0,                                             // genlmsghdr
                8, 0, 1, 0,  192, 0, 2, 1,                              // addr
                6, 0, 2, 0,  0, 80, 0, 0,                               // port, padding
            ]
        );
    }

    #[test]
    fn what_was_written_is_read() {
        let mut w = Writer::new(1, 1);
        w.u8(1, 0xab);
        w.u16(2, 0xabcd);
        w.u32(3, 0xdead_beef);
        w.u64(4, u64::MAX - 1);
        w.string(5, "five");
        w.flag(6, true);
        w.flag(7, false);
        w.nest(8, |w| w.u32(1, 1));
        w.socket(9, 10, "[2001:db8::1]:443".parse().unwrap());
        let bytes = w.finish("test", 16, 0, 0).unwrap();
        let a = Attrs::of_message(&bytes[NLMSG_HEADER..]).unwrap();
        assert_eq!(a.u8(1).unwrap(), Some(0xab));
        assert_eq!(a.u16(2).unwrap(), Some(0xabcd));
        assert_eq!(a.u32(3).unwrap(), Some(0xdead_beef));
        assert_eq!(a.u64(4).unwrap(), Some(u64::MAX - 1));
        assert_eq!(a.string(5).unwrap().as_deref(), Some("five"));
        assert!(a.flag(6) && !a.flag(7));
        assert_eq!(a.nest(8).unwrap().unwrap().u32(1).unwrap(), Some(1));
        assert_eq!(a.socket(9, 10).unwrap(), "[2001:db8::1]:443".parse().ok());
        assert!(a.u32(4).is_err(), "a wrong length is an error");
        assert_eq!(a.u32(99).unwrap(), None);
    }

    #[test]
    fn too_much_is_an_error_and_not_a_wrong_length() {
        let mut w = Writer::new(1, 1);
        w.bytes(1, &[0; 65532]);
        assert!(matches!(
            w.finish("test", 16, 0, 0),
            Err(Error::TooLong("test"))
        ));
        let mut w = Writer::new(1, 1);
        w.nest(1, |w| (0..3).for_each(|i| w.bytes(i, &[0; 30_000])));
        assert!(matches!(
            w.finish("test", 16, 0, 0),
            Err(Error::TooLong("test"))
        ));
    }

    #[test]
    fn an_attribute_is_found_by_its_offset() {
        let mut w = Writer::new(nl::CMD_FLOW_LOCATE, 1);
        w.u32(nl::A_FLOW_PROBE_SEQ, 1);
        let nest = w.len();
        w.nest(nl::A_FLOW_OPTIONS, |w| {
            w.u16(nl::A_OPTIONS_MSS, 1460);
            w.u8(nl::A_OPTIONS_WSCALE_CLIENT, 99);
        });
        let bytes = w.finish("flow-locate", 16, 0, 0).unwrap();
        let name = |offset| locate(&FLOW_ATTRS, &bytes, offset).map(|(name, _)| name);
        assert_eq!(name(HEADERS).as_deref(), Some("probe-seq"));
        assert_eq!(name(nest).as_deref(), Some("options"));
        assert_eq!(name(nest + 4 + 8).as_deref(), Some("options.wscale-client"));
        assert_eq!(name(nest + 5), None);
        assert_eq!(name(0), None);
        assert_eq!(name(1 << 20), None);
    }

    #[test]
    fn an_attribute_is_found_in_an_array() {
        let mut w = Writer::new(nl::CMD_FLOW_COMMIT, 1);
        let mut inner = 0;
        w.nest(nl::A_BATCH_RELEASE, |w| {
            w.nest(0, |w| w.u64(nl::A_RELEASE_ID, 1));
            w.nest(1, |w| {
                inner = w.len();
                w.u64(nl::A_RELEASE_ID, 2);
            });
        });
        let bytes = w.finish("flow-commit", 16, 0, 0).unwrap();
        let found = locate(&BATCH_ATTRS, &bytes, inner).map(|(name, _)| name);
        assert_eq!(found.as_deref(), Some("release[1].id"));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(Attrs::parse(&[1]).is_err());
        assert!(Attrs::parse(&[3, 0, 1, 0]).is_err());
        assert!(Attrs::parse(&[200, 0, 1, 0, 0, 0]).is_err());
        assert!(Attrs::of_message(&[0; 3]).is_err());
        assert!(Attrs::of_message(&[0; 4]).is_ok());
    }
}
