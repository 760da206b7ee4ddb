# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=stock timeout=60
"""What netlink_fuzz.py asks is what the kernel's policy takes (on the host): each operation with each
of its attributes, and nothing that was not spoiled on purpose would be refused unread."""

import re
import struct
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))
from asks import Spec  # noqa: E402
from genl import attrs  # noqa: E402

REQUESTS = 8000
SIZES = {"u8": 1, "u16": 2, "be16": 2, "u32": 4, "u64": 8}
TABLES = (HERE.parent / "rust/netlink_gen.rs").read_text()
RANGES = {name: (int(a), int(b)) for name, a, b in re.findall(r"static (RANGE\w+): Range = Range::new\((\d+), (\d+)\)", TABLES)}
# Of each table its entries: "reject()", "u32().max(1)", ...
POLICIES = {
    name: [re.sub(r"\s+", "", entry) for entry in re.findall(r"Policy::((?:\w+\([^()]*\)\.?)+)", body)]
    for name, body in re.findall(r"static (\w+_POLICY): \[Policy; \d+\] = \[(.*?)\];", TABLES, re.S)
}


def takes(entry: str, data: bytes) -> bool:
    """Whether the entry of a table takes this value."""
    kind, rest = re.match(r"(\w+)\(([^)]*)\)", entry).groups()
    if kind == "nested":
        return fits(POLICIES[rest.lstrip("&")], data)
    if kind == "nested_array":
        return all(fits(POLICIES[rest.lstrip("&")], one) for _, one in attrs(data))
    if kind == "flag":
        return not data
    if kind == "binary":
        return len(data) <= int(rest)
    if kind == "reject" or len(data) != SIZES[kind]:
        return False
    number = int.from_bytes(data, "big" if kind == "be16" else sys.byteorder)
    least, most = 0, (1 << 64) - 1
    for check, value in re.findall(r"\.(\w+)\((&?\w+)\)", entry):
        if check == "full_range":
            least, most = RANGES[value.lstrip("&")]
        elif check == "max":
            most = int(value)
        elif check == "min":
            least = int(value)
        else:
            raise AssertionError(entry)
    return least <= number <= most


def fits(policy: list[str], data: bytes) -> bool:
    """Whether a policy takes these attributes."""
    return all(number < len(policy) and takes(policy[number], value) for number, value in attrs(data))


for good, bad in ((struct.pack("=I", 1), struct.pack("=I", 2)), (struct.pack("=I", 0), bytes(3))):
    assert takes("u32().max(1)", good) and not takes("u32().max(1)", bad)

spec = Spec("0")
asked, sound, seen = Counter(), Counter(), {}
for n in range(REQUESTS):
    family = n % 2
    ask = spec.ask(bytes([10, 0, 0, 1]) if family else bytes(15) + b"\1", 4 if family else 6)
    table = f"{ask.name.upper().replace('-', '_')}_{'DUMP' if ask.dump else 'DO'}_POLICY"
    asked[ask.name] += 1
    if ask.sound:
        assert fits(POLICIES[table], ask.data), (ask, POLICIES[table])
        sound[ask.name] += 1
        seen.setdefault(ask.name, set()).update(ask.has)

for name, attributes in spec.takes.items():
    assert sound[name] > asked[name] * 0.6, f"{name}: {sound[name]} of {asked[name]} in order"
    wanted = {a.name for a in attributes}
    for a in attributes:
        wanted |= {f"{'options' if a.kind == 'nest' else 'release'}.{b.name}" for b in spec.sets.get(a.nested, [])}
    assert seen.get(name, set()) == wanted, f"{name}: never {wanted - seen[name]}"
    # The table of the module has no entry that the specification does not have, either.
    if attributes:
        table = POLICIES[f"{name.upper().replace('-', '_')}_DO_POLICY"]
        assert sum(e != "reject()" for e in table) == len(attributes), name
print(f"{sum(sound.values())} of {REQUESTS} requests in order, of {len(asked)} operations")
