# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""The parts, in the order in which they run and are told."""

PARTS = ("instructions", "flows", "load", "failover", "handover", "recovery", "beside")
