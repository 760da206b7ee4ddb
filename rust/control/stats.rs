// SPDX-License-Identifier: GPL-2.0

//! Counters.

use super::tenant;
use crate::hcore::counter::Counter;
use crate::net::genl::{Dump, Dumper, Info, Policy};
use crate::netlink_gen as nl;
use kernel::prelude::*;

/// `stats-get`.
pub(super) struct GetAll;

impl Dump for GetAll {
    const CMD: u8 = nl::CMD_STATS_GET;
    const POLICY: &'static [Policy] = &nl::STATS_GET_DUMP_POLICY;
    const ADMIN: bool = true;

    /// How many were written.
    type Cursor = usize;

    fn start(_info: &Info<'_>) -> Result<usize> {
        Ok(0)
    }

    fn dump(cursor: &mut usize, info: &Info<'_>, out: &mut Dumper<'_>) -> Result {
        let tenant = tenant(info)?;
        for counter in Counter::ALL.iter().skip(*cursor) {
            out.entry(Self::CMD, |w| {
                w.put_str(nl::A_STAT_NAME, counter.name())?;
                w.put_u64(nl::A_STAT_VALUE, tenant.namespace().counters.sum(*counter))
            })?;
            *cursor += 1;
        }
        Ok(())
    }
}
