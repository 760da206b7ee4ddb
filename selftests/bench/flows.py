# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""What do many flows cost?

A translated connection, as in the instructions above, while the table has more and more other flows:
the fewest instructions of a round trip of two packets (all of it: the program, the kernel, the
module; the guest's clock counts them), and the memory of the kernel.
"""

from . import guestside, svg
from .report import plot, table, verdict

COUNTS = (1, 1_000, 10_000, 100_000)
MANY = COUNTS[-1]
MORE, MEMORY = 0.15, 1024


def measure(quick: bool) -> dict:
    """One table, filled."""
    counts = " ".join(map(str, COUNTS[: 3 if quick else 4]))
    return {"counts": guestside.lines(f"flows.py {counts}", 900 if quick else 3600, "flows")}


def render(data: dict) -> str:
    """A table and a plot."""
    found = data["counts"]
    first = next(f for f in found if f["flows"] >= 1000)
    rows = []
    for f in found:
        each = f["memory"] / f["flows"]
        slabs = ", ".join(f"{k}: {v / f['flows']:.0f}" for k, v in f["slab"].items())
        rows.append([f"{f['flows']:,}", f"{f['round']:,}", f"{f['round'] / first['round']:.3f}",
                     f"{each:,.0f}" if f["flows"] >= 1000 else "-", slabs if f["flows"] >= 1000 else ""])  # fmt: skip
    text = table(["flows", "instructions of a round trip", "of that with 1,000", "bytes a flow", "of which in slab caches"], rows)
    points = [(f["flows"], f["round"]) for f in found]
    text += "\n" + plot("flows", svg.lines({"round trip": points}, "flows", "instructions of a round trip", x_log=True))
    last = found[-1]
    each = last["memory"] / last["flows"]
    change = abs(last["round"] / first["round"] - 1)
    text += (
        f"\nTargets: cost from {first['flows']:,} to {MANY:,} flows within {MORE:.0%}"
        f" ({change:.1%} to {last['flows']:,}: {verdict(change <= MORE, last['flows'] >= MANY)}); at most {MEMORY:,} bytes a flow"
        f" ({each:,.0f}: {verdict(each <= MEMORY)}). The emulator has no caches: what misses in them costs is not in this.\n"
    )
    return text
