# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""How many instructions does a packet cost more?

A connection between two namespaces of one guest, both ends in one process: a message there, a
message back, and nothing else. Each instruction of the kernel is written down (trace.py). A round
trip is one packet through PRE_ROUTING and one through POST_ROUTING.
"""

from vm import Guest, Process

from . import stat, trace
from .report import table, verdict

SERVER = {4: "10.0.0.1", 6: "fd00::1"}
CLIENT = {4: "10.0.0.9", 6: "fd00::9"}
ROUNDS = 12
PORT = 5000
# Target: instructions added to one packet.
TARGETS = {"another port": 100, "translated": 400}
BASE = "not loaded"

HOLDFAST = "ip netns exec server holdfast"


def name(address: str, port: int) -> str:
    """As the tools want it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def service(family: int, port: int, mode: str) -> str:
    """The command that adds one."""
    return f"{HOLDFAST} service add {name(SERVER[family], port)} --mode {mode} >/dev/null"


def splice(family: int) -> str:
    """The command that has the next connection translated in everything that can be."""
    ends = f"{name(CLIENT[family], PORT)} {name(SERVER[family], PORT)}"
    return f"{service(family, PORT, 'observe')} && {HOLDFAST} splice add {ends} --delta-c2s 1000 --delta-s2c 123456789 --delta-ts 77 >/dev/null"


# Each with what is done before: in this order, as what was done is not taken back.
CASES = {
    "not loaded": lambda family: "true",
    "loaded, idle": lambda family: "lsmod | grep -q '^holdfast ' || insmod $HOLDFAST_KO",
    "another port": lambda family: service(family, PORT + 1, "protect"),
    "observed": lambda family: service(family, PORT, "observe"),
    "protected": lambda family: f"{HOLDFAST} service del {name(SERVER[family], PORT)} >/dev/null; {service(family, PORT, 'protect')}",
    "translated": lambda family: f"{HOLDFAST} service del {name(SERVER[family], PORT)} >/dev/null; {splice(family)}",
}


def connect(guest: Guest, family: int, rounds: int) -> Process:
    """A connection that has warmed up."""
    arguments = f"{SERVER[family]} {CLIENT[family]} {PORT} 100 {rounds}"
    process = guest.spawn(f"exec python3 selftests/bench/inside/pingpong.py {arguments}", stdin=None)
    wait(guest, process, "ready")
    return process


def wait(guest: Guest, process: Process, what: str) -> None:
    """Wait until a process has said something."""
    while what not in process.out:
        if not process.running:
            raise RuntimeError(f"{process.what}: {process.err}")
        guest.run("true")


def play(guest: Guest, process: Process) -> None:
    """All rounds."""
    lines = process.out.count("\n")
    process.write(b"go\n")
    while process.out.count("\n") == lines:
        if not process.running:
            raise RuntimeError(f"{process.what}: {process.err}")


def typical(calls: list[trace.Call]) -> trace.Call | None:
    """The one of middle length: no interrupt fell into it. Where the module takes part, of those in
    which it does: the hooks of the client's namespace run, too."""
    ours = [c for c in calls if any("holdfast" in name for name in c.by)] or calls
    return sorted(ours, key=lambda c: c.total)[len(ours) // 2] if ours else None


def one(guest: Guest, family: int, case: str) -> dict:
    """One kind of connection."""
    guest.run(CASES[case](family))
    process = connect(guest, family, ROUNDS)
    trace.begin(guest)
    play(guest, process)
    path = trace.end(guest)
    process.kill()
    found = trace.rounds(path, trace.Symbols(guest), "__x64_sys_getppid")
    path.unlink()
    hooks = {}
    for point in ("pre", "post"):
        call = typical([c for r in found for c in r.calls if c.point == point])
        hooks[point] = {"total": call.total, "by": call.by.most_common()} if call else {"total": 0, "by": []}
    return {"round": stat.median([r.total for r in found]), "fewest": min(r.total for r in found), "hooks": hooks}


def measure(quick: bool) -> dict:
    """All cases, IPv4 and IPv6, with the checksums left to the device and made by the stack."""
    data = {}
    for offload in (True, False) if not quick else (True,):
        guest = trace.traced("bench-instructions")
        guest.start()
        guest.ready()
        guest.run("bash -e selftests/bench/inside/two.sh")
        if not offload:
            guest.run("for n in client server; do ip netns exec $n ethtool -K eth0 tx off tso off gso off >/dev/null; done")
        for family in (4,) if quick else (4, 6):
            cases = data[f"IPv{family}" + ("" if offload else ", full checksums")] = {}
            if family == 6:
                guest.run("rmmod holdfast", check=False)
            for case in CASES:
                cases[case] = one(guest, family, case)
                hooks = cases[case]["hooks"]
                print(f"  IPv{family} {case}: in {hooks['pre']['total']}, out {hooks['post']['total']}, "
                      f"round {cases[case]['round']:.0f}", flush=True)
        guest.stop()
    return data


def crate(name: str) -> str:
    """A mangled Rust name without what nobody reads, or the C name."""
    if not name.startswith("_R"):
        return name
    parts, at = [], 0
    while at < len(name):
        if not name[at].isdigit() or name[at - 1] in "_C" and name[at] == "0":
            at += 1
            continue
        digits = at
        while at < len(name) and name[at].isdigit():
            at += 1
        length = int(name[digits:at])
        piece = name[at + (name[at : at + 1] == "_") :][:length]
        if length > 1 and piece.isidentifier() and len(piece) == length:
            parts.append(piece)
            at += length + (name[at : at + 1] == "_")
    return "::".join(parts[-2:]) or name


def render(data: dict) -> str:
    """Tables: what a packet costs, and where it goes."""
    rows = []
    for family, cases in data.items():
        base = cases[BASE]
        for case, found in cases.items():
            if case == BASE:
                continue
            added = [found["hooks"][p]["total"] - base["hooks"][p]["total"] for p in ("pre", "post")]
            target = TARGETS.get(case)
            rows.append([family, case, *(f"{a:,}" for a in added), f"{(found['round'] - base['round']) / 2:,.0f}",
                         str(target or "-"), verdict(max(added) <= target) if target else ""])  # fmt: skip
    text = table(["", "the connection is", "to the service", "to the client", "mean of all", "target", ""], rows)
    text += (
        "\nInstructions that a packet costs more. The first two columns are those between netfilter's entry and its end at"
        " the hook, its own included (41 for the first hook of a point). *Mean of all* is the whole round trip's difference,"
        " halved: also what lies around the hook, and what follows from it elsewhere. A string instruction"
        " (`rep movsb`) counts once, as a processor counts it.\n\nWhere they go (IPv4; more than 15):\n\n"
    )
    cases = data["IPv4"]
    for case in ("another port", "translated"):
        for point, way in (("pre", "to the service"), ("post", "to the client")):
            parts = [f"`{crate(n)}` {count}" for n, count in cases[case]["hooks"][point]["by"] if count > 15]
            text += f"- {case}, {way}: {', '.join(parts)}\n"
    return text
