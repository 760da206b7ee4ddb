# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=none full=stock,next timeout=900
"""The package holdfast through its life in a clean guest that systemd runs: installed, configured,
started, upgraded under a running daemon, shut down in order, removed, purged.

The module is the one of the build (`dkms.py` has the package that builds it on the machine)."""

import re
import subprocess
import sys
import time

from vm import Cluster
from vm.host import TOP

BEGAN = time.monotonic()
OLD, NEW = "0.1.0", "0.1.1"
# Of the servers that the root has only nginx is wanted.
APPEND = "holdfast.systemd net.ifnames=0 systemd.mask=lighttpd.service systemd.mask=haproxy.service"
CONFIG = """
[node]
name = "a"
priority = 1
listen = "10.0.0.1:4870"
secret-file = "/etc/holdfast/secret"
[heartbeat]
interval-ms = 250
misses = 6
[[service]]
address = "10.0.0.80/24"
interface = "eth0"
port = 80
"""
HOOKS = """
[hooks]
up = ["/bin/sh", "/run/hook", "replace"]
down = ["/bin/sh", "/run/hook", "delete"]
"""
HOOK = """
echo "$1" >>/run/hooked
exec ip address "$1" "$HOLDFAST_PREFIX" dev "$HOLDFAST_INTERFACE"
"""
KEEPALIVED = """
vrrp_instance other {
    state BACKUP
    interface eth0
    virtual_router_id 81
    priority 100
    virtual_ipaddress {
        10.0.0.81/24 dev eth0
    }
}
"""
# All files that a package could leave, but those of package management itself.
FILES = "find /etc /usr /var /lib/modules -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*' -not -path '/var/tmp/*' | sort >/tmp/{}"
# Links of the pages that lead nowhere.
LINKS = r"""cd /usr/share/doc/holdfast && grep -roP '\]\(\K(?!https?:)[^)#\s]+' --include=*.md . |
while IFS=: read -r page link; do test -e "${page%/*}/$link" || echo "$page: $link"; done
"""


def deb(version: str) -> str:
    """Build the packages; the path of the tools'."""
    subprocess.run([TOP / "scripts/build-deb", version], check=True, stdout=subprocess.DEVNULL)
    return f"/holdfast/build/deb/holdfast_{version}_amd64.deb"


def expect(what: str, holds: object) -> None:
    """One line of the table."""
    print(f"{time.monotonic() - BEGAN:5.1f} s", "yes " if holds else "NO  ", what, flush=True)
    if not holds:
        raise SystemExit(1)


