#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""beside.py WAY COUNT: curl downloads 16 MiB at 4 MiB/s, and the server dies in the middle.

WAY is what stands between the client and that: `unprotected` (another server takes the address),
`curl` (the same, with curl's --retry and -C -), `haproxy`, `ipvs` (with keepalived), `holdfast`. A
line of JSON for each run: what the client saw.
"""

import hashlib
import json
import subprocess
import sys
import threading
import time

from site_ns import V4, Failed, Site, now, until

SIZE, RATE = 16 << 20, 4 << 20
BEAT, MISSES = 100, 3
WAY, COUNT = sys.argv[1], int(sys.argv[2])
FRONT = WAY in ("haproxy", "ipvs")

HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 500ms
    timeout client 30s
    timeout server 2s
    retries 5
    option redispatch 1
    retry-on all-retryable-errors
frontend web
    bind {vip}:80
    default_backend servers
backend servers
    server a 10.0.0.1:80 check inter {beat} fall {misses}
    server b 10.0.0.2:80 check inter {beat} fall {misses} backup
"""
# keepalived checks once a second at the fastest that all its versions know.
KEEPALIVED = """
global_defs {{
    router_id front
}}
virtual_server {vip} 80 {{
    delay_loop 1
    lb_algo rr
    lb_kind NAT
    protocol TCP
    sorry_server 10.0.0.2 80
    real_server 10.0.0.1 80 {{
        TCP_CHECK {{
            connect_timeout 1
            retry 1
            delay_before_retry 1
        }}
    }}
}}
"""

site = Site("a", "b", before=f"HEARTBEAT=({BEAT} {MISSES}); DAEMON_ARGS=(--log-json); NUMBER[front]=5; NGINX_MORE='add_header Served-By $server_addr;'")
data = hashlib.shake_128(b"beside").digest(SIZE)
(site.www / "big").write_bytes(data)
wanted = hashlib.sha256(data).hexdigest()
got = site.folder / "got"


def front() -> None:
    """A machine in front that has the address and forwards."""
    site.run("CLIENTS+=(front); site_host front; ip -n front addr add 10.0.0.80/24 dev eth0")
    if WAY == "haproxy":
        config = site.folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(vip=V4, beat=BEAT, misses=MISSES))
        site.run(f"in_ns front haproxy -D -f {config} -p $SITE/haproxy.pid >/dev/null 2>&1")
        return
    config = site.folder / "keepalived.conf"
    config.write_text(KEEPALIVED.format(vip=V4))
    # NAT: the servers answer by the director.
    site.run("modprobe -a ip_vs ip_vs_rr && in_ns front sysctl -qw net.ipv4.ip_forward=1 net.ipv4.vs.expire_nodest_conn=1"
             " net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0")
    for node in ("a", "b"):
        site.run(f"ip -n {node} route add 10.0.0.9/32 via 10.0.0.5")
    site.run(f"in_ns front keepalived -f {config} -p $SITE/k.pid -c $SITE/k.chk -D")


def served() -> bool:
    """Whether the client is served, behind a front by a."""
    command = ["ip", "netns", "exec", "client", "curl", "-sfI", f"http://{V4}/"]
    said = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    return said.returncode == 0 and (not FRONT or "served-by: 10.0.0.1" in said.stdout.lower())


def prepare() -> None:
    """All that stands before the client begins; a serves."""
    if WAY == "holdfast":
        site.run("site_start")
        until(lambda: site.ready("b"), 60, 0.05)
        return
    for node in ("a", "b"):
        site.run(f"serve {node}")
    if FRONT:
        front()
    else:
        site.run(f"ip -n a addr add {V4}/24 dev eth0")
    until(served, 60, 0.2)


def watch(died: float) -> None:
    """Without Holdfast and without a front: b takes the address after as many missed beats."""
    time.sleep(max(0, BEAT * MISSES - (now() - died)) / 1000)
    site.run(f"ip -n b addr add {V4}/24 dev eth0; in_ns b arping -q -U -c1 -I eth0 {V4}")


def size() -> int:
    return got.stat().st_size if got.exists() else 0


def once() -> dict:
    """One download and one death."""
    command = ["ip", "netns", "exec", "client", "curl", "-sS", "--limit-rate", str(RATE), "-o", got, "-w", "%{num_connects} %{http_code}"]
    command += ["--speed-limit", "1", "--speed-time", "20"]  # who gives up, and when, is the client's own business
    if WAY == "curl":
        command += ["--retry", "10", "--retry-delay", "1", "--retry-all-errors", "-C", "-"]
    got.unlink(missing_ok=True)
    growth: list[tuple[float, int]] = []
    curl = subprocess.Popen([*command, f"http://{V4}/big"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    began = now()

    def follow() -> None:
        while curl.poll() is None:
            if not growth or size() != growth[-1][1]:
                growth.append((now(), size()))
            time.sleep(0.002)

    follower = threading.Thread(target=follow)
    follower.start()
    until(lambda: size() > SIZE // 3)
    died = now()
    site.run("node_crash a")
    if not FRONT and WAY != "holdfast":
        watch(died)
    out, err = curl.communicate(timeout=120)
    ended = now()
    follower.join()
    gaps = [(b - a, b) for (a, _), (b, _) in zip(growth, growth[1:]) if b >= died]
    whole = got.exists() and hashlib.sha256(got.read_bytes()).hexdigest() == wanted
    return {"way": WAY, "exit": curl.returncode, "whole": whole, "bytes": size(), "connections": out.split()[0] if out else "",
            "stall": max(gaps, default=(ended - died, 0))[0], "ended": ended - died, "took": ended - began,
            "said": err.strip().splitlines()[-1][:120] if err.strip() else ""}  # fmt: skip


prepare()
for number in range(COUNT):
    if number:
        # All of it anew: a is back, b has nothing of it.
        if WAY == "holdfast":
            site.run("rm -f $SITE/b.log; ip netns pids b | xargs -r kill -9; node_return a; node_return b")
            until(lambda: site.owns("a") and site.ready("b"), 60, 0.05)
        else:
            site.run(f"ip -n b addr del {V4}/24 dev eth0 2>/dev/null; ip -n lan link del dev port-a; ip netns del a; site_host a; serve a")
            if WAY == "ipvs":
                site.run("ip -n a route add 10.0.0.9/32 via 10.0.0.5")
            if FRONT:
                # It has another hardware address now; who checks it must not have to find that out.
                site.run("in_ns a arping -q -U -c1 -I eth0 10.0.0.1")
            else:
                site.run(f"ip -n a addr add {V4}/24 dev eth0; in_ns a arping -q -U -c1 -I eth0 {V4}")
            until(served, 60, 0.2)
    try:
        print(json.dumps(once()), flush=True)
    except (Failed, subprocess.TimeoutExpired) as error:
        print(json.dumps({"way": WAY, "error": str(error)[:200]}), flush=True)
if FRONT:
    site.run("pkill -F $SITE/haproxy.pid 2>/dev/null; pkill -F $SITE/k.pid 2>/dev/null; true")
site.close()
