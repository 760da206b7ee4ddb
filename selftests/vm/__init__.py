# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Guests under QEMU: one of them, or several on virtual Ethernet segments."""

from .cluster import Cluster
from .guest import CommandFailed, Guest, GuestDied, Process, Result

__all__ = ["Cluster", "CommandFailed", "Guest", "GuestDied", "Process", "Result"]
