// SPDX-License-Identifier: GPL-2.0

//! The error codes of networking, which `kernel::error::code` does not have.

use super::bindings;
use kernel::prelude::*;

pub(crate) use bindings::{
    ECONNABORTED, ENETDOWN, ENETUNREACH, ENOBUFS, ENOTCONN, EOPNOTSUPP, ESHUTDOWN, ESTALE,
};

/// The error of a code as C names it, a positive number.
pub(crate) fn errno(code: u32) -> Error {
    Error::from_errno(-(code as i32))
}
