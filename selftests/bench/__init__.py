# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Benchmarks: one module a question, which measures and then tells (Documentation/benchmarks.md)."""
