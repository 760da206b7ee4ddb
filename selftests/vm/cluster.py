# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Several guests on virtual Ethernet segments, and the faults that a test can cause there."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from .guest import Guest, Nic
from .host import TOP, parts, start


class Switch:
    """The process that forwards between guests: see switch.rs for what it understands."""

    def __init__(self, program: str):
        self.folder = tempfile.mkdtemp(prefix="switch-")
        self._process = start([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._lock = threading.Lock()

    def tell(self, *words: str) -> None:
        """Give one command and wait until it is in force."""
        with self._lock:
            print(*words, file=self._process.stdin, flush=True)
            if (answer := self._process.stdout.readline().strip()) != "ok":
                raise RuntimeError(f"switch: {' '.join(words)}: {answer or 'gone'}")

    def port(self, segment: str, name: str) -> str:
        """A new port; the path of its socket."""
        path = f"{self.folder}/{name}"
        self.tell("port", segment, name, path)
        return path

    def close(self) -> None:
        """Every guest loses its network."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cluster:
    """Guests and segments of one test; a context that ends them all.

    Leaving it without an exception fails the test if any guest's kernel complained.
    """

    def __init__(self, name: str | None = None, kernel: str | None = None, smp: int = 1):
        self.kernel = kernel or os.environ.get("HOLDFAST_KERNEL", "stock")
        self.smp = smp
        self.logs = Path(os.environ.get("HOLDFAST_LOGS") or TOP / "build/log" / (name or Path(sys.argv[0]).stem))
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.guests: dict[str, Guest] = {}
        self._switch = Switch(parts(self.kernel)["switch"])
        self._cards = 0

    def guest(self, name: str, *segments: str, **options) -> Guest:
        """A guest with one network card (eth0, eth1, ...) in each of the segments, which need no
        other introduction. It boots at the next `boot`. Options are those of `Guest`."""
        nics = []
        for number, segment in enumerate(segments):
            self._cards += 1
            nics.append(Nic(f"02:00:00:00:00:{self._cards:02x}", self._switch.port(segment, f"{name}.{number}")))
        guest = Guest(name, nics=nics, logs=self.logs, **({"kernel": self.kernel, "smp": self.smp} | options))
        self.guests[name] = guest
        return guest

    def boot(self) -> None:
        """Start, side by side, all guests that do not run yet, and wait until they take commands."""
        fresh = [guest for guest in self.guests.values() if not guest.alive]
        for guest in fresh:
            guest.start()
        for guest in fresh:
            guest.ready()

    def cut(self, guest: Guest, card: int = 0, way: str = "both") -> None:
        """Lose silently what passes between a guest's card and its segment: `in` is towards the
        guest, `out` away from it. The carrier stays; `Guest.carrier` pulls the plug."""
        self._switch.tell("drop", f"{guest.name}.{card}", way)

    def heal(self, guest: Guest, card: int = 0) -> None:
        """Undo `cut`."""
        self.cut(guest, card, "none")

    def capture(self, segment: str) -> Path:
        """Record a segment from now on; the pcap file's path."""
        path = self.logs / f"{segment}.pcap"
        self._switch.tell("pcap", segment, str(path))
        return path

    def problems(self) -> str:
        """What the guests' kernels complained about."""
        found = ((guest, guest.problems()) for guest in self.guests.values())
        return "\n".join(f"--- {guest.name} ({guest.console})\n{text}" for guest, text in found if text)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for guest in self.guests.values():
            if kind is not None:
                print(guest.last_words(), file=sys.stderr)
            guest.stop() if kind is None else guest.kill()
        self._switch.close()
        if complaints := self.problems():
            print(f"holdfast: kernel complaints\n{complaints}", file=sys.stderr)
            if kind is None:
                sys.exit(1)

