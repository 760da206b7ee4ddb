# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Results as files: what was measured, where, when, by which command."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from vm.host import TOP

FOLDER = TOP / "build/bench"
# What a result depends on.
SOURCES = ("rust", "userspace-tools", "selftests/bench", "selftests/lib", "selftests/vm")


def _git(*arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", str(TOP), *arguments]
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.strip()


def tree() -> str:
    """A hash of the sources that results depend on."""
    digest = hashlib.sha256()
    for name in _git("ls-files", "-co", "--exclude-standard", "--", *SOURCES).splitlines():
        path = TOP / name
        digest.update(f"{name}\0".encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()[:16]


def machine() -> str:
    """Processor and number of CPUs."""
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{models[0] if models else 'unknown processor'}, {len(models)} CPUs"


def kernel() -> str:
    """The guests' kernel."""
    facts = dict(line.split("=", 1) for line in Path("/etc/holdfast-kernel").read_text().splitlines())
    return f"{facts['release']} ({facts['version']})"


def qemu() -> str:
    """The emulator."""
    out = subprocess.run(["qemu-system-x86_64", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return out.splitlines()[0].split("(")[0].removeprefix("QEMU emulator version ").strip()


def save(name: str, data: dict, quick: bool, label: str, seconds: float) -> None:
    """Write a part's result."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    about = {
        "command": f"make bench BENCH={name}", "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "tree": tree(),
        "commit": _git("describe", "--always", "--dirty"), "machine": machine(), "kernel": kernel(), "qemu": qemu(),
        "load": os.getloadavg()[1], "quick": quick, "label": label, "seconds": round(seconds),
    }  # fmt: skip
    path = FOLDER / f"{name}.json"
    path.with_suffix(".tmp").write_text(json.dumps({"about": about, "data": data}, indent=1) + "\n")
    path.with_suffix(".tmp").rename(path)
    (FOLDER / f"{name}.steps.json").unlink(missing_ok=True)


def step(name: str, key: str, quick: bool, measure: Callable[[], object]) -> object:
    """A step of a part that takes long: what it found with these sources before it was interrupted,
    or what `measure` finds now."""
    path = FOLDER / f"{name}.steps.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if (kept.get("tree"), kept.get("quick")) != (tree(), quick):
        kept = {"tree": tree(), "quick": quick, "steps": {}}
    if key not in kept["steps"]:
        kept["steps"][key] = measure()
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept))
    return kept["steps"][key]


def load(name: str) -> dict | None:
    """A part's result, of whatever tree."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def fresh(name: str, quick: bool) -> bool:
    """Whether there is a result of these sources that is as long as this one would be."""
    found = load(name)
    return found is not None and found["about"]["tree"] == tree() and (quick or not found["about"]["quick"])
