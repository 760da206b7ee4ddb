#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""download.py FOLDER [READY GO LOG] < TABLE: clients that fetch files of FOLDER (lib/matrix.py).

A line of the table: name | namespace | address | outcome | words. The words: an outcome's reason in
quotes, and

    get=NAME         the file (default: big)
    want=NAME        with these bytes (default: the same)
    held=BYTES       of the answer before the server dies (default: 150000)
    idle             the server dies behind the answer, before another request for the same
    twice            another request for the same follows over the connection
    port=, local-port=   of the service, of the client
    again            the client had another connection from that port, which the server closed
    buffer=BYTES     its receive buffer
    stops            it reads no more until another server has had to wait for it
    unknown          no record tells of its connection
    leaves           it has the answer and has closed its direction before the server dies, and awaits the end
    half-close       it closes its direction behind the request
    keepalive        it sends keep-alive probes each second
    mptcp, fastopen  it offers these
    hops, options    IPv6 hop-by-hop or destination options in each packet
    padding=BYTES    more of request head
"""

import shlex
import socket
import struct
import sys
from pathlib import Path

from matrix import Body, Case, Exact, Matrix

HEADS = {6: {"hops": socket.IPV6_HOPOPTS, "options": socket.IPV6_DSTOPTS}}
PADN = struct.pack("BBBB4x", 0, 0, 1, 4)  # next header (the kernel's), length 8, PadN of 6
TCP_FASTOPEN_CONNECT = 30


def preparer(words: dict[str, str], version: int):
    """What is to be done to a socket before it connects."""

    def prepare(s: socket.socket) -> None:
        if "buffer" in words:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(words["buffer"]))
        if "keepalive" in words:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 60)
        if "fastopen" in words:
            s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        for word, option in HEADS.get(version, {}).items():
            if word in words:
                s.setsockopt(socket.IPPROTO_IPV6, option, PADN)

    return prepare


def once_before(made: Case) -> None:
    """A connection from the case's own port that the server closes."""
    with socket.create_connection((made.host, made.port), 30, ("", made.local_port)) as s:
        s.sendall(b"GET /index.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while s.recv(1 << 16):
            pass


def case(line: str, folder: Path) -> Case:
    """A line of the table."""
    name, namespace, host, outcome, more = (part.strip() for part in line.split("|"))
    why, words = "", {}
    for word in shlex.split(more):
        key, _, value = word.partition("=")
        if " " in word:
            why = word
        else:
            words[key] = value
    path = words.get("get", "big")
    data = (folder / words.get("want", path)).read_bytes()
    padding = "X: " + "y" * int(words["padding"]) + "\r\n" if "padding" in words else ""
    request = f"GET /{path} HTTP/1.1\r\nHost: x\r\n{padding}\r\n".encode()
    talk: list[tuple[bytes, Exact | Body]] = [(request, Body(data))] * (2 if {"idle", "twice"} & words.keys() else 1)
    made = Case(name, talk, None if {"idle", "leaves"} & words.keys() else int(words.get("held", 150_000)), outcome, why, host)
    made.port = int(words.get("port", 80))
    made.local_port = int(words.get("local-port", 0))
    made.namespace = namespace
    made.prepare = preparer(words, 6 if ":" in host else 4)
    made.before = once_before if "again" in words else None
    made.leaves = "leaves" in words
    made.half_close, made.stops, made.unknown = ("half-close" in words, "stops" in words, "unknown" in words)
    made.protocol = socket.IPPROTO_MPTCP if "mptcp" in words else 0
    return made


def main() -> None:
    """All of it."""
    table = [line for line in sys.stdin if line.strip()]
    Matrix([case(line, Path(sys.argv[1])) for line in table], sys.argv[2:]).run()


main()
