#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=480
"""Netlink requests of every wrong kind: attributes that are missing, there twice, too short, too
long, out of range or nested wrongly, and noise; also by whoever has no right to ask. Errors say what
is wrong, nobody sees another namespace, and the module goes when all is over. Most requests are in
order (lib/asks.py), so that each operation is granted, too, among flows in all phases: behind the
services there are servers that answer the ghosts, or do not."""

import errno
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
from asks import Ask, Spec  # noqa: E402
from genl import Family, attr, attrs, numbers  # noqa: E402

SEED = os.environ.get("HOLDFAST_SEED") or str(random.getrandbits(32))
FULL = os.environ.get("HOLDFAST_SIZE") == "full"
SECONDS = float(os.environ.get("HOLDFAST_FUZZ_SECONDS", 40 if FULL else 15))
N = numbers()
SPEC = Spec(SEED)
RNG = random.Random(SEED)
# What a long run grants: a service goes only while no flow needs it. clear() removes all of them in the end.
LIKELY = set(SPEC.numbers) - {"service-del"}
# What a run of any length grants: a join needs a ghost whose server has answered in time.
CERTAIN = LIKELY - {"flow-join"}
SERVICES = {4: [bytes([10, 0, 0, n]) for n in (1, 2)], 6: [bytes.fromhex("fd") + bytes(14) + bytes([n]) for n in (1, 2)]}
# What userspace may be told, and no more; ENOMEM is not one of them.
FINE = {0, *(getattr(errno, e) for e in "EINVAL ERANGE ENOENT EBUSY EEXIST EPERM EAGAIN ESTALE EOPNOTSUPP ENOSPC".split())}
EXPLAINED = {errno.EINVAL, errno.ERANGE}


def fail(what: str) -> None:
    """Ends the test."""
    sys.exit(f"FAIL (HOLDFAST_SEED={SEED}): {what}")


def request() -> tuple[Ask, tuple[bytes, int]]:
    """An operation with what belongs to it, more or less, and the service that it is about."""
    family = RNG.choice([4, 6])
    service = RNG.choice(SERVICES[family])
    return SPEC.ask(service, family), (service, family)


def serve() -> int:
    """Starts servers on all services: each second connection is answered, at once."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    listener = socket.create_server(("::", 80), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    listener.settimeout(1)
    kept: list[socket.socket] = []
    while os.getppid() == parent:
        try:
            kept.append(listener.accept()[0])
            if RNG.random() < 0.5:
                kept[-1].send(bytes(100))
        except OSError:
            pass
        for old in kept[:-50]:
            old.close()
        kept = kept[-50:]
    os._exit(0)


def services(family: Family) -> list[bytes]:
    """The name of each service."""
    error, _, replies = family.ask(N["CMD_SERVICE_GET"], dump=True)
    if error:
        fail(f"service-get: {os.strerror(error)}")
    names = (dict(attrs(r)) for r in replies)
    return [attr(k, s[k]) + attr(p, s[p]) for s in names]


k, p = N["A_SERVICE_ADDR"], N["A_SERVICE_PORT"]
FLOW_KEY = [N[f"A_FLOW_{n}"] for n in ("CLIENT_ADDR", "CLIENT_PORT", "SERVICE_ADDR", "SERVICE_PORT")]


def clear(family: Family) -> None:
    """Ends every flow, then every service."""
    # What was joined needs the module for a minute after its end.
    deadline = time.monotonic() + 150
    while True:
        for reply in family.ask(N["CMD_FLOW_GET"], dump=True)[2]:
            flow = dict(attrs(reply))
            key = b"".join(attr(n, flow[n]) for n in FLOW_KEY)
            family.ask(N["CMD_SPLICE_DEL"], key)
            family.ask(N["CMD_FLOW_END"], key + attr(N["A_FLOW_VERDICT"], struct.pack("=I", N["VERDICT_ABANDON"])))
        for service in services(family):
            family.ask(N["CMD_SERVICE_DEL"], service)
        if not services(family):
            return
        if time.monotonic() > deadline:
            fail("services that cannot be deleted")


def child(what, *args) -> None:
    """Does something in a process of its own, which succeeds."""
    pid = os.fork()
    if not pid:
        try:
            what(*args)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001
            print(f"{what.__name__}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        fail(f"{what.__name__}")


def refused(family: Family) -> None:
    """Whoever has no right gets EPERM, whatever they ask."""
    for name, cmd in SPEC.numbers.items():
        error = family.ask(cmd, b"", dump=not SPEC.takes[name])[0]
        assert error == errno.EPERM, f"{name}: {error}"
    try:
        os.close(os.open("/dev/holdfast", os.O_RDWR))
    except PermissionError:
        return
    raise AssertionError("the log was opened")


def nobody() -> None:
    """Gives all rights away."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def unprivileged(number: int) -> None:
    """A user without rights."""
    nobody()
    refused(Family(number))


