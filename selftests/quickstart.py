# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=none full=stock timeout=500
"""Does what Documentation/quickstart.md says, but for what it calls not run, on two machines and a
client; before the trial at its end, the upgrade of Documentation/admin-guide.md.

The programs are those of the work tree, not of a package. There is no service manager in a guest:
what the pages tell systemctl is done by a script. Heartbeats are slower than the default, since
emulated machines stand still.
"""

import sys
from pathlib import Path

from lib.farm import Farm
from lib.pages import Step, fits, steps
from vm import Cluster, Guest, Process
from vm.host import TOP

SYSTEMCTL = r"""#!/bin/bash
# systemctl VERB [UNIT], as far as the pages go
set -euo pipefail
verb=$1 && shift
[[ ${1:-} != --now ]] || shift
file=/run/unit.${1:-}
case $verb-${1:-} in
daemon-reload-) grep -q /usr/local/sbin/holdfastd /etc/systemd/system/holdfastd.service ;;
stop-* | restart-holdfastd)
	if [[ -e $file ]]; then
		kill "$(<"$file")" 2>/dev/null || true
		while kill -0 "$(<"$file")" 2>/dev/null; do sleep 0.1; done
	fi ;;&
enable-holdfastd | start-holdfastd | restart-holdfastd)
	setsid holdfastd >>/tmp/holdfastd.log 2>&1 </dev/null &
	echo $! >"$file"
	until [[ -S /run/holdfast.sock ]]; do kill -0 "$(<"$file")"; sleep 0.1; done ;;
restart-nginx | start-nginx) nginx -s reload 2>/dev/null || nginx ;;
esac
"""

SLOWER = r"""
printf '\n[heartbeat]\ninterval-ms = 250\nmisses = 6\ngateway = "10.0.0.9"\n' >>/etc/holdfast/holdfastd.toml
sed -i 's/^port = 80$/port = 80\nhold-ms = 5000/' /etc/holdfast/holdfastd.toml
"""


class Reader:
    """Who does what a page says."""

    def __init__(self, farm: Farm):
        self.farm = farm
        self.machines: dict[str, Guest] = {"client": farm.client, **farm.servers}
        self.said = ""
        self.downloads: list[Process] = []

    def read(self, page: str, section: str = "") -> None:
        """Do a page."""
        for step in steps(TOP / "Documentation" / page, section):
            print(f"{page}:{step.line}: {step.kind} {','.join(step.machines)}", flush=True)
            try:
                self.do(step)
            except Exception:
                for name, guest in self.farm.servers.items():
                    try:
                        log = guest.run("tail -n 30 /tmp/holdfastd.log; holdfast status --why", check=False).out
                        print(f"--- {name}\n{log}", file=sys.stderr)
                    except Exception as error:  # it may be one that was killed
                        print(f"--- {name}: {error}", file=sys.stderr)
                raise

    def do(self, step: Step) -> None:
        """Do one step."""
        match step.kind:
            case "run":
                for name in step.machines:
                    # As who follows the page: errors are seen, too.
                    result = self.machines[name].run(["bash", "-euo", "pipefail", "-c", step.text], cwd="/root")
                    self.said = result.out + result.err
            case "background":
                guest = self.machines[step.machines[0]]
                self.downloads.append(guest.spawn(f"exec {step.text.strip()}"))
            case "file":
                for name in step.machines:
                    path = Path(step.path)
                    self.machines[name].run(f"mkdir -p {path.parent} && cat >{path}", stdin=step.text.encode())
            case "output":
                if not fits(step.text, self.said):
                    raise AssertionError(f"the page shows:\n{step.text}but said was:\n{self.said}")
            case "test":
                verb, _, rest = step.text.strip().partition(" ")
                getattr(self, verb)(*rest.split(","))

    def install(self, _: str) -> None:
        """The programs come from the work tree."""
        for guest in self.farm.servers.values():
            guest.run("cp $HOLDFAST_KO $(command -v holdfast) $(command -v holdfastd) debian/holdfast.holdfastd.service /root")
            guest.run("install -m 755 /dev/stdin /usr/local/bin/systemctl", stdin=SYSTEMCTL.encode())
            guest.run("rm -f /etc/nginx/sites-enabled/default")

    def copy(self, _: str) -> None:
        """What rsync does on the page."""
        self.hand_over("/srv/www")

    def secret(self, _: str) -> None:
        """The same."""
        self.hand_over("/etc/holdfast")

    def hand_over(self, folder: str) -> None:
        """Give b a folder of a."""
        shared = self.farm.folder / "copy.tar"
        self.machines["a"].run(f"tar -C / -cf {shared} .{folder}")
        self.machines["b"].run(f"tar -C / -xpf {shared}")

    def slower(self, _: str) -> None:
        """Heartbeats for emulated machines."""
        for guest in self.farm.servers.values():
            guest.run(SLOWER)

    def owner(self, name: str) -> None:
        """Wait until a server has the address."""
        self.machines[name].until("ip -o addr show dev eth0 | grep -q 10.0.0.80/", 60)

    def ready(self, *names: str) -> None:
        """Wait until servers are ready."""
        for name in names:
            self.machines[name].until("holdfast status --why", 60)

    def until_true(self, words: str) -> None:
        """`until_true 60 ready NAME`, as selftests/guide.sh has it."""
        self.ready(words.split()[-1])

    def downloaded(self, size: str) -> None:
        """Wait until so much has come."""
        self.machines["client"].until(f"test $(stat -c %s /tmp/big) -gt {size}", 60)

    def kill(self, name: str) -> None:
        """Switch a server off."""
        self.machines[name].kill()

    def finish(self) -> None:
        """Wait for the downloads, which must be right."""
        for download in self.downloads:
            download.wait(timeout=120)
        self.downloads.clear()
        sums = [self.machines[n].run(f"sha256sum {f}").out.split()[0] for n, f in (("client", "/tmp/big"), ("b", "/srv/www/big"))]
        assert sums[0] == sums[1], "the download is not the file"

    def downloads_done(self, _: str) -> None:
        """For <!-- test: ... -->."""
        self.finish()


with Cluster() as cluster:
    farm = Farm(cluster, "a", "b")
    farm.boot()
    reader = Reader(farm)
    trial = "8. Try it"
    reader.read("quickstart.md", f"-{trial}")
    reader.read("admin-guide.md", "Upgrade")
    # It ends with the death of a machine.
    reader.read("quickstart.md", trial)
print("ok")
