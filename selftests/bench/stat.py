# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Means of pairs and their intervals, percentiles."""

import math
import random
from collections.abc import Callable, Sequence


def student(df: int) -> float:
    """The 97.5 % point of Student's distribution (Cornish-Fisher; right to 0.5 % from 5 on)."""
    z = 1.959964
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the 95 % interval."""
    n = len(values)
    middle = sum(values) / n
    if n < 2:
        return middle, math.inf
    spread = math.sqrt(sum((v - middle) ** 2 for v in values) / (n - 1))
    return middle, student(n - 1) * spread / math.sqrt(n)


def ratio(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Of pairs (base, with): the geometric mean of with / base, and its 95 % interval."""
    middle, half = mean([math.log(with_ / base) for base, with_ in pairs])
    return {"ratio": math.exp(middle), "low": math.exp(middle - half), "high": math.exp(middle + half), "pairs": len(pairs)}


def difference(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Of pairs (base, with): the mean of with - base, and its 95 % interval."""
    middle, half = mean([with_ - base for base, with_ in pairs])
    return {"difference": middle, "low": middle - half, "high": middle + half, "pairs": len(pairs)}


def quantile(values: Sequence[float], q: float) -> float:
    """Between the two nearest."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (at - low)


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return quantile(values, 0.5)


def bootstrap(values: Sequence[float], what: Callable[[Sequence[float]], float] = median, rounds: int = 2000) -> dict[str, float]:
    """A statistic and its 95 % interval, by drawing again from `values`."""
    draw = random.Random(1)
    drawn = [what(draw.choices(values, k=len(values))) for _ in range(rounds)]
    return {"value": what(values), "low": quantile(drawn, 0.025), "high": quantile(drawn, 0.975), "n": len(values)}
