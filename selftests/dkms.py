# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=none full=stock timeout=1500
"""The package holdfast-dkms through its life, on a clean machine that has kernels of two series: a
module for each; another version; a kernel that cannot be supported; what fails; removal.

The module is built natively (lib/overlay.py), from metadata of the kernels that the build
environment has made by the same script."""

import subprocess
import sys

from lib.overlay import Overlay
from vm.host import TOP

STOCK, NEXT = (
    subprocess.run(["sed", "-nE", f"s/^{name}=//p", "/etc/holdfast-kernel"], stdout=subprocess.PIPE, text=True).stdout.strip()
    for name in ("release", "next_release")
)
CACHE = {"HOLDFAST_CACHE": "/var/cache/holdfast"}


def deb(version: str) -> str:
    """Build the packages; the path of the module's."""
    subprocess.run([TOP / "scripts/build-deb", version], check=True, stdout=subprocess.DEVNULL)
    return f"/holdfast/build/deb/holdfast-dkms_{version}_amd64.deb"


def has(machine: Overlay, release: str, version: str) -> bool:
    """Whether the kernel has the module of this version, and depmod knows it."""
    status = machine.run(f"dkms status holdfast/{version} -k {release}").stdout
    modinfo = machine.run(f"modinfo -k {release} -F vermagic holdfast", check=False).stdout
    return ": installed" in status and modinfo.startswith(f"{release} ")


def expect(what: str, holds: object) -> None:
    """One line of the table."""
    print("yes " if holds else "NO  ", what, flush=True)
    if not holds:
        sys.exit(1)


old, new = deb("0.1.0"), deb("0.1.1")
for release in (STOCK, NEXT):
    subprocess.run([TOP / "scripts/kernel-metadata", release], check=True, stdout=subprocess.DEVNULL)

with Overlay("dkms") as machine:
    build = f"/lib/modules/{NEXT}/build"
    machine.run(f"mv {build} /root/build")
    said = machine.run(f"dpkg -i {old}", **CACHE).stdout
    expect(f"{STOCK} has a module", has(machine, STOCK, "0.1.0"))
    expect("a kernel without headers has none", not has(machine, NEXT, "0.1.0"))

    # What dpkg does when a package with files below /usr/src comes.
    machine.run(f"mv /root/build {build} && dpkg-trigger --by-package=dpkg /usr/src && dpkg --triggers-only -a", **CACHE)
    expect(f"{NEXT} has a module after its headers came", has(machine, NEXT, "0.1.0"))

    # A series that nobody has tried, with everything else a kernel has.
    other = "7.9.1+deb13-cloud-amd64"
    machine.run(f"mkdir -p /lib/modules/{other}/kernel && ln -s /usr/src/linux-headers-{STOCK} /lib/modules/{other}/build")
    done = machine.run("dpkg-trigger --by-package=dpkg /usr/src && dpkg --triggers-only -a", **CACHE)
    expect("an unknown series is refused with a reason", f"no module for kernel {other}: this version of Holdfast knows" in done.stdout)
    expect("and nothing fails by it", machine.run("dpkg --audit").stdout == "")
    expect("dkms itself calls it skipped", machine.run(f"dkms build holdfast/0.1.0 -k {other}", check=False).returncode == 77)
    done = machine.run(f"/etc/kernel/postinst.d/dkms {other}")
    expect("the hooks of a kernel's installation succeed", done.returncode == 0)
    machine.run(f"rm -r /lib/modules/{other}")

    # A kernel whose compiler is not the one that is there.
    config = f"/usr/src/linux-headers-{NEXT}/.config"
    machine.run(f"dkms uninstall holdfast/0.1.0 -k {NEXT} && dkms unbuild holdfast/0.1.0 -k {NEXT}")
    machine.run(f"cp {config} /root && sed -i 's/rustc 1[.]85/rustc 1.99/' {config}")
    done = machine.run("dpkg-reconfigure holdfast-dkms", **CACHE)
    expect("another rustc is refused with a reason", "but the kernel was built by \"rustc 1.99" in done.stdout)
    machine.run(f"mv /root/.config {config}; dpkg-reconfigure holdfast-dkms", **CACHE)
    expect("and taken when it is right", has(machine, NEXT, "0.1.0"))

    # A new version that does not build for one of the kernels.
    machine.run(f"cp {config} /root && sed -i 's/CONFIG_RUST=y/CONFIG_RUST=n/' {config}")
    done = machine.run(f"dpkg -i {new}", **CACHE)
    expect("a new version takes the place of the old one", has(machine, STOCK, "0.1.1"))
    expect("but where it cannot be built, which is said", f"no module for kernel {NEXT}" in done.stdout)
    expect("the old one stays", has(machine, NEXT, "0.1.0"))
    expect("nothing is half installed", machine.run("dpkg --audit").stdout == "")
    done = machine.run(f"dkms kernel_preinst -k {NEXT}")
    expect("the kernel's own upgrade leaves it there, too", has(machine, NEXT, "0.1.0"))
    machine.run(f"mv /root/.config {config}; dpkg-trigger --by-package=dpkg /usr/src && dpkg --triggers-only -a", **CACHE)
    expect("until it can be built", has(machine, NEXT, "0.1.1"))
    versions = machine.run("ls /var/lib/dkms/holdfast").stdout
    expect("then nothing of the old one is left", "0.1.0" not in versions)

    # A source that does not compile.
    machine.run(f"dkms uninstall holdfast/0.1.1 -k {NEXT} && dkms unbuild holdfast/0.1.1 -k {NEXT}")
    machine.run("echo 'no Rust' >>/usr/src/holdfast-0.1.1/rust/holdfast.rs")
    done = machine.run("dpkg-reconfigure holdfast-dkms", **CACHE)
    expect("a failed build fails no package", done.returncode == 0 and "no module for kernel" in done.stdout)
    expect("and other kernels keep theirs", has(machine, STOCK, "0.1.1"))

    machine.run("dpkg -r holdfast-dkms")
    left = machine.run("find /lib/modules /usr/src /var/lib/dkms -name 'holdfast*'").stdout
    expect("nothing is left after a removal", left == "")
    machine.run("dpkg -P holdfast-dkms")
    expect("nor after a purge", machine.run("find / -xdev -name '*holdfast*' -not -path '/proc/*' -not -path '/holdfast' "
                                            "-not -path '/etc/holdfast-kernel' -not -path '/var/cache/holdfast'").stdout == "")
