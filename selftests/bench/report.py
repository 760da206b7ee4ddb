# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""The page of all results: Documentation/benchmarks.md, with plots and the figures themselves."""

import importlib
import json

from vm.host import TOP

from . import result

PAGE = TOP / "Documentation/benchmarks.md"
FOLDER = TOP / "Documentation/benchmarks"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# Fewer samples or pairs than this have no interval worth the name.
FEW = 10


def verdict(met: bool, enough: bool = True) -> str:
    """How a figure stands to its target. Without `enough` measurements none is met."""
    if not met:
        return "**missed**"
    return "met" if enough else "not decided"


def interval(found: dict, digits: int = 3) -> str:
    """A statistic with its interval, if there are enough samples for one."""
    value = next(found[k] for k in ("ratio", "difference", "value") if k in found)
    if found.get("n", found.get("pairs", 0)) < FEW:
        return f"{value:.{digits}f} (too few)"
    return f"{value:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def plot(name: str, svg: str) -> str:
    """Keep a plot; the Markdown that shows it."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.svg").write_text(svg)
    return f"![{name}](benchmarks/{name}.svg)\n"


def write() -> int:
    """Make the page. A part that has no new result keeps the one that the tree has."""
    from .run_order import PARTS

    FOLDER.mkdir(exist_ok=True)
    sections = []
    for name in PARTS:
        kept = FOLDER / f"{name}.json"
        found = result.load(name)
        if found:
            kept.write_text(json.dumps(found) + "\n")
        elif kept.exists():
            found = json.loads(kept.read_text())
        else:
            continue
        part = importlib.import_module(f"bench.{name}")
        about = found["about"]
        marks = [about["label"]] * bool(about["label"]) + ["few repetitions"] * about["quick"]
        origin = (f"`{about['command']}`, {about['date']} UTC, tree `{about['commit']}`, {about['machine']}, "
                  f"load of the machine {about['load']:.1f}, QEMU {about['qemu']} (TCG), kernel {about['kernel']}"
                  + "".join(f"; {mark}" for mark in marks))
        sections.append(f"## {part.__doc__.splitlines()[0]}\n\n{part.render(found['data'])}\n{origin}.\n"
                        f"Figures: [{name}.json](benchmarks/{name}.json).\n")
    PAGE.write_text((TOP / "selftests/bench/page.md").read_text() + "\n" + "\n".join(sections))
    print(PAGE.relative_to(TOP))
    return 0
