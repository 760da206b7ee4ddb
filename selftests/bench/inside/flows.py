#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""flows.py COUNT...: how long a round trip of a translated connection takes, and how much memory is
used, with so many flows in the table (of clients that never come: `splice-add`).

For a guest whose clock counts instructions: nanoseconds are instructions then.
"""

import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "lib"))
from genl import Family, attr, numbers  # noqa: E402

NETWORK = (HERE / "two.sh").read_text()
SERVICE = "10.0.0.1"
ROUNDS = 400
N = numbers()


def inside(name: str) -> None:
    """Go into a namespace."""
    with open(f"/run/netns/{name}") as file:
        os.setns(file.fileno(), os.CLONE_NEWNET)


def splice(family: Family, client: str, port: int, ds: int) -> None:
    """A flow that is translated."""
    given = {"CLIENT_ADDR": socket.inet_aton(client), "CLIENT_PORT": struct.pack(">H", port),
             "SERVICE_ADDR": socket.inet_aton(SERVICE), "SERVICE_PORT": struct.pack(">H", 5000),
             "DELTA_C2S": struct.pack("=I", 1000), "DELTA_S2C": struct.pack("=I", ds), "DELTA_TS": struct.pack("=I", 77)}  # fmt: skip
    error, why, _ = family.ask(N["CMD_SPLICE_ADD"], b"".join(attr(N[f"A_FLOW_{k}"], v) for k, v in given.items()))
    if error:
        sys.exit(f"splice-add {client}:{port}: error {error} {why}")


def free() -> int:
    """Bytes that the kernel could still give; what was freed by RCU has been given back."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(fields[k].split()[0]) for k in ("MemFree", "Cached", "Buffers", "SReclaimable")) * 1024


def slab() -> dict[str, int]:
    """Bytes in use in each cache of the slab allocator."""
    lines = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:]]
    return {w[0]: int(w[1]) * int(w[3]) for w in lines}


subprocess.run(["bash", "-ec", NETWORK], check=True, stdout=subprocess.DEVNULL)
inside("server")
subprocess.run(["holdfast", "service", "add", f"{SERVICE}:5000", "--mode", "observe"], check=True, stdout=subprocess.DEVNULL)
family = Family()
splice(family, "10.0.0.9", 5000, 123456789)
pingpong = subprocess.Popen(["python3", HERE / "pingpong.py", SERVICE, "10.0.0.9", "5000", "100", str(ROUNDS)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
pingpong.stdout.readline()


def round_trip() -> int:
    pingpong.stdin.write("go\n")
    pingpong.stdin.flush()
    return int(pingpong.stdout.readline())


have = 1
round_trip()
before, slabs = free(), slab()
for wanted in map(int, sys.argv[1:]):
    while have < wanted:
        splice(family, f"10.{1 + have // 60000}.{have // 200 % 250}.{1 + have % 200}", 1024 + have % 60000, 1 + have)
        have += 1
    found = {"flows": have, "round": round_trip(), "memory": before - free()}
    grown = {k: v - slabs.get(k, 0) for k, v in slab().items()}
    found["slab"] = dict(sorted(((k, v) for k, v in grown.items() if v > have * 8), key=lambda i: -i[1])[:4])
    print(json.dumps(found), flush=True)
pingpong.kill()
