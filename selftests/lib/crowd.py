#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""A crowd of clients in one process: paced downloads, and connections that are idle.

usage: crowd.py ADDRESS SOURCE,... DOWNLOADS IDLE FOLDER READY GO

Each idle connection has had an answer for /index.html. When all of them have, and every download of
/some has its first quarter, creates READY. Once GO is there the downloads run free, and each
idle connection asks again. FOLDER has the objects. Prints what became of them; the exit status is 0
if all had every byte, each over its one connection.
"""

import collections
import os
import resource
import selectors
import socket
import sys
import time

PIECE = 8192
# Seconds between two pieces of a download while all are paced.
PACE = 1.0
# Connections that are set up, or idle ones that ask again, at a time.
AT_ONCE = 250
# Longest wait for any progress, in seconds.
PATIENCE = 120


class Client:
    """One connection. `body` is what each answer on it must be."""

    def __init__(self, crowd, path, source, paced):
        self.crowd, self.path, self.paced = crowd, path, paced
        self.body = crowd.objects[path]
        self.due = self.took = 0.0
        self.outcome = ""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        if paced:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.sock.bind((source, 0))
        self.sock.connect_ex((crowd.address, 80))
        self.ask()

    def ask(self):
        """Sends the request, at once or when the connection is there."""
        self.head, self.got, self.began = b"", 0, time.monotonic()
        self.wants = selectors.EVENT_WRITE
        self.crowd.watch(self)

    def step(self, mask):
        """Something can be done. Whether the answer, or the connection, is over."""
        try:
            if mask & selectors.EVENT_WRITE:
                self.sock.sendall(f"GET {self.path} HTTP/1.1\r\nHost: site\r\n\r\n".encode())
                self.wants = selectors.EVENT_READ
                self.crowd.watch(self)
                return False
            data = self.sock.recv(PIECE)
        except BlockingIOError:
            return False
        except OSError as error:
            return self.ends(f"broken: {error.strerror}")
        if not data:
            return self.ends("closed")
        return self.take(data)

    def take(self, data):
        """Compares what has come."""
        if self.got == 0 and b"\r\n\r\n" not in self.head:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return False
            self.head, data = self.head.split(b"\r\n\r\n", 1)
            self.head += b"\r\n\r\n"
            if not self.head.startswith(b"HTTP/1.1 200 "):
                return self.ends(f"status: {self.head[:20]!r}")
        if data != self.body[self.got : self.got + len(data)]:
            return self.ends("wrong bytes")
        self.got += len(data)
        if self.paced and self.crowd.paced:
            self.due = time.monotonic() + PACE
            self.crowd.rests(self)
        return self.got == len(self.body) and self.ends("answered")

    def ends(self, outcome):
        """Nothing more is awaited."""
        self.outcome, self.took = outcome, time.monotonic() - self.began
        self.crowd.unwatch(self)
        return True


class Crowd:
    """All of them."""

    def __init__(self, address, folder):
        self.address, self.paced = address, True
        self.objects = {}
        for path in ("/index.html", "/some"):
            with open(f"{folder}{path}", "rb") as f:
                self.objects[path] = f.read()
        self.events = selectors.EpollSelector()
        self.resting = collections.deque()

    def watch(self, client):
        """Waits for what the client wants."""
        try:
            self.events.modify(client.sock, client.wants, client)
        except KeyError:
            self.events.register(client.sock, client.wants, client)

    def unwatch(self, client):
        """Waits for it no more."""
        try:
            self.events.unregister(client.sock)
        except KeyError:
            pass

    def rests(self, client):
        """The client reads no more before it is due."""
        self.unwatch(client)
        self.resting.append(client)

    def turn(self):
        """One look at all that can go on; who has come to an end."""
        now = time.monotonic()
        while self.resting and (self.resting[0].due <= now or not self.paced):
            client = self.resting.popleft()
            if not client.outcome:
                self.watch(client)
        return [key.data for key, mask in self.events.select(0.1) if key.data.step(mask)]

    def until(self, what, done, *args):
        """Goes on until that is so."""
        end = time.monotonic() + PATIENCE
        while not done(*args):
            if self.turn():
                end = time.monotonic() + PATIENCE
            if time.monotonic() > end:
                sys.exit(f"FAIL: no progress: {what}")

    def waves(self, what, begin, count):
        """Begins `count` exchanges, not all at once, and waits for their ends."""
        begun = over = 0
        end = time.monotonic() + PATIENCE
        while over < count:
            while begun < count and begun - over < AT_ONCE:
                begin(begun)
                begun += 1
            ended = [c for c in self.turn() if not c.paced]
            over += len(ended)
            if ended:
                end = time.monotonic() + PATIENCE
            if time.monotonic() > end:
                sys.exit(f"FAIL: no progress: {what}, {over} of {count}")


def main():
    address, sources, downloads, idle, folder, ready, go = sys.argv[1:]
    sources, downloads, idle = sources.split(","), int(downloads), int(idle)
    resource.setrlimit(resource.RLIMIT_NOFILE, (idle + downloads + 100,) * 2)
    crowd = Crowd(address, folder)
    waiting = []

    def opened(number):
        waiting.append(Client(crowd, "/index.html", sources[number % len(sources)], False))

    def asked(number):
        waiting[number].outcome = ""
        waiting[number].ask()

    began = time.monotonic()
    crowd.waves("first answers", opened, idle)
    if bad := collections.Counter(c.outcome for c in waiting if c.outcome != "answered"):
        sys.exit(f"FAIL: before anything happened: {bad}")
    print(f"{idle} idle connections after {time.monotonic() - began:.0f} s", flush=True)
    loads = []
    for number in range(downloads):
        loads.append(Client(crowd, "/some", sources[number % len(sources)], True))
        if number % AT_ONCE == 0:
            crowd.turn()
    quarter = len(crowd.objects["/some"]) // 4
    crowd.until("first quarters", lambda: all(c.got >= quarter or c.outcome for c in loads))
    if early := sum(bool(c.outcome) for c in loads):
        sys.exit(f"FAIL: {early} downloads were over early: {loads[0].outcome}")
    open(ready, "w").close()
    crowd.until("the other server", os.path.exists, go)
    crowd.paced = False
    began = time.monotonic()
    crowd.until("downloads", lambda: all(c.outcome for c in loads))
    print(f"{downloads} downloads after {time.monotonic() - began:.0f} s more", flush=True)
    began = time.monotonic()
    crowd.waves("second answers", asked, idle)
    print(f"{idle} idle connections were answered after {time.monotonic() - began:.0f} s", flush=True)
    ends = {"downloads": loads, "idle": waiting}
    for name, all_of in ends.items():
        for outcome in {c.outcome for c in all_of}:
            took = sorted(c.took for c in all_of if c.outcome == outcome)
            print(f"{name}: {len(took)} {outcome}, after {took[0]:.1f} to {took[-1]:.1f} s, median {took[len(took) // 2]:.1f}")
    ends = {name: dict(collections.Counter(c.outcome for c in all_of)) for name, all_of in ends.items()}
    sys.exit(ends != {"downloads": {"answered": downloads}, "idle": {"answered": idle}})


main()
