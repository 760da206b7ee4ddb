#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=240
"""A reader of the log that breaks every rule: mappings of any place, length and protection, reads and
writes, two at once, children that keep a mapping, and a consumer count that is garbage, or one that
says that the log is full, while traffic is logged. It harms its own log and nothing else."""

import ctypes
import errno
import http.client
import http.server
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
from genl import NESTED, Family, attr, attrs, numbers  # noqa: E402

SEED = os.environ.get("HOLDFAST_SEED") or str(random.getrandbits(32))
RNG = random.Random(SEED)
PAGE = os.sysconf("SC_PAGESIZE")
READ, WRITE, EXEC, SHARED, PRIVATE = 1, 2, 4, 1, 2
FAILED = ctypes.c_void_p(-1).value
BODY = random.Random(1).randbytes(300_000)

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]


def opened() -> int:
    """The log."""
    return os.open("/dev/holdfast", os.O_RDWR)


def mapped(fd: int, length: int, prot: int, offset: int, flags: int = SHARED) -> int:
    """The address, or minus an error number."""
    address = libc.mmap(None, length, prot, flags, fd, offset)
    return -ctypes.get_errno() if address == FAILED else address


def expect(what: str, got: object, *wanted: object) -> None:
    """Ends the test unless it is one of these."""
    if got not in wanted:
        sys.exit(f"FAIL (HOLDFAST_SEED={SEED}): {what}: {got} in place of {wanted}")


def error_of(call, *args) -> int:
    """The number of the error that a call fails with."""
    try:
        call(*args)
    except OSError as error:
        return error.errno or 0
    return 0


def whole(fd: int) -> tuple[int, int]:
    """Address and length of producer page and data."""
    for shift in range(12, 31):
        address = mapped(fd, PAGE + (1 << shift), READ, PAGE)
        if address > 0:
            return address, PAGE + (1 << shift)
        expect("a wrong length", address, -errno.EINVAL)
    sys.exit("FAIL: no length is right")


