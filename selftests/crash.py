# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=stock timeout=240
"""Downloads over IPv4 and IPv6 outlive the machine that serves them: a guest that is killed with
SIGKILL, and returns as one that others can rely on (topology: lib/farm.py)."""

from lib.farm import V4, V6, Farm
from vm import Cluster

SIZE = 16 << 20
CURL = "exec curl -sS --limit-rate 3M -o /tmp/{0} -w '%{{num_connects}} %{{http_code}}' http://{1}/file"

with Cluster() as cluster:
    farm = Farm(cluster, "a", "b")
    wanted = farm.object("file", SIZE).read_bytes()
    farm.boot()
    farm.start()
    farm.wait_for_owner("a")

    client = farm.client
    farm.watch()
    downloads = {name: client.spawn(CURL.format(name, host)) for name, host in (("v4", V4), ("v6", f"[{V6}]"))}
    for name in downloads:
        client.until(f"test $(stat -c %s /tmp/{name}) -gt {SIZE // 4}")
    farm.servers["a"].kill()
    farm.wait_for_owner("b")
    for name, download in downloads.items():
        assert download.wait(120).out == "1 200", download.out
    (farm.folder / "wanted").write_bytes(wanted)
    for name in downloads:
        client.run(f"cmp /tmp/{name} {farm.folder}/wanted")

    # The dead machine comes back while its peer serves, and is good for the next failover.
    farm.servers["a"].restart()
    farm.join("a")
    farm.start("a")
    client.until("ping -c1 -W1 10.0.0.1")
    farm.servers["b"].until("holdfast status -j | grep -Eq '\"linked\": ?true'")
    again = client.spawn(CURL.format("again", V4))
    client.until(f"test $(stat -c %s /tmp/again) -gt {SIZE // 4}")
    farm.servers["b"].kill()
    farm.wait_for_owner("a")
    assert again.wait(120).out == "1 200", again.out
    client.run(f"cmp /tmp/again {farm.folder}/wanted")
    farm.check_watched(3)
