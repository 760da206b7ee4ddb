#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""pingpong.py ADDRESS LOCAL PORT BYTES ROUNDS: one TCP connection from namespace "client", which is
LOCAL there, to one in "server", both ends in this one process, so that nothing waits for a
scheduler. A message to and fro is a round; each begins with the system call getppid, as a mark.

A line on standard input makes it play ROUNDS; it says the fastest one in nanoseconds.
"""

import os
import socket
import sys
import time


def inside(name: str) -> None:
    """Go into a namespace."""
    with open(f"/run/netns/{name}") as file:
        os.setns(file.fileno(), os.CLONE_NEWNET)


address, local, port, size, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
inside("server")
listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((address, port))
listener.listen()
inside("client")
client = socket.socket(family, socket.SOCK_STREAM)
client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
client.bind((local, port))
client.connect((address, port))
server, _ = listener.accept()
for end in (client, server):
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
message = b"x" * size
clock = time.perf_counter_ns


def play(rounds: int) -> int:
    fastest = 1 << 62
    for _ in range(rounds):
        os.getppid()
        before = clock()
        client.send(message)
        server.recv(size)
        server.send(message)
        client.recv(size)
        fastest = min(fastest, clock() - before)
    return fastest


# Behind slow start and quick acknowledgements.
play(100)
print("ready", flush=True)
for _ in sys.stdin:
    print(play(count), flush=True)
