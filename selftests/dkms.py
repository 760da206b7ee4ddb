# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster kernel=none full=stock timeout=3600
"""The package holdfast-dkms through its life, on a clean machine: a module for the kernel that is
there; a kernel of another series that apt installs, without headers and with them; a download that
survives under each of the modules; another build of a kernel's release; another version; a kernel
that cannot be supported; what fails; removal.

The module is built natively (lib/overlay.py) and loaded in guests. Kernels' metadata is what the
build environment has made by the same script, but for one build, which makes its own. The kernels'
packages are made again from what the build environment has installed of them."""

import subprocess
import sys
from pathlib import Path

from lib.overlay import Overlay
from vm import Cluster
from vm.host import TOP

STOCK, NEXT = (
    subprocess.run(["sed", "-nE", f"s/^{name}=//p", "/etc/holdfast-kernel"], stdout=subprocess.PIPE, text=True).stdout.strip()
    for name in ("release", "next_release")
)
CACHE = {"HOLDFAST_CACHE": "/var/cache/holdfast"}
KERNELS = {STOCK: "stock", NEXT: "next"}
# The packages of the newer kernel. Those that guests boot have no package with an image, whose
# installation is what runs the hooks of kernels: it is that of the other kernel under another name.
REPACK = f"""
set -e
cd /root
info=/var/lib/dpkg/info
for package in linux-modules-{NEXT} linux-headers-{NEXT} linux-image-{NEXT}; do
	from=${{package/image-{NEXT}/image-{STOCK}}}
	mkdir -p $package/DEBIAN
	dpkg-query -s $from | sed -e '/^Status:/d' -e '/^Conffiles:/,/^[^ ]/{{/^Conffiles:/d;/^ /d}}' >$package/DEBIAN/control
	for script in preinst postinst prerm postrm; do
		[[ ! -e $info/$from.$script ]] || cp $info/$from.$script $package/DEBIAN/$script
	done
	if [[ $from == $package ]]; then
		# Documentation is not installed.
		dpkg -L $package | while read -r file; do [[ ! -f $file && ! -L $file ]] || echo "$file"; done | tar -cT - 2>/dev/null | tar -xC $package
	else
		sed -i -e '/^Depends:/cDepends: linux-modules-{NEXT}' -e '/^Version:/cVersion: 1' $package/DEBIAN/control
		sed -i 's/{STOCK}/{NEXT}/g' $package/DEBIAN/*
	fi
	dpkg-deb -Znone -b $package $package.deb >/dev/null
	rm -r $package
done
dpkg -P --force-depends linux-headers-{NEXT} linux-modules-{NEXT}
test ! -e /usr/src/linux-headers-{NEXT}/.config -a ! -e /lib/modules/{NEXT}/kernel
"""
# No archive is asked. An initramfs is not what this is about (the dracut hook takes that for a no).
APT = "INITRD=No apt-get -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=/dev/null install --no-install-recommends -y --reinstall "


def deb(version: str) -> str:
    """Build the packages; the path of the module's."""
    subprocess.run([TOP / "scripts/build-deb", version], check=True, stdout=subprocess.DEVNULL)
    return f"/holdfast/build/deb/holdfast-dkms_{version}_amd64.deb"


def has(machine: Overlay, release: str, version: str) -> bool:
    """Whether the kernel has the module of this version, and depmod knows it."""
    status = machine.run(f"dkms status holdfast/{version} -k {release}").stdout
    modinfo = machine.run(f"modinfo -k {release} -F vermagic holdfast", check=False).stdout
    return ": installed" in status and modinfo.startswith(f"{release} ")


def package(what: str) -> str:
    """The file of one of the newer kernel's packages."""
    return f"/root/linux-{what}-{NEXT}.deb"


def built_for(machine: Overlay) -> str:
    """The kernel's build that the module of the older kernel is for."""
    return machine.run(f"modinfo -k {STOCK} -F built_for holdfast").stdout.strip()