old, new = deb(OLD), deb(NEW)
with Cluster() as cluster:
    guest = cluster.guest("a", "lan", append=APPEND, smp=2)
    cluster.boot()
    # The tools of the work tree are not to be found.
    guest.run("rm -r /run/holdfast/bin /etc/dpkg/dpkg.cfg.d/*mmdebstrap; ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up")
    guest.run("mkdir -p /lib/modules/$(uname -r)/updates && cp $HOLDFAST_KO /lib/modules/$(uname -r)/updates/ && depmod")
    guest.until("systemctl is-active nginx")
    guest.run(FILES.format("before"))

    guest.run(f"dpkg -i {old}")
    expect("installed, it does nothing", guest.run("systemctl is-enabled holdfastd; lsmod | grep holdfast", check=False).out == "disabled\n")
    guest.run("systemctl start holdfastd")
    expect("and starts nothing without a configuration", guest.run("systemctl is-active holdfastd", check=False).out == "inactive\n")
    expect("the example is one", guest.run(
        "(umask 077; openssl rand -base64 32 >/etc/holdfast/secret);"
        "sed 's/interface = .*/interface = \"eth0\"/' /usr/share/doc/holdfast/examples/holdfastd.toml >/tmp/example;"
        "holdfastd --config /tmp/example --check", check=False).status == 0)
    expect("every command has its page", guest.run(
        "for page in holdfast holdfastd holdfast-service-add; do test -s /usr/share/man/man8/$page.8.gz || exit; done;"
        "test -s /usr/share/man/man5/holdfastd.toml.5.gz", check=False).status == 0)
    broken = guest.run(LINKS, check=False).out
    print(broken, end="")
    expect("pages and what they link to are there", not broken and guest.run("ls /usr/share/doc/holdfast").out.count(".md\n") > 10)
    expect("so are dashboard and alerts", guest.run(
        "cd /usr/share/doc/holdfast/examples && grep -q holdfast_ready grafana/holdfast.json && grep -q 'alert:' prometheus/holdfast.rules.yml",
        check=False).status == 0)
    expect("each shell has its completions", guest.run(
        "cd /usr/share && for file in bash-completion/completions/holdfast{,d} "
        "zsh/vendor-completions/_holdfast{,d} fish/vendor_completions.d/holdfast{,d}.fish; do test -s $file || exit; done",
        check=False).status == 0)
    expect("bash completes its commands", "undrain" in guest.run(
        ". /usr/share/bash-completion/completions/holdfast; COMP_WORDS=(holdfast und) COMP_CWORD=1;"
        "_holdfast holdfast und holdfast; echo ${COMPREPLY[@]}").out)

    guest.run("cat >/etc/holdfast/holdfastd.toml", stdin=CONFIG.encode())
    guest.run("systemctl enable --now holdfastd")
    expect("the unit loads the module and is ready", guest.run("systemctl is-active holdfastd; lsmod | grep -c '^holdfast '").out == "active\n1\n")
    guest.until("ip addr show dev eth0 | grep -q 10.0.0.80/ && curl -sf -o /dev/null http://10.0.0.80/")
    guest.run("systemctl reload holdfastd")
    pid = guest.run("systemctl show -P MainPID holdfastd").out

    said = guest.run(f"dpkg -i {new}").out
    expect("an upgrade leaves the daemon alone and says so",
           guest.run("systemctl show -P MainPID holdfastd").out == pid and f"goes on in version {OLD}" in said)
    guest.run("cat >>/etc/holdfast/holdfastd.toml", stdin=HOOKS.encode())
    guest.run("cat >/run/hook", stdin=HOOK.encode())
    guest.run("systemctl stop holdfastd; ip addr del 10.0.0.80/24 dev eth0; systemctl start holdfastd")
    guest.until("ip addr show dev eth0 | grep -q 10.0.0.80/ && grep -q replace /run/hooked")
    expect("hooks run under the unit's limits", True)
    guest.run("holdfast bugreport --output /run/report.tar.gz")
    expect("a report knows the daemon", guest.run("tar -xOzf /run/report.tar.gz | grep -c 10.0.0.80", check=False).out != "0\n")
    guest.run("kill -9 $(systemctl show -P MainPID holdfastd)")
    guest.until("systemctl is-active holdfastd && test $(systemctl show -P MainPID holdfastd) != 0 && holdfast service show | grep -q 10.0.0.80")
    expect("a daemon that was killed is started again", True)

    guest.run("dpkg -r holdfast")
    expect("removed, it is stopped", guest.run("pidof holdfastd", check=False).status)
    expect("and its configuration is there", guest.run("test -s /etc/holdfast/holdfastd.toml", check=False).status == 0)
    guest.run("dpkg -P holdfast; rmmod holdfast; systemctl daemon-reload")
    guest.run(FILES.format("after"))
    left = guest.run("diff /tmp/before /tmp/after", check=False).out
    print(left, end="")
    expect("purged, nothing is left", not left)

    guest.run(f"dpkg -i {new}")
    guest.run("(umask 077; openssl rand -base64 32 >/etc/holdfast/secret); cat >/etc/holdfast/holdfastd.toml", stdin=CONFIG.encode())
    guest.run("systemctl start holdfastd")
    guest.run("cat >/etc/keepalived/keepalived.conf", stdin=KEEPALIVED.encode())
    guest.run("systemctl start keepalived bird")
    before = guest.console.stat().st_size
    guest.spawn("systemctl poweroff")
    guest.ended(60)
    # Without the colours.
    console = re.sub(r"\x1b\[[0-9;]*m", "", guest.console.read_bytes()[before:].decode(errors="replace"))
    words = ("Stopped keepalived.service", "Stopping holdfastd.service", "Stopped holdfastd.service", "Stopping nginx.service", "Stopping bird.service")
    keepalived, stopping, stopped, nginx, bird = (console.find(word) for word in words)
    print(f"{keepalived}, {stopping}, {stopped}, {nginx} and {bird} bytes into the shutdown")
    expect("at a shutdown the daemon ends before the web server begins to", 0 < stopped < nginx)
    expect("and before a routing daemon", stopped < bird)
    expect("and begins to after keepalived has ended", 0 < keepalived < stopping)
sys.exit(0)
