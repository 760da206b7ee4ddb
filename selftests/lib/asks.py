# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Requests of the netlink family, made from what its specification says of each operation: most of
them in order, so that they are granted if the flows are there, the others spoiled in all ways."""

import random
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from genl import NESTED, attr

SPEC = Path(__file__).resolve().parents[2] / "Documentation/netlink/specs/holdfast.yaml"
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
# Where positions are: near each other, so that they fit each other now and then.
BASE = (1 << 32) + 5000
POSITIONS = {"c2s-next", "at", "object-start", "object-end"}
# What a request in order has in some cases only.
OPTIONAL = {
    "id", "generation", "ts-age", "request", "answer-window", "local-port", "skip", "object-start", "object-end",
    "mode", "commit", "hold-ms", "verdict-ms", "head-limit", "request-limit", "delta-c2s", "delta-s2c", "delta-ts", "prefix",
}  # fmt: skip
KEYS = ("client-addr", "client-port", "service-addr", "service-port")


@dataclass
class Attr:
    """An attribute of a set."""

    name: str
    number: int
    kind: str
    nested: str = ""
    least: int = 0
    most: int = 0
    big: bool = False  # byte order


@dataclass
class Ask:
    """A request: what it is, its bytes, and whether nothing of it was spoiled."""

    name: str
    number: int
    data: bytes
    dump: bool
    sound: bool
    has: set[str] = field(default_factory=set)  # the attributes, nested ones as "options.mss"


class Spec:
    """The specification, and a generator of requests."""

    def __init__(self, seed: str):
        said = yaml.safe_load(SPEC.read_text())
        self.rng = random.Random(seed)
        enums = {d["name"]: len(d["entries"]) for d in said["definitions"]}
        self.sets = {
            s["name"]: [self._attr(a, n, enums) for n, a in enumerate(s["attributes"], 1)] for s in said["attribute-sets"]
        }
        operations = [(n, o) for n, o in enumerate(said["operations"]["list"], 1) if "notify" not in o]
        self.numbers = {o["name"]: n for n, o in operations}
        self.dumps = {o["name"] for _, o in operations if "dump" in o}
        self.takes: dict[str, list[Attr]] = {}
        for _, operation in operations:
            wanted = operation.get("do", {}).get("request", {}).get("attributes", [])
            self.takes[operation["name"]] = [a for a in self.sets[operation["attribute-set"]] if a.name in wanted]
        self.every = {o["name"]: self.sets[o["attribute-set"]] for _, o in operations}
        # Numbers of flows that there are: whoever asks puts them here.
        self.ids: list[int] = []
        # Likewise the service, family and client port of a flow that waits to be joined.
        self.ghost: tuple[bytes, int, int] | None = None
        self.asked, self.port = 0, 0

    @staticmethod
    def _attr(said: dict, number: int, enums: dict[str, int]) -> Attr:
        kind, checks = said["type"], said.get("checks", {})
        most = (1 << 8 * SIZES.get(kind, 0)) - 1
        if "enum" in said:
            most = enums[said["enum"]] - 1
        most = checks.get("max", checks.get("max-len", most))
        nested = said.get("nested-attributes", "")
        return Attr(said["name"], number, kind, nested, checks.get("min", 0), most, said.get("byte-order") == "big-endian")

    def ask(self, service: bytes, family: int) -> Ask:
        """A request about a flow of `service` (its address), or about the service."""
        rng = self.rng
        name = rng.choice(list(self.numbers))
        # Few at a time, so that the flow is there; others later, as those that have ended stay a while.
        self.asked += 1
        self.port = 40000 + self.asked // 60 % 20000 + rng.randrange(6)
        if name == "flow-join" and self.ghost and rng.random() < 0.8:
            service, family, self.port = self.ghost
        dump = name in self.dumps and (not self.takes[name] or rng.random() < 0.2)
        ask = Ask(name, self.numbers[name], b"", dump, True)
        if rng.random() < 0.03:
            ask.data, ask.sound = rng.randbytes(rng.randrange(200)), False
            return ask
        spoils = rng.random() < 0.25
        takes = [] if dump else self.takes[name]
        if spoils and rng.random() < 0.4:
            # What it does not take, too.
            takes = [a for a in self.every[name] if a in takes or rng.random() < 0.2]
        for one in takes:
            if (one.name in OPTIONAL and rng.random() < 0.5) or (spoils and rng.random() < 0.1):
                continue
            ask.data += self.one(one, "", ask, service, family, spoils)
        ask.sound &= not spoils
        return ask

    def one(self, a: Attr, within: str, ask: Ask, service: bytes, family: int, spoils: bool) -> bytes:
        """An attribute; of those that say nothing but by being there, half."""
        rng, kind, length = self.rng, a.number, None
        if a.kind == "flag" and rng.random() < 0.5:
            return b""
        data = self.value(a, within, ask, service, family, spoils)
        ask.has.add(within + a.name)
        if a.nested:
            kind |= NESTED
        if spoils and rng.random() < 0.2:
            spoil = rng.randrange(7)
            if spoil == 0:
                data = data[: rng.randrange(len(data) + 1)]
            elif spoil == 1:
                data += rng.randbytes(rng.randrange(20))
            elif spoil == 2:
                kind ^= rng.choice([NESTED, 0x4000, 64])
            elif spoil == 3:
                length = rng.choice([0, 1, 3, 4, 0xFFFF, rng.randrange(64)])
            elif spoil == 4:
                data = rng.randbytes(len(data))
            elif spoil == 5 and a.kind in SIZES:
                wild = rng.choice([0, a.least - 1, a.most + 1, rng.getrandbits(64), (1 << 64) - 1, 1 << 31])
                data = self.number(a, wild)
            else:
                return attr(kind, data) * 2
        return attr(kind, data, length)

    @staticmethod
    def number(a: Attr, value: int) -> bytes:
        """A number of the attribute's size."""
        size = SIZES[a.kind]
        return (value % (1 << 8 * size)).to_bytes(size, "big" if a.big else sys.byteorder)

    def value(self, a: Attr, within: str, ask: Ask, service: bytes, family: int, spoils: bool) -> bytes:
        """A value that the policy takes."""
        rng = self.rng
        if a.kind == "nest":
            return b"".join(self.one(b, "options.", ask, service, family, spoils) for b in self.sets[a.nested])
        if a.kind == "indexed-array":
            entries = []
            for index in range(rng.randrange(1, 4)):
                some = (b for b in self.sets[a.nested] if b.name in KEYS or rng.random() < 0.6)
                entries.append(attr(index | NESTED, b"".join(self.one(b, "release.", ask, service, family, spoils) for b in some)))
            return b"".join(entries)
        if a.kind == "flag":
            return b""
        if a.name in ("addr", "service-addr"):
            return service
        if a.name == "client-addr":
            return bytes([10, 0, 0, 9]) if family == 4 else bytes.fromhex("fd") + bytes(14) + b"\x09"
        if a.name in ("port", "service-port"):
            return struct.pack(">H", 80)
        if a.name == "client-port":
            return struct.pack(">H", self.port)
        if a.name == "id" and self.ids and rng.random() < 0.8:
            return self.number(a, rng.choice(self.ids))
        if a.kind in ("binary", "string"):
            return rng.randbytes(min(a.most or 100, rng.choice([0, 1, 100, 100, 32768, 60000])))
        if a.name in POSITIONS:
            return self.number(a, BASE + rng.choice([0, 0, 1, 100, 5000, 100_000]))
        if a.name == "generation":
            return self.number(a, rng.choice([1, 1, 2, 3]))
        if a.name == "answer-length":
            return self.number(a, rng.choice([0, 0, 0, 1, 100]))
        if a.name == "skip":
            return self.number(a, rng.choice([0, 0, 1, 5000, 1 << 40]))
        if a.name.endswith("-ms"):
            return self.number(a, rng.choice([1, 10, 1000, a.most]))
        return self.number(a, min(a.most, max(a.least, rng.choice([0, 1, 2, 7, 1000, 65535, rng.getrandbits(32), a.most]))))
