# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""One guest: boot, run commands, pause, die."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import logscan
from .host import TOP, parts, start

# Reaches the first command under emulation on a busy host many times over.
BOOT_TIMEOUT = 180
COMMAND_TIMEOUT = 120
# Of a command that still runs when its test has failed.
LAST_LINES = 30

# Stalls are counted in wall time, and an emulated CPU can lose seconds of it to the host;
# watchdogs that only measure that would cry wolf.
CMDLINE = (
    "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off random.trust_cpu=on no_timer_check "
    "nowatchdog tsc=nowatchdog rcupdate.rcu_cpu_stall_timeout=120 rcupdate.rcu_exp_cpu_stall_timeout=120000 "
    "workqueue.watchdog_thresh=0 rdinit=/init cgroup_disable=memory"
)

Output = Callable[[bytes], None]


class GuestDied(Exception):
    """The guest ended while something was expected of it."""


class CommandFailed(Exception):
    """A command in a guest exited non-zero, or took too long."""


@dataclass(frozen=True)
class Result:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Nic:
    """A network card: its address and the switch port's socket."""

    mac: str
    socket: str


class Process:
    """A command that runs in a guest."""

    def __init__(self, guest: "Guest", ident: int, what: str, output: Output | None, error: Output | None):
        self.guest, self.ident, self.what = guest, ident, what
        self.status: int | None = None
        self._out, self._err = bytearray(), bytearray()
        self._sinks = {"O": output or self._out.extend, "E": error or self._err.extend}
        self._ended = threading.Event()

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.decode(errors="replace")

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.decode(errors="replace")

    def last_words(self) -> str:
        """The end of what it has said on standard error."""
        lines = self.err.splitlines()[-LAST_LINES:]
        return "\n".join([f"--- {self.guest.name}: {self.what[:100]}", *lines])

    def _event(self, kind: str, payload: bytes) -> None:
        if kind == "S":
            self.status = int(payload)
            self._ended.set()
        else:
            self._sinks[kind](payload)

    def _abandon(self) -> None:
        self._ended.set()

    @property
    def running(self) -> bool:
        """Whether the command has not ended yet."""
        return not self._ended.is_set()

    def write(self, data: bytes) -> None:
        """Feed standard input; empty data closes it."""
        self.guest._send("I", self.ident, data)

    def kill(self, name: str = "KILL") -> None:
        """Send a signal to the command and all that it started in its process group."""
        self.guest._send("K", self.ident, name.encode())

    def wait(self, timeout: float = COMMAND_TIMEOUT, check: bool = True) -> Result:
        """Wait for the end; raises if it does not come, or (with `check`) came with an error."""
        if not self._ended.wait(timeout):
            self.kill()
            raise CommandFailed(f"{self.guest.name}: still running after {timeout} s: {self.what}\n{self.out}{self.err}")
        if self.status is None:
            raise GuestDied(f"{self.guest.name} died under: {self.what}")
        if check and self.status:
            raise CommandFailed(f"{self.guest.name}: exit status {self.status}: {self.what}\n{self.out}{self.err}")
        return Result(self.status, self.out, self.err)


