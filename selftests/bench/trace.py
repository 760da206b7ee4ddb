# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Every instruction that a guest's kernel executes, by QEMU's log: exact, and the same each time.

A guest of `traced()` has one CPU, and its clock counts instructions, so that writing them down
does not make it tick more often. Between `begin` and `end` it executes one instruction a time, and
the address of each that lies in the kernel is written down. `calls` finds the netfilter hooks in it.
"""

import bisect
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vm import Guest
from vm.host import TOP

LINE = re.compile(rb"\[[0-9a-f]+/([0-9a-f]{16})/")
OFF = "none"
HOOKS = "nf_hook_slow"
# Who runs the hooks of which point.
POINT = {"ip_rcv": "pre", "ip_sublist_rcv": "pre", "ipv6_rcv": "pre", "ip6_sublist_rcv": "pre", "ip_output": "post", "ip6_output": "post"}


def traced(name: str) -> Guest:
    """A guest that can be traced, not started yet."""
    log = TOP / f"build/log/{name}.trace"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    guest = Guest(name, smp=1, icount=True, qemu=("-D", str(log), "-dfilter", "0xffffffff80000000..0xffffffffffffffff"))
    guest.trace = log
    return guest


def begin(guest: Guest) -> None:
    """From now on, instructions are written down."""
    guest.monitor("one-insn-per-tb on")
    guest.monitor("log exec,nochain")


def end(guest: Guest) -> Path:
    """No more; where they are. The file begins anew with the next `begin`."""
    guest.monitor(f"log {OFF}")
    guest.monitor("one-insn-per-tb off")
    taken = guest.trace.with_suffix(".taken")
    os.rename(guest.trace, taken)
    guest.monitor(f"logfile {guest.trace}")
    return taken


class Symbols:
    """The functions of a running kernel and its modules."""

    def __init__(self, guest: Guest):
        found = []
        for line in guest.run("cat /proc/kallsyms").out.splitlines():
            words = line.split()
            if words[1] in "tTwW":
                # A Rust name says more without its crate's hash.
                found.append((int(words[0], 16), words[2], words[3] if len(words) > 3 else ""))
        found.sort()
        self.starts = [start for start, _, _ in found]
        self.names = [name for _, name, _ in found]
        self.modules = [module for _, _, module in found]
        self._known: dict[int, int] = {}

    def at(self, pc: int) -> int:
        """The number of the function at an address."""
        number = self._known.get(pc)
        if number is None:
            number = self._known[pc] = bisect.bisect_right(self.starts, pc) - 1
        return number

    def find(self, name: str) -> int:
        """The number of a function."""
        return self.names.index(name)


def addresses(path: Path) -> Iterator[int]:
    """What was executed, in order. A string instruction (`rep movsb`) comes once, as a processor
    counts it, although the emulator executes it once for each byte."""
    before = 0
    with open(path, "rb", buffering=1 << 20) as file:
        for line in file:
            if found := LINE.search(line):
                pc = int(found[1], 16)
                if pc != before:
                    yield pc
                before = pc


@dataclass
class Call:
    """One run of the hooks of a point over a packet."""

    point: str
    by: Counter = field(default_factory=Counter)  # instructions of each function

    @property
    def total(self) -> int:
        """All instructions, those of netfilter that would not run without us as well."""
        return sum(self.by.values())


@dataclass
class Round:
    """What lies between two marks."""

    total: int = 0
    calls: list[Call] = field(default_factory=list)


def rounds(path: Path, symbols: Symbols, mark: str) -> list[Round]:
    """The whole rounds of a trace, each from one call of the kernel's function `mark` to the next."""
    begins = symbols.starts[symbols.find(mark)]
    hooks = symbols.find(HOOKS)
    hook_start = symbols.starts[hooks]
    found: list[Round] = []
    now, call, caller = Round(), None, -1
    for pc in addresses(path):
        if pc == begins:
            found.append(now)
            now = Round()
        now.total += 1
        number = symbols.at(pc)
        if call is None:
            if pc == hook_start:
                call = Call(POINT.get(symbols.names[caller], symbols.names[caller]))
                now.calls.append(call)
                outer = caller
            else:
                caller = number
        elif number == outer:
            call = None
            caller = number
        if call is not None:
            call.by[symbols.names[number]] += 1
    return found[1:]


def calls(path: Path, symbols: Symbols) -> list[Call]:
    """All whole runs of hooks in a trace without marks."""
    found = rounds(path, symbols, HOOKS)
    return [call for piece in found for call in piece.calls]
