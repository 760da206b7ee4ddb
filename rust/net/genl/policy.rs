// SPDX-License-Identifier: GPL-2.0

//! What attributes may be.

use super::bindings;
use core::mem::{offset_of, size_of};

/// The limits of an unsigned integer attribute, where they do not fit in a [`Policy`] itself.
#[repr(transparent)]
pub(crate) struct Range(bindings::netlink_range_validation);

impl Range {
    /// From `min` to `max`, both allowed.
    pub(crate) const fn new(min: u64, max: u64) -> Self {
        assert!(min <= max);
        Self(bindings::netlink_range_validation { min, max })
    }
}

/// What one attribute may be: its type, and limits to its value or length.
///
/// A table of them, indexed by attribute number, is a static:
///
/// ```ignore
/// pub(crate) static FLOW: [Policy; FLOW_MAX + 1] = {
///     let mut t = [Policy::reject(); FLOW_MAX + 1];
///     t[FLOW_PORT as usize] = Policy::be16();
///     t[FLOW_ADDR as usize] = Policy::binary_exact(16);
///     t[FLOW_STATE as usize] = Policy::u8().max(4);
///     t
/// };
/// ```
///
/// Limits of the wrong kind, or out of order, fail to compile.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Policy {
    // As `struct nla_policy`; by hand, because bindgen does not know that its union can be copied.
    kind: u8,
    validation: u8,
    len: u16,
    arg: Arg,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Limits {
    min: i16,
    max: i16,
}

#[derive(Clone, Copy)]
#[repr(C)]
union Arg {
    none: u64,
    limits: Limits,
    mask: u32,
    nested: *const Policy,
    range: *const Range,
}

// rust/helpers/genl.c asserts the same of the C structure.
const _: () = {
    assert!(size_of::<Policy>() == 16);
    assert!(offset_of!(Policy, kind) == 0);
    assert!(offset_of!(Policy, validation) == 1);
    assert!(offset_of!(Policy, len) == 2);
    assert!(offset_of!(Policy, arg) == 8);
};

// SAFETY: It is never changed once it is in a static, and what it points to is static.
unsafe impl Sync for Policy {}
// SAFETY: As above.
unsafe impl Send for Policy {}

impl Policy {
    const fn of(kind: u32) -> Self {
        Self::of_len(kind, 0)
    }

    const fn of_len(kind: u32, len: usize) -> Self {
        assert!(len <= u16::MAX as usize);
        Self {
            kind: kind as u8,
            validation: bindings::nla_policy_validation_NLA_VALIDATE_NONE as u8,
            len: len as u16,
            arg: Arg { none: 0 },
        }
    }

    const fn is_uint(&self) -> bool {
        matches!(
            self.kind as u32,
            bindings::NLA_U8
                | bindings::NLA_U16
                | bindings::NLA_U32
                | bindings::NLA_U64
                | bindings::NLA_UINT
                | bindings::NLA_BE16
                | bindings::NLA_BE32
        )
    }

    /// Not allowed here. What a table should be full of at first.
    pub(crate) const fn reject() -> Self {
        Self::of(bindings::NLA_REJECT)
    }

    /// An `u8`.
    pub(crate) const fn u8() -> Self {
        Self::of(bindings::NLA_U8)
    }

    /// An `u16`, host order.
    pub(crate) const fn u16() -> Self {
        Self::of(bindings::NLA_U16)
    }

    /// An `u32`, host order.
    pub(crate) const fn u32() -> Self {
        Self::of(bindings::NLA_U32)
    }

    /// An `u64`, host order.
    pub(crate) const fn u64() -> Self {
        Self::of(bindings::NLA_U64)
    }

    /// An unsigned integer in four or eight bytes, host order (`uint` in a specification).
    pub(crate) const fn uint() -> Self {
        Self::of(bindings::NLA_UINT)
    }

    /// A 16 bit integer in network order. Limits are to its value, in host order.
    pub(crate) const fn be16() -> Self {
        Self::of(bindings::NLA_BE16)
    }

    /// A 32 bit integer in network order. Limits are to its value, in host order.
    pub(crate) const fn be32() -> Self {
        Self::of(bindings::NLA_BE32)
    }

