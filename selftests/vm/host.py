# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""The host's side: where things are, entering the Debian root, starting programs."""

import functools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
KERNELS = ("stock", "next", "debug")


class BuildFailed(Exception):
    """The module or the tools do not build; why, went to standard error."""


def enter_root() -> None:
    """Run the calling program inside the Debian root, where QEMU is, unless it already is there."""
    if "HOLDFAST_IN_ROOT" in os.environ:
        return
    program = Path("/holdfast") / Path(sys.argv[0]).resolve().relative_to(TOP)
    in_root = str(TOP / "scripts/in-root")
    os.execv(in_root, [in_root, "--", str(program), *sys.argv[1:]])


@functools.cache
def parts(kernel: str) -> dict[str, str]:
    """Paths of vmlinuz, initramfs, root image and switch; made on first use."""
    out = subprocess.run([TOP / "scripts/guest-parts", kernel], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(line.split("=", 1) for line in out.splitlines())


def build(kernel: str) -> None:
    """Bring the module for `kernel` and the tools up to date."""
    for target in (f"module KERNEL={kernel}", "tools"):
        if subprocess.run(["make", "-s", "-C", TOP, *target.split()], stdout=sys.stderr).returncode:
            raise BuildFailed(f"make {target} failed")


# Children are told to die with the thread that started them, so that thread must be one
# that lives as long as the process.
_starter = ThreadPoolExecutor(max_workers=1)


def start(argv: list[str], **options) -> subprocess.Popen:
    """Start a program that cannot outlive this one, however this one ends."""
    argv = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    return _starter.submit(subprocess.Popen, argv, **options).result()
