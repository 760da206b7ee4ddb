# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Programs of inside/ in a guest of their own, and what they say."""

import json
import sys

from vm import Guest

FOLDER = "/holdfast/selftests/bench/inside"
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}


def lines(command: str, timeout: float, name: str, mem: int = 2048) -> list[dict]:
    """Run a program of inside/ in a fresh guest with one CPU whose clock counts instructions, one a
    nanosecond: so the guest does not notice what else its machine has to do, and time in which it
    only waits passes at once. The lines of JSON that it said. What it says besides,
    and why it failed, goes to our standard error; what it had said until then counts."""
    guest = Guest(f"bench-{name}", smp=1, mem=mem, icount=True)
    found, rest = [], bytearray()

    def out(data: bytes) -> None:
        rest.extend(data)
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end]).decode(errors="replace")
            del rest[: end + 1]
            if line.startswith("{"):
                found.append(json.loads(line))
                print(f"  {line}", flush=True)
            elif line:
                print(f"  | {line}", file=sys.stderr, flush=True)

    try:
        guest.start()
        guest.ready()
        guest.run("insmod $HOLDFAST_KO")
        process = guest.spawn(f"exec python3 {FOLDER}/{command}", env=ENVIRONMENT, output=out)
        result = process.wait(timeout, check=False)
        if result.status:
            print(f"  | {command}: exit status {result.status}\n{result.err}", file=sys.stderr)
    finally:
        guest.stop()
    if not found:
        raise RuntimeError(f"{command} found nothing")
    if problems := guest.problems():
        raise RuntimeError(f"the guest's kernel complained:\n{problems}")
    return found
