# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""The generic netlink family, spoken to without any wish to be understood."""

import re
import socket
import struct
from pathlib import Path

HEADER = Path(__file__).resolve().parents[2] / "include/uapi/linux/holdfast.h"
NETLINK_GENERIC, GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 16, 3
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CAPPED, NLM_F_ACK_TLVS = 1, 4, 0x300, 0x100, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
NESTED = 0x8000


def numbers() -> dict[str, int]:
    """The enumerators of the header, without HOLDFAST_."""
    found, text = {}, re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    for body in re.findall(r"enum[^{;]*\{(.*?)\}", text, re.S):
        value = -1
        for entry in filter(None, (e.strip() for e in body.split(","))):
            name, _, given = (part.strip() for part in entry.partition("="))
            value = int(given, 0) if given.isdigit() else value + 1
            if not name.startswith("__"):
                found[name.removeprefix("HOLDFAST_")] = value
    return found


def attr(kind: int, value: bytes, length: int | None = None) -> bytes:
    """An attribute, which may lie about its length."""
    header = struct.pack("=HH", (4 + len(value) if length is None else length) & 0xFFFF, kind)
    return header + value + bytes(-len(value) % 4)


def attrs(data: bytes) -> list[tuple[int, bytes]]:
    """What a well-formed message says."""
    found = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found.append((kind & 0x3FFF, data[4:length]))
        data = data[max(4, length + 3 & ~3) :]
    return found


class Family:
    """A socket to the family, of the namespace that it is made in."""

    def __init__(self, number: int | None = None):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.socket.settimeout(20)
        self.sequence = 0
        # Multicast groups, by name.
        self.groups: dict[str, int] = {}
        self.number = number or self._find()

    def _find(self) -> int:
        error, _, replies = self.ask(CTRL_CMD_GETFAMILY, attr(2, b"holdfast\0"), number=GENL_ID_CTRL)
        assert not error, f"no family: {error}"
        found = dict(attrs(replies[0]))
        groups = (dict(attrs(group)) for _, group in attrs(found.get(7, b"")))
        self.groups = {g[1].rstrip(b"\0").decode(): struct.unpack("=I", g[2])[0] for g in groups}
        return struct.unpack("=H", found[1])[0]

    def send(self, cmd: int, data: bytes, flags: int = NLM_F_REQUEST | NLM_F_ACK, version: int = 1, number=None) -> None:
        """A request."""
        self.sequence += 1
        body = struct.pack("=BBH", cmd, version, 0) + data
        header = struct.pack("=IHHII", 16 + len(body), number or self.number, flags, self.sequence, 0)
        self.socket.send(header + body)

    def ask(self, cmd: int, data: bytes = b"", dump: bool = False, **more) -> tuple[int, dict[int, bytes], list[bytes]]:
        """The error, what the kernel says of it, and the attributes of each reply."""
        flags = NLM_F_REQUEST | (NLM_F_DUMP if dump else NLM_F_ACK)
        self.send(cmd, data, flags, **more)
        replies = []
        while True:
            got = self.socket.recv(1 << 17)
            while len(got) >= 16:
                length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", got)
                payload, got = got[16:length], got[length + 3 & ~3 :]
                if sequence != self.sequence:
                    continue
                if kind not in (NLMSG_ERROR, NLMSG_DONE):
                    replies.append(payload[4:])
                    continue
                error = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                skip = 4 if kind == NLMSG_DONE else 20
                return error, dict(attrs(payload[skip:])) if flags & NLM_F_ACK_TLVS else {}, replies
