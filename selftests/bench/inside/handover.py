#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""handover.py COUNT: downloads whose node is drained, and whose web server dies and is started again.

A line of JSON for each: the client's stall in milliseconds.
"""

import json

import sys

from download import Download
from site_ns import V4, Failed, Site, now, numbered, until

RATE = 2 << 20
count = int(sys.argv[1])
# What lies in the dying server's socket still arrives: little.
site = Site("a", "b", before="HEARTBEAT=(250 6); DAEMON_ARGS=(--log-json)")
for node in ("a", "b"):
    site.run(f"in_ns {node} sysctl -qw net.ipv4.tcp_wmem='4096 16384 65536'")
data = numbered(site.www / "big", 24 << 20)
site.run("site_start")
site.enter("client")


def begin() -> Download:
    """A download under way."""
    download = Download(V4, "/big", data, RATE)
    download.start()
    until(lambda: download.got > 512 << 10 or download.error)
    return download


def end(download: Download, since: float) -> dict:
    """A while later: how long it stood still."""
    at = download.got
    until(lambda: download.got > at + (512 << 10) or download.error)
    download.stopped.set()
    download.join()
    return {"error": download.error} if download.error else {"stall": download.stall(since)[0]}


def drain(owner: str, other: str) -> dict:
    """The owner hands over."""
    until(lambda: site.ready(other), 60, 0.05)
    download = begin()
    since = now()
    if site.holdfast(owner, "drain", "--deadline", "5"):
        raise Failed("drain failed")
    took = now() - since
    found = end(download, since)
    site.holdfast(owner, "undrain")
    return {"kind": "drain", "took": took, **found}



def restart(owner: str) -> dict:
    """The web server is killed and started."""
    download = begin()
    since = now()
    site.run(f"ip netns pids {owner} | while read -r p; do [[ $(</proc/$p/comm) != nginx ]] || kill -9 $p; done")
    killed = now()
    site.run(f"until nginx_start {owner} 2>/dev/null; do :; done")
    started = now()
    found = end(download, since)
    events = [[e["event"], round(e["mono_ms"] - since, 1)] for e in site.events(owner, since)]
    return {"kind": "restart", "restart": started - since, "kill": killed - since, **found, "events": events}


owner, other = "a", "b"
for _ in range(count):
    try:
        print(json.dumps(drain(owner, other)), flush=True)
        owner, other = other, owner
        print(json.dumps(restart(owner)), flush=True)
    except Failed as error:
        print(json.dumps({"kind": "?", "error": str(error)}), flush=True)
        owner, other = ("a", "b") if site.owns("a") else ("b", "a")
site.close()
