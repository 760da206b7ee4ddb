#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""What a page of the documentation says to do, so that a test can do it.

    pages.py PAGE FOLDER [SECTION]       writes the steps as files, in order
    pages.py --fits WANTED SAID          whether a program said what the page shows

A page marks what is to be tried by the words behind a fence:

    ```sh test a            run on machine a
    ```sh test client &     the same, in the background; it must end well at the page's end
    ```toml test a FILE     FILE on machine a; several machines: a,b
    ```text test            what the step before it says; "..." stands for anything, as a line of
                            its own for any lines

and has comments for the test alone: <!-- test: COMMAND -->. With a SECTION only what stands below
the heading with that name counts; "-SECTION" is all but that.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One thing to do. `kind`: run, background, file, output or test."""

    kind: str
    machines: tuple[str, ...]
    path: str
    text: str
    line: int


def steps(page: Path, section: str = "") -> list[Step]:
    """The steps of a page, in order."""
    found: list[Step] = []
    fence: list[str] | None = None
    body: list[str] = []
    within = not section or section.startswith("-")
    level = 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if fence is None:
                fence, body = line[3:].split(), []
            else:
                if within and "test" in fence[1:2]:
                    found.append(step(fence, "\n".join(body) + "\n", number - len(body)))
                fence = None
        elif fence is not None:
            body.append(line)
        elif heading := re.match(r"(#+) (.*)", line):
            depth, name = len(heading[1]), heading[2]
            if name == section.lstrip("-") and section:
                within, level = not section.startswith("-"), depth
            elif level and depth <= level:
                within, level = section.startswith("-"), 0
        elif within and (comment := re.fullmatch(r"<!-- test: (.*) -->", line)):
            found.append(Step("test", (), "", comment[1] + "\n", number))
    if not found:
        sys.exit(f"{page}: nothing to try in {section or 'it'}")
    return found


def step(fence: list[str], text: str, line: int) -> Step:
    """What a fence asks for."""
    language, rest = fence[0], fence[2:]
    if language == "text":
        return Step("output", (), "", text, line)
    machines = tuple(rest[0].split(","))
    if language == "sh":
        return Step("background" if rest[1:] == ["&"] else "run", machines, "", text, line)
    return Step("file", machines, rest[1], text, line)


def fits(wanted: str, said: str) -> bool:
    """Whether a program said what the page shows."""
    parts = []
    for line in wanted.splitlines():
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            pieces = (re.escape(piece).replace(r"\ ", " ") for piece in line.rstrip().split("..."))
            # Columns may be wider than on the page.
            parts.append(re.sub(" +", " +", ".*?".join(pieces)) + r" *\n")
    return re.fullmatch("".join(parts), said) is not None


def main() -> int:
    """All of it."""
    if sys.argv[1] == "--fits":
        wanted, said = (Path(name).read_text(encoding="utf-8") for name in sys.argv[2:])
        return 0 if fits(wanted, said) else 1
    page, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True)
    for number, s in enumerate(steps(page, *sys.argv[3:])):
        name = folder / f"{number:03}"
        name.with_suffix(".text").write_text(s.text, encoding="utf-8")
        machines = ",".join(s.machines) or "-"
        name.with_suffix(".step").write_text(f"{s.kind} {machines} {s.path or '-'} {s.line}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
