#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Joins the family's multicast groups, if whoever runs it may: prints "joined" or the error."""

import errno

from genl import SOL_NETLINK, Family

NETLINK_ADD_MEMBERSHIP = 1


def main() -> None:
    """All of it."""
    family = Family()
    assert family.groups, "no groups"
    for group in family.groups.values():
        try:
            family.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            print(errno.errorcode[error.errno])
            return
    print("joined")


main()
