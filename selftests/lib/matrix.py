#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""A table of clients, each with one connection through the death of its server, and what must
become of each: to be imported.

All connect at once. When each is where its case wants it, the file READY appears; the scenario lets
the server die and makes the file GO. Then every case has one of these outcomes:

    continued  every byte came, over the same connection
    reset      a reset, after right bytes only
    closed     the end of the stream before the end of the answer, after right bytes only
    silent     nothing for a long time
    wrong      a byte that the first server never sent at this place
"""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Seconds without a byte; longer where it takes longer until all are ready, as pauses grow meanwhile.
SILENT = 150.0 if os.environ.get("HOLDFAST_KERNEL") == "debug" else 75.0
BUFFER = 100_000
PAUSE = 12.0  # seconds that a client does not read: longer than what any server is given
VERDICTS = ("spliced", "recovery-refused", "recovery-finished")


@dataclass
class Exact:
    """The answer is these bytes; `close`: and then the end of the stream."""

    want: bytes
    close: bool = False

    def right(self, raw: bytes) -> bool:
        """Whether `raw` is a beginning of it."""
        return self.want.startswith(raw)

    def whole(self, raw: bytes, end: bool) -> bool:
        """Whether `raw` is all of it."""
        return len(raw) == len(self.want) and end >= self.close


@dataclass
class Body:
    """The answer has this status and this body, of the length that it says."""

    want: bytes
    status: int = 200
    close: bool = False

    def _split(self, raw: bytes) -> tuple[bytes, bytes | None]:
        head, found, body = raw.partition(b"\r\n\r\n")
        return head, body if found else None

    def right(self, raw: bytes) -> bool:
        """Whether `raw` is a beginning of it."""
        head, body = self._split(raw)
        if body is None:
            return True
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        said = length and int(length[1]) == len(self.want)
        return head.startswith(b"HTTP/1.1 %d " % self.status) and bool(said) and self.want.startswith(body)

    def whole(self, raw: bytes, _end: bool) -> bool:
        """Whether `raw` is all of it."""
        body = self._split(raw)[1]
        return body is not None and len(body) == len(self.want)


@dataclass
class Case:
    """One client. `talk`: requests with the answers that must come; all but the first are sent
    after the server's death. `held`: bytes of the first answer that come before it (None: all; -1: none is
    waited for). `why`: what the successor's timeline says of a refused flow."""

    name: str
    talk: list[tuple[bytes, Exact | Body]]
    held: int | None = None
    outcome: str = "continued"
    why: str = ""
    host: str = "10.0.0.80"
    port: int = 80
    local_port: int = 0
    namespace: str = ""
    prepare: Callable[[socket.socket], None] = lambda s: None
    half_close: bool = False  # the client says that it has no more to ask
    leaves: bool = False  # it closes its direction behind the answers, and awaits the end of the stream
    stops: bool = False  # it reads no more from `held` on until another server waits for it, and long
    waits: bool = False  # it asks again when the successor has decided what becomes of its connection
    unknown: bool = False  # no record tells of it: the successor's stack says what becomes of it
    protocol: int = 0  # of its socket, if not TCP
    act: Callable[["Matrix", "Case", socket.socket], str] | None = None  # what it does instead of `talk`
    before: Callable[["Case"], None] | None = None  # ahead of its connection
    command: list[str] = field(default_factory=list)  # a program instead; -> Matrix.drive_command

    got: str = ""
    used_port: int = 0
    seconds: float = 0.0
    ready: threading.Event = field(default_factory=threading.Event)


