# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""A clean Debian machine without a kernel of its own: the Debian root, with a folder over it that
takes what is written. For tests that run compilers, for which an emulated guest is too slow."""

import os
import shutil
import subprocess
from pathlib import Path

from vm import CommandFailed
from vm.host import TOP, start

# The cache is there to read only: what a test does is nobody else's business.
MOUNTS = """
set -e
cd "$1"
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
mount -t proc proc root/proc
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/run
mount -t tmpfs tmpfs root/tmp
mount --bind -o ro /holdfast root/holdfast
mount --bind -o ro /var/cache/holdfast root/var/cache/holdfast
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs; do mount --bind -o ro $file root$file; done
# Packages of ours come with all that they have.
rm -f root/etc/dpkg/dpkg.cfg.d/*mmdebstrap
echo ready
exec sleep infinity
"""


class Overlay:
    """A context: leaving it removes the machine."""

    def __init__(self, name: str):
        self.folder = TOP / "build/overlay" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True)
        self._holder = start(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", MOUNTS, "-", str(self.folder)],
            stdout=subprocess.PIPE, text=True,
        )
        if self._holder.stdout.readline() != "ready\n":
            raise OSError("the overlay cannot be mounted")

    def __enter__(self) -> "Overlay":
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()
        # Nothing is mounted below it any more: the mounts were the holder's.
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, path: str) -> Path:
        """Where what was written to `path` is, seen from outside."""
        return self.folder / "upper" / path.lstrip("/")

    def run(self, command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess:
        """Run a shell command as root; `out` of the result is all that it said."""
        proxies = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        base = {"HOME": "/root", "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--root=/proc/{self._holder.pid}/root",
             "chroot", str(self.folder / "root"), "env", "-i", *(f"{k}={v}" for k, v in (base | proxies | env).items()), "bash", "-c", command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        if check and done.returncode:
            raise CommandFailed(f"exit status {done.returncode}: {command}\n{done.stdout}")
        return done
