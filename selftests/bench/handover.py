# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""How long does a client stand still when its node is drained, or its web server restarts?

As in the deaths, but nothing has to be found out: `holdfast drain`, and nginx killed (SIGKILL) and
started again on the same node.
"""

from . import guestside, stat, svg
from .report import FEW, interval, plot, table, verdict

DRAIN, BEYOND_RESTART = 60, 100


def measure(quick: bool) -> dict:
    """Both, in turn."""
    return {"runs": guestside.lines(f"handover.py {3 if quick else 30}", 900, "handover")}


def render(data: dict) -> str:
    """A table."""
    runs = data["runs"]
    drains = [r["stall"] for r in runs if r["kind"] == "drain" and "stall" in r]
    starts = [r for r in runs if r["kind"] == "restart" and "stall" in r]
    beyond = [r["stall"] - r["restart"] for r in starts]
    rows, series = [], {}
    for name, values, target in (("drain", drains, DRAIN), ("restart, beyond the restart itself", beyond, BEYOND_RESTART)):
        if values:
            middle = stat.bootstrap(values)
            rows.append([name, str(len(values)), interval(middle, 0), f"{stat.quantile(values, 0.9):.0f}", f"{max(values):.0f}",
                         f"{target}", verdict(middle["value"] <= target, len(values) >= FEW)])  # fmt: skip
    text = table(["", "runs", "median stall, ms (95 %)", "p90", "longest", "target", ""], rows)
    if starts:
        text += f"\nnginx was back after {stat.median([r['restart'] for r in starts]):.0f} ms (median).\n"
    series = {name: values for name, values in (("drain", drains), ("restart", [r["stall"] for r in starts])) if values}
    if series:
        text += "\n" + plot("handover", svg.distributions(series, "client's stall, ms", log=True))
    if broken := [r for r in runs if "error" in r]:
        text += f"\nBroken: {len(broken)} ({'; '.join(sorted({r['error'][:80] for r in broken}))}).\n"
    return text
