# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""What does a protected web server still do?

nginx under wrk (kept-alive connections; 100 MiB by curl, a connection each), in namespaces of one
guest: without the module, with it alone, with a service that is observed, and with protected ones, strict
and eager. All are measured in each round, in random order.
"""

from collections import defaultdict

from . import guestside, result, stat, svg
from .report import FEW, interval, plot, table, verdict

ROUNDS, PIECE = 15, 5
SECONDS = 0.1  # of each measurement, by the guest's clock
BASE, MODES = "none", ("idle", "observe", "strict", "eager")
LARGEST = "100 MiB"
BYTES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, LARGEST: 100 << 20}
PLOTTED = (("1 KiB", 8), ("64 KiB", 8), ("1 MiB", 4), (LARGEST, 1))
# Throughput at least so much of that without.
TARGET = {"1 KiB": 0.90, "64 KiB": 0.99, "1 MiB": 0.99, LARGEST: 0.99}
EAGER_P50 = 1.01
LITERATURE = "+0.137 ms at the median, +0.148 ms at the 99th percentile"


def measure(quick: bool) -> dict:
    """All rounds, in pieces that can be interrupted."""
    pings, runs, daemons = [], [], []
    for begin in range(0, 2 if quick else ROUNDS, PIECE):
        found = result.step("load", str(begin), quick, lambda: piece(2 if quick else PIECE))
        pings.append(found[0]["ping"])
        daemons += [run["daemon"] for run in found if "daemon" in run]
        runs += [{**run, "round": begin + run["round"]} for run in found if "rate" in run]
    return {"seconds": SECONDS, "ping": stat.median(pings), "daemon": stat.median(daemons), "runs": runs}


def piece(rounds: int) -> list[dict]:
    """So many rounds, in a guest of their own."""
    return guestside.lines(f"load.py {rounds} {SECONDS}", 120 + rounds * 300, "load", mem=3072)


def pairs(runs: list[dict], mode: str, field: str, size: str, connections: int) -> list[tuple[float, float]]:
    """A figure without and with, of the same round."""
    by: dict = defaultdict(dict)
    for run in runs:
        if (run["size"], run["connections"]) == (size, connections):
            by[run["round"]][run["mode"]] = run[field]
    return [(found[BASE], found[mode]) for found in by.values() if BASE in found and mode in found]


def instructions(rate: float) -> float:
    """Of one request: the only CPU is never idle, and does one a nanosecond."""
    return 1e9 / rate


def judged(found: dict, plain: float, target: float) -> str:
    """A ratio against its target; where there are few pairs, or the interval holds the target or is wider than
    its margin, by `plain`, the ratio of the median instructions."""
    wide = found["pairs"] < FEW or found["high"] - found["low"] > 2 * (1 - target) or found["low"] < target <= found["high"]
    return verdict(plain >= target) + ", by instructions" if wide else verdict(found["ratio"] >= target)


def latencies(runs: list[dict], ping: float) -> str:
    """What the targets say of those of one connection that is kept alive."""
    lines = []
    for size in dict.fromkeys(r["size"] for r in runs if r["connections"] == 1 and r["size"] != LARGEST):
        eager = stat.ratio(pairs(runs, "eager", "p50", size, 1))
        strict = stat.difference(pairs(runs, "strict", "p50", size, 1))
        lines.append(f"- {size}, one connection: `eager` adds {eager['ratio'] - 1:.1%} to the p50 ({verdict(eager['ratio'] <= EAGER_P50)});"
                     f" `strict` adds {strict['difference']:.3f} ms, {strict['difference'] / ping:.1f} pings"
                     f" ({verdict(strict['difference'] <= ping)}).")  # fmt: skip
    return "\n".join(lines) + "\n"


def render(data: dict) -> str:
    """Tables and a plot."""
    runs = data["runs"]
    kinds = list(dict.fromkeys((r["size"], r["connections"]) for r in runs))
    rows, late, series = [], [], defaultdict(list)
    for size, connections in kinds:
        for mode in MODES:
            rates = pairs(runs, mode, "rate", size, connections)
            if len(rates) < 2:
                continue
            rate = stat.ratio(rates)
            base, more = (stat.median([instructions(r) for r in side]) for side in zip(*rates))
            p50 = stat.ratio(pairs(runs, mode, "p50", size, connections))
            by = [stat.difference(pairs(runs, mode, f, size, connections)) for f in ("p50", "p99")]
            rows.append([size, str(connections), mode, f"{stat.median([b for b, _ in rates]):,.1f}", f"{base:,.0f}", f"{more - base:,.0f}",
                         interval(rate), f"{TARGET[size]:.2f}", judged(rate, base / more, TARGET[size])])  # fmt: skip
            late.append([size, str(connections), mode, interval(p50), interval(by[0]), interval(by[1])])
            if (size, connections) in PLOTTED:
                series[mode].append((BYTES[size], rate["ratio"]))
    text = table(["object", "connections", "mode", "without, requests/s", "instructions of a request", "more", "throughput, ratio (95 %)", "target", ""], rows)
    text += "\n" + plot("load", svg.lines(series, "bytes of the object", "throughput, of that without", x_log=True))
    text += "\nLatency (of 100 MiB: to the first byte); differences in milliseconds:\n\n"
    text += table(["object", "connections", "mode", "p50, ratio", "p50, more by", "p99, more by"], late)
    text += "\n" + latencies(runs, data["ping"])
    text += (
        f"\nEach measurement took {data['seconds']} s of the guest's time. Targets: `eager` adds at most 1 % to the p50, `strict` one"
        f" round trip inside the group: a ping there takes {data['ping']:.3f} ms, without what the two daemons do. Literature: {LITERATURE}."
        " *By instructions*: there are few pairs, or the interval holds the target or is wider than its margin; the medians of instructions"
        " decide. Client, web"
        " servers and daemons of all nodes share one CPU: *more* is what all of them do more."
    )
    if "daemon" in data:
        return text + (
            f" The two daemons of a service run while it is asked, no others. One that has nothing to do, with heartbeats every 250 ms,"
            f" takes {data['daemon'] / 1e6:.1f} million instructions a second.\n"
        )
    # As it was measured before.
    return text + (
        " Where the module is loaded the six daemons"
        " of the services run, whichever is asked: their heartbeats and ticks are in each ratio, and nearly all that `idle` costs.\n"
    )
