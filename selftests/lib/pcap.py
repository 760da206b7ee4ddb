# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""What a recording of a segment (Cluster.capture) has of TCP: to be imported."""

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FIN, SYN, RST, ACK = 1, 2, 4, 16
ETHERNET, IPV4, IPV6, TCP = 14, 0x0800, 0x86DD, 6


@dataclass
class Segment:
    """One, with or without payload. `time`: the host's clock; `mac`: who sent it."""

    time: float
    mac: str
    src: str
    sport: int
    dst: str
    dport: int
    flags: int
    payload: int


def parse(time: float, frame: bytes) -> Segment | None:
    """A frame, if it is one of TCP."""
    kind = int.from_bytes(frame[12:14])
    if kind == IPV4 and frame[ETHERNET + 9] == TCP and len(frame) >= ETHERNET + 40:
        at = ETHERNET + (frame[ETHERNET] & 15) * 4
        end = ETHERNET + int.from_bytes(frame[ETHERNET + 2 : ETHERNET + 4])
        addresses = frame[ETHERNET + 12 : ETHERNET + 16], frame[ETHERNET + 16 : ETHERNET + 20]
    elif kind == IPV6 and frame[ETHERNET + 6] == TCP and len(frame) >= ETHERNET + 60:
        at = ETHERNET + 40
        end = at + int.from_bytes(frame[ETHERNET + 4 : ETHERNET + 6])
        addresses = frame[ETHERNET + 8 : ETHERNET + 24], frame[ETHERNET + 24 : ETHERNET + 40]
    else:
        return None
    sport, dport = struct.unpack_from(">HH", frame, at)
    src, dst = (str(ipaddress.ip_address(address)) for address in addresses)
    payload = max(0, end - at - (frame[at + 12] >> 4) * 4)
    return Segment(time, frame[6:12].hex(":"), src, sport, dst, dport, frame[at + 13], payload)


def segments(path: Path) -> Iterator[Segment]:
    """Those of a recording, in order. What is still being written is left out."""
    data = path.read_bytes()
    at = 24
    while at + 16 <= len(data):
        seconds, micros, length, _ = struct.unpack_from("<IIII", data, at)
        frame = data[at + 16 : at + 16 + length]
        at += 16 + length
        if len(frame) == length and (segment := parse(seconds + micros / 1e6, frame)):
            yield segment