def user_namespace(number: int) -> None:
    """Root of a user namespace has no right in a network namespace that is not its own."""
    nobody()
    os.unshare(os.CLONE_NEWUSER)
    refused(Family(number))


def own_namespaces(number: int) -> None:
    """In its own network namespace it has, and sees only that."""
    nobody()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    own(number)


def network_namespace(number: int) -> None:
    """Another network namespace has its own services."""
    os.unshare(os.CLONE_NEWNET)
    own(number)


def own(number: int) -> None:
    """This namespace is empty, and what is done here is done here."""
    family = Family(number)
    assert services(family) == [], "services of another namespace"
    for _ in range(300):
        ask, _ = request()
        family.ask(ask.number, ask.data, dump=ask.dump)
    clear(family)


def main() -> None:
    """All of it."""
    print(f"HOLDFAST_SEED={SEED}")
    if not Path("/sys/module/holdfast").exists():
        subprocess.run(["insmod", os.environ["HOLDFAST_KO"]], check=True)
    os.unshare(os.CLONE_NEWNET)
    for command in (
        "link set lo up", "link add eth0 type veth peer name peer", "link set eth0 up", "link set peer up",
        *(f"addr add 10.0.0.{n}/24 dev eth0" for n in (1, 2)), *(f"addr add fd00::{n}/64 dev eth0 nodad" for n in (1, 2)),
    ):  # fmt: skip
        subprocess.run(["ip", *command.split()], check=True)
    family = Family()
    kept = attr(k, bytes([192, 0, 2, 1])) + attr(p, struct.pack(">H", 443))
    assert family.ask(N["CMD_SERVICE_ADD"], kept)[0] == 0
    for hostile in (unprivileged, user_namespace, own_namespaces, network_namespace):
        child(hostile, family.number)
    if services(family) != [kept]:
        fail("what others did changed this namespace")

    server = serve()
    log = os.open("/dev/holdfast", os.O_RDWR)
    until, asked, answers = time.monotonic() + SECONDS, 0, Counter()
    granted: dict[str, set[str]] = {name: set() for name in SPEC.numbers}
    # For longer, where all is asked for and something is still missing.
    while (now := time.monotonic()) < until or (FULL and now < until + 60 and not all(map(granted.get, LIKELY))):
        ask, service = request()
        what = f"{ask.name} {ask.data.hex()}"
        error, said, replies = family.ask(ask.number, ask.data, dump=ask.dump, version=RNG.choice([1, 1, 1, 0, 255]))
        answers[ask.name, error] += 1
        asked += 1
        if error not in FINE:
            fail(f"{what}: {os.strerror(error)}")
        if error in EXPLAINED and not said:
            fail(f"{what}: {os.strerror(error)} without a word")
        if not error and ask.sound and (not ask.dump or ask.name == "stats-get"):
            granted[ask.name] |= ask.has | {"once"}
            if ask.name == "flow-recover":
                SPEC.ghost = (*service, SPEC.port)
        if ask.name.startswith(("flow", "splice")):
            flows = [dict(attrs(reply)) for reply in replies[-4:]]
            SPEC.ids = [*SPEC.ids, *(struct.unpack("=Q", f[N["A_FLOW_ID"]])[0] for f in flows)][-8:]
        if asked % 50 == 0:
            # Not even a message.
            family.socket.send(RNG.randbytes(RNG.randrange(1, 80)))
        if asked % 1000 == 0:
            os.close(log)
            log = os.open("/dev/holdfast", os.O_RDWR)
    os.close(log)
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    for (name, error), n in sorted(answers.items()):
        print(f"{name} {errno.errorcode.get(error, 'ok')}: {n}")
    never = [name for name, has in granted.items() if not has]
    without = {name: sorted({a.name for a in SPEC.takes[name]} - has) for name, has in granted.items()}
    without = {name: names for name, names in without.items() if names}
    print(f"{asked} requests; never granted: {never}, or not with: {without}")
    if set(never) & (LIKELY if FULL else CERTAIN):
        fail("operations that were never granted: the generator and the policies do not fit")
    clear(family)
    family.socket.close()
    os.unshare(os.CLONE_NEWNET)
    until = time.monotonic() + 60
    while subprocess.run(["rmmod", "holdfast"], capture_output=True, check=False).returncode:
        if time.monotonic() > until:
            fail("the module does not go")
        time.sleep(0.1)
    print("ok")


main()
