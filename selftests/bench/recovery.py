# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""How fast are many flows recovered?

So many downloads are under way when their server dies (heartbeats of 50 ms, 6 may be missed: one
processor is busy with all nodes). Counted is until each client has a new byte.
"""

from . import guestside, result, stat, svg
from .report import plot, table

COUNTS = (1, 10, 100, 1_000, 10_000)


def measure(quick: bool) -> dict:
    """Crowds, one larger than the other."""
    counts = COUNTS[: 3 if quick else 5]

    def crowd(count: int) -> list[dict]:
        return guestside.lines(f"crowd.py {count}", 300 + count / 2, f"recovery-{count}", mem=4096)

    return {"crowds": [f for n in counts for f in result.step("recovery", str(n), quick, lambda: crowd(n))]}


def render(data: dict) -> str:
    """A table and a plot."""
    rows, series = [], {}
    for crowd in data["crowds"]:
        again = crowd["again"]
        if not again:
            continue
        taken = crowd["events"]["takeover"] or again[0]
        rate = len(again) / (again[-1] - taken) * 1000
        rows.append([f"{crowd['flows']:,}", f"{taken:,.0f}", f"{again[0]:,.0f}", f"{stat.median(again):,.0f}", f"{again[-1]:,.0f}",
                     f"{rate:,.0f}", f"{crowd['lost']}", f"{crowd['silent']}"])  # fmt: skip
        if len(again) > 1:
            series[f"{crowd['flows']:,} flows"] = again
    text = table(["flows", "takeover, ms", "first byte, ms", "median", "last", "flows a second", "lost", "silent"], rows)
    text += (
        "\nMilliseconds after the death (heartbeats of 50 ms, 6 may be missed); the rate is from the takeover to the last flow's first"
        " byte. One processor does the work of the client, of both nodes and of both web servers.\n\n"
    )
    if series:
        text += plot("recovery", svg.distributions(series, "ms after the death until a flow goes on", log=True))
    return text
