#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Packets of connections that nobody has, each of another one, from addresses to which no route leads.

usage: flood.py syn|ack FIRST COUNT GATE     to 10.0.0.80:80, by the Ethernet address GATE
       flood.py locate                       in the node: takes over a flow of such a client
"""

import socket
import struct
import sys
from pathlib import Path

SERVICE = socket.inet_aton("10.0.0.80")
SYN, ACK = 2, 16
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20


def total(data: bytes) -> int:
    """The sum of RFC 1071, of an even number of bytes."""
    return sum(struct.unpack(f">{len(data) // 2}H", data))


def fold(number: int) -> bytes:
    """The checksum of a sum."""
    while number >> 16:
        number = (number & 0xFFFF) + (number >> 16)
    return struct.pack(">H", ~number & 0xFFFF)


def flood(flags: int, first: int, count: int, gate: bytes) -> None:
    """Sends `count` of them."""
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.bind(("eth0", 0))
    out.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    ethernet = gate + out.getsockname()[4] + b"\x08\x00"
    # All that stays, and its sums; 10.77.x.y and the port say which one it is.
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, 6, 0)
    tcp = struct.pack(">HIIBBH", 80, 1000, 1000 if flags == ACK else 0, 0x50, flags, 1000)
    ip_sum = total(ip) + total(SERVICE)
    tcp_sum = total(tcp) + total(SERVICE) + 6 + 20
    for n in range(first, first + count):
        source, port = b"\x0a\x4d" + struct.pack(">H", n >> 12), struct.pack(">H", 1024 + (n & 0xFFF))
        more = total(source)
        frame = (
            ethernet + ip[:10] + fold(ip_sum + more) + source + SERVICE
            + port + tcp + fold(tcp_sum + more + total(port)) + b"\0\0"
        )  # fmt: skip
        while True:
            try:
                out.send(frame)
                break
            except OSError:
                # No room: the receiver is slower.
                pass


def locate() -> None:
    """A probe that cannot leave."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from genl import NESTED, Family, attr, numbers

    n = numbers()
    options = attr(n["A_OPTIONS_MSS"], struct.pack("=H", 1460))
    said = [
        ("CLIENT_ADDR", bytes([10, 78, 0, 1])), ("CLIENT_PORT", struct.pack(">H", 5000)),
        ("SERVICE_ADDR", SERVICE), ("SERVICE_PORT", struct.pack(">H", 80)),
        ("GENERATION", struct.pack("=I", 1)), ("C2S_NEXT", struct.pack("=Q", 1 << 32)), ("PROBE_SEQ", struct.pack("=I", 1)),
    ]  # fmt: skip
    data = b"".join(attr(n[f"A_FLOW_{name}"], value) for name, value in said)
    error, why, _ = Family().ask(n["CMD_FLOW_LOCATE"], data + attr(n["A_FLOW_OPTIONS"] | NESTED, options))
    assert not error, (error, why)


if sys.argv[1] == "locate":
    locate()
else:
    kind, first, count, gate = sys.argv[1:]
    flood({"syn": SYN, "ack": ACK}[kind], int(first), int(count), bytes.fromhex(gate.replace(":", "")))
