#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""crowd.py COUNT: so many downloads under way at once, and their server dies.

A line of JSON: for each, how long after the death it had its next byte, in milliseconds.
"""

import json
import resource
import selectors
import socket
import sys
import time

from site_ns import V4, Site, now, numbered, until

COUNT = int(sys.argv[1])
HEAD = 8 << 10  # bytes that each has before the death; their server has written more
FILES = 2 * COUNT + 1000  # nginx has the object open for each connection
resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
site = Site("a", "b", before=f"HEARTBEAT=(50 6); DAEMON_ARGS=(--log-json); NGINX_CONNECTIONS={FILES}")
for node in ("a", "b"):
    site.run(f"in_ns {node} sysctl -qw net.ipv4.tcp_wmem='4096 16384 32768' net.core.somaxconn=16384 net.ipv4.tcp_max_syn_backlog=32768")
site.run("in_ns client sysctl -qw net.ipv4.ip_local_port_range='1100 65000'")
data = numbered(site.www / "big", 1 << 20)
site.run("site_start", 120)
until(lambda: site.ready("b"), 60, 0.05)
site.enter("client")
request = b"GET /big HTTP/1.1\r\nHost: site\r\n\r\n"


class Client:
    """One connection."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.sock.settimeout(60)
        self.sock.connect((V4, 80))
        self.sock.sendall(request)
        self.got = 0
        self.again = 0.0

    def read(self, at_most: int) -> int:
        piece = self.sock.recv(min(at_most, 4096))
        if not piece:
            raise OSError("closed early")
        self.got += len(piece)
        return len(piece)


clients = []
for _ in range(COUNT):
    client = Client()
    while client.got < HEAD:
        client.read(HEAD - client.got)
    clients.append(client)
print(f"{COUNT} connections", file=sys.stderr, flush=True)
until(lambda: site.ask("b", op="status")["records_of_peers"] == COUNT, 60, 0.05)
until(lambda: site.ask("a", op="status")["log"]["unread"] == 0, 60, 0.05)
died = now()
site.run("node_crash a")
# What is in the receive buffers was there before the death: it is read first, and what comes after
# nothing was there is new.
selector = selectors.DefaultSelector()
for client in clients:
    client.sock.setblocking(False)
    try:
        while True:
            client.read(1 << 16)
    except BlockingIOError:
        selector.register(client.sock, selectors.EVENT_READ, client)
lost = 0
left = COUNT
end = time.monotonic() + 60 + COUNT / 20
while left and time.monotonic() < end:
    for key, _ in selector.select(5):
        client = key.data
        try:
            client.read(4096)
            client.again = now() - died
        except OSError:
            lost += 1
        selector.unregister(client.sock)
        left -= 1
events = site.events("b", died)
first = {name: next((e["mono_ms"] - died for e in events if e["event"] == name), None) for name in ("peer-dead", "address-taken", "takeover", "spliced")}
spliced = [e["mono_ms"] - died for e in events if e["event"] == "spliced"]
print(json.dumps({"flows": COUNT, "again": sorted(round(c.again, 1) for c in clients if c.again), "lost": lost, "silent": left,
                  "events": first, "spliced": [len(spliced), min(spliced, default=0), max(spliced, default=0)]}), flush=True)  # fmt: skip
site.close()
