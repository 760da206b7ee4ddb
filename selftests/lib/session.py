#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""session.py ADDRESS[,PORT] GATE PATH...: fetch each path over one connection, printing its SHA-256.

Before each request but the first it waits for a file GATE.1, GATE.2, ... to appear; "-" waits for
nothing. The connection is never opened again: what breaks it is an error.
"""

import hashlib
import http.client
import os
import sys
import time


def main() -> None:
    """All of it."""
    host, gate, *paths = sys.argv[1:]
    address, _, port = host.partition(",")
    # Longer than the longest time between two retransmissions.
    connection = http.client.HTTPConnection(address, int(port or 80), timeout=240)
    connection.connect()
    connection.auto_open = 0
    for number, path in enumerate(paths):
        while number and gate != "-" and not os.path.exists(f"{gate}.{number}"):
            time.sleep(0.05)
        connection.request("GET", path)
        response = connection.getresponse()
        digest = hashlib.sha256()
        while piece := response.read(1 << 16):
            digest.update(piece)
        print(response.status, digest.hexdigest(), flush=True)


main()