def refused(machine: Overlay, release: str) -> bool:
    """Whether a guest with this kernel does not take the module that was built for it, and says why."""
    with Cluster(f"dkms-{release}-again", KERNELS[release]) as cluster:
        guest = cluster.guest("machine")
        cluster.boot()
        status = guest.run(f"insmod /holdfast/{installed(machine, release).relative_to(TOP)}", check=False).status
        return status != 0 and "made for the kernel's build" in guest.run("dmesg").out


def installed(machine: Overlay, release: str) -> Path:
    """The module of a kernel."""
    return next(machine.path(f"/usr/lib/modules/{release}/updates/dkms").glob("holdfast.ko*"))


def loaded(machine: Overlay, release: str) -> bool:
    """Whether a guest with this kernel loads the module that was built for it, as modprobe finds it,
    and a download survives its server by it. Raises if not."""
    built = installed(machine, release)
    with Cluster(f"dkms-{release}", KERNELS[release], smp=2) as cluster:
        guest = cluster.guest("machine")
        cluster.boot()
        guest.run(f"install -Dt /lib/modules/$(uname -r)/updates/dkms /holdfast/{built.relative_to(TOP)} && depmod && modprobe holdfast")
        found = guest.run("modinfo -n holdfast").out
        guest.run("bash selftests/failover.sh", env={"PYTHONPATH": "selftests/lib"}, timeout=240)
        return found.startswith(f"/lib/modules/{release}/updates/dkms/")


def triggers(machine: Overlay, **env: str) -> str:
    """What is said when something below /usr/src has changed."""
    return machine.run("dpkg-trigger --by-package=dpkg /usr/src && dpkg --triggers-only -a", **env).stdout


def version_of(machine: Overlay, package: str, version: str = "") -> str:
    """The version in which dpkg says a package to be installed; with VERSION, from now on this one."""
    if version:
        machine.run(f"sed -i '/^Package: {package}$/,/^$/s/^Version: .*/Version: {version}/' /var/lib/dpkg/status")
    return machine.run(f"dpkg-query -W -f '${{Version}}' {package}").stdout


def build_again(machine: Overlay) -> None:
    """The distribution builds a kernel again, without another release: as its headers have it, and
    its source, from which the metadata is then made on the machine itself, as dkms does it."""
    series = ".".join(STOCK.split(".")[:2])
    headers, source = f"linux-headers-{STOCK}", f"linux-source-{series}"
    first = version_of(machine, headers)
    again = f"{first}+b"
    build = f"/usr/src/{headers}/include/generated/utsversion.h"
    machine.run(f"cp {build} /root && sed -i 's/{first}/{again}/' {build}")
    version_of(machine, headers, again)
    said = triggers(machine)
    expect("for another build a module is wanted, which has a reason not to be made",
           f"no module for kernel {STOCK}: {source} is not installed in version {again}, that of the kernel's headers, and apt cannot fetch it" in said, said)
    expect("it is said that the module is another build's", f"the module of kernel {STOCK} is for another build of it" in said, said)
    expect("which stays", has(machine, STOCK, "0.1.0") and again not in built_for(machine))
    version_of(machine, source, again)
    said = triggers(machine)
    expect("with its source it is made, metadata and all", has(machine, STOCK, "0.1.0") and again in built_for(machine), said)
    left = machine.run("find /var/lib/dkms/holdfast/0.1.0 -mindepth 1 -maxdepth 1 -printf '%f '").stdout.split()
    expect("nothing of that is left", sorted(left) == sorted([*KERNELS, "source"]), " ".join(left))
    expect("a guest with the first build refuses it", refused(machine, STOCK))
    machine.run(f"mv /root/utsversion.h {build}")
    for package in (headers, source):
        version_of(machine, package, first)
    said = triggers(machine, **CACHE)
    expect("the first build gets its own again", has(machine, STOCK, "0.1.0") and again not in built_for(machine), said)


def expect(what: str, holds: object, said: str = "") -> None:
    """One line of the table; what was said if it does not hold."""
    print("yes " if holds else "NO  ", what, flush=True)
    if not holds:
        sys.exit(said or 1)


