#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""flows.py COUNT...: how long a round trip of a translated connection takes, and how much memory is
used, with so many flows in the table. Each was a connection of its own, whose sockets have gone
without a word, so that they take no memory.

For a guest whose clock counts instructions: nanoseconds are instructions then.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "lib"))
from genl import Family, attr, numbers  # noqa: E402

NETWORK = (HERE / "two.sh").read_text()
SERVICE, PLAYED, OTHERS = "10.0.0.1", 5000, 5001
# All of that network is the client, and no socket tells its end.
SILENCE = """
ip -n client route add local 10.128.0.0/9 dev lo
ip -n server route add 10.128.0.0/9 via 10.0.0.9
for n in client server; do
	ip netns exec $n nft "add table ip silent; add chain ip silent out { type filter hook output priority 0; }; add rule ip silent out tcp flags & rst == rst drop"
done
"""
ROUNDS = 400
IP_FREEBIND = 15
N = numbers()


def inside(name: str) -> None:
    """Go into a namespace."""
    with open(f"/run/netns/{name}") as file:
        os.setns(file.fileno(), os.CLONE_NEWNET)


def splice(family: Family, client: str, port: int, service: int, ds: int) -> None:
    """A flow that is translated; splice-add ones need no socket to stay."""
    given = {"CLIENT_ADDR": socket.inet_aton(client), "CLIENT_PORT": struct.pack(">H", port),
             "SERVICE_ADDR": socket.inet_aton(SERVICE), "SERVICE_PORT": struct.pack(">H", service),
             "DELTA_C2S": struct.pack("=I", 1000), "DELTA_S2C": struct.pack("=I", ds), "DELTA_TS": struct.pack("=I", 77)}  # fmt: skip
    error, why, _ = family.ask(N["CMD_SPLICE_ADD"], b"".join(attr(N[f"A_FLOW_{k}"], v) for k, v in given.items()))
    if error:
        sys.exit(f"splice-add {client}:{port}: error {error} {why}")


def come_and_go(client: str, port: int, listener: socket.socket) -> None:
    """The handshake of a connection, and the end of its sockets."""
    with socket.socket() as end:
        end.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        end.bind((client, port))
        end.connect((SERVICE, OTHERS))
        served, _ = listener.accept()
        for one in (end, served):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        served.close()


def free() -> int:
    """Bytes that the kernel itself does not use; what was freed by RCU has been given back."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    # A CPU keeps free pages at hand, the more the busier it is.
    at_hand = sum(map(int, re.findall(r"^ +count: +(\d+)", Path("/proc/zoneinfo").read_text(), re.M))) * os.sysconf("SC_PAGE_SIZE")
    return sum(int(fields[k].split()[0]) for k in ("MemFree", "Cached", "Buffers", "SReclaimable", "AnonPages")) * 1024 + at_hand


def slab() -> dict[str, int]:
    """Bytes in use in each cache of the slab allocator."""
    lines = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:]]
    return {w[0]: int(w[1]) * int(w[3]) for w in lines}


subprocess.run(["bash", "-ec", NETWORK + SILENCE], check=True, stdout=subprocess.DEVNULL)
inside("server")
for number in (PLAYED, OTHERS):
    subprocess.run(["holdfast", "service", "add", f"{SERVICE}:{number}", "--mode", "observe"], check=True, stdout=subprocess.DEVNULL)
family = Family()
splice(family, "10.0.0.9", PLAYED, PLAYED, 123456789)
pingpong = subprocess.Popen(["python3", HERE / "pingpong.py", SERVICE, "10.0.0.9", str(PLAYED), "100", str(ROUNDS)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
pingpong.stdout.readline()
listener = socket.socket()
listener.bind((SERVICE, OTHERS))
listener.listen()
inside("client")


def round_trip() -> int:
    pingpong.stdin.write("go\n")
    pingpong.stdin.flush()
    return int(pingpong.stdout.readline())


have = 1
round_trip()
before, slabs = free(), slab()
for wanted in map(int, sys.argv[1:]):
    while have < wanted:
        client, port = f"10.{128 + have // 60000}.{have // 200 % 250}.{1 + have % 200}", 1024 + have % 60000
        splice(family, client, port, OTHERS, 1 + have)
        come_and_go(client, port, listener)
        have += 1
    found = {"flows": have, "round": round_trip(), "memory": before - free()}
    grown = {k: v - slabs.get(k, 0) for k, v in slab().items()}
    found["slab"] = dict(sorted(((k, v) for k, v in grown.items() if v > have * 8), key=lambda i: -i[1])[:4])
    print(json.dumps(found), flush=True)
pingpong.kill()
