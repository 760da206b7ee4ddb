# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""What does a protected web server still do?

nginx under wrk (kept-alive connections; 100 MiB by curl, a connection each), in namespaces of one
guest: without a service, with one that is observed, and with protected ones, strict and eager. All
are measured in each round, in random order.
"""

from collections import defaultdict

from . import guestside, stat
from .report import interval, table, verdict

BASE = "none"
# Throughput at least so much of that without.
TARGET = {"1 KiB": 0.90, "64 KiB": 0.99, "1 MiB": 0.99, "100 MiB": 0.99}
EAGER_P50 = 1.01
LITERATURE = "+0.137 ms at the median, +0.148 ms at the 99th percentile"


def measure(quick: bool) -> dict:
    """All rounds."""
    rounds, seconds = (2, 1) if quick else (16, 1)
    found = guestside.lines(f"load.py {rounds} {seconds}", 120 + rounds * 900, "load", mem=3072)
    return {"ping": found[0]["ping"], "runs": found[1:]}


def pairs(runs: list[dict], mode: str, field: str, size: str, connections: int) -> list[tuple[float, float]]:
    """A figure without and with, of the same round."""
    by: dict = defaultdict(dict)
    for run in runs:
        if (run["size"], run["connections"]) == (size, connections):
            by[run["round"]][run["mode"]] = run[field]
    return [(found[BASE], found[mode]) for found in by.values() if BASE in found and mode in found]


def render(data: dict) -> str:
    """Tables."""
    runs = data["runs"]
    kinds = list(dict.fromkeys((r["size"], r["connections"]) for r in runs))
    rows, late = [], []
    for size, connections in kinds:
        for mode in ("observe", "strict", "eager"):
            rates = pairs(runs, mode, "rate", size, connections)
            if len(rates) < 2:
                continue
            rate = stat.ratio(rates)
            base = stat.median([b for b, _ in rates])
            p50 = stat.ratio(pairs(runs, mode, "p50", size, connections))
            more = [stat.difference(pairs(runs, mode, f, size, connections)) for f in ("p50", "p99")]
            wide = rate["high"] - rate["low"] > 2 * (1 - TARGET[size])
            judged = verdict(rate["ratio"] >= TARGET[size]) + (", not decided" if rate["low"] < TARGET[size] <= rate["high"] or wide else "")
            rows.append([size, str(connections), mode, f"{base:,.1f}", interval(rate), f"{TARGET[size]:.2f}", judged])
            late.append([size, str(connections), mode, interval(p50), interval(more[0]), interval(more[1])])
    text = table(["object", "connections", "mode", "without, requests/s", "ratio (95 %)", "target", ""], rows)
    text += "\nLatency (of 100 MiB: to the first byte); differences in milliseconds:\n\n"
    text += table(["object", "connections", "mode", "p50, ratio", "p50, more by", "p99, more by"], late)
    text += (
        f"\nTargets: `eager` adds at most 1 % to the p50, `strict` one round trip inside the group: a ping there takes"
        f" {data['ping']:.3f} ms, without what the two daemons do. Literature: {LITERATURE}. *Not decided*: the interval"
        " holds the target or is wider than its margin; then the instructions decide.\n"
    )
    return text
