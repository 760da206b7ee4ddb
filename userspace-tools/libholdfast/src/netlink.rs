// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Generic netlink: find a family, ask it, hear it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::{
    NetlinkBuffer, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NLM_F_ACK, NLM_F_ACK_TLVS,
    NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use crate::attr::{locate, name_of, need, Attrs, Writer, NLMSG_HEADER};
use crate::error::{Error, Refusal, Result};
use crate::uapi_gen::{self as nl, AttrSet, Nested};

/// Room for one datagram. The kernel makes those of a dump no larger than 32 KiB; a reply
/// holds one object.
const RECEIVE: usize = 128 * 1024;

/// Room for a refusal in words.
const REFUSAL: usize = 1024;

// The controller of generic netlink (include/uapi/linux/genetlink.h), which has no crate of
// the size of these lines.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

// Extended acknowledgements (enum nlmsgerr_attrs).
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;
const NLMSGERR_ATTR_MISS_NEST: u16 = 6;

static NO_ATTRS: AttrSet = AttrSet { attrs: &[] };

/// A socket to the family.
pub(crate) struct Genl {
    socket: Socket,
    family: u16,
    sequence: u32,
}

/// All replies to a request.
#[derive(Debug)]
pub(crate) struct Replies {
    /// Messages without their netlink header.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Nothing changed while the kernel wrote them.
    pub(crate) consistent: bool,
}

impl Genl {
    /// Opens a socket and looks the family up. Its multicast groups are given by name and
    /// number.
    pub(crate) fn connect() -> Result<(Self, Vec<(String, u32)>)> {
        let open = || {
            let mut socket = Socket::new(NETLINK_GENERIC)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_ext_ack(true)?;
            // Errors need not repeat the request; we still have it.
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        let socket = open().map_err(Error::io("netlink socket"))?;
        let mut genl = Genl {
            socket,
            family: GENL_ID_CTRL,
            sequence: 0,
        };
        let mut request = Writer::new(CTRL_CMD_GETFAMILY, 1);
        request.string(CTRL_ATTR_FAMILY_NAME, nl::FAMILY_NAME);
        let replies = genl.send("getfamily", &NO_ATTRS, request);
        let replies = replies.map_err(|e| {
            if e.is_not_found() {
                Error::NotLoaded
            } else {
                e
            }
        })?;
        let reply = replies.messages.first().map(Vec::as_slice);
        let (family, groups) = family(need(reply, "the family")?)?;
        genl.family = family;
        Ok((genl, groups))
    }

    /// Sends a request and waits for all of its answer.
    pub(crate) fn ask(&mut self, cmd: u8, fill: impl FnOnce(&mut Writer)) -> Result<Replies> {
        let mut request = Writer::new(cmd, nl::FAMILY_VERSION);
        fill(&mut request);
        let (name, set) = nl::command(cmd).unwrap_or(("request", &NO_ATTRS));
        self.send(name, set, request)
    }

    /// Sends a request to which the kernel only answers if it refuses it.
    pub(crate) fn tell(&mut self, cmd: u8, request: Writer) -> Result<()> {
        let (name, set) = nl::command(cmd).unwrap_or(("request", &NO_ATTRS));
        let request = self.post(name, request, NLM_F_REQUEST)?;
        let mut exchange = Exchange::new(name, set, &request, self.sequence);
        let mut refusal = [0; REFUSAL];
        while !exchange.done {
            // It has answered before send() returned, if at all.
            match retry(|| self.socket.recv(&mut &mut refusal[..], libc::MSG_DONTWAIT)) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(Error::io(name)(e)),
                Ok(len) => exchange.feed(&refusal[..len])?,
            }
        }
        Ok(())
    }

    /// Asks for all objects.
    pub(crate) fn dump(&mut self, cmd: u8) -> Result<Replies> {
        self.dump_some(cmd, usize::MAX)
    }

