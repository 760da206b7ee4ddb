#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=300
"""Netlink requests of every wrong kind: attributes that are missing, there twice, too short, too
long, out of range or nested wrongly, and noise; also by whoever has no right to ask. Errors say what
is wrong, nobody sees another namespace, and the module goes when all is over."""

import errno
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
from genl import NESTED, Family, attr, attrs, numbers  # noqa: E402

SEED = os.environ.get("HOLDFAST_SEED") or str(random.getrandbits(32))
SECONDS = float(os.environ.get("HOLDFAST_FUZZ_SECONDS", 15))
N = numbers()
RNG = random.Random(SEED)
COMMANDS = {name: n for name, n in N.items() if name.startswith("CMD_") and "NTF" not in name and "MAX" not in name}
SETS = {"SERVICE": "SERVICE", "FLOW": "FLOW", "SPLICE": "FLOW", "STATS": "STAT"}
WIDE = ("_ID", "C2S_NEXT", "S2C_NEXT", "S2C_ACKED", "_AT", "OBJECT_START", "OBJECT_END", "ANSWER_LENGTH", "GATE")
# What userspace may be told, and no more; ENOMEM is not one of them.
FINE = {0, *(getattr(errno, e) for e in "EINVAL ERANGE ENOENT EBUSY EEXIST EPERM EAGAIN ESTALE EOPNOTSUPP ENOSPC".split())}
EXPLAINED = {errno.EINVAL, errno.ERANGE}


def fail(what: str) -> None:
    """Ends the test."""
    sys.exit(f"FAIL (HOLDFAST_SEED={SEED}): {what}")


def value(name: str) -> bytes:
    """A value of the right size, and often of a right kind."""
    if name.endswith("ADDR"):
        return RNG.choice([bytes([10, 0, 0, RNG.randrange(1, 4)]), bytes.fromhex("fd") + bytes(14) + b"\1"])
    if name.endswith("PORT"):
        return struct.pack(">H", RNG.choice([80, 80, 80, 0, 40000]))
    if name == "A_FLOW_OPTIONS":
        return b"".join(one(n) for n in N if n.startswith("A_OPTIONS_") and "MAX" not in n and RNG.random() < 0.8)
    if name == "A_BATCH_RELEASE":
        kinds = [n for n in N if n.startswith("A_RELEASE_") and "MAX" not in n]
        return b"".join(attr(i | NESTED, b"".join(one(n) for n in kinds)) for i in range(RNG.randrange(4)))
    if name.endswith(("REQUEST", "PREFIX")):
        return RNG.randbytes(RNG.choice([0, 1, 100, 32768, 60000]))
    if name.endswith(("_SACK", "_TIMESTAMPS", "UNPROTECTED", "ACK_RELEASE")):
        return b""
    size = 8 if name.endswith(WIDE) else 1 if "WSCALE" in name else 2 if name.endswith("MSS") else 4
    number = RNG.choice([0, 1, 1, 2, 7, 1000, 65535, RNG.getrandbits(64), (1 << 64) - 1, (1 << 31)])
    return (number % (1 << 8 * size)).to_bytes(size, sys.byteorder)


def one(name: str) -> bytes:
    """An attribute, spoiled now and then."""
    kind, data, length = N[name], value(name), None
    if name in ("A_FLOW_OPTIONS", "A_BATCH_RELEASE"):
        kind |= NESTED
    if RNG.random() < 0.06:
        spoil = RNG.randrange(6)
        if spoil == 0:
            data = data[: RNG.randrange(len(data) + 1)]
        elif spoil == 1:
            data += RNG.randbytes(RNG.randrange(20))
        elif spoil == 2:
            kind ^= RNG.choice([NESTED, 0x4000, 64])
        elif spoil == 3:
            length = RNG.choice([0, 1, 3, 4, 0xFFFF, RNG.randrange(64)])
        elif spoil == 4:
            data = RNG.randbytes(len(data))
        else:
            return attr(kind, data) * 2
    return attr(kind, data, length)


