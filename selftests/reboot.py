# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=none full=stock timeout=900
"""A download outlives `systemctl reboot` of the machine that serves it: its daemon, a service of the
package, hands the connection over before web server and network go, so that nobody has to die for it.

    client (10.0.0.9) ---- "lan" ---- a (10.0.0.1), b (10.0.0.2), both run by systemd; service 10.0.0.80
"""

import hashlib
import subprocess
import sys

from vm import Cluster
from vm.host import TOP

SIZE = 32 << 20
APPEND = "holdfast.systemd net.ifnames=0 systemd.mask=lighttpd.service systemd.mask=haproxy.service"
CONFIG = """
[node]
name = "{0}"
priority = {1}
listen = "10.0.0.{1}:4870"
secret-file = "/etc/holdfast/secret"
[[peer]]
name = "{2}"
priority = {3}
address = "10.0.0.{3}:4870"
[heartbeat]
interval-ms = 250
misses = 6
gateway = "10.0.0.9"
[[service]]
address = "10.0.0.80/24"
interface = "eth0"
port = 80
hold-ms = 5000
"""

debs = subprocess.run([TOP / "scripts/build-deb"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
package = next(deb for deb in debs if "holdfast_" in deb)
with Cluster() as cluster:
    folder = TOP / "build/farm" / cluster.logs.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret").write_text("a secret of this test alone, no more\n")
    with open("/dev/urandom", "rb") as source:
        wanted = source.read(SIZE)
    (folder / "file").write_bytes(wanted)
    client = cluster.guest("client", "lan")
    servers = {name: cluster.guest(name, "lan", append=APPEND, smp=2) for name in ("a", "b")}
    cluster.boot()
    client.run("ip addr add 10.0.0.9/24 dev eth0; ip link set eth0 up")
    for name, number, peer, other in (("a", 1, "b", 2), ("b", 2, "a", 1)):
        guest = servers[name]
        # The tools of the work tree are not to be found.
        guest.run(f"rm -r /run/holdfast/bin; ip addr add 10.0.0.{number}/24 dev eth0; ip link set eth0 up")
        guest.run("mkdir -p /lib/modules/$(uname -r)/updates && cp $HOLDFAST_KO /lib/modules/$(uname -r)/updates/ && depmod")
        guest.run(f"dpkg -i {package}; cp -p {folder}/file /var/www/html/; install -m 600 {folder}/secret /etc/holdfast/")
        guest.run("cat >/etc/holdfast/holdfastd.toml", stdin=CONFIG.format(name, number, peer, other).encode())
        guest.until("systemctl is-active nginx")
        guest.run("systemctl enable --now holdfastd")
        # The lower number is the owner, if it is there first.
        if name == "a":
            guest.until("ip addr show dev eth0 | grep -q 10.0.0.80/")
    for guest in servers.values():
        guest.until("holdfast status --why", 60)

    client.spawn("exec tcpdump -i eth0 -s 128 -U -w /tmp/client.pcap tcp port 80")
    client.until("test -s /tmp/client.pcap")
    curl = client.spawn("exec curl -sS --limit-rate 2M -o /tmp/file -w '%{num_connects} %{http_code}' http://10.0.0.80/file")
    client.until(f"test $(stat -c %s /tmp/file) -gt {SIZE // 4}")
    servers["a"].spawn("systemctl reboot")
    # A guest that boots again is one that ends.
    servers["a"].ended(90)
    assert int(client.run("stat -c %s /tmp/file").out) < SIZE, "the download was over before the machine was"
    servers["b"].run("ip addr show dev eth0 | grep -q 10.0.0.80/")
    assert curl.wait(120).out == "1 200", curl.out
    assert client.run("sha256sum </tmp/file").out.split()[0] == hashlib.sha256(wanted).hexdigest(), "the download is not the file"
    syns = client.run("tcpdump -r /tmp/client.pcap 'src 10.0.0.9 and tcp[13] & 2 != 0' 2>/dev/null | wc -l").out
    assert int(syns) == 1, f"{syns} SYNs"
    events = servers["b"].run("journalctl -u holdfastd -o cat --no-pager").out
    print(events)
    # A machine that has left is dead ten seconds later (RESTART in membership.rs); nothing waited for that.
    assert "spliced" in events.split("peer-dead")[0], "a had to die"
sys.exit(0)
