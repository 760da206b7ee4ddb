# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""How long does a client stand still when its server dies?

A client reads 2 MiB/s and checks each byte; client, a and b are namespaces of one guest. The link of
the node that serves is taken away, and all its processes are killed, at a random moment of a
heartbeat interval. The stall is the longest time without a new byte.
"""

import os

from . import guestside, result, stat, svg
from .report import FEW, interval, plot, table, verdict

MISSES = 3
# Interval in milliseconds: deaths, and in a quick run.
INTERVALS = {50: (30, 3), 20: (30, 3), 200: (30, 3), 1000: (30, 2), 5000: (30, 1)}
PIECE = 10  # deaths in one guest
PARTS = ("detection", "takeover", "location", "splice", "first")
TARGET = 300  # median at 50 ms
# Active backup of a TCP connection, median of the client's stall in milliseconds, as published.
LITERATURE = {5000: 22_000, 1000: 5_000, 200: 1_200, 50: 400}


def measure(quick: bool) -> dict:
    """All intervals, each in pieces that can be interrupted."""
    data = {}
    for beat, counts in INTERVALS.items():
        count = int(os.environ.get("HOLDFAST_DEATHS", counts[quick]))
        found = []
        for begin in range(0, count, PIECE):
            found += result.step("failover", f"{beat} {begin} of {count}", quick, lambda: piece(beat, min(PIECE, count - begin)))
        data[str(beat)] = {
            "deaths": [f for f in found if "stall" in f], "broken": [f for f in found if "error" in f],
            "moved": sum("moved" in f for f in found),
        }  # fmt: skip
    return data


def piece(beat: int, count: int) -> list[dict]:
    """So many deaths, in a guest of their own."""
    return guestside.lines(f"kills.py {beat} {MISSES} {count}", 120 + count * 60, f"failover-{beat}")


def render(data: dict) -> str:
    """Tables and plots."""
    rows, parts, series = [], [], {}
    for beat, found in sorted(data.items(), key=lambda item: int(item[0])):
        stalls = [d["stall"] for d in found["deaths"]]
        if not stalls:
            rows.append([f"{beat} x {MISSES}", "0", *["-"] * 5, str(len(found["broken"])), str(found["moved"])])
            continue
        series[f"{beat} ms"] = stalls
        literature = f"{LITERATURE[int(beat)]:,}" if int(beat) in LITERATURE else "-"
        rows.append([f"{beat} x {MISSES}", str(len(stalls)), interval(stat.bootstrap(stalls), 0),
                     f"{stat.quantile(stalls, 0.1):.0f}", f"{stat.quantile(stalls, 0.9):.0f}", f"{max(stalls):.0f}",
                     literature, str(len(found["broken"])), str(found["moved"])])  # fmt: skip
        parts.append([f"{beat} x {MISSES}"] + [f"{stat.median([d[p] for d in found['deaths']]):.0f}" for p in PARTS])
    text = table(["heartbeat, ms", "deaths", "median stall, ms (95 %)", "p10", "p90", "longest", "literature", "broken", "moved"], rows)
    text += "\nThe medians of its parts, in milliseconds:\n\n"
    text += table(["heartbeat, ms", "detection", "takeover", "location", "splice", "first byte"], parts)
    if "50" in data and data["50"]["deaths"]:
        stalls = [d["stall"] for d in data["50"]["deaths"]]
        middle = stat.median(stalls)
        text += f"\nTarget: median at 50 ms x 3 of at most {TARGET} ms: {middle:.0f} ms, {verdict(middle <= TARGET, len(stalls) >= FEW)}.\n"
    text += "\n" + plot("failover", svg.distributions(series, "client's stall, ms", log=True))
    text += (
        "\n*Detection* ends when the peer is declared dead, *takeover* when it has the address, *location* when the client"
        " has said where it stands, *splice* when the connection is joined to another server; the *first byte* is then"
        " still to come. *Literature*: published medians of an active backup, on other machines and another network: an order of magnitude, no pair. *Broken*: the connection ended or stood"
        " still for good. *Moved*: the address had moved before the death (the guest stood still), not counted.\n"
    )
    return text
