# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: cluster sample=stock
"""A kernel complaint fails whatever ran, and an innocent guest passes."""

import subprocess

from vm.host import TOP
from vm.logscan import problems

RUN = [TOP / "selftests/vm/run", "--no-build", "--"]


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, command], text=True, capture_output=True)


innocent = run("echo out; echo err >&2; exit 7")
assert (innocent.returncode, innocent.stdout, innocent.stderr) == (7, "out\n", "err\n"), innocent

complaint = run("echo '<4>WARNING: CPU: 0 PID: 1 at holdfast' >/dev/kmsg")
assert complaint.returncode != 0 and "WARNING: CPU: 0 PID: 1 at holdfast" in complaint.stderr, complaint

crash = run("echo c >/proc/sysrq-trigger")
assert crash.returncode != 0 and "Kernel panic" in crash.stderr, crash

for report in (
    "BUG: KASAN: slab-use-after-free in hf_hook+0x10/0x20",
    "WARNING: possible circular locking dependency detected",
    "UBSAN: array-index-out-of-bounds in rust/holdfast.rs",
    "refcount_t: underflow; use-after-free.",
    "unregister_netdevice: waiting for veth0 to become free. Usage count = 2",
    "INFO: task holdfastd:12 blocked for more than 122 seconds.",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "unreferenced object 0xffff888004a3c000 (size 64):",
    "BUG holdfast_flow (Not tainted): Objects remaining on __kmem_cache_shutdown()",
    "rust_kernel: panicked at rust/holdfast.rs:1:1:",
):
    assert problems(f"[    1.0] {report}"), report
assert not problems("[    1.0] holdfast: loading out-of-tree module taints kernel.")

KILLED = "[    2.0] Out of memory: Killed process 7 (nginx) total-vm:1kB, anon-rss:1kB\n"
EXPECTED = "[    1.0] holdfast-test: out of memory is to kill: nginx\r\n"
assert problems(KILLED)
assert not problems(EXPECTED + KILLED)
assert KILLED.strip() in problems(EXPECTED + KILLED + KILLED), "one kill is excused, not two"
assert problems(EXPECTED + KILLED.replace("nginx", "holdfastd"))
