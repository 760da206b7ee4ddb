# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster sample=stock
"""The platform's own faults do what they say: cut, one-way cut, pause, crash.

    left ----+---- right        segment "lan", 10.0.0.0/24
"""

from vm import Cluster

PING = "ping -c1 -W1 10.0.0.{}"

with Cluster() as cluster:
    left, right = (cluster.guest(name, "lan") for name in ("left", "right"))
    cluster.boot()
    pcap = cluster.capture("lan")
    for number, guest in enumerate((left, right), 1):
        guest.run(f"ip addr add 10.0.0.{number}/24 dev eth0 && ip link set eth0 up")
    left.until(PING.format(2))

    cluster.cut(right)
    assert left.run(PING.format(2), check=False).status == 1
    cluster.heal(right)
    left.until(PING.format(2))

    # Echo requests reach the right; its replies are lost, and only those.
    before = right.run("cat /sys/class/net/eth0/statistics/rx_packets").out
    cluster.cut(right, way="out")
    assert left.run(PING.format(2), check=False).status == 1
    after = right.run("cat /sys/class/net/eth0/statistics/rx_packets").out
    assert int(after) > int(before)
    cluster.heal(right)
    left.until(PING.format(2))

    right.pause()
    assert left.run(PING.format(2), check=False).status == 1
    right.resume()
    left.until(PING.format(2))

    right.carrier(0, False)
    right.until("[ $(cat /sys/class/net/eth0/carrier) = 0 ]")
    right.carrier(0, True)
    left.until(PING.format(2))

    sleeper = right.spawn("sleep 1000")
    right.kill()
    assert not sleeper.running and not right.alive
    right.restart()
    right.run("ip addr add 10.0.0.2/24 dev eth0 && ip link set eth0 up")
    left.until(PING.format(2))
    assert pcap.stat().st_size > 24