    /// An `i32`, host order. Takes no limits.
    pub(crate) const fn s32() -> Self {
        Self::of(bindings::NLA_S32)
    }

    /// There or not there; without a value.
    pub(crate) const fn flag() -> Self {
        Self::of(bindings::NLA_FLAG)
    }

    /// A string with its NUL, of up to `max` bytes without it.
    pub(crate) const fn string(max: usize) -> Self {
        Self::of_len(bindings::NLA_NUL_STRING, max)
    }

    /// Up to `max` bytes.
    pub(crate) const fn binary(max: usize) -> Self {
        Self::of_len(bindings::NLA_BINARY, max)
    }

    /// Exactly `len` bytes.
    pub(crate) const fn binary_exact(len: usize) -> Self {
        Self::binary_range(len, len)
    }

    /// From `min` to `max` bytes.
    pub(crate) const fn binary_range(min: usize, max: usize) -> Self {
        assert!(min <= i16::MAX as usize && max <= i16::MAX as usize);
        Self::of(bindings::NLA_BINARY).limits(
            bindings::nla_policy_validation_NLA_VALIDATE_RANGE,
            min as i16,
            max as i16,
        )
    }

    /// Attributes by another table.
    pub(crate) const fn nested(table: &'static [Policy]) -> Self {
        Self::of_table(bindings::NLA_NESTED, table)
    }

    /// Any number of attributes (their numbers do not matter) with attributes by another table.
    pub(crate) const fn nested_array(table: &'static [Policy]) -> Self {
        Self::of_table(bindings::NLA_NESTED_ARRAY, table)
    }

    const fn of_table(kind: u32, table: &'static [Policy]) -> Self {
        assert!(!table.is_empty());
        let mut p = Self::of_len(kind, table.len() - 1);
        p.arg.nested = table.as_ptr();
        p
    }

    const fn limited(mut self, how: bindings::nla_policy_validation, arg: Arg) -> Self {
        assert!(
            self.validation as u32 == bindings::nla_policy_validation_NLA_VALIDATE_NONE,
            "one limit only: use range() for two"
        );
        self.validation = how as u8;
        self.arg = arg;
        self
    }

    const fn limits(self, how: bindings::nla_policy_validation, min: i16, max: i16) -> Self {
        self.limited(
            how,
            Arg {
                limits: Limits { min, max },
            },
        )
    }

    /// At least `min`.
    #[must_use]
    pub(crate) const fn min(self, min: i16) -> Self {
        assert!(self.is_uint() && min >= 0);
        self.limits(bindings::nla_policy_validation_NLA_VALIDATE_MIN, min, 0)
    }

    /// At most `max`.
    #[must_use]
    pub(crate) const fn max(self, max: i16) -> Self {
        assert!(self.is_uint() && max >= 0);
        self.limits(bindings::nla_policy_validation_NLA_VALIDATE_MAX, 0, max)
    }

    /// From `min` to `max`.
    #[must_use]
    pub(crate) const fn range(self, min: i16, max: i16) -> Self {
        assert!(self.is_uint() && 0 <= min && min <= max);
        self.limits(bindings::nla_policy_validation_NLA_VALIDATE_RANGE, min, max)
    }

    /// As [`Policy::range`], for limits that do not fit there.
    #[must_use]
    pub(crate) const fn full_range(self, range: &'static Range) -> Self {
        assert!(self.is_uint());
        self.limited(
            bindings::nla_policy_validation_NLA_VALIDATE_RANGE_PTR,
            Arg { range },
        )
    }

    /// With none but these bits set.
    #[must_use]
    pub(crate) const fn mask(self, mask: u32) -> Self {
        assert!(self.is_uint());
        self.limited(
            bindings::nla_policy_validation_NLA_VALIDATE_MASK,
            Arg { mask },
        )
    }

    /// A table as C wants it.
    pub(super) const fn table(table: &'static [Policy]) -> *const bindings::nla_policy {
        table.as_ptr().cast()
    }

    /// The highest attribute number of a table.
    pub(super) const fn max_attr(table: &'static [Policy]) -> u32 {
        assert!(!table.is_empty());
        (table.len() - 1) as u32
    }
}
