# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""A client that reads at a steady pace, checks each byte, and knows how long it had to wait."""

import socket
import threading
import time

from site_ns import now


class Download(threading.Thread):
    """One connection and one GET. `rate`: bytes a second. Its receive buffer is small, so that a
    server's silence is seen and not read from memory."""

    PIECE = 8192

    def __init__(self, address: str, path: str, data: bytes, rate: int):
        super().__init__(daemon=True)
        self.address, self.path, self.data, self.rate = address, path, data, rate
        self.got = 0
        self.arrivals: list[tuple[float, int]] = []  # when, and how many bytes then
        self.error = ""
        self.stopped = threading.Event()
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.sock.settimeout(120)

    def run(self) -> None:
        """Until the end, or `stopped`."""
        try:
            self.fetch()
        except (OSError, ValueError) as error:
            self.error = self.error or f"{type(error).__name__}: {error}"
        self.sock.close()

    def fetch(self) -> None:
        self.sock.connect((self.address, 80))
        self.sock.sendall(f"GET {self.path} HTTP/1.1\r\nHost: site\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.receive()
        self.take(head.split(b"\r\n\r\n", 1)[1])
        due = time.monotonic()
        while self.got < len(self.data) and not self.stopped.is_set():
            self.take(self.receive())
            due = max(due + self.PIECE / self.rate, time.monotonic())
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0)

    def receive(self) -> bytes:
        data = self.sock.recv(self.PIECE)
        if not data:
            raise ValueError("closed early")
        return data

    def take(self, data: bytes) -> None:
        if data != self.data[self.got : self.got + len(data)]:
            self.error = "wrong bytes"
            raise ValueError(self.error)
        self.got += len(data)
        self.arrivals.append((now(), len(data)))

    def stall(self, since: float) -> tuple[float, float, float]:
        """The longest time without a byte that ended after `since`: how long, from when, to when."""
        best = (0.0, since, since)
        for (before, _), (after, _) in zip(self.arrivals, self.arrivals[1:]):
            if after >= since:
                best = max(best, (after - before, before, after))
        return best