class Matrix:
    """Runs cases. Arguments of the program: READY, GO and the successor's log, or none of them: then no
    server dies, and every case must be continued."""

    def __init__(self, cases: list[Case], arguments: list[str]):
        self.cases = cases
        self.files = [Path(a) for a in arguments]
        self.calm = not arguments

    def happened(self, case: Case) -> list[str]:
        """What the successor's log says of a client's flow, in order."""
        if self.calm:
            return []
        mark = f":{case.used_port} > "
        return [line for line in self.files[2].read_text().splitlines() if mark in line]

    def decided(self, case: Case) -> list[str]:
        """What the successor has decided of a client's flow."""
        return [line for line in self.happened(case) if line.startswith(VERDICTS)]

    def await_go(self) -> None:
        """Wait until the server is dead."""
        while not self.calm and not self.files[1].exists():
            time.sleep(0.02)

    def drive_command(self, case: Case) -> str:
        """A program that binds to `local_port` and writes a file, its last argument: it is where its server
        may die once `held` bytes are there. The first answer's `want` is what they are."""
        case.used_port = case.local_port
        output = Path(case.command[-1])
        output.touch()
        with subprocess.Popen(case.command, stderr=subprocess.PIPE, text=True) as program:
            while program.poll() is None and output.stat().st_size < (case.held or 0):
                time.sleep(0.05)
            case.ready.set()
            said = program.communicate()[1]
        got, want = output.read_bytes(), case.talk[0][1].want
        if not want.startswith(got):
            return "wrong"
        if program.returncode == 0:
            return "continued" if got == want else "closed"
        return "reset" if re.search("reset by peer|errno 104", said) else said.strip()

    def drive(self, case: Case) -> str:
        """One client, to its outcome."""
        if case.command:
            return self.drive_command(case)
        if case.namespace:
            with open(f"/run/netns/{case.namespace}") as space:
                os.setns(space.fileno(), os.CLONE_NEWNET)
        family = socket.AF_INET6 if ":" in case.host else socket.AF_INET
        if case.before:
            case.before(case)
        with socket.socket(family, socket.SOCK_STREAM, case.protocol) as s:
            s.settimeout(SILENT)
            if case.held is not None:
                # It must not hold all of the answer when it looks as if it was in the middle.
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            case.prepare(s)
            s.bind(("", case.local_port))
            s.connect((case.host, case.port))
            case.used_port = s.getsockname()[1]
            try:
                if case.act:
                    return case.act(self, case, s)
                for number, (request, answer) in enumerate(case.talk):
                    if number:
                        case.ready.set()
                        self.await_go()
                        while case.waits and not self.calm and not self.decided(case):
                            time.sleep(0.1)
                    s.sendall(request)
                    if case.half_close:
                        s.shutdown(socket.SHUT_WR)
                    if outcome := self.read(case, s, answer, None if number else case.held):
                        return outcome
                if case.leaves:
                    s.shutdown(socket.SHUT_WR)
                    case.ready.set()
                    return "continued" if s.recv(1) == b"" else "wrong"
            except (ConnectionResetError, BrokenPipeError):
                return "reset"
            except TimeoutError:
                return "silent"
        return "continued"

    def read(self, case: Case, s: socket.socket, answer: Exact | Body, held: int | None) -> str:
        """Read an answer; what is wrong with it."""
        raw, end = bytearray(), False
        while not answer.whole(raw, end):
            if held is not None and len(raw) >= held and not case.ready.is_set():
                case.ready.set()
                if case.stops and not self.calm:
                    self.await_go()
                    while not any(line.startswith("recovering") for line in self.happened(case)):
                        time.sleep(0.1)
                    time.sleep(PAUSE)
            if end:
                return "closed"
            # Slowly, so that the end does not come before the others are ready.
            waits = held is not None and len(raw) >= held and not self.calm and not self.files[1].exists()
            if waits:
                time.sleep(0.1)
            piece = s.recv(1 << 12 if waits else 1 << 16)
            end = not piece
            raw += piece
            if not answer.right(raw):
                return "wrong"
        return ""

    def run_case(self, case: Case) -> None:
        """A thread of its own."""
        began = time.monotonic()
        try:
            case.got = self.drive(case)
        except OSError as error:
            case.got = str(error)
        case.seconds = time.monotonic() - began
        case.ready.set()

    def verdict(self, case: Case) -> str:
        """What is wrong with a case; empty if nothing is."""
        wanted = "continued" if self.calm else case.outcome
        if case.got != wanted:
            return f"wanted {wanted}"
        if self.calm:
            return ""
        if case.unknown:
            decided = self.decided(case)
            return f"the successor says {decided}" if decided else ""
        for _ in range(50):  # the client may know before the daemon has said it
            last = self.decided(case)[-1:]
            if last:
                break
            time.sleep(0.1)
        word = "spliced" if wanted == "continued" else "recovery-refused"
        if not last or not last[0].startswith(word) or case.why not in last[0]:
            return f"wanted {word} {case.why}; the successor says {last}"
        return ""

    def run(self) -> None:
        """All of it; exits."""
        threads = [threading.Thread(target=self.run_case, args=(case,), daemon=True) for case in self.cases]
        for thread in threads:
            thread.start()
        if not self.calm:
            for case in self.cases:
                case.ready.wait()
            self.files[0].touch()
        bad = 0
        for case, thread in zip(self.cases, threads):
            thread.join()
            wrong = self.verdict(case)
            bad += bool(wrong)
            family = 6 if ":" in case.host else 4
            note = f"  FAIL: {wrong}" if wrong else f" {case.why}" if not self.calm else ""
            print(f"{case.name:34} IPv{family} {case.got:10} {case.seconds:5.1f} s{note}", flush=True)
        sys.exit(bool(bad))