def mappings() -> None:
    """Only the two whole mappings, with no more rights than they need."""
    fd = opened()
    expect("a second reader", error_of(opened), errno.EBUSY)
    expect("read", error_of(os.read, fd, 100), errno.EINVAL)
    expect("write", error_of(os.write, fd, b"x" * 100), errno.EINVAL)
    expect("seek", error_of(os.lseek, fd, 1 << 40, 0), errno.ESPIPE, errno.EINVAL, 0)
    expect("truncate", error_of(os.ftruncate, fd, 0), errno.EINVAL)
    address, length = whole(fd)
    data = length - PAGE
    for flags in (READ | WRITE, READ | EXEC):
        expect("data with more rights", mapped(fd, length, flags, PAGE), -errno.EPERM)
    expect("executable consumer page", mapped(fd, PAGE, READ | EXEC, 0), -errno.EPERM)
    expect("a private consumer page", mapped(fd, PAGE, READ | WRITE, 0, PRIVATE), -errno.EINVAL)
    expect("private data", mapped(fd, length, READ, PAGE, PRIVATE), -errno.EINVAL)
    for _ in range(200):
        size = RNG.choice([PAGE, 2 * PAGE, data, length, length + PAGE, RNG.randrange(1, 1 << 24)])
        offset = RNG.choice([0, PAGE, 2 * PAGE, length, 1 << 40, PAGE * RNG.randrange(1 << 40)])
        up = -(-size // PAGE) * PAGE
        if (offset, up) not in ((0, PAGE), (PAGE, length)):
            expect(f"{size} bytes at {offset}", mapped(fd, size, READ, offset), -errno.EINVAL, -errno.EOVERFLOW)
    for rights in (READ | WRITE, WRITE, READ | EXEC):
        expect("mprotect", (libc.mprotect(address, length, rights), ctypes.get_errno()), (-1, errno.EACCES))
    grown = libc.mremap(address, length, 2 * length, 1)
    expect("mremap", (grown, ctypes.get_errno()), (FAILED, errno.EFAULT))
    # Holes in it, and its end first.
    libc.munmap(address + PAGE, PAGE)
    libc.munmap(address + length - PAGE, PAGE)
    os.close(fd)
    expect("a reader beside a mapping", error_of(opened), errno.EBUSY)
    expect("rmmod beside a mapping", subprocess.run(["rmmod", "holdfast"], capture_output=True, check=False).returncode, 1)
    libc.munmap(address, length)
    os.close(opened())


def children() -> None:
    """A mapping lives on in a child, and the log is taken until it has gone."""
    fd = opened()
    address, length = whole(fd)
    consumer = mapped(fd, PAGE, READ | WRITE, 0)
    held, release = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(release)
        os.close(fd)
        os.read(held, 1)
        ctypes.c_uint64.from_address(consumer).value = RNG.getrandbits(64)
        os.kill(os.getpid(), 9)
    libc.munmap(address, length)
    libc.munmap(consumer, PAGE)
    os.close(fd)
    expect("a reader beside a child's mapping", error_of(opened), errno.EBUSY)
    os.close(release)
    os.waitpid(pid, 0)
    until = time.monotonic() + 20
    while error_of(lambda: os.close(opened())):
        if time.monotonic() > until:
            sys.exit("FAIL: the log stays taken")
        time.sleep(0.05)


class Server(http.server.BaseHTTPRequestHandler):
    """One object, on connections that stay open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Sends it."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_args) -> None:
        """Not a word."""


def fetch() -> None:
    """The object, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
    for _ in range(2):
        connection.request("GET", "/")
        expect("the object", connection.getresponse().read() == BODY, True)
    connection.close()


def counts() -> dict[str, int]:
    """The counters of this namespace."""
    family, n = Family(), numbers()
    found = {}
    for reply in family.ask(n["CMD_STATS_GET"], dump=True)[2]:
        stat = dict(attrs(reply))
        name = stat[n["A_STAT_NAME"]].rstrip(b"\0").decode()
        found[name] = struct.unpack("=Q", stat[n["A_STAT_VALUE"]])[0]
    return found


def await_count(name: str, value: int) -> None:
    """Until a counter has come so far."""
    until = time.monotonic() + 20
    while counts()[name] < value:
        if time.monotonic() > until:
            sys.exit(f"FAIL (HOLDFAST_SEED={SEED}): {name} is not {value}")
        time.sleep(0.01)


def garbage() -> None:
    """Nobody else is harmed by a consumer count that means nothing."""
    n = numbers()
    service = attr(n["A_SERVICE_ADDR"], bytes([127, 0, 0, 1])) + attr(n["A_SERVICE_PORT"], struct.pack(">H", 80))
    hold = attr(n["A_SERVICE_HOLD_MS"], struct.pack("=I", 50))
    expect("service-add", Family().ask(n["CMD_SERVICE_ADD"], service + hold)[0], 0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 80), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fd = opened()
    word = ctypes.c_uint64.from_address(mapped(fd, PAGE, READ | WRITE, 0))
    address, length = whole(fd)
    producer = ctypes.c_uint64.from_address(address)
    stop = threading.Event()

    def lie() -> None:
        while not stop.is_set():
            near = producer.value + RNG.randrange(-64, 65)
            word.value = RNG.choice([0, 2**64 - 1, near % 2**64, RNG.getrandbits(64), producer.value + 8])

    liar = threading.Thread(target=lie)
    liar.start()
    for _ in range(15):
        fetch()
    stop.set()
    liar.join()
    # Each record of a connection in turn is the first one that finds no room. What cannot be told
    # must not wait: nothing would ever let it go.
    for room in range(0, 1024, 64):
        word.value = (producer.value - (length - PAGE) + room) % 2**64
        began = time.monotonic()
        fetch()
        print(f"room for {room} bytes: {time.monotonic() - began:.1f} s")
    word.value = producer.value + (1 << 20)
    fetch()
    expect("log_full was counted", counts()["log_full"] > 0, True)
    os.close(fd)
    print({name: count for name, count in counts().items() if count})


def full_at_the_commit() -> None:
    """A server closes in the middle of its response, which is held. Once that is let go it turns out what
    the close is, and then the log is full: nobody would ever hear of it, so it must not be held back."""
    n, port = numbers(), 81
    address, u32 = bytes([127, 0, 0, 1]), struct.Struct("=I")
    service = attr(n["A_SERVICE_ADDR"], address) + attr(n["A_SERVICE_PORT"], struct.pack(">H", port))
    service += attr(n["A_SERVICE_HOLD_MS"], u32.pack(10_000)) + attr(n["A_SERVICE_VERDICT_MS"], u32.pack(60_000))
    family = Family()
    expect("service-add", family.ask(n["CMD_SERVICE_ADD"], service)[0], 0)
    fd = opened()
    consumer = mapped(fd, PAGE, READ | WRITE, 0)
    word = ctypes.c_uint64.from_address(consumer)
    data, length = whole(fd)
    producer = ctypes.c_uint64.from_address(data)
    word.value = producer.value
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_server(("127.0.0.1", port)) as listener, socket.socket() as client:
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        server = listener.accept()[0]
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        server.recv(1000)
        before = counts()
        server.sendall(head)
        await_count("held", before["held"] + 1)
        server.close()
        await_count("held", before["held"] + 2)
        flow = dict(attrs(family.ask(n["CMD_FLOW_GET"], dump=True)[2][0]))
        (start,) = struct.unpack("=Q", flow[n["A_FLOW_OBJECT_START"]])
        release = attr(n["A_RELEASE_CLIENT_ADDR"], address)
        release += attr(n["A_RELEASE_CLIENT_PORT"], struct.pack(">H", client.getsockname()[1]))
        release += attr(n["A_RELEASE_SERVICE_ADDR"], address) + attr(n["A_RELEASE_SERVICE_PORT"], struct.pack(">H", port))
        release += attr(n["A_RELEASE_OBJECT_START"], struct.pack("=Q", start))
        release += attr(n["A_RELEASE_OBJECT_END"], struct.pack("=Q", start + len(head) + 1000))
        batch = attr(n["A_BATCH_RELEASE"] | NESTED, attr(NESTED, release))
        word.value = producer.value - (length - PAGE)
        expect("flow-commit", family.ask(n["CMD_FLOW_COMMIT"], batch)[0], 0)
        expect("closes that were held back", counts()["close_held"] - before["close_held"], 1)
        expect("what the client gets", client.recv(1000) + client.recv(1000), head)
    expect("closes let through", counts()["close_passed"] - before["close_passed"], 1)
    libc.munmap(data, length)
    libc.munmap(consumer, PAGE)
    os.close(fd)


def main() -> None:
    """All of it; the process must end for its mappings to go."""
    print(f"HOLDFAST_SEED={SEED}")
    if not Path("/sys/module/holdfast").exists():
        subprocess.run(["insmod", os.environ["HOLDFAST_KO"]], check=True)
    os.unshare(os.CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    mappings()
    children()
    full_at_the_commit()
    garbage()
    print("ok")


main()