old, new = deb("0.1.0"), deb("0.1.1")
for release in (STOCK, NEXT):
    subprocess.run([TOP / "scripts/kernel-metadata", release], check=True, stdout=subprocess.DEVNULL)

with Overlay("dkms") as machine:
    machine.run(REPACK)
    machine.run(f"dpkg -i {old}", **CACHE)
    expect(f"{STOCK} has a module", has(machine, STOCK, "0.1.0"))

    # A kernel's upgrade by apt: another package, whose installation runs hooks, dkms' among them.
    done = machine.run(f"{APT} {package('modules')} {package('image')}", check=False, **CACHE)
    expect("a kernel without headers is installed", done.returncode == 0 and machine.run("dpkg --audit").stdout == "", done.stdout)
    expect("its hooks have run", "/etc/kernel/postinst.d/dkms" in done.stdout, done.stdout)
    expect("and it is said that it has no module", f"no module for kernel {NEXT}: linux-headers-{NEXT} is not installed" in done.stdout)
    expect("the other one keeps its module", has(machine, STOCK, "0.1.0") and not has(machine, NEXT, "0.1.0"))
    done = machine.run(f"{APT} {package('headers')}", **CACHE)
    expect(f"{NEXT} has a module after its headers came", has(machine, NEXT, "0.1.0"), done.stdout)
    expect("the other one keeps its module", has(machine, STOCK, "0.1.0"))
    for release in KERNELS:
        expect(f"a guest with {release} loads it, and a download survives its server", loaded(machine, release))

    build_again(machine)

    # A series that nobody has tried, with everything else a kernel has.
    other = "7.9.1+deb13-cloud-amd64"
    machine.run(f"mkdir -p /lib/modules/{other}/kernel && ln -s /usr/src/linux-headers-{STOCK} /lib/modules/{other}/build")
    said = triggers(machine, **CACHE)
    expect("an unknown series is refused with a reason", f"no module for kernel {other}: this version of Holdfast knows" in said, said)
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
    done = machine.run(f"{APT} {package('modules')} {package('image')}", check=False, **CACHE)
    expect("the kernel's own upgrade succeeds", done.returncode == 0 and machine.run("dpkg --audit").stdout == "")
    expect("and leaves it there, too", has(machine, NEXT, "0.1.0"))
    machine.run(f"mv /root/.config {config}")
    triggers(machine, **CACHE)
    expect("until it can be built", has(machine, NEXT, "0.1.1"))
    versions = machine.run("ls /var/lib/dkms/holdfast").stdout
    expect("then nothing of the old one is left", "0.1.0" not in versions)

    # A source that does not compile.
    machine.run(f"dkms uninstall holdfast/0.1.1 -k {NEXT} && dkms unbuild holdfast/0.1.1 -k {NEXT}")
    machine.run("echo 'no Rust' >>/usr/src/holdfast-0.1.1/rust/holdfast.rs")
    done = machine.run("dpkg-reconfigure holdfast-dkms", **CACHE)
    expect("a failed build fails no package", done.returncode == 0 and "no module for kernel" in done.stdout)
    expect("the compiler's own words are shown", "no Rust" in done.stdout, done.stdout)
    expect("and other kernels keep theirs", has(machine, STOCK, "0.1.1"))
    done = machine.run(f"{APT} {package('modules')} {package('image')} {package('headers')}", check=False, **CACHE)
    expect("nor does it fail the installation of a kernel, and is said", done.returncode == 0 and f"no module for kernel {NEXT}" in done.stdout)
    expect("nothing is half installed", machine.run("dpkg --audit").stdout == "")

    machine.run("dpkg -r holdfast-dkms")
    left = machine.run("find /lib/modules /usr/src /var/lib/dkms -name 'holdfast*'").stdout
    expect("nothing is left after a removal", left == "")
    machine.run("dpkg -P holdfast-dkms")
    expect("nor after a purge", machine.run("find / -xdev -name '*holdfast*' -not -path '/proc/*' -not -path '/holdfast' "
                                            "-not -path '/etc/holdfast-kernel' -not -path '/var/cache/holdfast'").stdout == "")
