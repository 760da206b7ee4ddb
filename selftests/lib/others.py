#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""others.py serve | ask ADDRESS FOLDER [READY GO LOG]: what is not a download by plain HTTP/1.

`serve`: on port 81 a WebSocket that echoes; on port 82 a server that speaks first and then echoes
lines; on port 83 one that takes uploads and answers with their SHA-256.
"""

import base64
import hashlib
import os
import re
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from matrix import Case, Exact, Matrix

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SMALL = 20  # messages, and pieces of an upload, of a client whose server lives
PIECE = 1 << 16


def read_head(stream) -> bytes:
    """Up to an empty line."""
    lines = [stream.readline()]
    while lines[-1].strip():
        lines.append(stream.readline())
    return b"".join(lines)


def accept_key(key: bytes) -> bytes:
    """RFC 6455, section 4.2.2."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def serve_websocket(connection: socket.socket) -> None:
    """Echo short messages."""
    stream = connection.makefile("rb")
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", read_head(stream))
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key[1]) + b"\r\n\r\n"
    )
    while len(frame := stream.read(6)) == 6:
        body = bytes(b ^ frame[2 + n % 4] for n, b in enumerate(stream.read(frame[1] & 0x7F)))
        connection.sendall(struct.pack("BB", 0x82, len(body)) + body)


def serve_lines(connection: socket.socket) -> None:
    """Speak first, as mail servers do."""
    connection.sendall(b"220 ready\r\n")
    for line in connection.makefile("rb"):
        connection.sendall(line)


def serve_upload(connection: socket.socket) -> None:
    """Take one, and say what it was."""
    stream = connection.makefile("rb")
    length = re.search(rb"(?i)content-length: *(\d+)", read_head(stream))
    digest = hashlib.sha256(stream.read(int(length[1]))).hexdigest().encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + digest)


def serve() -> None:
    """For ever, on all addresses."""

    def listen(port: int, talk) -> None:
        def one(connection: socket.socket) -> None:
            with connection:
                talk(connection)

        with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    for port, talk in (81, serve_websocket), (82, serve_lines):
        threading.Thread(target=listen, args=(port, talk), daemon=True).start()
    listen(83, serve_upload)


def rounds(matrix: Matrix, case: Case):
    """Numbers, without end unless nobody is to die; the server may die from the tenth on."""
    number = 0
    while not matrix.calm or number < SMALL:
        if number == SMALL // 2:
            case.ready.set()
        yield number
        number += 1
        time.sleep(0 if matrix.calm else 0.05)


def websocket(matrix: Matrix, case: Case, s: socket.socket) -> str:
    """Messages and their echoes."""
    stream = s.makefile("rb")
    key = base64.b64encode(os.urandom(16))
    s.sendall(
        b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
    )
    head = read_head(stream)
    if accept_key(key) not in head:
        return "wrong" if head else "closed"
    for number in rounds(matrix, case):
        body, mask = b"message %d" % number, os.urandom(4)
        masked = bytes(b ^ mask[n % 4] for n, b in enumerate(body))
        s.sendall(struct.pack("BB", 0x82, 0x80 | len(body)) + mask + masked)
        got = stream.read(2 + len(body))
        if got != struct.pack("BB", 0x82, len(body)) + body:
            return "wrong" if got else "closed"
    return "continued"


def lines(matrix: Matrix, case: Case, s: socket.socket) -> str:
    """A greeting, then lines and their echoes."""
    stream = s.makefile("rb")
    if stream.readline() != b"220 ready\r\n":
        return "wrong"
    for number in rounds(matrix, case):
        s.sendall(b"line %d\r\n" % number)
        got = stream.readline()
        if got != b"line %d\r\n" % number:
            return "wrong" if got else "closed"
    return "continued"


def upload(matrix: Matrix, case: Case, s: socket.socket) -> str:
    """Pieces of a body, and the SHA-256 of all of them."""
    body = os.urandom(PIECE)
    count = SMALL if matrix.calm else 10_000
    s.sendall(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (count * PIECE))
    digest = hashlib.sha256()
    for number, _ in zip(rounds(matrix, case), range(count)):
        s.sendall(body)
        digest.update(body)
    got = s.makefile("rb").read(10_000 if not matrix.calm else len(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n") + 64)
    return "continued" if got.endswith(digest.hexdigest().encode()) else "wrong"


def main() -> None:
    """All of it."""
    if sys.argv[1] == "serve":
        serve()
    host, folder = sys.argv[2], Path(sys.argv[3])
    calm = len(sys.argv) == 4
    data = (folder / "www/big").read_bytes()
    url = f"[{host}]" if ":" in host else host

    def act(name: str, port: int, what, why: str) -> Case:
        return Case(name, [], outcome="reset", why=f"unprotected ({why})", host=host, port=port, act=what)

    def curl(number: int, name: str, scheme: str, why: str, *options: str) -> Case:
        # A port that no client before had, in either pass and over either protocol.
        port = 45_000 + 200 * (":" in host) + 100 * calm + number
        pace = [] if calm else ["--limit-rate", "100k"]
        call = ["curl", "-sSk", *options, *pace, "--local-port", str(port), f"{scheme}://{url}/big", "-o", f"{folder}/got.{port}.{len(host)}"]
        talk = [(b"", Exact(data))]
        return Case(name, talk, 200_000, "reset", f"unprotected ({why})", host, command=call, local_port=port)

    table = [
        curl(1, "TLS", "https", "tls", "--http1.1"),
        curl(2, "HTTP/2 under TLS", "https", "tls", "--http2"),
        curl(3, "HTTP/2, known before", "http", "http2", "--http2-prior-knowledge"),
        curl(4, "HTTP/2 by upgrade", "http", "upgrade", "--http2"),
        act("WebSocket", 81, websocket, "upgrade"),
        act("server speaks first", 82, lines, "out-of-step"),
        act("upload", 83, upload, "method"),
    ]
    Matrix(table, sys.argv[4:]).run()


main()
