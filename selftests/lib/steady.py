#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Downloads an object at a steady pace over one connection and says how long it ever waited.

usage: steady.py ADDRESS PATH FILE BYTES_PER_SECOND

Writes the body to FILE; prints the status and the longest wait for a byte in milliseconds.
The receive buffer is small, so that a pause of the server is seen and not read from memory.
"""

import socket
import sys
import time

PIECE = 16384


def main():
    address, path, name, rate = sys.argv[1:]
    pause = PIECE / int(rate)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.connect((address, 80))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: site\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(PIECE)
        if not data:
            raise SystemExit("closed in the head")
        head += data
    head, body = head.split(b"\r\n\r\n", 1)
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    left = int(fields["Content-Length"]) - len(body)
    longest = 0.0
    due = time.monotonic()
    with open(name, "wb", buffering=0) as out:
        out.write(body)
        while left > 0:
            before = time.monotonic()
            data = sock.recv(min(PIECE, left))
            longest = max(longest, time.monotonic() - before)
            if not data:
                raise SystemExit(f"closed {left} bytes before the end")
            out.write(data)
            left -= len(data)
            due = max(due + pause, time.monotonic())
            time.sleep(max(0, due - time.monotonic()))
    print(head.split(b" ")[1].decode(), int(longest * 1000))


main()
