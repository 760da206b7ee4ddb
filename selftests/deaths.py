# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=stock timeout=400
"""A download outlives each way in which its server can go, and some in which it only seems to go
(topology: lib/farm.py). After each way the server is back, and the next download is from there."""

from collections.abc import Callable

from lib.farm import V4, Farm
from vm import Cluster, Guest

SIZE = 12 << 20


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

    farm.watch()
    downloads = 0

    def download():
        """A download that has begun."""
        global downloads
        downloads += 1
        client.run("rm -f /tmp/file")
        curl = client.spawn(f"exec curl -sS --limit-rate 3M -o /tmp/file -w '%{{num_connects}}' http://{V4}/file")
        client.until(f"test $(stat -c %s /tmp/file) -gt {SIZE // 4}")
        return curl

    def check(curl, name: str) -> None:
        """It has ended well, on the connection on which it began."""
        assert curl.wait(120, check=False).out == "1", (name, curl.err)
        assert client.run("sha256sum </tmp/file").out == wanted, name
        farm.check_watched(downloads)

    def settle(owner: str, other: str) -> None:
        """Wait until exactly one of the two has the address, and both are one group."""
        farm.servers[other].until(f"! ip -o addr show dev eth0 | grep -q {V4}/")
        farm.servers[owner].until(f"holdfast status -j | grep -Eq '\"linked\": ?true'")
        farm.servers[other].until(f"holdfast status -j | grep -Eq '\"linked\": ?true'")
        farm.wait_for_owner(owner)

    owner, other = "a", "b"
    for number, (name, way) in enumerate(WAYS.items()):
        curl = download()
        again = way(farm.servers[owner])
        farm.wait_for_owner(other)
        if again:
            again()
            check(curl, name)
        else:
            check(curl, name)
            farm.servers[owner].restart()
            farm.join(owner)
            farm.start(owner)
        owner, other = other, owner
        settle(owner, other)
        print(f"ok {name}", flush=True)

    # The one that does nothing is cut off: nothing must move, then or later.
    claims = f"holdfast status -j | grep -o '\"generation\": *[0-9]*'"
    before = farm.servers[owner].run(claims).out
    curl = download()
    cluster.cut(farm.servers[other])
    farm.servers[owner].until("holdfast status -j | grep -q '\"dead\"'")
    farm.servers[other].until("holdfast status -j | grep -q '\"dead\"'")
    cluster.heal(farm.servers[other])
    settle(owner, other)
    check(curl, "standby")
    assert farm.servers[owner].run(claims).out == before, "the address has moved"
    print("ok standby", flush=True)
