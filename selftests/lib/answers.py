#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""answers.py serve [stall] [mptcp] [port=N] | ask any|declared small|full [READY GO LOG]: every kind of answer, from a
server that says the same bytes on every node, but for what is named `other-...`, and the clients that want them
(lib/matrix.py).

With `stall` a server is the first one, and stops in the middle of each long answer, so that its clients are there when
it dies; requests that say "?calm" are answered whole.
"""

import re
import socket
import sys
import threading
from dataclasses import replace

from matrix import Case, Exact, Matrix

BODY = b"".join(b"%07d\n" % n for n in range(25_000))
HALF = len(BODY) // 2
TAG = '"v1"'
DATE = "Date: Sun, 06 Nov 1994 10:00:00 GMT"
OLD = "Sun, 06 Nov 1994 08:49:37 GMT"
CALM = len(sys.argv) == 4  # nobody is to die
FIRST = "stall" in sys.argv or sys.argv[1] == "ask"  # what `other-...` says differs from server to server
REASONS = {503: "Service Unavailable", 200: "OK", 204: "No Content", 206: "Partial Content", 304: "Not Modified", 404: "Not Found"}


def head(status: int, *fields: str) -> bytes:
    """The head of a response."""
    return "\r\n".join([f"HTTP/1.1 {status} {REASONS[status]}", DATE, *fields, "", ""]).encode()


def chunked(body: bytes) -> bytes:
    """`body` in chunks."""
    pieces = (body[at : at + 9000] for at in range(0, len(body), 9000))
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def ranges(wanted: str, fields: list[str], validator: str) -> bytes:
    """The answer to a request with or without a Range field."""
    spec = re.search(r"(?im)^range: bytes=(.*?)\r?$", wanted)
    condition = re.search(r"(?im)^if-range: (.*?)\r?$", wanted)
    if not spec or (condition and condition[1] != validator):
        return head(200, f"Content-Length: {len(BODY)}", "Accept-Ranges: bytes", *fields) + BODY
    spans = []
    for part in spec[1].split(","):
        first, last = part.strip().split("-")
        begin = int(first) if first else len(BODY) - int(last)
        stop = int(last) if first and last else len(BODY) - 1
        spans.append((begin, min(stop, len(BODY) - 1)))
    if len(spans) == 1:
        ((begin, stop),) = spans
        span = f"Content-Range: bytes {begin}-{stop}/{len(BODY)}"
        return head(206, f"Content-Length: {stop + 1 - begin}", span, *fields) + BODY[begin : stop + 1]
    body = b""
    for begin, stop in spans:
        body += f"\r\n--cut\r\nContent-Range: bytes {begin}-{stop}/{len(BODY)}\r\n\r\n".encode() + BODY[begin : stop + 1]
    body += b"\r\n--cut--\r\n"
    return head(206, f"Content-Length: {len(body)}", "Content-Type: multipart/byteranges; boundary=cut", *fields) + body


def answer(request: bytes) -> tuple[bytes, bool]:
    """What is said to a request, head included, and whether the connection closes behind it."""
    text = request.decode("latin1")
    method, path = text.split(" ", 2)[:2]
    tag, length = f"ETag: {TAG}", f"Content-Length: {len(BODY)}"
    match path.partition("?")[0]:
        case "/date":
            said = ranges(text, [f"Last-Modified: {OLD}"], OLD)
        case "/gzip":
            said = ranges(text, [tag, "Content-Encoding: gzip"], TAG)
        case "/early":
            said = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ranges(text, [tag], TAG)
        case "/long-head":
            said = ranges(text, [tag, "X-Pad: " + "y" * 4000], TAG)
        case "/weak":
            said = head(200, length, "ETag: W/" + TAG) + BODY
        case "/no-ranges":
            said = head(200, length, tag) + BODY
        case "/none":
            said = head(200, length) + BODY
        case "/chunked":
            said = head(200, tag, "Transfer-Encoding: chunked") + chunked(BODY)
        case "/chunk":
            said = head(200, tag, "Transfer-Encoding: chunked") + chunked(b"little")
        case "/gzip-chunked":
            said = head(200, "Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunked(BODY)
        case "/close":
            return head(200, tag, "Connection: close") + BODY, True
        case "/other-bytes":
            body = BODY if FIRST else BODY.replace(b"5", b"6", 1)
            said = head(200, "Transfer-Encoding: chunked") + chunked(body)
        case "/other-end":
            return head(200, "Connection: close") + BODY[: None if FIRST else HALF // 2], True
        case "/other-tag":
            said = head(200, length, "ETag: W/" + (TAG if FIRST else '"v2"')) + BODY
        case "/other-type":
            said = head(200, length, f"Content-Type: text/{'plain' if FIRST else 'html'}") + BODY
        case "/other-object":
            said = head(200 if FIRST else 404, length) + BODY
        case "/other-mood":
            said = head(200 if FIRST else 503, length) + BODY
        case "/404":
            said = head(404, "Content-Length: 9") + b"not here\n"
        case "/long-404":
            said = head(404, length, tag) + BODY
        case "/204":
            said = head(204)
        case "/304":
            said = head(304, tag)
        case "/empty":
            said = head(200, "Content-Length: 0")
        case _:
            said = ranges(text, [tag], TAG)
    if method == "HEAD":
        said = said[: said.index(b"\r\n\r\n") + 4]
    return said, False


def converse(connection: socket.socket, stall: bool) -> None:
    """One connection."""
    with connection, connection.makefile("rb") as stream:
        while True:
            lines = [stream.readline()]
            while lines[-1] not in (b"\r\n", b""):
                lines.append(stream.readline())
            if lines[-1] == b"":
                return
            request = b"".join(lines)
            if length := re.search(rb"(?i)content-length: (\d+)", request):
                stream.read(int(length[1]))
            path = request.split(b" ")[1]
            said, close = answer(request)
            # The kinds whose first server stops: before the head, inside of it, in the body.
            stop = {b"/never": 0, b"/half": 30}.get(path, len(said) // 2 if len(said) > HALF else None)
            if stall and stop is not None and b"?calm" not in path:
                connection.sendall(said[:stop])
                threading.Event().wait()
            connection.sendall(said)
            if close:
                return


def serve(stall: bool, port: int) -> None:
    """For ever, on all addresses."""
    protocol = socket.IPPROTO_MPTCP if "mptcp" in sys.argv else 0
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM, protocol) as listener:
        listener.bind(("::", port))
        listener.listen(128)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=converse, args=(connection, stall), daemon=True).start()


def get(path: str, *fields: str, method: str = "GET", body: bytes = b"") -> tuple[bytes, Exact]:
    """A request and its answer."""
    path += "?calm" * (CALM and "?" not in path)
    request = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()
    said, close = answer(request)
    return request + body, Exact(said, close)


def long(name: str, path: str, *fields: str, outcome: str = "continued", why: str = "", **more: object) -> Case:
    """The server dies in the middle of the answer."""
    request, said = get(path, *fields, **more)
    return Case(name, [(request, said)], len(said.want) // 2, outcome, why)


def idle(name: str, path: str, *fields: str, outcome: str = "continued", why: str = "", **more: object) -> Case:
    """The server dies behind the answer, before another request."""
    return Case(name, [get(path, *fields, **more), get("/tag?calm")], None, outcome, why)


def unlike() -> list[Case]:
    """Answers of which no range can be asked for: continued only where the service is declared
    deterministic."""
    length, validator = "unprotected (unknown-length)", "unprotected (no-validator)"
    several = "Range: bytes=0-49999,100000-149999"
    return [
        long("200, weak tag", "/weak", outcome="reset", why=validator),
        long("200, no validator", "/none", outcome="reset", why=validator),
        long("206, several ranges", "/tag", several, outcome="reset", why="unprotected (ranges)"),
        long("chunked", "/chunked", outcome="reset", why=length),
        long("compressed and chunked", "/gzip-chunked", outcome="reset", why=length),
        long("until close", "/close", outcome="reset", why=length),
        long("404, long", "/long-404", outcome="reset", why="unprotected (status)"),
        # Before its next request is there: that would be "pipelined".
        replace(idle("chunked, then idle", "/chunk", outcome="reset", why="unprotected (unknown-length)"), waits=True),
    ]


def declared() -> list[Case]:
    """The table of a service that is declared deterministic, whether it is or not."""
    table = [replace(case, outcome="continued", why="", waits=case.held is None) for case in unlike()]
    table += [
        long("200, strong tag", "/tag"),
        long("200, strong tag, no ranges", "/no-ranges"),
        long("other bytes", "/other-bytes", outcome="reset", why="wrong-bytes"),
        long("ends sooner", "/other-end", outcome="reset", why="closed"),
        long("another tag", "/other-tag", outcome="reset", why="wrong-validator"),
        long("another type", "/other-type", outcome="reset", why="other-content"),
        long("not there", "/other-object", outcome="reset", why="missing (status 404)"),
        long("another status", "/other-mood", outcome="reset", why="other-status (status 503)"),
        long("answer to POST", "/tag", "Content-Length: 4", method="POST", body=b"abcd", outcome="reset", why="unprotected (method)"),
    ]
    request, said = get("/never")
    table.append(Case("no byte of the answer", [(request, said)], -1))
    # As 404 below: it dies while the head is on its way.
    request, said = get("/chunked")
    table.append(Case("chunked, lost on its way", [(request, said)], -1, local_port=45001 * (not CALM)))
    return table


def cases() -> list[Case]:
    """The table of any other (Documentation/answers.md)."""
    twice = get("/tag")[0] + get("/tag?calm")[0]
    table = [
        long("200, strong tag", "/tag"),
        long("200, strong date", "/date"),
        long("206, range of the client", "/tag", "Range: bytes=50000-179999"),
        long("206, suffix", "/tag", "Range: bytes=-150000"),
        long("200, compressed", "/gzip"),
        long("103 before 200", "/early"),
        long("conditional request", "/tag", 'If-None-Match: "v0"'),
        *unlike(),
        long("answer to POST", "/tag", "Content-Length: 4", method="POST", body=b"abcd", outcome="reset", why="unprotected (method)"),
        long("request of 20 KB", "/tag", "X: " + "y" * 20_000, outcome="reset", why="unprotected (too-long)"),
        idle("HEAD, then idle", "/tag", method="HEAD"),
        idle("204, then idle", "/204"),
        idle("304, then idle", "/304"),
        idle("404, then idle", "/404"),
        idle("200 without bytes, then idle", "/empty"),
        idle("200, then idle", "/tag?calm"),
        idle("POST, then idle", "/tag?calm", "Content-Length: 4", method="POST", body=b"abcd", outcome="reset", why="unprotected (method)"),
    ]
    request, said = get("/never")
    table.append(Case("no byte of the answer", [(request, said)], -1))
    request, said = get("/half")
    table.append(Case("half a head, let go after hold-ms", [(request, said)], 30, "reset", "unprotected (late)"))
    said = get("/tag")[1].want
    both = Exact(said + get("/tag?calm")[1].want)
    table.append(Case("pipelined", [(twice, both)], len(said) // 2, "reset", "unprotected (pipelined)"))
    # The scenario loses this one's answer on its way: what the client gets is from the record.
    request, said = get("/404")
    table.append(Case("404, lost on its way", [(request, said)], -1, local_port=45001 * (not CALM)))
    return table


def main() -> None:
    """All of it."""
    if sys.argv[1] == "serve":
        ports = [int(word[5:]) for word in sys.argv if word.startswith("port=")]
        serve("stall" in sys.argv, *(ports or [80]))
    made = declared if sys.argv[2] == "declared" else cases
    table = made()
    if sys.argv[3] == "full":
        table += made()
        for case in table[: len(table) // 2]:
            case.host = "fd00::80"
            case.local_port += bool(case.local_port)
    Matrix(table, sys.argv[4:]).run()


main()
