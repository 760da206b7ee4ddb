# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""The site of selftests/lib/site.sh, driven from Python: a shell that has sourced it, and clients."""

import array
import json
import os
import socket
import subprocess
import time
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "lib/site.sh"
V4 = "10.0.0.80"


def now() -> float:
    """Milliseconds of the clock that the daemon's timeline has."""
    return time.clock_gettime(time.CLOCK_MONOTONIC) * 1000


class Failed(Exception):
    """Something was awaited and did not come, or a command failed."""


def until(condition, seconds: float = 30, every: float = 0.01):
    """Wait until a condition is true, and say what it said."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"never came true: {condition}")
        time.sleep(every)
    return found


class Site:
    """Nodes in namespaces. `before`: shell commands between the library and the building."""

    def __init__(self, *nodes: str, before: str = ""):
        self.nodes = nodes
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.run(f". {LIBRARY}; set +e; {before}")
        self.run(f"site_up {' '.join(nodes)}", 60)
        self.folder = Path(self.run("echo $SITE").strip())
        self.www = self.folder / "www"
        (self.www / "index.html").write_text("x" * 100)

    def run(self, command: str, seconds: float = 60) -> str:
        """A command in that shell, and what it says."""
        self.shell.stdin.write(f"{command}\necho; echo __end $?\n")
        self.shell.stdin.flush()
        said = []
        for line in self.shell.stdout:
            if line.startswith("__end "):
                if line.split()[1] != "0":
                    raise Failed(f"{command}: {''.join(said)}")
                return "".join(said).rstrip("\n")
            said.append(line)
        raise Failed(f"the shell ended at: {command}")

    def close(self) -> None:
        """End all of it: whoever is in a node's namespace, and we might be."""
        os.setns(self.home, os.CLONE_NEWNET)
        self.shell.stdin.write("exit 0\n")
        self.shell.stdin.close()
        self.shell.stdout.read()
        self.shell.wait(60)

    def ask(self, node: str, **question) -> dict:
        """Ask a node's daemon."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.folder / f"{node}.sock"))
            control.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(control.makefile().readline())

    def events(self, node: str, since: float = 0) -> list[dict]:
        """What a node's daemon has said since then, oldest first (`--log-json`)."""
        # The last line may not be whole yet.
        lines = (self.folder / f"{node}.log").read_text().split("\n")[:-1]
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if event["mono_ms"] >= since]

    def event(self, node: str, name: str, since: float, seconds: float = 60, every: float = 0.02) -> dict:
        """Wait for an event."""
        return until(lambda: next((e for e in self.events(node, since) if e["event"] == name), None), seconds, every)

    def ready(self, node: str) -> bool:
        """Whether a node could take over."""
        return self.holdfast(node, "status") == 0

    def holdfast(self, node: str, *words: str) -> int:
        """The exit status of the tool on a node."""
        command = ["ip", "netns", "exec", node, "holdfast", *words, "--socket", str(self.folder / f"{node}.sock")]
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode

    def heartbeat(self, interval: int, misses: int) -> None:
        """Have all nodes beat at another rate."""
        self.run(f"HEARTBEAT=({interval} {misses})")
        for node in self.nodes:
            self.run(f'node_config {node} >"$SITE/{node}.toml"')
        for node in self.nodes:
            until(lambda: self.holdfast(node, "reload") == 0)

    def owns(self, node: str) -> bool:
        """Whether a node has the service's address."""
        command = ["ip", "-n", node, "-o", "addr", "show", "dev", "eth0"]
        return f"{V4}/" in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def enter(self, node: str) -> None:
        """Be in a node's namespace from now on; sockets are what counts."""
        with open(f"/run/netns/{node}") as file:
            os.setns(file.fileno(), os.CLONE_NEWNET)


def numbered(path: Path, size: int) -> bytes:
    """A file in which each eight bytes say where they are, so that a misplaced one is seen."""
    numbers = array.array("Q", range(size // 8))
    numbers.byteswap()
    data = numbers.tobytes()
    path.write_bytes(data)
    return data