def request() -> tuple[str, bytes, bool]:
    """An operation with what belongs to it, more or less."""
    name = RNG.choice(list(COMMANDS))
    kind = "BATCH" if name == "CMD_FLOW_COMMIT" else SETS[name.split("_")[1]]
    every = [n for n in N if n.startswith(f"A_{kind}_") and "MAX" not in n]
    keys = [n for n in every if n.endswith(("ADDR", "PORT"))]
    share = RNG.choice([0.1, 0.5, 1])
    chosen = [n for n in every if (n in keys and RNG.random() < 0.97) or RNG.random() < share]
    if RNG.random() < 0.9:
        chosen = [n for n in chosen if n in allowed(name, every)]
    data = b"".join(map(one, chosen))
    if RNG.random() < 0.05:
        data = RNG.randbytes(RNG.randrange(200))
    return name, data, name.endswith("GET") and RNG.random() < 0.2


def allowed(name: str, every: list[str]) -> list[str]:
    """What an operation takes besides the key; a strict policy refuses the rest."""
    key = [n for n in every if n.endswith(("ADDR", "PORT"))]
    more = {
        "CMD_SERVICE_ADD": "MODE COMMIT HOLD_MS VERDICT_MS HEAD_LIMIT REQUEST_LIMIT",
        "CMD_FLOW_COMMIT": "RELEASE",
        "CMD_FLOW_LOCATE": "GENERATION C2S_NEXT PROBE_SEQ OPTIONS TSVAL TSECR TS_AGE",
        "CMD_FLOW_RECOVER": "GENERATION C2S_NEXT AT OPTIONS TSVAL TSECR TS_AGE REQUEST ANSWER_WINDOW",
        "CMD_FLOW_JOIN": "ID PREFIX ANSWER_LENGTH OBJECT_START OBJECT_END",
        "CMD_FLOW_END": "VERDICT",
        "CMD_SPLICE_ADD": "DELTA_C2S DELTA_S2C DELTA_TS",
    }.get(name, "").split()
    return key + [n for n in every if n.split("_", 2)[2] in more]


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
    deadline = time.monotonic() + 60
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
    for name, cmd in COMMANDS.items():
        dump = name == "CMD_STATS_GET"
        error = family.ask(cmd, b"", dump=dump)[0]
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
        name, data, dump = request()
        family.ask(COMMANDS[name], data, dump=dump)
    clear(family)


def main() -> None:
    """All of it."""
    print(f"HOLDFAST_SEED={SEED}")
    if not Path("/sys/module/holdfast").exists():
        subprocess.run(["insmod", os.environ["HOLDFAST_KO"]], check=True)
    os.unshare(os.CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    family = Family()
    kept = attr(k, bytes([192, 0, 2, 1])) + attr(p, struct.pack(">H", 443))
    assert family.ask(N["CMD_SERVICE_ADD"], kept)[0] == 0
    for hostile in (unprivileged, user_namespace, own_namespaces, network_namespace):
        child(hostile, family.number)
    if services(family) != [kept]:
        fail("what others did changed this namespace")

    log = os.open("/dev/holdfast", os.O_RDWR)
    until, asked, answers = time.monotonic() + SECONDS, 0, {}
    while time.monotonic() < until:
        name, data, dump = request()
        error, said, _ = family.ask(COMMANDS[name], data, dump=dump, version=RNG.choice([1, 1, 1, 0, 255]))
        answers[name, error] = answers.get((name, error), 0) + 1
        asked += 1
        if error not in FINE:
            fail(f"{name} {data.hex()}: {os.strerror(error)}")
        if error in EXPLAINED and not said:
            fail(f"{name} {data.hex()}: {os.strerror(error)} without a word")
        if asked % 50 == 0:
            # Not even a message.
            family.socket.send(RNG.randbytes(RNG.randrange(1, 80)))
        if asked % 1000 == 0:
            os.close(log)
            log = os.open("/dev/holdfast", os.O_RDWR)
    os.close(log)
    for (name, error), n in sorted(answers.items()):
        print(f"{name} {errno.errorcode.get(error, 'ok')}: {n}")
    silent = [name for name in COMMANDS if (name, 0) not in answers and name not in ("CMD_FLOW_JOIN", "CMD_SPLICE_DEL")]
    print(f"{asked} requests; never granted: {silent}")
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
