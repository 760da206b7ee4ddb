# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=stock timeout=400
"""Downloads over both families outlive each way in which their server can go, and some in which it only
seems to go (topology: lib/farm.py). Nobody resets a client, and a server that has yielded sends nothing
more. After each way the server is back, and the next downloads are from there."""

import time
from collections.abc import Callable

from lib.farm import V4, V6, Farm
from lib.pcap import ACK, FIN, RST, SYN, segments
from vm import Cluster, Guest, Process

SIZE = 12 << 20
CLIENT = {V4: "10.0.0.9", V6: "fd00::9"}
LATE = 0.5  # seconds: for what is on its way, and clocks that are not quite the same


def panic(server: Guest) -> Callable[[], None] | None:
    """The kernel panics."""
    server.panic()
    return None


def pause(server: Guest) -> Callable[[], None]:
    """The machine stands still, and goes on later as if nothing had been."""
    server.pause()
    return server.resume


def cut(way: str) -> Callable[[Guest], Callable[[], None]]:
    """The network loses what goes to the machine, what comes from it, or both."""

    def now(server: Guest) -> Callable[[], None]:
        cluster.cut(server, way=way)
        return lambda: cluster.heal(server)

    return now


WAYS = {"panic": panic, "pause": pause, "cut": cut("both"), "cut out": cut("out"), "cut in": cut("in")}

with Cluster() as cluster:
    farm = Farm(cluster, "a", "b")
    client = farm.client
    farm.object("file", SIZE)
    farm.boot()
    # Of the first server's folder, before anything has gone wrong.
    wanted = client.run(f"sha256sum <{farm.folder}/www/file").out
    farm.start()
    farm.wait_for_owner("a")

    def download() -> dict[str, Process]:
        """A download over each family that has begun."""
        cluster.capture("lan")
        curls = {}
        for address, shown in (V4, V4), (V6, f"[{V6}]"):
            file = f"/tmp/file.{address}"
            client.run(f"rm -f {file}")
            write = "-w '%{num_connects}'"
            curls[address] = client.spawn(f"exec curl -sS --limit-rate 3M -o {file} {write} 'http://{shown}/file'")
        for address in curls:
            client.until(f"test $(stat -c %s /tmp/file.{address}) -gt {SIZE // 4}")
        return curls

    def check(curls: dict[str, Process], name: str) -> None:
        """They have ended well, on the connections on which they began."""
        for address, curl in curls.items():
            assert curl.wait(120).out == "1", (name, address)
            assert client.run(f"sha256sum </tmp/file.{address}").out == wanted, (name, address)

    def yields(server: str, since: float) -> dict[str, float]:
        """When a server has yielded each address last, by the host's clock."""
        ahead = farm.clock(farm.servers[server])
        said = ((e["address"], e["wall_ms"] / 1000 + ahead) for e in farm.events(server) if e["event"] == "yield")
        return {address: when for address, when in said if when > since}

    def check_segment(name: str, yielded: dict[str, float], mac: str) -> None:
        """One SYN a client, no reset before it has closed (later, what a paused server has left to say meets nobody
        any more), and nothing of the flows from `mac` once it has yielded their address."""
        data, syns, closed = 0, 0, set()
        for s in segments(cluster.logs / "lan.pcap"):
            if not {(s.src, s.dst), (s.dst, s.src)} & set(CLIENT.items()):
                continue
            if s.flags & FIN and s.src in CLIENT.values():
                closed.add(s.src)
            assert not s.flags & RST or {s.src, s.dst} & closed, (name, s)
            data += s.payload
            syns += s.flags & (SYN | ACK) == SYN
            if s.payload and s.mac == mac and s.src in yielded:
                assert s.time <= yielded[s.src] + LATE, (name, s, yielded)
        assert data >= 2 * SIZE and syns == 2, (name, data, syns)

    def settle(owner: str, other: str) -> None:
        """Wait until exactly one of the two has the address, and both are one group."""
        farm.servers[other].until(f"! ip -o addr show dev eth0 | grep -q {V4}/")
        farm.servers[owner].until(f"holdfast status -j | grep -Eq '\"linked\": ?true'")
        farm.servers[other].until(f"holdfast status -j | grep -Eq '\"linked\": ?true'")
        farm.wait_for_owner(owner)

    owner, other = "a", "b"
    for number, (name, way) in enumerate(WAYS.items()):
        curls = download()
        mac = farm.servers[owner].run("cat /sys/class/net/eth0/address").out.strip()
        began = time.time()
        again = way(farm.servers[owner])
        farm.wait_for_owner(other)
        yielded = {}
        if again:
            again()
            check(curls, name)
            farm.servers[owner].until(f"! ip -o addr show dev eth0 | grep -q {V6}/")
            yielded = yields(owner, began)
            assert yielded.keys() == CLIENT.keys(), (name, yielded)
        else:
            check(curls, name)
        check_segment(name, yielded, mac)
        if not again:
            farm.servers[owner].restart()
            farm.join(owner)
            farm.start(owner)
        owner, other = other, owner
        settle(owner, other)
        print(f"ok {name}", flush=True)

    # The one that does nothing is cut off: nothing must move, then or later.
    claims = f"holdfast status -j | grep -o '\"generation\": *[0-9]*'"
    before = farm.servers[owner].run(claims).out
    curls = download()
    cluster.cut(farm.servers[other])
    farm.servers[owner].until("holdfast status -j | grep -q '\"dead\"'")
    farm.servers[other].until("holdfast status -j | grep -q '\"dead\"'")
    cluster.heal(farm.servers[other])
    settle(owner, other)
    check(curls, "standby")
    check_segment("standby", {}, "")
    assert farm.servers[owner].run(claims).out == before, "the address has moved"
    print("ok standby", flush=True)
