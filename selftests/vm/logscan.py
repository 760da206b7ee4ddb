# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""What a kernel must never say while a test runs."""

import re

# One pattern a kind of report. Anchored where words alone would match innocent lines.
BAD = re.compile(
    r"""
      -\[\ cut\ here\ \]-            # WARN and BUG
    | \b(WARNING|BUG):\              # also lockdep, KASAN, KCSAN, sleeping in atomic, bad page
    | \bINFO:\ possible\ recursive | possible\ circular\ locking | inconsistent\ lock\ state
    | suspicious\ RCU\ usage | \bINFO:\ suspicious
    | \bOops:\  | general\ protection\ fault | Kernel\ panic | kernel\ stack\ overflow
    | Unable\ to\ handle\ kernel | divide\ error:
    | KASAN: | UBSAN: | KFENCE: | KMSAN:
    | refcount_t: | ref_tracker:(?!\ memory\ allocation\ failure) | list_(add|del)\ corruption
    | unregister_netdevice:\ waiting | leaked\ reference
    | INFO:\ task\ .*\ blocked\ for\ more\ than
    | rcu:.*(detected\ stalls|self-detected\ stall|detected\ expedited\ stalls)
    | ODEBUG: | Objects\ remaining | still\ has\ objects
    | kmemleak:.*new\ suspected | unreferenced\ object
    | rust_kernel:\ panicked | panicked\ at
    | Memory\ cgroup\ out\ of\ memory | Out\ of\ memory:
    """,
    re.VERBOSE,
)
# What a test says, in /dev/kmsg, before it lets the kernel kill a program for want of memory: that
# excuses one such line, of that program.
KILL = re.compile(r"holdfast-test: out of memory is to kill: (\S+)$")
KILLED = re.compile(r"Out of memory: Killed process \d+ \((.*?)\) total-vm:")
CONTEXT = 40


def complaints(lines: list[str]) -> list[int]:
    """The numbers of the lines that a kernel must not say."""
    found, killed = [], []
    for number, line in enumerate(lines):
        if kill := KILL.search(line.rstrip()):
            killed.append(kill[1])
        elif (kill := KILLED.search(line)) and kill[1] in killed:
            killed.remove(kill[1])
        elif BAD.search(line):
            found.append(number)
    return found


def problems(log: str) -> str:
    """The part of a console log that a person needs to see; empty if the kernel had no complaint."""
    lines = log.splitlines()
    shown: list[str] = []
    until = -1
    bad = set(complaints(lines))
    for number, line in enumerate(lines):
        if number in bad:
            until = max(until, number + CONTEXT) if until < number else until
        if number <= until:
            shown.append(line)
    return "\n".join(shown)
