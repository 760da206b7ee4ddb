#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""compare.py HOST PATH FILE PROGRESS: fetch a sparse object over one connection and compare it with
FILE as it comes, without storing it. The file PROGRESS appears once 4 GiB and a little have come."""

import http.client
import os
import sys

FAR = (4 << 30) + (256 << 20)
ZEROS = memoryview(bytes(1 << 20))


def main() -> None:
    """All of it."""
    host, path, name, progress = sys.argv[1:]
    connection = http.client.HTTPConnection(host, 80, timeout=120)
    connection.request("GET", path)
    connection.auto_open = 0
    response = connection.getresponse()
    at, buffer = 0, bytearray(len(ZEROS))
    view = memoryview(buffer)
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while got := response.readinto(view):
            # Most of it is a hole; only what is not is worth a look at the file.
            # (startswith() is memcmp(); memoryviews are compared one by one.)
            if not buffer.startswith(ZEROS[:got]) and buffer[:got] != os.pread(file.fileno(), got, at):
                sys.exit(f"other bytes between {at} and {at + got}")
            if at < FAR <= at + got:
                open(progress, "w").close()
            at += got
    if at != size:
        sys.exit(f"{at} bytes of {size}")


main()
