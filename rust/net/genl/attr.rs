// SPDX-License-Identifier: GPL-2.0

//! Requests, as handlers read them.

use super::{bindings, Net};
use core::{marker::PhantomData, ops::Deref, ptr};
use kernel::prelude::*;

const HDR_LEN: usize = core::mem::size_of::<bindings::nlattr>();

/// One attribute of a request.
///
/// The readers return `None` if the value has another length than the type. The policy sees to it
/// that it does not, so where an attribute has one, [`Attrs`] has readers that are shorter to use.
///
/// # Invariants
///
/// `nla` points at an attribute within a netlink message that lives during `'a`, and its length
/// has been checked against the message's.
#[derive(Clone, Copy)]
pub(crate) struct Attr<'a> {
    nla: *const bindings::nlattr,
    _msg: PhantomData<&'a [u8]>,
}

impl<'a> Attr<'a> {
    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        // SAFETY: By the type invariant.
        let number = unsafe { (*self.nla).nla_type };
        number & bindings::NLA_TYPE_MASK as u16
    }

    /// Its value.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        // SAFETY: By the type invariant.
        let len = usize::from(unsafe { (*self.nla).nla_len }).saturating_sub(HDR_LEN);
        // SAFETY: By the type invariant the value lies behind the header, `len` bytes long. The
        // message is the kernel's own copy, and nobody writes to it.
        unsafe { core::slice::from_raw_parts(self.nla.cast::<u8>().add(HDR_LEN), len) }
    }

    /// Its value, of exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.bytes().try_into().ok()
    }

    /// Its value, an `u8`.
    pub(crate) fn u8(&self) -> Option<u8> {
        self.array().map(u8::from_ne_bytes)
    }

    /// Its value, an `u16` in host order.
    pub(crate) fn u16(&self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    /// Its value, an `u32` in host order.
    pub(crate) fn u32(&self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Its value, an `i32` in host order.
    pub(crate) fn s32(&self) -> Option<i32> {
        self.array().map(i32::from_ne_bytes)
    }

    /// Its value, an `u64` in host order.
    pub(crate) fn u64(&self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Its value, an unsigned integer of four or eight bytes in host order.
    pub(crate) fn uint(&self) -> Option<u64> {
        self.u64().or(self.u32().map(u64::from))
    }

    /// Its value, 16 bits in network order; returned in host order.
    pub(crate) fn be16(&self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Its value, 32 bits in network order; returned in host order.
    pub(crate) fn be32(&self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Its value, a string, without the NUL. Not necessarily UTF-8.
    pub(crate) fn string(&self) -> &'a [u8] {
        let bytes = self.bytes();
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        &bytes[..end]
    }

    /// The attributes in it, whose policy has been checked together with its own.
    fn children(&self) -> Children<'a> {
        Children { rest: self.bytes() }
    }
}

/// The attributes one after the other in a nest.
struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Children<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let len = u16::from_ne_bytes(*self.rest.first_chunk()?);
        let len = usize::from(len);
        if len < HDR_LEN || len > self.rest.len() {
            return None;
        }
        // Netlink aligns attributes to four bytes, from the begin of the message.
        let nla = self.rest.as_ptr().cast();
        let next = len.next_multiple_of(4).min(self.rest.len());
        self.rest = &self.rest[next..];
        // INVARIANT: The length was checked.
        Some(Attr {
            nla,
            _msg: PhantomData,
        })
    }
}

/// Where attributes are looked up.
#[derive(Clone, Copy)]
enum Lookup<'a> {
    /// In the array that generic netlink made of a request: so many pointers, each null or valid.
    Parsed(*const *mut bindings::nlattr, usize),
    /// In a nest.
    Nest(Attr<'a>),
}

/// The attributes of a request, or of a nest in it.
///
/// The readers come in pairs: `u32` for what may be missing, and `need_u32` for what may not, which
/// tells the requester what it is that is missing.
///
/// # Invariants
///
/// `extack` is null or valid during `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Attrs<'a> {
    lookup: Lookup<'a>,
    extack: *mut bindings::netlink_ext_ack,
}

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident, $need:ident -> $type:ty;)*) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name(&self, number: u16) -> Option<$type> {
                self.get(number)?.$name()
            }

            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// `EINVAL` if it is missing.
            pub(crate) fn $need(&self, number: u16) -> Result<$type> {
                self.need(number)?.$name().ok_or(EINVAL)
            }
        )*
    };
}