class Guest:
    """One virtual machine. `start` returns at once; `ready` waits for its agent. `slow`: how much longer
    than usual its kernel may take."""

    def __init__(
        self,
        name: str = "guest",
        kernel: str = "stock",
        smp: int = 2,
        mem: int | None = None,
        nics: Sequence[Nic] = (),
        logs: Path | None = None,
        append: str = "",
        icount: bool = False,
        qemu: Sequence[str] = (),
    ):
        """`icount`: the guest's clock counts instructions, one a nanosecond (one CPU only). `qemu`:
        more of its arguments."""
        self.name, self.kernel, self.smp, self.nics = name, kernel, smp, nics
        self.icount, self.qemu = icount, qemu
        self.slow = 4 if kernel == "debug" else 1
        self.mem = mem or (1536 if kernel == "debug" else 768)
        self.append = append
        self.logs = logs or TOP / "build/log"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.console = self.logs / f"{name}.console"
        self.console.write_bytes(b"")
        self._qemu: subprocess.Popen | None = None
        self._processes: dict[int, Process] = {}
        self._lock = threading.Lock()
        self._next = 0
        self._forgiven: list[tuple[int, int]] = []

    # Life

    def start(self) -> None:
        """Boot."""
        listener = self._prepare()
        argv = self._argv(["-chardev", f"file,id=con,append=on,path={self.console}", "-serial", "chardev:con"])
        with open(self.logs / f"{self.name}.qemu", "wb") as log:
            self._qemu = start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def interactive(self) -> int:
        """Boot with the console on this terminal and a shell on the console."""
        self.append += " holdfast.shell"
        listener = self._prepare()
        self._qemu = start(self._argv(["-serial", "mon:stdio"]))
        status = self._qemu.wait()
        listener.close()
        self._gone()
        return status

    def ready(self, timeout: float = BOOT_TIMEOUT) -> "Guest":
        """Wait until the guest takes commands."""
        until = time.monotonic() + timeout
        while not self._hello.wait(0.2):
            if not self.alive:
                raise GuestDied(f"{self.name} did not boot: see {self.console} and {self.name}.qemu beside it")
            if time.monotonic() > until:
                raise GuestDied(f"{self.name} did not boot in {timeout} s: see {self.console}")
        return self

    @property
    def alive(self) -> bool:
        """Whether its QEMU runs."""
        return self._qemu is not None and self._qemu.poll() is None

    def kill(self) -> None:
        """Crash: the guest gets no chance to say goodbye."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
            self._gone()

    def panic(self) -> None:
        """Let the kernel panic, which is then no complaint."""
        since = self.console.stat().st_size
        self.spawn("echo c >/proc/sysrq-trigger")
        self._qemu.wait(30)
        self.kill()
        self._forgiven.append((since, self.console.stat().st_size))

    def stop(self) -> None:
        """End of a test: let the kernel tell what it still has to tell, then end the guest."""
        if self.alive and self._hello.is_set():
            try:
                self.settle()
            except (CommandFailed, GuestDied, OSError) as error:
                with open(self.console, "a") as log:
                    log.write(f"\nBUG: the guest could not be asked for its last words: {error}\n")
        self.kill()

    def ended(self, timeout: float = 60) -> None:
        """Wait until the guest has switched itself off."""
        try:
            self._qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{self.name}: still on after {timeout} s") from None
        self.kill()

    def settle(self) -> None:
        """Make the kernel report leaks (debug kernel); its console then has all there is."""
        if self.kernel == "debug":
            # Twice: an object is reported once its contents were the same in two scans.
            self.run("cd /sys/kernel/debug && echo scan >kmemleak && sleep 5 && echo scan >kmemleak && "
                     "cat kmemleak >/dev/kmsg && echo clear >kmemleak")

    def restart(self) -> None:
        """Boot again after `kill`; the network cards stay in their segments."""
        self.kill()
        self.start()
        self.ready()

    def pause(self) -> None:
        """Freeze all CPUs: to its peers the guest is silent, but not dead."""
        self._qmp("stop")

    def resume(self) -> None:
        """Go on after `pause`, unaware of the time that passed."""
        self._qmp("cont")

    def carrier(self, nic: int, up: bool) -> None:
        """Plug a network cable in or out, as the guest sees it."""
        self._qmp("set_link", name=f"nic{nic}", up=up)

    def monitor(self, line: str) -> str:
        """A command of QEMU's own monitor, and what it says."""
        return self._qmp("human-monitor-command", **{"command-line": line})

    # Commands

    def spawn(
        self,
        command: str | Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: str = str(TOP),
        stdin: bytes | None = b"",
        output: Output | None = None,
        error: Output | None = None,
    ) -> Process:
        """Start a command (a string goes to a shell). `stdin=None` keeps its input open for `write`;
        `output` and `error` take what it says instead of the process's `out` and `err`."""
        argv = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        environment = {"HOLDFAST_KO": str(TOP / f"build/{self.kernel}/holdfast.ko"), "HOLDFAST_KERNEL": self.kernel,
                       "PATH": f"/run/holdfast/bin:{os.environ['PATH']}"}
        environment |= {k: v for k, v in os.environ.items() if k in ("HOLDFAST_SEED", "RUST_BACKTRACE")} | dict(env or {})
        lists = [[cwd], argv, [f"{k}={v}" for k, v in environment.items()]]
        # An empty string ends a list, so an empty argument cannot be passed; a shell command can.
        if not all(argv):
            raise ValueError("empty argument: pass a shell command instead")
        payload = "".join("".join(s + "\0" for s in items) + "\0" for items in lists).encode()
        with self._lock:
            self._next += 1
            process = Process(self, self._next, command if isinstance(command, str) else " ".join(argv), output, error)
            self._processes[process.ident] = process
        self._send("R", process.ident, payload)
        if stdin is not None:
            for data in ([stdin] if stdin else []) + [b""]:
                process.write(data)
        return process

    def run(self, command: str | Sequence[str], timeout: float = COMMAND_TIMEOUT, check: bool = True, **options) -> Result:
        """Run a command to its end; raises CommandFailed unless it succeeds or `check` is off."""
        return self.spawn(command, **options).wait(timeout, check)

    def last_words(self) -> str:
        """What the commands that still run have said last."""
        return "\n".join(p.last_words() for p in list(self._processes.values()) if p.running)

    def until(self, command: str, timeout: float = 30, every: float = 0.2) -> Result:
        """Await a condition: repeat a command until it succeeds. `timeout` is that of a kernel that is not slow."""
        timeout *= self.slow
        end = time.monotonic() + timeout
        while (result := self.run(command, check=False)).status:
            if time.monotonic() > end:
                raise CommandFailed(f"{self.name}: not in {timeout} s: {command}\n{result.out}{result.err}")
            time.sleep(every)
        return result

    # Judgement

    def problems(self, since: int = 0) -> str:
        """What the kernel complained about on the console, from offset `since` of its log on."""
        text = self.console.read_bytes()
        for begin, end in self._forgiven:
            text = text[:begin] + b" " * (end - begin) + text[end:]
        return logscan.problems(text[since:].decode(errors="replace"))

    # Below: plumbing

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _prepare(self) -> socket.socket:
        """What QEMU connects to when it starts: the shared folder's server, and us."""
        self._folder = tempfile.mkdtemp(prefix=f"vm-{self.name}-")
        self._hello = threading.Event()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._path("ctl"))
        listener.listen(1)
        self._start_virtiofsd()
        return listener

    def _start_virtiofsd(self) -> None:
        self._fs = start(["/usr/libexec/virtiofsd", "--socket-path", self._path("fs"), "--shared-dir", str(TOP),
                          "--sandbox", "none", "--cache", "auto", "--log-level", "error"], stdin=subprocess.DEVNULL)
        while not os.path.exists(self._path("fs")):
            time.sleep(0.01)

    def _argv(self, console: list[str]) -> list[str]:
        part = parts(self.kernel)
        argv = [
            *("qemu-system-x86_64", "-name", self.name, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-machine", "q35,memory-backend=ram,usb=off,smm=off,vmport=off"),
            # Instructions are counted by one thread only.
            *("-accel", f"tcg,thread={'single' if self.icount else 'multi'},tb-size=256"),
            *(("-icount", "shift=0,sleep=off") if self.icount else ()),
            *("-cpu", "max,la57=off", "-smp", str(self.smp)),
            *("-m", f"{self.mem}M", "-object", f"memory-backend-memfd,id=ram,size={self.mem}M,share=on"),
            *("-kernel", part["vmlinuz"], "-initrd", part["initramfs"]),
            *("-append", f"{CMDLINE} holdfast.name={self.name} {self.append}"),
            *console,
            *("-qmp", f"unix:{self._path('qmp')},server=on,wait=off"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=ctl,path={self._path('ctl')}"),
            *("-device", "virtserialport,chardev=ctl,name=holdfast.ctl"),
            *("-drive", f"if=none,id=root,format=raw,readonly=on,file={part['image']}"),
            *("-device", "virtio-blk-pci,drive=root"),
            *("-chardev", f"socket,id=fs,path={self._path('fs')}"),
            *("-device", "vhost-user-fs-pci,chardev=fs,tag=work"),
            *("-device", "virtio-rng-pci"),
        ]
        for number, nic in enumerate(self.nics):
            argv += ["-netdev", f"stream,id=net{number},server=off,addr.type=unix,addr.path={nic.socket}",
                     "-device", f"virtio-net-pci,id=nic{number},netdev=net{number},mac={nic.mac},romfile="]
        return [*argv, *self.qemu]

    def _send(self, kind: str, ident: int, payload: bytes) -> None:
        try:
            with self._lock:
                self._control.sendall(kind.encode() + struct.pack("<II", ident, len(payload)) + payload)
        except (AttributeError, OSError) as error:
            raise GuestDied(f"{self.name} takes no commands") from error

    def _listen(self, listener: socket.socket) -> None:
        """Hands what the agent says to the processes, until the guest is gone."""
        qemu = self._qemu
        listener.settimeout(30)
        try:
            self._control, _ = listener.accept()
            stream = self._control.makefile("rb", buffering=1 << 16)
            while len(head := stream.read(9)) == 9:
                ident, length = struct.unpack("<II", head[1:])
                payload = stream.read(length)
                kind = chr(head[0])
                if kind == "H":
                    self._hello.set()
                elif process := self._processes.get(ident):
                    process._event(kind, payload)
        except OSError:
            pass
        finally:
            listener.close()
            if self._qemu is qemu:
                for process in list(self._processes.values()):
                    process._abandon()

    def _qmp(self, command: str, **arguments: object) -> object:
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.connect(self._path("qmp"))
            stream = qmp.makefile("rw")
            stream.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                print(json.dumps(request), file=stream, flush=True)
                # Events may come in between.
                while not ({"return", "error"} & (reply := json.loads(stream.readline())).keys()):
                    pass
                if "error" in reply:
                    raise RuntimeError(f"{self.name}: {command}: {reply['error']['desc']}")
        return reply["return"]

    def _gone(self) -> None:
        for process in self._processes.values():
            process._abandon()
        self._processes.clear()
        self._fs.kill()
        self._fs.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._qemu = None
