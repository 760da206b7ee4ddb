#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""kills.py INTERVAL MISSES COUNT: a client downloads, its server dies, again and again.

A line of JSON for each death: the client's stall in milliseconds and what it was made of. Between
two deaths the dead machine returns as a new one, and all heartbeats are fast; a death comes at a
random moment of a heartbeat interval.
"""

import json
import random
import sys
import time

from download import Download
from site_ns import V4, Failed, Site, now, numbered, until

FAST = (50, 20)
RATE = 2 << 20
LAST = 30  # events of the successor that are told of a failure
interval, misses, count = map(int, sys.argv[1:])

site = Site("a", "b", before=f"HEARTBEAT=({FAST[0]} {FAST[1]}); DAEMON_ARGS=(--log-json)")
data = numbered(site.www / "big", max(8 << 20, RATE * (interval * misses // 1000 + 10)))
site.run("site_start")
site.enter("client")
owner, other = "a", "b"
done = 0


def kill() -> dict | None:
    """One death; `None` if the address moved before it."""
    until(lambda: site.ready(other), 60, 0.1)
    site.heartbeat(interval, misses)
    # As long after its start as it waits before it takes anything, now that a beat is longer.
    until(lambda: site.ready(other), 120, interval / 1000)
    download = Download(V4, "/big", data, RATE)
    # One interval, so that both have heard each other at the new pace, and a random part of one.
    time.sleep(interval / 1000 * (1 + random.random()))
    if not site.owns(owner):
        return None
    download.start()
    until(lambda: download.got > 256 << 10 or download.error)
    died = now()
    site.run(f"node_crash {owner}")
    down = now()
    spliced = site.event(other, "spliced", died, 60 + interval * misses / 1000, interval / 5000)["mono_ms"]
    at = download.got
    until(lambda: download.got > at + (128 << 10) or download.error)
    download.stopped.set()
    download.join()
    if download.error:
        return {"error": download.error}
    when = {name: site.event(other, name, died)["mono_ms"] for name in ("peer-dead", "address-taken", "recovering")}
    # A client that repeats its byte in this very moment says where it stands before anything asks,
    # and maybe before the program that has moved the address is over.
    taken = min(when["address-taken"], when["recovering"])
    length, began, ended = download.stall(died)
    return {
        "stall": length, "detection": when["peer-dead"] - began, "takeover": taken - when["peer-dead"],
        "location": when["recovering"] - taken, "splice": spliced - when["recovering"], "first": ended - spliced,
        "crash": down - died,
    }  # fmt: skip


failures = 0
while done < count:
    try:
        found = kill()
    except Failed as error:
        told = [{k: v for k, v in e.items() if k not in ("wall_ms", "node")} for e in site.events(other)[-LAST:]]
        found = {"error": str(error), "now": now(), "events": told}
    if found is None or "error" in found:
        failures += 1
        print(json.dumps(found or {"moved": True}), flush=True)
        if failures > 2 + count // 3:
            sys.exit("too many failures")
    else:
        done += 1
        print(json.dumps(found), flush=True)
    if found is not None:
        site.run(f"HEARTBEAT=({FAST[0]} {FAST[1]}); node_config {other} >$SITE/{other}.toml")
        until(lambda: site.holdfast(other, "reload") == 0)
        site.run(f"rm -f $SITE/{owner}.log; node_return {owner}")
        owner, other = other, owner
    elif site.owns(other):
        owner, other = other, owner
site.close()
