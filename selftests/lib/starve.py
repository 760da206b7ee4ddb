#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""starve.py SECONDS SEED: requests of the netlink family whose allocations fail (failslab, of this task
only), in a network namespace of its own. Whatever is short, a service whose flow needs the module
is never deleted; what else is asked for is done or refused, and can be asked for afterwards."""

import os
import random
import struct
import subprocess
import sys
import time
from collections import Counter

from asks import Spec
from genl import Family, attr, numbers

seconds, seed = float(sys.argv[1]), sys.argv[2]
N = numbers()
os.unshare(os.CLONE_NEWNET)
for command in ("link set lo up", "link add eth0 type veth peer name peer", "link set eth0 up", "addr add 10.0.0.1/24 dev eth0"):
    subprocess.run(["ip", *command.split()], check=True)
spec, rng, family = Spec(seed), random.Random(seed), Family()
family.socket.settimeout(1)
PORT = struct.pack(">H", 80)
KEPT, OTHERS = bytes([10, 0, 0, 1]), [bytes([10, 0, 0, n]) for n in (2, 3)]
service = attr(N["A_SERVICE_ADDR"], KEPT) + attr(N["A_SERVICE_PORT"], PORT)
assert family.ask(N["CMD_SERVICE_ADD"], service)[0] == 0
flow = b"".join(
    attr(N[f"A_FLOW_{name}"], value)
    for name, value in (("CLIENT_ADDR", bytes([10, 0, 0, 9])), ("CLIENT_PORT", PORT), ("SERVICE_ADDR", KEPT), ("SERVICE_PORT", PORT))
)
assert family.ask(N["CMD_SPLICE_ADD"], flow + attr(N["A_FLOW_DELTA_S2C"], struct.pack("=I", 7)))[0] == 0

# Not while it is only this program that works.
starve = os.open("/proc/self/make-it-fail", os.O_WRONLY)
answers, until = Counter(), time.monotonic() + seconds
while time.monotonic() < until:
    delete = rng.random() < 0.2
    if delete:
        number, data, dump = N["CMD_SERVICE_DEL"], service, False
    else:
        ask = spec.ask(rng.choice(OTHERS), 4)
        number, data, dump = ask.number, ask.data, ask.dump
    os.pwrite(starve, b"1", 0)
    try:
        error = os.strerror(family.ask(number, data, dump=dump)[0])
    except OSError as e:
        # Even to say so there was no memory.
        error = f"no answer: {e}"
    os.pwrite(starve, b"0", 0)
    answers[error] += 1
    assert not (delete and error == os.strerror(0)), "the service of a flow that needs it is deleted"
print(", ".join(f"{error}: {n}" for error, n in answers.most_common()))
assert any("memory" in error or "buffer" in error for error in answers), "nothing has failed"

family = Family()
assert family.ask(N["CMD_FLOW_GET"], flow)[0] == 0
assert family.ask(N["CMD_SPLICE_DEL"], flow)[0] == 0
assert family.ask(N["CMD_SERVICE_DEL"], service)[0] == 0