impl<'a> Attrs<'a> {
    /// The attribute of this number. Of several, the last, as in C.
    pub(crate) fn get(&self, number: u16) -> Option<Attr<'a>> {
        match self.lookup {
            Lookup::Parsed(table, len) => {
                if usize::from(number) >= len {
                    return None;
                }
                // SAFETY: By the invariant of `Parsed`.
                let nla = unsafe { *table.add(usize::from(number)) };
                // INVARIANT: Checked by the parser.
                (!nla.is_null()).then_some(Attr {
                    nla,
                    _msg: PhantomData,
                })
            }
            Lookup::Nest(nest) => nest.children().filter(|a| a.number() == number).last(),
        }
    }

    /// The attribute of this number.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is missing.
    pub(crate) fn need(&self, number: u16) -> Result<Attr<'a>> {
        self.get(number).ok_or_else(|| {
            let nest = match self.lookup {
                Lookup::Parsed(..) => ptr::null(),
                Lookup::Nest(nest) => nest.nla,
            };
            // SAFETY: By the type invariants of `Self` and `Attr`.
            unsafe { bindings::hf_nl_set_err_attr_miss(self.extack, nest, number) };
            EINVAL
        })
    }

    /// Whether it is there: how to read a flag.
    pub(crate) fn has(&self, number: u16) -> bool {
        self.get(number).is_some()
    }

    readers! {
        /// An `u8`.
        u8, need_u8 -> u8;
        /// An `u16` in host order.
        u16, need_u16 -> u16;
        /// An `u32` in host order.
        u32, need_u32 -> u32;
        /// An `i32` in host order.
        s32, need_s32 -> i32;
        /// An `u64` in host order.
        u64, need_u64 -> u64;
        /// An unsigned integer of four or eight bytes in host order.
        uint, need_uint -> u64;
        /// 16 bits in network order; returned in host order.
        be16, need_be16 -> u16;
        /// 32 bits in network order; returned in host order.
        be32, need_be32 -> u32;
    }

    /// A value of exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&self, number: u16) -> Option<[u8; N]> {
        self.get(number)?.array()
    }

    /// A value of exactly `N` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is missing.
    pub(crate) fn need_array<const N: usize>(&self, number: u16) -> Result<[u8; N]> {
        self.need(number)?.array().ok_or(EINVAL)
    }

    /// Bytes.
    pub(crate) fn bytes(&self, number: u16) -> Option<&'a [u8]> {
        Some(self.get(number)?.bytes())
    }

    /// Bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is missing.
    pub(crate) fn need_bytes(&self, number: u16) -> Result<&'a [u8]> {
        Ok(self.need(number)?.bytes())
    }

    /// The attributes in a nest.
    pub(crate) fn nest(&self, number: u16) -> Option<Attrs<'a>> {
        Some(self.within(self.get(number)?))
    }

    /// The attributes in a nest.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is missing.
    pub(crate) fn need_nest(&self, number: u16) -> Result<Attrs<'a>> {
        Ok(self.within(self.need(number)?))
    }

    /// The attributes of each attribute in a nest ([`Policy::nested_array`](super::Policy)).
    pub(crate) fn nests(&self, number: u16) -> impl Iterator<Item = Attrs<'a>> {
        let this = *self;
        self.get(number)
            .into_iter()
            .flat_map(|array| array.children())
            .map(move |nest| this.within(nest))
    }

    fn within(&self, nest: Attr<'a>) -> Attrs<'a> {
        Attrs {
            lookup: Lookup::Nest(nest),
            extack: self.extack,
        }
    }

    /// Tells the requester what is wrong, and with which attribute. Returns `error`, to be used as
    /// `return Err(info.error(FLOW_PORT, c"the port must not be 0", EINVAL))`.
    pub(crate) fn error(&self, number: u16, message: &'static CStr, error: Error) -> Error {
        let nla = self.get(number).map_or(ptr::null(), |a| a.nla);
        self.set_error(nla, message);
        error
    }

    /// As [`Attrs::error`], for what is wrong with no single attribute: in a nest, with the nest.
    pub(crate) fn error_all(&self, message: &'static CStr, error: Error) -> Error {
        let nla = match self.lookup {
            Lookup::Parsed(..) => ptr::null(),
            Lookup::Nest(nest) => nest.nla,
        };
        self.set_error(nla, message);
        error
    }

    fn set_error(&self, nla: *const bindings::nlattr, message: &'static CStr) {
        // SAFETY: By the type invariants of `Self` and `Attr`. The message is static: it is read
        // when the acknowledgement is sent, which is under generic netlink's lock (for a dump, with
        // a reference to the module).
        unsafe { bindings::hf_nl_set_err_msg_attr(self.extack, nla, message.as_char_ptr()) }
    }
}

/// A request.
///
/// # Invariants
///
/// `info` is valid during `'a`.
pub(crate) struct Info<'a> {
    info: *mut bindings::genl_info,
    attrs: Attrs<'a>,
}

impl<'a> Info<'a> {
    /// # Safety
    ///
    /// `info` must be valid during `'a`, with attributes that are null or an array of `len`.
    pub(super) unsafe fn from_raw(info: *mut bindings::genl_info, len: usize) -> Self {
        // SAFETY: By the contract of this function.
        let (table, extack) = unsafe { ((*info).attrs, (*info).extack) };
        // INVARIANT: By the contract of this function.
        Self {
            info,
            attrs: Attrs {
                lookup: Lookup::Parsed(table, if table.is_null() { 0 } else { len }),
                extack,
            },
        }
    }

    /// The network namespace of the requester's socket, which keeps it alive.
    pub(crate) fn net(&self) -> &Net {
        // SAFETY: By the type invariant; the socket holds a reference to its namespace.
        unsafe { Net::from_raw(bindings::hf_genl_info_net(self.info)) }
    }

    /// The requester's address.
    pub(crate) fn portid(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { (*self.info).snd_portid }
    }

    /// The request's sequence number.
    pub(crate) fn seq(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { (*self.info).snd_seq }
    }

    /// Whether the requester wants to hear of what it did itself (`NLM_F_ECHO`).
    pub(crate) fn wants_echo(&self) -> bool {
        // SAFETY: By the type invariant; a request has a header.
        let flags = unsafe { (*(*self.info).nlhdr).nlmsg_flags };
        u32::from(flags) & bindings::NLM_F_ECHO != 0
    }

    /// The C structure.
    pub(super) fn as_ptr(&self) -> *mut bindings::genl_info {
        self.info
    }
}

/// The attributes of the request.
impl<'a> Deref for Info<'a> {
    type Target = Attrs<'a>;

    fn deref(&self) -> &Attrs<'a> {
        &self.attrs
    }
}
