#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""load.py ROUNDS SECONDS: wrk and curl against four groups of servers that differ only in what Holdfast
does for them, in turn, and once more against the first one while the module is not loaded. In its
namespace "a" there is no service. Daemons run only where, and while, their group is asked.

A line of JSON for each measurement.
"""

import json
import random
import re
import subprocess
import sys
import time

from site_ns import Site, until

ROUNDS, SECONDS = int(sys.argv[1]), float(sys.argv[2])
# The base, and what is the same but for the module.
BASE, IDLE = "none", "idle"
# Each with the nodes of its group and what its services say.
GROUPS = {"observe": ("b", "c", 'mode = "observe"'), "strict": ("d", "e", 'commit = "strict"'), "eager": ("f", "g", 'commit = "eager"')}
ADDRESS = {BASE: "10.0.0.1", IDLE: "10.0.0.1", "observe": "10.0.0.82", "strict": "10.0.0.83", "eager": "10.0.0.84"}
SIZES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "100 MiB": 100 << 20}
# Object and connections at once; one connection tells latency, several tell throughput.
CASES = [("1 KiB", 1), ("1 KiB", 8), ("64 KiB", 8), ("1 MiB", 4), ("100 MiB", 1)]
# Seconds for which daemons that have started are left alone, and for which they are watched then.
SETTLED, QUIET = 5, 4
UNIT = {"us": 1e-3, "ms": 1.0, "s": 1e3}

numbers = "; ".join(f"NUMBER[{name}]={i}" for i, name in enumerate("abcdefg", 1))
site = Site(*"abcdefg", before=f"{numbers}; CLIENTS=(client)")
for name, size in SIZES.items():
    with open(site.www / name.replace(" ", ""), "wb") as file:
        file.truncate(size)
for name in "abcdefg":
    site.run(f"serve {name}")


def load() -> None:
    """With the module. The addresses of services stay where they are while it is not."""
    site.run('[ -e /sys/module/holdfast ] || insmod "$HOLDFAST_KO"')


def start(name: str) -> None:
    """With the daemons of one group, and services that are ready. No other daemon runs."""
    first, second, more = GROUPS[name]
    last = ADDRESS[name].rsplit(".", 1)[1]
    site.run(f"NODES=({first} {second}); V4={ADDRESS[name]}; V6=fd00::{last}; SERVICE_MORE='{more}'")
    site.run(f"for n in {first} {second}; do rm -f $SITE/$n.sock; daemon_start $n; until_true 20 test -S $SITE/$n.sock; done")
    site.run("until_true 30 in_ns client curl -sf -o /dev/null http://$V4/")
    # Who only observes does not get ready.
    if name != "observe":
        until(lambda: site.ready(first) or site.ready(second), 60, 0.05)
    # Until none of them takes the other for one that has just started.
    time.sleep(SETTLED)


def stop() -> None:
    """All daemons at once, so that none sees another one die."""
    site.run(f"NODES=({' '.join(site.nodes)}); pkill -KILL holdfastd; until_true 20 bash -c '! pgrep holdfastd'")


def unload() -> None:
    """Without the module."""
    site.run("until_true 60 rmmod holdfast")


def daemons(seconds: float) -> float:
    """Instructions of each daemon in a second, while nobody asks for anything: the time of its threads, as
    each takes a nanosecond."""

    def spent() -> int:
        tasks = subprocess.run("cat /proc/$(pgrep -d'/task/*/schedstat /proc/' holdfastd)/task/*/schedstat", shell=True, check=True,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
        return sum(int(line.split()[0]) for line in tasks.stdout.splitlines())

    before, began = spent(), time.monotonic()
    time.sleep(seconds)
    return (spent() - before) / (time.monotonic() - began) / 2


def said(pattern: str, text: str) -> float:
    """A time in milliseconds."""
    found = re.search(pattern + r"\s+([\d.]+)(us|ms|s)\b", text)
    return float(found[1]) * UNIT[found[2]] if found else float("nan")


def wrk(url: str, connections: int) -> dict:
    """Requests and latencies. wrk itself counts in whole seconds; an interrupt ends it well."""
    command = ["ip", "netns", "exec", "client", "timeout", "--preserve-status", "-sINT", str(SECONDS)]
    command += ["wrk", "-t1", f"-c{connections}", "-d60s", "--latency", url]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out = done.stdout
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {out}")
    errors = re.search(r"Socket errors:.*|Non-2xx.*", out)
    found = {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), "p50": said("50%", out), "p99": said("99%", out)}
    return {**found, "errors": errors[0]} if errors else found


def curl(url: str) -> dict:
    """One download."""
    command = ["ip", "netns", "exec", "client", "curl", "-sf", "-o", "/dev/null", "-w", "%{time_total} %{time_starttransfer}", url]
    total, first = map(float, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
    return {"rate": 1 / total, "p50": first * 1000, "p99": first * 1000}


def one(name: str, size: str, connections: int) -> dict:
    url = f"http://{ADDRESS[name]}/{size.replace(' ', '')}"
    return curl(url) if size == "100 MiB" else wrk(url, connections)


def turn(number: int, name: str) -> None:
    """One measurement of each case."""
    for size, connections in CASES:
        found = one(name, size, connections)
        print(json.dumps({"round": number, "mode": name, "size": size, "connections": connections, **found}), flush=True)


def ping() -> float:
    """Milliseconds from one node of a group to the other and back."""
    said = subprocess.run("ip netns exec d ping -qc200 -i0.002 10.0.0.5", shell=True, check=True, stdout=subprocess.PIPE, text=True)
    return float(re.search(r"= [\d.]+/([\d.]+)/", said.stdout)[1])


load()
print(json.dumps({"ping": ping()}), flush=True)
for number in range(ROUNDS):
    # Whoever comes first has no advantage.
    for name in random.sample([BASE, IDLE, *GROUPS], len(GROUPS) + 2):
        if name == BASE:
            unload()
        elif name in GROUPS:
            start(name)
            print(json.dumps({"round": number, "mode": name, "daemon": daemons(QUIET)}), flush=True)
        one(name, "1 KiB", 8)
        turn(number, name)
        if name == BASE:
            load()
        elif name in GROUPS:
            stop()
site.close()
