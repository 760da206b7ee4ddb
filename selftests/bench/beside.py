# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""The same download and the same death, with and without: what does the client see?

curl fetches 16 MiB at 4 MiB/s; in the middle its server dies. Whoever finds that out does so after
three missed beats of 100 ms, keepalived after its shortest check (a second, one retry).
"""

from . import guestside, result, stat
from .report import table

WAYS = {
    "unprotected": "another server takes the address",
    "curl": "the same, and `curl --retry 10 --retry-all-errors -C -`",
    "haproxy": "HAProxy in front, `retry-on all-retryable-errors`, `redispatch`",
    "ipvs": "IPVS (NAT) with keepalived in front",
    "holdfast": "Holdfast",
}


def measure(quick: bool) -> dict:
    """All ways."""
    count = 1 if quick else 5

    def runs(way: str) -> list[dict]:
        return guestside.lines(f"beside.py {way} {count}", 200 + 100 * count, f"beside-{way}")

    return {way: result.step("beside", way, quick, lambda: runs(way)) for way in WAYS}


def render(data: dict) -> str:
    """A table."""
    rows = []
    for way, runs in data.items():
        good = [r for r in runs if "exit" in r]
        if not good:
            continue
        said = sorted({r["said"] for r in good if r["said"]})
        exits = ", ".join(str(e) for e in sorted({r["exit"] for r in good}))
        rows.append([WAYS[way], f"{sum(r['whole'] and r['exit'] == 0 for r in good)} of {len(good)}", exits,
                     ", ".join(sorted({r["connections"] for r in good})),
                     f"{stat.median([r['stall'] for r in good]):,.0f}", f"{stat.median([r['ended'] for r in good]):,.0f}",
                     said[0].replace("|", "/") if said else ""])  # fmt: skip
    text = table(["", "whole file", "curl's exit", "connections", "longest stall, ms", "end after the death, ms", "curl said"], rows)
    return text + "\nMedians. *Connections*: what curl counts in its last attempt.\n"
