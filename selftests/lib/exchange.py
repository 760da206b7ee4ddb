#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""exchange.py serve ADDRESS FILE | call ADDRESS:PORT SERVER FILE: one connection to port 5000, on
which both sides send a file at once; each prints the SHA-256 of what it received."""

import hashlib
import socket
import sys
import threading
import time

PORT = 5000


def send(connection: socket.socket, path: str) -> None:
    """All of a file, then the end."""
    with open(path, "rb") as file:
        connection.sendfile(file)
    connection.shutdown(socket.SHUT_WR)


def main() -> None:
    """One side of it."""
    what, address, *rest = sys.argv[1:]
    family = socket.AF_INET6 if address.count(":") > 1 else socket.AF_INET
    if what == "serve":
        with socket.create_server((address, PORT), family=family) as listener:
            connection, _ = listener.accept()
    else:
        host, port = address.rsplit(":", 1)
        while True:
            try:
                connection = socket.create_connection((rest[0], PORT), 60, (host, int(port)))
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
    sender = threading.Thread(target=send, args=(connection, rest[-1]))
    sender.start()
    digest = hashlib.sha256()
    while piece := connection.recv(1 << 16):
        digest.update(piece)
    sender.join()
    print(digest.hexdigest())


main()