    /// Asks for all objects and reads `most` of them. If there are more, the kernel still has
    /// the rest to say, and takes no other dump on this socket.
    pub(crate) fn dump_some(&mut self, cmd: u8, most: usize) -> Result<Replies> {
        let request = Writer::new(cmd, nl::FAMILY_VERSION);
        let (name, set) = nl::command(cmd).unwrap_or(("request", &NO_ATTRS));
        self.send_and_read(name, set, request, NLM_F_DUMP, most)
    }

    fn send(&mut self, command: &'static str, set: &AttrSet, request: Writer) -> Result<Replies> {
        self.send_and_read(command, set, request, 0, usize::MAX)
    }

    /// Reads the answer to its end, or until it has `most` messages.
    fn send_and_read(
        &mut self,
        command: &'static str,
        set: &AttrSet,
        request: Writer,
        flags: u16,
        most: usize,
    ) -> Result<Replies> {
        let request = self.post(command, request, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        let mut exchange = Exchange::new(command, set, &request, self.sequence);
        while !exchange.done && exchange.replies.messages.len() < most {
            exchange.feed(&self.receive().map_err(Error::io(command))?)?;
        }
        exchange.replies.messages.truncate(most);
        Ok(exchange.replies)
    }

    /// Sends a request under the next number; its bytes.
    fn post(&mut self, command: &'static str, request: Writer, flags: u16) -> Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request.finish(command, self.family, flags, self.sequence)?;
        retry(|| self.socket.send(&request, 0)).map_err(Error::io(command))?;
        Ok(request)
    }

    /// One datagram.
    pub(crate) fn receive(&self) -> std::io::Result<Vec<u8>> {
        let mut datagram = Vec::with_capacity(RECEIVE);
        let len = retry(|| self.socket.recv(&mut datagram, libc::MSG_TRUNC))?;
        if len > datagram.len() {
            return Err(std::io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        Ok(datagram)
    }

    pub(crate) fn subscribe(&self, group: u32) -> Result<()> {
        self.socket
            .add_membership(group)
            .map_err(Error::io("multicast group"))
    }

    pub(crate) fn set_nonblocking(&self, on: bool) -> Result<()> {
        self.socket
            .set_non_blocking(on)
            .map_err(Error::io("netlink socket"))
    }

    /// Number of the family.
    pub(crate) fn family(&self) -> u16 {
        self.family
    }
}

impl AsRawFd for Genl {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Genl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Calls again what a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Number of a family and names and numbers of its groups, as the controller tells them.
pub(crate) fn family(reply: &[u8]) -> Result<(u16, Vec<(String, u32)>)> {
    let attrs = Attrs::of_message(reply)?;
    let id = need(attrs.u16(CTRL_ATTR_FAMILY_ID)?, "the family's number")?;
    let mut groups = Vec::new();
    if let Some(array) = attrs.nest(CTRL_ATTR_MCAST_GROUPS)? {
        for (_, group) in array.iter() {
            let group = Attrs::parse(group)?;
            let name = need(group.string(CTRL_ATTR_MCAST_GRP_NAME)?, "a group's name")?;
            groups.push((
                name,
                need(group.u32(CTRL_ATTR_MCAST_GRP_ID)?, "a group's number")?,
            ));
        }
    }
    Ok((id, groups))
}

/// The messages of a datagram.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match NetlinkBuffer::new_checked(rest) {
            Ok(message) => {
                let len = (message.length() as usize).next_multiple_of(4);
                rest = rest.get(len..).unwrap_or(&[]);
                Some(Ok(message))
            }
            Err(e) => {
                rest = &[];
                Some(Err(Error::Malformed(e.to_string())))
            }
        }
    })
}

