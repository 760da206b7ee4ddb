#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""signed.py serve | ask ADDRESS: a connection to port 82 with TCP-MD5 signatures (RFC 2385), which
echoes; signed.py lose ADDRESS READY GO: one whose server dies between these files, what is said of it
within a minute; signed.py flood ADDRESS: SYNs from many invented clients to port 80, until killed."""

import os
import random
import socket
import struct
import sys
import threading
import time

PORT = 82
TCP_MD5SIG_EXT, PREFIX = 32, 1  # with a prefix: any peer
BYTES = 1 << 18


def sign(s: socket.socket, family: int) -> None:
    """struct tcp_md5sig: address, flags, prefix length, key length, interface, key."""
    address = struct.pack("=H126x", family)
    key = b"secret"
    s.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG_EXT, address + struct.pack("=BBHi80s", PREFIX, 0, len(key), 0, key))


def echo(connection: socket.socket) -> None:
    """Until the end."""
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def serve(family: int, address: str) -> None:
    """For ever."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sign(listener, family)
        listener.bind((address, PORT))
        listener.listen()
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


def ask(address: str) -> None:
    """Everything comes back."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(30)
        sign(s, family)
        s.connect((address, PORT))
        data, got = os.urandom(BYTES), b""
        threading.Thread(target=s.sendall, args=(data,)).start()
        while len(got) < len(data):
            piece = s.recv(1 << 16)
            if not piece:
                sys.exit("it ended early")
            got += piece
        if got != data:
            sys.exit("other bytes")


def lose(address: str, ready: str, go: str) -> str:
    """What becomes of a connection whose server dies."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(60)
        sign(s, family)
        s.connect((address, PORT))
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        open(ready, "w").close()
        while not os.path.exists(go):
            time.sleep(0.05)
        try:
            s.sendall(b"y")
            return "closed" if s.recv(1) == b"" else "answered"
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "silent"


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def flood(address: str) -> None:
    """Without end."""
    target = socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        while True:
            source = bytes((10, 0, 0, random.randrange(100, 250)))
            head = struct.pack("!HHIIBBHHH", random.randrange(1024, 65536), 80, random.getrandbits(32), 0, 6 << 4, 2, 65535, 0, 0)
            head += struct.pack("!BBH", 2, 4, 1460)
            pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head))
            head = head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]
            packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(head), 0, 0, 64, socket.IPPROTO_TCP, 0) + source + target + head
            try:
                raw.sendto(packet, (address, 0))
            except OSError:  # while nobody has the address
                pass


def main() -> None:
    """All of it."""
    match sys.argv[1:]:
        case ["serve"]:
            threading.Thread(target=serve, args=(socket.AF_INET, "0.0.0.0"), daemon=True).start()
            serve(socket.AF_INET6, "::")
        case ["ask", address]:
            ask(address)
        case ["lose", address, ready, go]:
            print(lose(address, ready, go))
        case ["flood", address]:
            flood(address)


main()
