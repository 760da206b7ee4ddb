# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""A site of several machines, each a guest with a kernel of its own.

       client           a              b             c
      10.0.0.9       10.0.0.1       10.0.0.2      10.0.0.3
       fd00::9        fd00::1        fd00::2       fd00::3
         |              |              |             |
      ---+--------------+--- "lan" ----+-------------+---

      service: 10.0.0.80 and fd00::80, port 80, on whoever owns it

Every server runs nginx on the same folder of the work tree, the module and holdfastd. The client is
the neighbour that tells a server whether it is cut off. With `apart`, daemons talk to each other
over a segment of their own, "peers" (10.1.0.1 and so on, eth1).
"""

import json
import secrets
import shutil
import time
from pathlib import Path

from vm import Cluster, Guest, Process
from vm.host import TOP

V4, V6 = "10.0.0.80", "fd00::80"
NUMBERS = {"a": 1, "b": 2, "c": 3, "client": 9}

NGINX = """
worker_processes 1;
error_log /tmp/nginx.log;
pid /run/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_timeout 600;
    server {{
        listen 80;
        listen [::]:80;
        root {root};
    }}
}}
"""


class Farm:
    """The machines of a site, in a cluster that is not booted yet. `heartbeat`: milliseconds
    between two heartbeats and how many may be missed. Slow kernels have more time for all that."""

    def __init__(self, cluster: Cluster, *servers: str, heartbeat: tuple[int, int] = (250, 6), apart: bool = False):
        self.cluster, self.apart = cluster, apart
        self.client = cluster.guest("client", "lan")
        self.heartbeat = heartbeat[0] * self.client.slow, heartbeat[1]
        segments = ("lan", "peers") if apart else ("lan",)
        self.servers = {name: cluster.guest(name, *segments) for name in servers}
        self.daemons: dict[str, Process] = {}
        self.folder = TOP / "build/farm" / cluster.logs.name
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "www").mkdir(parents=True)
        self.folder.chmod(0o755)
        self._secret = secrets.token_hex(32)

    def object(self, name: str, size: int) -> Path:
        """A file of random bytes that all servers have."""
        path = self.folder / "www" / name
        with open("/dev/urandom", "rb") as source, open(path, "wb") as file:
            for _ in range(size >> 20):
                file.write(source.read(1 << 20))
            file.write(source.read(size & ((1 << 20) - 1)))
        return path

    def boot(self) -> None:
        """Boot all machines and give them their addresses."""
        self.cluster.boot()
        for name in ("client", *self.servers):
            self.join(name)

    def join(self, name: str) -> None:
        """Give a machine that has booted its addresses."""
        guest, number = self.cluster.guests[name], NUMBERS[name]
        guest.run(
            f"ip link set lo up && ip link set eth0 up && ip addr add 10.0.0.{number}/24 dev eth0 &&"
            f" ip addr add fd00::{number}/64 dev eth0 nodad"
        )
        if self.apart and name in self.servers:
            guest.run(f"ip link set eth1 up && ip addr add 10.1.0.{number}/24 dev eth1")

    def start(self, *names: str) -> None:
        """Start nginx, the module and the daemon on servers (all of them, if none is named)."""
        for name in names or self.servers:
            self.start_nginx(name)
            self.start_daemon(name)

    def start_nginx(self, name: str) -> None:
        """Start the web server of a server."""
        guest = self.servers[name]
        config = self.folder / f"{name}.nginx"
        config.write_text(NGINX.format(root=self.folder / "www"))
        guest.run(f"nginx -c {config}")

    def start_daemon(self, name: str) -> None:
        """Load the module on a server and start its daemon."""
        guest = self.servers[name]
        config, secret = self.folder / f"{name}.toml", self.folder / "secret"
        secret.write_text(self._secret + "\n")
        secret.chmod(0o600)
        config.write_text(self._config(name, secret))
        guest.run("grep -q '^holdfast ' /proc/modules || insmod $HOLDFAST_KO")
        self.daemons[name] = guest.spawn(f"exec holdfastd --config {config} --log-json")
        guest.until("test -S /run/holdfast.sock")

    def _config(self, name: str, secret: Path) -> str:
        interval, misses = self.heartbeat
        net = "10.1.0" if self.apart else "10.0.0"
        lines = [
            "[node]",
            f'name = "{name}"',
            f"priority = {NUMBERS[name]}",
            f'listen = "{net}.{NUMBERS[name]}:7100"',
            f'secret-file = "{secret}"',
            "[heartbeat]",
            f"interval-ms = {interval}",
            f"misses = {misses}",
            f'gateway = "10.0.0.{NUMBERS["client"]}"',
        ]
        for address in (f"{V4}/24", f"{V6}/64"):
            lines += ["[[service]]", f'address = "{address}"', 'interface = "eth0"', "port = 80"]
            lines += [f"hold-ms = {min(5000 * self.client.slow, 10_000)}"]
        for peer in self.servers:
            if peer != name:
                number = NUMBERS[peer]
                lines += ["[[peer]]", f'name = "{peer}"', f"priority = {number}", f'address = "{net}.{number}:7100"']
        return "\n".join(lines) + "\n"

    def wait_for_owner(self, name: str, timeout: float = 30) -> None:
        """Wait until a server has the service's addresses, and the client reaches it."""
        self.servers[name].until(f"ip -o addr show dev eth0 | grep -q {V4}/ && ip -o addr show dev eth0 | grep -q {V6}/", timeout)
        self.client.until(f"ping -c1 -W1 {V4}", timeout)

    def watch(self) -> None:
        """Record what the client sees of the begin and the end by reset of its connections."""
        kind = "tcp[tcpflags] & (tcp-syn|tcp-rst) != 0 or (ip6[6] == 6 and ip6[53] & 6 != 0)"
        self.client.spawn(f"exec tcpdump -qUni eth0 -w /tmp/watch.pcap 'port 80 and ({kind})'")
        self.client.until("test -s /tmp/watch.pcap")

    def check_watched(self, connections: int) -> None:
        """One SYN and one SYN-ACK for each connection since `watch`, and nothing more of that kind."""
        packets = self.client.run("tcpdump -nr /tmp/watch.pcap 2>/dev/null").out.splitlines()
        assert len(packets) == 2 * connections and not any("Flags [R" in p for p in packets), packets

    def events(self, name: str) -> list[dict]:
        """What the daemon of a server has said so far, oldest first."""
        lines = self.daemons[name].err.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def clock(self, guest: Guest) -> float:
        """Seconds to add to a guest's clock to have the host's."""
        best = (float("inf"), 0.0)
        for _ in range(5):
            before = time.time()
            there = int(guest.run("date +%s%N").out) / 1e9
            after = time.time()
            best = min(best, (after - before, (before + after) / 2 - there))
        return best[1]