/// A request and what was answered so far.
pub(crate) struct Exchange<'a> {
    command: &'static str,
    set: &'a AttrSet,
    request: &'a [u8],
    sequence: u32,
    pub(crate) replies: Replies,
    pub(crate) done: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        command: &'static str,
        set: &'a AttrSet,
        request: &'a [u8],
        sequence: u32,
    ) -> Self {
        let replies = Replies {
            messages: Vec::new(),
            consistent: true,
        };
        Exchange {
            command,
            set,
            request,
            sequence,
            replies,
            done: false,
        }
    }

    /// Takes a datagram; with the last one, `done` is set.
    pub(crate) fn feed(&mut self, datagram: &[u8]) -> Result<()> {
        for message in messages(datagram) {
            let message = message?;
            if message.sequence_number() != self.sequence {
                // Of a request whose answer was given up.
                continue;
            }
            if message.flags() & NLM_F_DUMP_INTR != 0 {
                self.replies.consistent = false;
            }
            match message.message_type() {
                NLMSG_ERROR | NLMSG_DONE => {
                    self.done = true;
                    return self.verdict(&message);
                }
                NLMSG_NOOP | NLMSG_OVERRUN => {}
                _ => self.replies.messages.push(message.payload().to_vec()),
            }
        }
        Ok(())
    }

    /// The kernel's last word: an error number, and attributes that explain it.
    fn verdict(&self, message: &NetlinkBuffer<&[u8]>) -> Result<()> {
        let payload = message.payload();
        let Some((code, rest)) = payload.split_first_chunk::<4>() else {
            // The end of a dump may come without a number.
            return Ok(());
        };
        let errno = i32::from_ne_bytes(*code).wrapping_neg();
        if errno == 0 {
            return Ok(());
        }
        let mut refusal = Refusal {
            command: self.command,
            errno,
            message: None,
            attribute: None,
            missing: None,
        };
        if message.flags() & NLM_F_ACK_TLVS != 0 {
            // An error quotes the header of the request, or all of it; the end of a dump
            // quotes nothing.
            let quoted = match message.message_type() {
                NLMSG_DONE => 0,
                _ if message.flags() & NLM_F_CAPPED != 0 => NLMSG_HEADER,
                _ => self.request.len().next_multiple_of(4),
            };
            if let Ok(attrs) = Attrs::parse(rest.get(quoted..).unwrap_or(&[])) {
                self.explain(&mut refusal, &attrs)?;
            }
        }
        Err(Error::Refused(refusal))
    }

    fn explain(&self, refusal: &mut Refusal, attrs: &Attrs<'_>) -> Result<()> {
        refusal.message = attrs.string(NLMSGERR_ATTR_MSG)?;
        let find = |offset: u32| locate(self.set, self.request, offset as usize);
        if let Some(offset) = attrs.u32(NLMSGERR_ATTR_OFFS)? {
            refusal.attribute = find(offset).map(|(name, _)| name);
        }
        if let Some(kind) = attrs.u32(NLMSGERR_ATTR_MISS_TYPE)? {
            let nest = attrs.u32(NLMSGERR_ATTR_MISS_NEST)?.and_then(find);
            // An attribute number has 16 bits.
            let kind = kind as u16;
            refusal.missing = Some(match nest {
                Some((path, Nested::Set(set))) => format!("{path}.{}", name_of(set, kind)),
                _ => name_of(self.set, kind),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of the kernel.
    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(
            u32::try_from(NLMSG_HEADER + payload.len())
                .unwrap()
                .to_ne_bytes(),
        );
        out.extend(kind.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend(0u32.to_ne_bytes());
        out.extend(payload);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// Attributes as the payload of a message.
    fn attrs(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::new(0, 0);
        fill(&mut w);
        w.finish("test", 0, 0, 0).unwrap()[crate::attr::HEADERS..].to_vec()
    }

    fn request() -> Vec<u8> {
        let mut w = Writer::new(nl::CMD_SERVICE_ADD, 1);
        w.u32(nl::A_SERVICE_MODE, 9);
        w.u32(nl::A_SERVICE_COMMIT, 9);
        w.finish("service-add", 30, 5, 3).unwrap()
    }

    fn refused(request: &[u8], kind: u16, flags: u16, payload: &[u8]) -> Refusal {
        let mut e = Exchange::new("service-add", &nl::SERVICE_ATTRS, request, 3);
        match e.feed(&message(kind, flags, 3, payload)) {
            Err(Error::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_and_its_acknowledgement_end_an_exchange() {
        let request = request();
        let mut e = Exchange::new("service-add", &nl::SERVICE_ATTRS, &request, 3);
        e.feed(&message(30, 0, 2, b"late")).unwrap();
        e.feed(&message(30, 0, 3, b"once")).unwrap();
        assert!(!e.done);
        e.feed(&message(NLMSG_ERROR, NLM_F_CAPPED, 3, &[0; 20]))
            .unwrap();
        assert!(e.done && e.replies.consistent);
        assert_eq!(e.replies.messages, [b"once".to_vec()]);
    }

    #[test]
    fn a_dump_that_was_interrupted_says_so() {
        let request = request();
        let mut e = Exchange::new("service-get", &nl::SERVICE_ATTRS, &request, 3);
        let two = [
            message(30, 2, 3, b"one."),
            message(30, 2 | NLM_F_DUMP_INTR, 3, b"two."),
        ];
        e.feed(&two.concat()).unwrap();
        e.feed(&message(NLMSG_DONE, 2, 3, &[0; 4])).unwrap();
        assert!(e.done && !e.replies.consistent);
        assert_eq!(e.replies.messages.len(), 2);
    }

    #[test]
    fn a_refusal_has_the_words_and_the_attribute() {
        let request = request();
        let offset = (crate::attr::HEADERS + 8) as u32;
        let tlvs = attrs(|w| {
            w.string(NLMSGERR_ATTR_MSG, "it is either eager or strict");
            w.u32(NLMSGERR_ATTR_OFFS, offset);
        });
        let code = (-libc::EINVAL).to_ne_bytes();
        let capped = [&code[..], &request[..NLMSG_HEADER], &tlvs].concat();
        let full = [&code[..], &request, &tlvs].concat();
        let flags = NLM_F_ACK_TLVS | NLM_F_CAPPED;
        for r in [
            refused(&request, NLMSG_ERROR, flags, &capped),
            refused(&request, NLMSG_ERROR, NLM_F_ACK_TLVS, &full),
            refused(
                &request,
                NLMSG_DONE,
                NLM_F_ACK_TLVS,
                &[&code[..], &tlvs].concat(),
            ),
        ] {
            assert_eq!(r.errno, libc::EINVAL);
            assert_eq!(r.message.as_deref(), Some("it is either eager or strict"));
            assert_eq!(r.attribute.as_deref(), Some("commit"));
        }
    }

    #[test]
    fn a_missing_attribute_has_its_name() {
        let request = request();
        let tlvs = attrs(|w| w.u32(NLMSGERR_ATTR_MISS_TYPE, nl::A_SERVICE_ADDR.into()));
        let code = (-libc::EINVAL).to_ne_bytes();
        let payload = [&code[..], &request[..NLMSG_HEADER], &tlvs].concat();
        let r = refused(
            &request,
            NLMSG_ERROR,
            NLM_F_ACK_TLVS | NLM_F_CAPPED,
            &payload,
        );
        assert_eq!(r.missing.as_deref(), Some("addr"));
    }

    #[test]
    fn the_family_and_its_groups_are_read() {
        let mut reply = vec![1, 2, 0, 0];
        reply.extend(attrs(|w| {
            w.u16(CTRL_ATTR_FAMILY_ID, 31);
            w.nest(CTRL_ATTR_MCAST_GROUPS, |w| {
                w.nest(1, |w| {
                    w.u32(CTRL_ATTR_MCAST_GRP_ID, 12);
                    w.string(CTRL_ATTR_MCAST_GRP_NAME, "events");
                });
            });
        }));
        assert_eq!(
            family(&reply).unwrap(),
            (31, vec![("events".to_owned(), 12)])
        );
    }

    #[test]
    fn garbage_from_the_kernel_is_an_error() {
        let request = request();
        let mut e = Exchange::new("service-add", &nl::SERVICE_ATTRS, &request, 3);
        assert!(matches!(e.feed(&[1, 2, 3]), Err(Error::Malformed(_))));
        let mut short = message(30, 0, 3, b"data");
        short[0] = 200;
        assert!(matches!(e.feed(&short), Err(Error::Malformed(_))));
    }
}
