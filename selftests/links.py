# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster sample=stock timeout=200
"""Heartbeats that travel another way than clients do are not the whole truth (topology:
lib/farm.py, with a segment of its own for the daemons)."""

from lib.farm import V4, Farm
from vm import Cluster

SIZE = 12 << 20

with Cluster() as cluster:
    farm = Farm(cluster, "a", "b", apart=True)
    client, a, b = farm.client, farm.servers["a"], farm.servers["b"]
    farm.object("file", SIZE)
    farm.boot()
    wanted = client.run(f"sha256sum <{farm.folder}/www/file").out
    farm.start()
    farm.wait_for_owner("a")
    b.until("holdfast status -j | grep -Eq '\"linked\": ?true'")

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

    def check(curl) -> None:
        """It has ended well, on the connection on which it began."""
        assert curl.wait(120).out == "1"
        assert client.run("sha256sum </tmp/file").out == wanted
        farm.check_watched(downloads)

    # The link between the daemons alone is cut: a is silent, but its machine answers.
    curl = download()
    cluster.cut(a, card=1)
    b.until("holdfast status -j | grep -q '\"mute\"'")
    check(curl)
    assert not any(event["event"] == "owner" for event in farm.events("b")), "b has taken the address"
    cluster.heal(a, card=1)
    b.until("holdfast status -j | grep -q '\"alive\"'")
    b.until("holdfast status -j | grep -Eq '\"linked\": ?true'")

    # The link to the clients alone is cut: a lives, but cannot be reached.
    curl = download()
    cluster.cut(a, card=0)
    farm.wait_for_owner("b")
    check(curl)
    a.until(f"! ip -o addr show dev eth0 | grep -q {V4}/")
    cluster.heal(a, card=0)
