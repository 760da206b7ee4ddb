#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""hostile.py SECONDS SEED: a client without manners on eth0, at 10.0.0.66 and fd00::66 (which its own
stack does not have), towards 10.0.0.80 and fd00::80.

It opens connections and then lies about all that a header can say, also long after it has left them;
it sends packets of connections that do not exist; and into the connections that this host really has,
what their peers must ignore.
"""

import ctypes
import random
import socket
import struct
import sys
import time

SERVERS = {4: socket.inet_aton("10.0.0.80"), 6: socket.inet_pton(socket.AF_INET6, "fd00::80")}
SELF = {4: socket.inet_aton("10.0.0.66"), 6: socket.inet_pton(socket.AF_INET6, "fd00::66")}
SO_ATTACH_FILTER = 26
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
MASK = 0xFFFFFFFF
GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
HEADS = [
    GET % b"index.html",
    GET % b"big",
    (GET % b"index.html") * 5,
    GET % b"big" + b"HEAD / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,3-4\r\n\r\n",
    b"GET /" + b"a" * 1300,
    b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 1200,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"\r\n" * 300,
    bytes(500),
]


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def only_news(sock: socket.socket) -> None:
    """Lets a packet socket pass over what servers send to others: of the downloads beside us, most."""
    half, word, equal, verdict = 0x28, 0x20, 0x15, 0x06
    number = lambda address: struct.unpack(">I", address[-4:])[0]  # noqa: E731
    # Each: what is done, how many to pass over if it is equal and if not, and a number.
    program = [
        (half, 0, 0, 12), (equal, 0, 4, 0x0800),
        (word, 0, 0, 26), (equal, 0, 6, number(SERVERS[4])), (word, 0, 0, 30), (equal, 4, 5, number(SELF[4])),
        (word, 0, 0, 34), (equal, 0, 2, number(SERVERS[6])), (word, 0, 0, 50), (equal, 0, 1, number(SELF[6])),
        (verdict, 0, 0, 65535), (verdict, 0, 0, 0),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


class Hostile:
    """The client."""

    def __init__(self, seconds: float, seed: str):
        self.rng = random.Random(seed)
        self.until = time.monotonic() + seconds
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("eth0", 0))
        only_news(self.socket)
        self.socket.settimeout(0.01)
        self.mac = self.socket.getsockname()[4]
        self.gate = b""  # MAC of the server, once it was heard
        self.real: list[tuple[int, bytes]] = []  # frames of this host's own connections
        self.left: list[tuple[int, int, int, int]] = []  # family, port and numbers of its own, not closed
        self.sent = self.opened = 0

    def near(self, number: int) -> int:
        """A number that somebody might take for this one."""
        rng = self.rng
        return (number + rng.choice([0, 0, 0, 1, -1, 1000, -1000, 1 << 20, -(1 << 20), 1 << 31, rng.getrandbits(32)])) & MASK

    def tcp(self, family: int, source: bytes, sport: int, seq: int, ack: int, flags: int, data=b"", options=b"", window=1000, doff=None, urgent=0) -> bytes:
        """A segment with the right checksum."""
        options += bytes([1]) * (-len(options) % 4)
        offset = (5 + len(options) // 4) if doff is None else doff
        head = struct.pack(">HHIIBBHHH", sport, 80, seq, ack, (offset & 15) << 4, flags, window, 0, urgent)
        segment = head + options + data
        pseudo = source + SERVERS[family] + struct.pack(">IHH", len(segment), 0, 6)
        return segment[:16] + struct.pack(">H", checksum(pseudo + segment)) + segment[18:]

    def ip(self, family: int, source: bytes, payload: bytes, proto=6, fragment=0x4000, options=b"", length=None) -> bytes:
        """A frame."""
        if family == 4:
            total = 20 + len(options) + len(payload) if length is None else length
            head = struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, total & 0xFFFF, self.rng.getrandbits(16), fragment, 64, proto, 0)
            head += source + SERVERS[4] + options
            head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
        else:
            total = len(payload) if length is None else length
            head = struct.pack(">IHBB", 0x60000000, total & 0xFFFF, proto, 64) + source + SERVERS[6]
        return self.gate + self.mac + struct.pack(">H", 0x0800 if family == 4 else 0x86DD) + head + payload

    def send(self, frame: bytes) -> None:
        """To whoever has the service."""
        if self.gate:
            try:
                self.socket.send(frame[:1514])
                self.sent += 1
            except OSError:
                pass

    def hear(self) -> tuple[int, int, int, int, int] | None:
        """Family, port, seq, ack and flags of a packet for us; remembers what the host itself sends."""
        try:
            frame, address = self.socket.recvfrom(65535)
        except TimeoutError:
            return None
        family = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[12:14])
        if not family or len(frame) < 54:
            return 0, 0, 0, 0, 0
        at, where = (34, 30) if family == 4 else (54, 38)
        proto = frame[23] if family == 4 else frame[20]
        size = len(SELF[family])
        if proto != 6 or len(frame) < at + 20:
            return 0, 0, 0, 0, 0
        if address[2] == socket.PACKET_OUTGOING:
            if frame[where : where + size] == SERVERS[family] and frame[6:12] == self.mac:
                self.gate = frame[:6]
                self.real = [*self.real[-20:], (family, frame)]
        elif frame[where : where + size] == SELF[family]:
            port, seq, ack = struct.unpack_from(">HII", frame, at + 2)
            return family, port, seq, ack, frame[at + 13]
        return 0, 0, 0, 0, 0

    def options(self, tsval: int) -> bytes:
        """Options, some of them lies, some of them broken."""
        rng = self.rng
        sack = b"".join(struct.pack(">II", rng.getrandbits(32), rng.getrandbits(32)) for _ in range(rng.randrange(1, 4)))
        return rng.choice([
            b"",
            b"\1\1\x08\x0a" + struct.pack(">II", self.near(tsval), rng.getrandbits(32)),
            b"\1\1\x05" + bytes([2 + len(sack)]) + sack,
            b"\1\1\x05\x0a" + struct.pack(">II", 5, 4),
            b"\x08\xff\0\0",
            b"\x05\x00",
            b"\x02\x04\0\0\x03\x03\xff\x04\x02\x01",
            b"\x22\x0a" + rng.randbytes(8),
            b"\x1e\x0c" + rng.randbytes(10),
            b"\x13\x12" + bytes(16),
            rng.randbytes(rng.randrange(41)),
        ])[:40]  # fmt: skip

    def connection(self) -> None:
        """Opens one, says something, lies, and leaves."""
        rng, family = self.rng, self.rng.choice([4, 6])
        port, seq = rng.randrange(1024, 60000), rng.getrandbits(32)
        me = SELF[family]
        ts = rng.random() < 0.5
        offer = b"\x02\x04\x05\xb4\x04\x02\x03\x03\x07\x01" + (b"\x08\x0a" + struct.pack(">II", 1000, 0) if ts else b"")
        data = rng.choice([b"", b"", b"GET / HTTP/1.1\r\n"])
        odd = rng.choice([offer, offer, offer, self.options(1000)])
        self.send(self.ip(family, me, self.tcp(family, me, port, seq, 0, SYN | rng.choice([0, 0, 0, 0xC0, FIN, URG]), data, odd)))
        theirs, wait = None, time.monotonic() + 0.3
        while time.monotonic() < wait and theirs is None:
            heard = self.hear()
            if heard and heard[:2] == (family, port) and heard[4] & (SYN | ACK) == SYN | ACK:
                theirs = heard[2]
        if theirs is None:
            return
        self.opened += 1
        ours, theirs = (seq + 1) & MASK, (theirs + 1) & MASK
        stamp = b"\1\1\x08\x0a" + struct.pack(">II", 1001, 0) if ts else b""
        self.send(self.ip(family, me, self.tcp(family, me, port, ours, theirs, ACK, b"", stamp)))
        head = rng.choice(HEADS)
        cuts = sorted(rng.randrange(len(head) + 1) for _ in range(rng.randrange(4)))
        parts = [head[a:b] for a, b in zip([0, *cuts], [*cuts, len(head)])]
        offset = 0
        for part in parts:
            self.send(self.ip(family, me, self.tcp(family, me, port, (ours + offset) & MASK, theirs, ACK | PSH, part, stamp)))
            offset += len(part)
            if rng.random() < 0.3:
                # The same place, other bytes; or a gap.
                self.send(self.ip(family, me, self.tcp(family, me, port, self.near(ours + offset - len(part)), theirs, ACK, part[::-1], stamp)))
        for _ in range(rng.randrange(12)):
            self.lie(family, me, port, (ours + offset) & MASK, theirs)
            while (heard := self.hear()) and heard != (0, 0, 0, 0, 0):
                theirs = heard[2] if heard[:2] == (family, port) else theirs
        if rng.random() < 0.7:
            self.send(self.ip(family, me, self.tcp(family, me, port, (ours + offset) & MASK, theirs, rng.choice([RST, RST | ACK, FIN | ACK]))))
        else:
            self.left = [*self.left[-50:], (family, port, (ours + offset) & MASK, theirs)]

    def haunt(self) -> None:
        """Lies in a connection that was left: its server may be another one by now."""
        if self.left:
            family, port, seq, ack = self.rng.choice(self.left)
            self.lie(family, SELF[family], port, seq, ack)

    def lie(self, family: int, me: bytes, port: int, seq: int, ack: int) -> None:
        """One packet that is wrong somewhere."""
        rng = self.rng
        flags = rng.choice([ACK, ACK, ACK | PSH, FIN | ACK, SYN | FIN, SYN | ACK, RST, 0, 0xFF, ACK | URG, rng.getrandbits(8)])
        segment = self.tcp(
            family, me, port, self.near(seq), self.near(ack), flags,
            rng.choice([b"", b"", b"x", rng.choice(HEADS)]), self.options(1001),
            rng.choice([0, 0, 1, 1000, 65535]), rng.choice([None] * 6 + [0, 4, 5, 15]), rng.choice([0, 1, 65535]),
        )  # fmt: skip
        self.wrap(family, me, segment)

    def wrap(self, family: int, me: bytes, segment: bytes) -> None:
        """Sends a segment in a packet of any kind."""
        rng, kind = self.rng, self.rng.randrange(14)
        if kind == 0:
            segment = segment[: rng.randrange(len(segment))]
        elif kind == 1:
            segment = segment[:16] + rng.randbytes(2) + segment[18:]
        elif kind == 2:
            self.send(self.ip(family, me, segment, length=rng.choice([0, 20, 39, 60, 1400, 65535])))
            return
        elif kind == 3 and family == 4:
            cut = rng.choice([8, 16, 24])
            self.send(self.ip(4, me, segment[:cut], fragment=0x2000))
            self.send(self.ip(4, me, segment[cut:], fragment=cut // 8 + rng.choice([0, 0, 1])))
            return
        elif kind == 4 and family == 4:
            self.send(self.ip(4, me, segment, options=rng.choice([b"\x07\x07\x04\0\0\0\0\0", b"\x94\x04\0\0", rng.randbytes(40)])))
            return
        elif kind in (3, 4):
            chain = rng.choice([[0], [60], [0, 60], [43], [44], [60] * 13, [0, 43, 60], [51], [50]])
            body = segment
            for n, this in reversed(list(enumerate(chain))):
                following = chain[n + 1] if n + 1 < len(chain) else 6
                body = bytes([following, rng.choice([0, 0, 0, 255]) if this == 60 else 0]) + bytes([1, 4, 0, 0, 0, 0]) + body
            self.send(self.ip(6, me, body, proto=chain[0]))
            return
        elif kind == 5:
            quoted = self.ip(family, me, segment)[14:][: rng.randrange(100)]
            if family == 4:
                icmp = bytes([rng.choice([3, 11, 12, 4, 5]), rng.randrange(6), 0, 0]) + rng.randbytes(4) + quoted
                self.send(self.ip(4, me, icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:], proto=1))
            else:
                icmp = bytes([rng.choice([1, 2, 3, 4]), rng.randrange(6), 0, 0]) + rng.randbytes(4) + quoted
                check = checksum(me + SERVERS[6] + struct.pack(">II", len(icmp), 58) + icmp)
                self.send(self.ip(6, me, icmp[:2] + struct.pack(">H", check) + icmp[4:], proto=58))
            return
        self.send(self.ip(family, me, segment))

    def intrude(self) -> None:
        """Says something in a real connection that its ends must see through."""
        if not self.real:
            return
        rng = self.rng
        family, frame = rng.choice(self.real)
        at = 34 if family == 4 else 54
        source = frame[26:30] if family == 4 else frame[22:38]
        port, _, seq, ack = struct.unpack_from(">HHII", frame, at)
        far = (seq + (1 << 30) + rng.getrandbits(28)) & MASK
        kind = rng.randrange(5)
        if kind == 0:
            segment = self.tcp(family, source, port, far, ack, rng.choice([RST, RST | ACK, FIN | ACK, ACK]), rng.choice([b"", b"evil"]))
        elif kind == 1:
            segment = self.tcp(family, source, port, far, (ack + (1 << 30)) & MASK, ACK, b"", self.options(1)[:40])
        elif kind == 2:
            whole = self.tcp(family, source, port, seq, ack, ACK | PSH, b"evil bytes")
            segment = whole[:16] + bytes([whole[16] ^ 0x55]) + whole[17:]
        elif kind == 3:
            segment = self.tcp(family, source, port, far, ack, ACK, rng.choice(HEADS), window=0)
        else:
            segment = self.tcp(family, source, port, far, ack, RST, doff=rng.choice([0, 1, 4, 15]))
        self.send(self.ip(family, source, segment))

    def run(self) -> None:
        """For as long as it was told."""
        while time.monotonic() < self.until:
            self.hear()
            what = self.rng.randrange(5)
            if what == 0:
                self.connection()
            elif what == 1:
                self.intrude()
            elif what == 2:
                self.haunt()
            else:
                family = self.rng.choice([4, 6])
                self.lie(family, SELF[family], self.rng.randrange(1, 60000), self.rng.getrandbits(32), self.rng.getrandbits(32))
        print(f"{self.sent} packets, {self.opened} connections")
        if not self.sent or not self.opened:
            sys.exit("nobody was there")


Hostile(float(sys.argv[1]), sys.argv[2]).run()
